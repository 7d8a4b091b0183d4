"""Training from a config to the encoder's file: `python -m training.train CONFIG`, the same as `recognizer train`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from recognizer.yaml_settings import load_yaml_settings
from training.config import TrainConfig
from training.processes import joined_processes
from training.result import Result
from training.run import Run


def train_from_file(path: Path, overrides: Sequence[str] = (), *, output: Path | None, device: str = "auto") -> Result:
    """Train as a YAML file says; see `train`.

    Args:
        path: the config.
        overrides: `a.b=c`, stronger than the file.
        output: `runs/NAME`, named after the file, where None.
        device: as for `train`.

    Raises:
        recognizer.yaml_settings.SettingsError: the config is not valid.
    """
    config = load_yaml_settings(TrainConfig, path, overrides)
    return train(config, output or Path("runs") / path.stem, device=device)


def train(config: TrainConfig, output: Path, *, device: str = "auto") -> Result:
    """Train an encoder, or go on where an earlier run with the same config and output stopped.

    Under `torchrun` every process calls this; the batches, and with them the result, are those of one process with the
    same global batch, up to rounding.

    Args:
        config: all settings.
        output: folder of the run; made where missing.
        device: `auto`, `cpu`, `cuda`, `cuda:N`.

    Raises:
        TrainingError: the run cannot start or go on.
        training.source.DataError: the data cannot be used.
        recognizer.encoder.errors.EncoderError: the encoder cannot be made.
    """
    with joined_processes(device) as place:
        return Run(config, output, place).go()


if __name__ == "__main__":
    import sys

    from recognizer.cli import main

    sys.argv.insert(1, "train")
    main()
