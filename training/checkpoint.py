"""Checkpoints on disk: folders of safetensors and JSON, each complete or absent; the newest few are kept.

    FOLDER/step-00000123/state.json            JSON values, with size and sha256 of the other files
    FOLDER/step-00000123/NAME.safetensors      tensors by name

Nothing in them is executed when they are read. Models and optimisers are known to `training.run_state` alone.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import Tensor

from memory.durable import file_sha256, sync_folder, sync_with_folders
from recognizer.console import note
from training.errors import TrainingError

_STATE = "state.json"
_PART = ".part"


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A complete checkpoint.

    Attributes:
        folder: holds its files.
        state: its JSON values.
    """

    folder: Path
    state: Mapping[str, Any]

    def has(self, name: str) -> bool:
        """Tell whether there are tensors of this name."""
        return (self.folder / f"{name}.safetensors").is_file()

    def tensors(self, name: str) -> dict[str, Tensor]:
        """Read tensors, onto the CPU."""
        return load_file(self.folder / f"{name}.safetensors")


class Checkpoints:
    """The checkpoints of one run; written by one process."""

    def __init__(self, folder: Path, *, keep: int) -> None:
        """Take the folder, which need not exist, and the number of checkpoints to keep in it."""
        self._folder, self._keep = folder, keep

    def save(self, step: int, tensors: Mapping[str, Mapping[str, Tensor]], state: Mapping[str, Any]) -> None:
        """Write a checkpoint, then delete the oldest above the number to keep.

        Args:
            step: steps taken; a checkpoint of the same step is replaced.
            tensors: by file, then by name.
            state: JSON values.

        Raises:
            TrainingError: the disk is full or refuses.
        """
        final = self._folder / f"step-{step:08d}"
        draft = final.with_name(final.name + _PART)
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            for abandoned in self._folder.glob(f"*{_PART}"):
                shutil.rmtree(abandoned)
            draft.mkdir()
            for name, values in tensors.items():
                contiguous = {key: value.detach().cpu().contiguous() for key, value in values.items()}
                save_file(contiguous, draft / f"{name}.safetensors")
            files = {file.name: [file.stat().st_size, file_sha256(file)] for file in sorted(draft.iterdir())}
            (draft / _STATE).write_text(json.dumps({**state, "files": files}, indent=1), encoding="utf-8")
            sync_with_folders(draft, [file.name for file in draft.iterdir()])
            if final.exists():
                shutil.rmtree(final)
            os.replace(draft, final)
            sync_folder(self._folder)
            for old in self._found()[self._keep :]:
                shutil.rmtree(old)
        except OSError as error:
            raise TrainingError(f"the checkpoint {final} cannot be written: {error.strerror or error}") from error

    def newest(self) -> Checkpoint | None:
        """Return the newest complete checkpoint; damaged ones are skipped with a warning."""
        for folder in self._found():
            try:
                return Checkpoint(folder, _read_state(folder))
            except (OSError, ValueError, KeyError, TypeError) as error:
                note(f"warning: the checkpoint {folder} is damaged and skipped: {error}")
        return None

    def _found(self) -> list[Path]:
        return sorted((path for path in self._folder.glob("step-*") if path.suffix != _PART), reverse=True)


def _read_state(folder: Path) -> Mapping[str, Any]:
    state = json.loads((folder / _STATE).read_text(encoding="utf-8"))
    for name, (size, sha256) in state["files"].items():
        found = (folder / name).stat().st_size
        if found != size:
            raise ValueError(f"{name} has {found} bytes, not {size}")
        if file_sha256(folder / name) != sha256:
            raise ValueError(f"the content of {name} has changed")
    checked: Mapping[str, Any] = state
    return checked
