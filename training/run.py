"""One training run: build the model and its data, resume, train epoch by epoch, measure and save.

OUTPUT/checkpoints/         to resume from
OUTPUT/encoder.safetensors  the encoder after the last finished epoch, for `Encoder.load`
OUTPUT/log.jsonl            and OUTPUT/tensorboard: the curves
"""

from __future__ import annotations

import json
import platform
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from memory.durable import make_folder, replacing
from recognizer.console import note
from recognizer.encoder.encoder import load_parts, make_spec
from recognizer.yaml_settings import load_yaml_settings
from training.checkpoint import Checkpoints
from training.config import EvaluationSet, TrainConfig
from training.data.record import Rejects
from training.distributed import RandomState, gather_bytes, joined_processes, rank, world_size
from training.engine import Engine
from training.model import GroundedModel
from training.run_data import make_loader
from training.run_state import Progress, RunState
from training.train_log import TrainLog
from training.zero_shot import SetAccuracy, accuracy_table, zero_shot

ENCODER_NAME = "encoder.safetensors"


@dataclass(frozen=True, slots=True)
class Result:
    """The result of a run.

    Attributes:
        encoder: the encoder's file.
        steps: number of steps taken.
        metrics: `development` by epoch, and `held_out`; each by set and way of scoring.
    """

    encoder: Path
    steps: int
    metrics: Mapping[str, Any]

    def table(self) -> str:
        """Lay the accuracies out as text."""
        measurements = {f"epoch {epoch}": sets for epoch, sets in self.metrics.get("development", {}).items()}
        if "held_out" in self.metrics:
            measurements["held out"] = self.metrics["held_out"]
        return accuracy_table(measurements)


def train_from_file(path: Path, overrides: Sequence[str] = (), *, output: Path | None, device: str = "auto") -> Result:
    """Train with the settings of a YAML file; see `train`.

    Args:
        path: the config.
        overrides: settings `a.b=c`, which win over the file.
        output: folder of the run; None: `runs/NAME`, named after the file.
        device: as for `train`.

    Raises:
        recognizer.yaml_settings.SettingsError: the config is not valid.
    """
    config = load_yaml_settings(TrainConfig, path, overrides)
    return train(config, output or Path("runs") / path.stem, device=device)


def train(config: TrainConfig, output: Path, *, device: str = "auto") -> Result:
    """Train an encoder, or resume an earlier run with the same config and output.

    Under `torchrun` every process calls this; the batches, and therefore the result, are those of one process with the
    same global batch, up to rounding.

    Args:
        config: all settings.
        output: folder of the run; created if missing.
        device: `auto`, `cpu`, `cuda`, `cuda:N` or `mps`.

    Raises:
        TrainingError: the run cannot start or continue.
        DataError: the data cannot be used.
        recognizer.encoder.errors.EncoderError: the encoder cannot be loaded.
    """
    with joined_processes(device) as local_device:
        return Run(config, output, local_device).train()


