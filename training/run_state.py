"""The state of a run: written to checkpoints, and restored so that a run resumes exactly."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from safetensors.torch import load, save
from torch import Tensor

from recognizer.console import note
from training.checkpoint import Checkpoint, Checkpoints
from training.config import TrainConfig
from training.data.loader import Loader
from training.data.record import Rejects
from training.distributed import RandomState, gather_bytes, rank, wait_for_all, world_size
from training.engine import Engine
from training.errors import CheckpointError
from training.model import GroundedModel

FORMAT = "recognizer-training-2"  # 1 had no hash of state.json
# Settings that change no gradient of the steps already taken.
_MAY_CHANGE = ("schedule.epochs", "evaluation", "log_every", "save_every_steps", "keep_checkpoints", "data.workers")
_MOMENTS = ("exp_avg", "exp_avg_sq")
_MOST_NAMED = 5  # faults in one message


@dataclass(slots=True)
class Progress:
    """Elapsed time and metrics so far.

    Attributes:
        seconds: of all sessions of the run, evaluation included.
        metrics: `development` by epoch, and `held_out`; JSON values.
    """

    seconds: float = 0.0
    metrics: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RunState:
    """The parts of a run that change during training; all ranks make the same calls."""

    config: TrainConfig
    model: GroundedModel
    engine: Engine
    loader: Loader
    progress: Progress
    device: torch.device

    @property
    def identity(self) -> str:
        """Hash of what makes checkpoints those of one run: config, except what may change, and encoder."""
        fixed = _fixed(self.config.model_dump(mode="json"))
        described = json.dumps([FORMAT, fixed, self.model.base_fingerprint], sort_keys=True)
        return hashlib.sha256(described.encode()).hexdigest()

    def save(self, checkpoints: Checkpoints) -> None:
        """Write a checkpoint, with the random state and the data position of every rank."""
        position = {"loader": json.dumps(self.loader.state_dict())}
        ranks = gather_bytes(save(RandomState.now(self.device).tensors(), metadata=position), self.device)
        if rank() == 0:
            tensors: dict[str, Mapping[str, Tensor]] = {"weights": self.model.trained, "optimizer": self._moments()}
            if self.engine.ema is not None:
                tensors["ema"] = self.engine.ema.average
            positions = []
            for number, content in enumerate(ranks):
                tensors[f"rank-{number}"] = load(content)
                positions.append(json.loads(_metadata(content)["loader"]))
            state = {
                "format": FORMAT,
                "config": self.config.model_dump(mode="json"),
                "base": self.model.base_fingerprint,
                "steps": self.engine.steps,
                "seconds": self.progress.seconds,
                "metrics": self.progress.metrics,
                "scaler": self.engine.scaler.state_dict(),
                "loader": positions,
            }
            checkpoints.save(self.engine.steps, tensors, state)
        wait_for_all()

    def restore(self, checkpoint: Checkpoint) -> None:
        """Restore everything from a checkpoint.

        Raises:
            CheckpointError: config, encoder or architecture of the checkpoint differ; the message says how.
            DataError: the checkpoint belongs to other data.
        """
        state = checkpoint.state
        self._check(checkpoint)
        _copy(self.model.trained, checkpoint.tensors("weights"), f"weights of {checkpoint.folder}")
        if self.engine.ema is not None:
            _copy(self.engine.ema.average, checkpoint.tensors("ema"), f"averages of {checkpoint.folder}")
        self._restore_moments(checkpoint.tensors("optimizer"))
        self.engine.steps = int(state["steps"])
        self.engine.scaler.load_state_dict(state["scaler"])
        self.progress.seconds, self.progress.metrics = float(state["seconds"]), dict(state["metrics"])
        positions = state["loader"]
        # A rank that the run did not have before has rejected nothing yet.
        added = rank() >= len(positions)
        self.loader.load_state_dict(positions[0] | {"rejects": Rejects().to_json()} if added else positions[rank()])
        if len(positions) == world_size():
            RandomState.from_tensors(checkpoint.tensors(f"rank-{rank()}")).restore(self.device)
        elif rank() == 0:
            now, then = world_size(), len(positions)
            note(f"resuming with {now} processes instead of {then}: the result is not that of an uninterrupted run")

    def _check(self, checkpoint: Checkpoint) -> None:
        state, where = checkpoint.state, checkpoint.folder
        if state.get("format") != FORMAT:
            raise CheckpointError(
                f"{where} has format {state.get('format')!r}, not {FORMAT!r}; choose another --output"
            )
        changed = differences(state["config"], self.config.model_dump(mode="json"))
        if changed:
            raise CheckpointError(
                f"{where} belongs to a run with another config: {'; '.join(changed)}. Resume with the same config, or "
                f"choose another --output"
            )
        if state["base"] != self.model.base_fingerprint:
            raise CheckpointError(
                f"{where} started from an encoder with fingerprint {state['base'][:12]}, but the config's now has "
                f"{self.model.base_fingerprint[:12]}: its files have changed. Restore them, or choose another --output"
            )

    def _moments(self) -> dict[str, Tensor]:
        state = self.engine.optimizer.state
        return {
            f"{name}/{key}": state[parameter][key]
            for name, parameter in self.model.trained.items()
            if parameter in state
            for key in (*_MOMENTS, "step")
        }

    def _restore_moments(self, tensors: Mapping[str, Tensor]) -> None:
        for name, parameter in self.model.trained.items():
            if f"{name}/step" in tensors:
                moments = {key: torch.zeros_like(parameter) for key in _MOMENTS}
                for key, value in moments.items():
                    value.detach().copy_(tensors[f"{name}/{key}"])
                step = tensors[f"{name}/step"].to(parameter.device)  # where the fused optimiser counts
                self.engine.optimizer.state[parameter] = {"step": step, **moments}


def _fixed(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return the settings that `differences` compares; it takes a setting that is missing for None."""
    return {
        key: _fixed(value, f"{prefix}{key}.") if isinstance(value, Mapping) else value
        for key, value in settings.items()
        if f"{prefix}{key}" not in _MAY_CHANGE and value is not None
    }


