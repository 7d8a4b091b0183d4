"""The parts of one run on one rank: built, resumed, led over the epochs, measured and saved.

OUTPUT/checkpoints/         to resume from
OUTPUT/encoder.safetensors  the encoder as of the last finished epoch, for `Encoder.load`
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

from memory.durable import replacing
from recognizer.console import note, progress_bar, table
from recognizer.encoder.encoder import load_parts, make_spec
from recognizer.encoder.preprocessing import Preprocessing
from recognizer.encoder.towers import TowerOutput
from recognizer.yaml_settings import load_yaml_settings
from training.checkpoint import Checkpoints
from training.config import EvaluationSet, TrainConfig
from training.data.augment import AugmentSettings
from training.data.loader import Loader
from training.data.open import open_sources
from training.data.record import Rejects
from training.data.source import Source
from training.data.token_cache import TokenCache, cache_key, fill_cache
from training.distributed import RandomState, gather_bytes, joined_processes, rank, wait_for_all, world_size
from training.engine import Engine
from training.errors import TrainingError
from training.model import GroundedModel
from training.run_state import Progress, RunState
from training.train_log import TrainLog
from training.zero_shot import SetAccuracy, zero_shot


@dataclass(frozen=True, slots=True)
class Result:
    """See the module.

    Attributes:
        encoder: the file.
        steps: taken.
        metrics: `development` by epoch and `held_out`, each by set and way of scoring.
    """

    encoder: Path
    steps: int
    metrics: Mapping[str, Any]

    def table(self) -> str:
        """Lay the accuracies out as text."""
        measured = [(f"epoch {epoch}", sets) for epoch, sets in self.metrics.get("development", {}).items()]
        if "held_out" in self.metrics:
            measured.append(("held out", self.metrics["held_out"]))
        rows = [
            [when, name, way, f"{row['top1']:.4f}", f"{row['top5']:.4f}", f"{row['images']:.0f}"]
            for when, sets in measured
            for name, ways in sets.items()
            for way, row in ways.items()
        ]
        return table(["measured", "set", "scored by", "top-1", "top-5", "images"], rows)


ENCODER_NAME = "encoder.safetensors"


class Run:
    """See the module; all ranks make the same calls."""

    def __init__(self, config: TrainConfig, output: Path, device: torch.device) -> None:
        """Build the parts; see `training.run.train` for what is raised."""
        self._config, self._output, self._device = config, output, device
        output.mkdir(parents=True, exist_ok=True)
        torch.manual_seed(config.seed)  # the same new weights on every rank
        spec = make_spec(config.encoder.model, config.encoder.pretrained)
        parts = load_parts(spec, device=device, precision=config.tower_precision())
        if rank() == 0:
            _warn_of_other_frames(parts.image_tower.preprocessing, config.data.samples.augment)
        self._model = GroundedModel(parts, config, device)
        self._source = open_sources(config.data.train, limits=config.data.samples.limits)
        self._loader = self._make_loader(self._source)
        self._engine = Engine(self._model, config, device, steps_per_epoch=self._loader.steps_per_epoch)
        self._progress = Progress()
        self._state = RunState(config, self._model, self._engine, self._loader, self._progress, device)
        self._checkpoints = Checkpoints(output / "checkpoints", keep=config.keep_checkpoints)
        torch.manual_seed(config.seed + rank())

    def go(self) -> Result:
        """Resume, loop over the epochs that are left, and return what was reached."""
        found = self._checkpoints.newest()
        if found is not None:
            self._state.restore(found)
            if rank() == 0:
                note(f"going on from {found.folder}")
        with ExitStack() as stack:
            log = stack.enter_context(self._open_log()) if rank() == 0 else None
            while self._loader.epoch < self._config.schedule.epochs:
                self._epoch(log)
            self._measure_held_out(log)
        return Result(self._output / ENCODER_NAME, self._engine.steps, self._progress.metrics)

    def _epoch(self, log: TrainLog | None) -> None:
        config, engine, epoch = self._config, self._engine, self._loader.epoch + 1
        started, before = time.monotonic(), self._progress.seconds
        self._progress.metrics.pop("held_out", None)  # of an end that was none: the run has become longer
        self._model.train()
        for batch in self._loader:
            step = engine.step(batch)
            self._progress.seconds = before + time.monotonic() - started
            if log is not None:
                log.step(engine.steps, epoch, step)
            if engine.steps % config.save_every_steps == 0 and self._loader.steps_left:
                self._state.save(self._checkpoints)
        rejects = self._all_rejects()
        if log is not None:
            log.rejects(engine.steps, epoch, rejects.report())
            self._evaluate(epoch, log)
        self._progress.seconds = before + time.monotonic() - started
        if log is not None:
            self._export(epoch)
        self._state.save(self._checkpoints)

    def _evaluate(self, epoch: int, log: TrainLog) -> None:
        chosen = self._config.evaluation
        if chosen.development and (epoch == self._config.schedule.epochs or epoch % chosen.every_epochs == 0):
            found = self._measure(chosen.development)
            self._progress.metrics.setdefault("development", {})[str(epoch)] = found
            log.metrics(self._engine.steps, epoch, found)

    def _measure_held_out(self, log: TrainLog | None) -> None:
        chosen, known = self._config.evaluation.held_out, self._progress.metrics.get("held_out", {})
        if all(one.name in known for one in chosen):
            return
        if log is not None:
            self._progress.metrics["held_out"] = self._measure(chosen)
            log.metrics(self._engine.steps, self._loader.epoch, self._progress.metrics["held_out"])
            self._export(self._loader.epoch)
        self._state.save(self._checkpoints)

    def _measure(self, sets: Sequence[EvaluationSet]) -> dict[str, SetAccuracy]:
        random_state = RandomState.now(self._device)
        self._model.eval()
        with self._averaged():
            encoder = self._model.encoder()
            found = {chosen.name: zero_shot(encoder, chosen) for chosen in sets}
        self._model.train()
        random_state.restore(self._device)  # what is measured does not change what is learned
        return found

    def _export(self, epoch: int) -> None:
        card = {
            "config": self._config.model_dump(mode="json"),
            "epochs": epoch,
            "steps": self._engine.steps,
            "seconds": round(self._progress.seconds, 1),
            "hardware": _hardware(self._device),
            "logit_scale": self._model.log_scale.detach().exp().item(),
            "metrics": self._progress.metrics,
            "data": {"paths": [str(path) for path in self._config.data.train], "samples": len(self._source)},
        }
        with self._averaged():
            content = self._model.to_file(card).to_bytes()
        with replacing(self._output / ENCODER_NAME) as draft:
            draft.write_bytes(content)

    def _averaged(self) -> AbstractContextManager[None]:
        return nullcontext() if self._engine.ema is None else self._engine.ema.in_place()

    def _all_rejects(self) -> Rejects:
        total = Rejects()
        for own in gather_bytes(json.dumps(self._loader.rejects.to_json()).encode(), self._device):
            total.add(Rejects.from_json(json.loads(own)))
        return total

    def _open_log(self) -> TrainLog:
        return TrainLog(
            self._output,
            steps=self._engine.steps,
            total=self._config.schedule.epochs * self._loader.steps_per_epoch,
            samples_per_step=self._config.batch_size * self._config.accumulate * world_size(),
            every=self._config.log_every,
        )

    def _make_loader(self, source: Source) -> Loader:
        data = self._config.data
        return Loader(
            source,
            data.samples,
            batch_size=self._config.batch_size * self._config.accumulate,
            seed=self._config.seed,
            rank=rank(),
            ranks=world_size(),
            workers=data.workers,
            pin_memory=self._device.type == "cuda",
            samples=None if data.cache is None else self._cache(data.cache, source),
        )

    def _cache(self, folder: Path, source: Source) -> TokenCache:
        if self._model.decoder is None:
            raise TrainingError("data.cache keeps tokens for a decoder, and decoder is null; leave data.cache out")
        data, dense = self._config.data, self._model.decoder.settings.anchors is not None
        own = folder / cache_key(self._model.tower_fingerprint, data.train, data.samples, dense=dense)
        if rank() == 0 and not own.is_dir():
            with progress_bar(len(source), "img", "cache tokens") as advance:
                fill_cache(own, source, data.samples, self._look, workers=data.workers, progress=advance)
        wait_for_all()
        return TokenCache(own, data.samples.max_descriptions)

    def _look(self, pixels: torch.Tensor) -> TowerOutput:
        with torch.autocast(self._device.type, dtype=torch.bfloat16, enabled=self._config.amp == "bf16"):
            return self._model.read_images(pixels.to(self._device))


def _warn_of_other_frames(encoder: Preprocessing, augment: AugmentSettings) -> None:
    """Say so where pictures are laid into the input in another way than the encoder does it later."""
    if encoder.geometry != augment.fit or (augment.fit == "letterbox" and encoder.fill != augment.fill):
        note(
            f"note: training lays pictures in by {augment.fit} (fill {augment.fill}), the encoder by "
            f"{encoder.geometry} (fill {encoder.fill}) when it is used"
        )


def _hardware(device: torch.device) -> dict[str, Any]:
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or platform.machine()
    return {"torch": torch.__version__, "device": name, "processes": world_size(), "threads": torch.get_num_threads()}


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
        training.data.source.DataError: the data cannot be used.
        recognizer.encoder.errors.EncoderError: the encoder cannot be made.
    """
    with joined_processes(device) as place:
        return Run(config, output, place).go()


if __name__ == "__main__":
    import sys

    from recognizer.cli import main

    sys.argv.insert(1, "train")
    main()