class Run:
    """One run on one rank; all ranks make the same calls, and only rank 0 logs, measures and writes the encoder."""

    def __init__(self, config: TrainConfig, output: Path, device: torch.device) -> None:
        """Build the model, its data and its optimiser; see `train` for the errors."""
        self._config, self._output, self._device = config, output, device
        make_folder(output)
        torch.manual_seed(config.seed)  # every rank starts from the same new weights
        spec = make_spec(config.encoder.model, config.encoder.pretrained)
        parts = load_parts(spec, device=device, precision=config.tower_precision())
        self._model = GroundedModel(parts, config, device)
        self._loader = make_loader(config, self._model, parts.image_tower.preprocessing, device)
        self._engine = Engine(self._model, config, device, steps_per_epoch=self._loader.steps_per_epoch)
        self._progress = Progress()
        self._state = RunState(config, self._model, self._engine, self._loader, self._progress, device)
        folder, run = output / "checkpoints", self._state.identity
        self._checkpoints = Checkpoints(folder, keep=config.keep_checkpoints, run=run)
        torch.manual_seed(config.seed + rank())  # every rank draws its own dropout

    def train(self) -> Result:
        """Resume from the newest checkpoint, train the epochs that are left, and return the result."""
        checkpoint = self._checkpoints.newest()
        if checkpoint is not None:
            self._state.restore(checkpoint)
            if rank() == 0:
                note(f"resuming from {checkpoint.folder}")
        with ExitStack() as stack:
            log = stack.enter_context(self._open_log()) if rank() == 0 else None
            while self._loader.epoch < self._config.schedule.epochs:
                self._train_epoch(log)
            self._measure_held_out(log)
        return Result(self._output / ENCODER_NAME, self._engine.steps, self._progress.metrics)

    def _train_epoch(self, log: TrainLog | None) -> None:
        config, engine, epoch = self._config, self._engine, self._loader.epoch + 1
        started, before = time.monotonic(), self._progress.seconds
        # If the run was finished and is now made longer, its held-out figures are out of date.
        self._progress.metrics.pop("held_out", None)
        self._model.train()
        for batch in self._loader:
            step = engine.step(batch)
            self._progress.seconds = before + time.monotonic() - started
            if log is not None:
                log.step(engine.steps, epoch, step)
            if engine.steps % config.save_every_steps == 0 and self._loader.steps_left:
                self._state.save(self._checkpoints)
        rejects = self._gather_rejects()
        if log is not None:
            log.rejects(engine.steps, epoch, rejects.report())
            self._measure_development(epoch, log)
        self._progress.seconds = before + time.monotonic() - started
        if log is not None:
            self._write_encoder(epoch)
        self._state.save(self._checkpoints)

    def _measure_development(self, epoch: int, log: TrainLog) -> None:
        evaluation = self._config.evaluation
        if evaluation.development and (epoch == self._config.schedule.epochs or epoch % evaluation.every_epochs == 0):
            accuracies = self._measure(evaluation.development)
            self._progress.metrics.setdefault("development", {})[str(epoch)] = accuracies
            log.metrics(self._engine.steps, epoch, accuracies)

    def _measure_held_out(self, log: TrainLog | None) -> None:
        """Measure the held-out sets once, after the last epoch; a resumed run that has the figures does nothing."""
        sets, measured = self._config.evaluation.held_out, self._progress.metrics.get("held_out", {})
        if all(one.name in measured for one in sets):
            return
        if log is not None:
            self._progress.metrics["held_out"] = self._measure(sets)
            log.metrics(self._engine.steps, self._loader.epoch, self._progress.metrics["held_out"])
            self._write_encoder(self._loader.epoch)
        self._state.save(self._checkpoints)

    def _measure(self, sets: Sequence[EvaluationSet]) -> dict[str, SetAccuracy]:
        random_state = RandomState.now(self._device)
        self._model.eval()
        with self._averaged_weights():
            encoder = self._model.encoder()
            accuracies = {one.name: zero_shot(encoder, one) for one in sets}
        self._model.train()
        random_state.restore(self._device)  # measuring must not change the training that follows
        return accuracies

    def _write_encoder(self, epoch: int) -> None:
        card = {
            "config": self._config.model_dump(mode="json"),
            "epochs": epoch,
            "steps": self._engine.steps,
            "seconds": round(self._progress.seconds, 1),
            "hardware": _hardware(self._device),
            "logit_scale": self._model.log_scale.detach().exp().item(),
            "metrics": self._progress.metrics,
            "data": {"paths": [str(path) for path in self._config.data.train], "samples": self._loader.length},
        }
        with self._averaged_weights():
            content = self._model.to_file(card).to_bytes()
        with replacing(self._output / ENCODER_NAME) as draft:
            draft.write_bytes(content)

    def _averaged_weights(self) -> AbstractContextManager[None]:
        return nullcontext() if self._engine.ema is None else self._engine.ema.in_place()

    def _gather_rejects(self) -> Rejects:
        total = Rejects()
        for content in gather_bytes(json.dumps(self._loader.rejects.to_json()).encode(), self._device):
            total.add(Rejects.from_json(json.loads(content)))
        return total

    def _open_log(self) -> TrainLog:
        return TrainLog(
            self._output,
            steps=self._engine.steps,
            total=self._config.schedule.epochs * self._loader.steps_per_epoch,
            samples_per_step=self._config.batch_size * self._config.accumulate * world_size(),
            every=self._config.log_every,
        )


def _hardware(device: torch.device) -> dict[str, Any]:
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or platform.machine()
    return {"torch": torch.__version__, "device": name, "processes": world_size(), "threads": torch.get_num_threads()}