def differences(then: Mapping[str, Any], now: Mapping[str, Any], prefix: str = "") -> list[str]:
    """List the settings that differ, with both values, except those that may change during a run."""
    changes = []
    for key in sorted(then.keys() | now.keys()):
        name, old, new = f"{prefix}{key}", then.get(key), now.get(key)
        if name in _MAY_CHANGE or old == new:
            continue
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            changes += differences(old, new, f"{name}.")
        else:
            changes.append(f"{name} was {old} and is {new}")
    return changes


@torch.no_grad()
def _copy(targets: Mapping[str, Tensor], stored: Mapping[str, Tensor], what: str) -> None:
    """Copy stored tensors to the targets of the same names.

    Raises:
        CheckpointError: names or shapes differ; the message says which.
    """
    faults = [f"{name} is missing" for name in targets.keys() - stored.keys()]
    faults += [f"{name} is unknown" for name in stored.keys() - targets.keys()]
    faults += [
        f"{name} has shape {tuple(stored[name].shape)}, not {tuple(targets[name].shape)}"
        for name in targets.keys() & stored.keys()
        if stored[name].shape != targets[name].shape
    ]
    if faults:
        more = f" and {len(faults) - _MOST_NAMED} more" if len(faults) > _MOST_NAMED else ""
        raise CheckpointError(
            f"the {what} belong to another architecture: {'; '.join(sorted(faults)[:_MOST_NAMED])}{more}"
        )
    for name, value in targets.items():
        value.copy_(stored[name])


def _metadata(content: bytes) -> dict[str, str]:
    """Read the metadata of safetensors bytes: 8 bytes with the length of a JSON header, then the header."""
    length = int.from_bytes(content[:8], "little")
    metadata: dict[str, str] = json.loads(content[8 : 8 + length])["__metadata__"]
    return metadata
