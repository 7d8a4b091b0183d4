"""Checkpoints on disk: folders of safetensors and JSON, each complete or absent; the newest few are kept.

    FOLDER/step-00000123/state.json            JSON values, with the sha256 of the other files and of itself
    FOLDER/step-00000123/NAME.safetensors      tensors by name
    FOLDER/step-00000123.part                  the same, while it is being written
    FOLDER/step-00000123.old                   the same, while it is being deleted

A checkpoint counts, and is deleted in its turn, only if every byte is as it was written and this run wrote it. Nothing
in the files is executed when they are read. Models and optimisers are known to `training.run_state` alone.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from memory.durable import file_sha256, make_folder, sync_folder, sync_with_folders, system_reason
from memory.errors import printable, printable_path
from recognizer.console import note
from training.distributed import rank
from training.errors import CheckpointError, TrainingError

_STATE = "state.json"
_TENSORS = ".safetensors"
_PART, _OLD, _ASIDE = ".part", ".old", ".aside"
_NAME = re.compile(r"step-(\d{8,})(\.part|\.old)?")
_DRAFT_OF_TENSORS = re.compile(r"\.tmp\w{6}")  # the name under which safetensors writes a file, before it renames it
_MOST_NAMED = 5  # checkpoints in one message


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A checkpoint whose bytes are those that were written.

    Attributes:
        folder: holds its files.
        state: its JSON values.
        run: the identity of the run that wrote it.
        files: size in bytes and sha256 of its files other than `state.json`, by name.
    """

    folder: Path
    state: Mapping[str, Any]
    run: str
    files: Mapping[str, tuple[int, str]]

    @classmethod
    def read(cls, folder: Path) -> Checkpoint:
        """Read a checkpoint and check every byte.

        Raises:
            CheckpointError: it is not one, or it is damaged; the message says how, without naming the folder.
        """
        try:
            if folder.is_symlink():
                raise CheckpointError("is a link")
            content = (folder / _STATE).read_bytes()
            sealed = json.loads(content)
            state, run = sealed["state"], sealed["run"]
            files = {name: (int(size), str(sha256)) for name, (size, sha256) in sealed["files"].items()}
            intact = content == _seal(run, files, state)
        except OSError as error:
            raise CheckpointError(f"{_STATE} cannot be read: {error.strerror}") from error
        except KeyError as error:
            raise CheckpointError(f"{_STATE} has no {error}; it is damaged or of another version") from error
        except (ValueError, TypeError, AttributeError, RecursionError) as error:
            raise CheckpointError(f"{_STATE} is damaged") from error
        if not intact:
            raise CheckpointError(f"{_STATE} has changed since it was written")
        for name, expected in files.items():
            if (reason := _damage(folder, name, expected)) is not None:
                raise CheckpointError(reason)
        return cls(folder, state, run, files)

    def has(self, name: str) -> bool:
        """Tell whether there are tensors of this name."""
        return f"{name}{_TENSORS}" in self.files

    def tensors(self, name: str) -> dict[str, Tensor]:
        """Read tensors, onto the CPU."""
        return load_file(self.folder / f"{name}{_TENSORS}")


class Checkpoints:
    """The checkpoints of one run; written by one process."""

    def __init__(self, folder: Path, *, keep: int, run: str) -> None:
        """Take the folder of the checkpoints.

        Args:
            folder: it need not exist.
            keep: number of checkpoints to keep.
            run: identity of the run; checkpoints of another one are neither counted nor deleted.
        """
        self._folder, self._keep, self._run = folder, keep, run

    def save(self, step: int, tensors: Mapping[str, Mapping[str, Tensor]], state: Mapping[str, Any]) -> None:
        """Write a checkpoint, then delete the oldest above the number to keep.

        A kill at any moment leaves the newest checkpoint before, or this one, under its final name or as a draft that
        `newest` reads and the next `save` publishes.

        Args:
            step: steps taken; this run's checkpoint of the same step is replaced.
            tensors: by file, then by name.
            state: JSON values.

        Raises:
            TrainingError: the disk is full or refuses.
        """
        final = self._folder / f"step-{step:08d}"
        draft = final.with_name(final.name + _PART)
        try:
            make_folder(self._folder)
            self._clear()
            if os.path.lexists(draft):
                _move_aside(draft)
            try:
                self._write(draft, tensors, state)
            except (OSError, SafetensorError):
                shutil.rmtree(draft, ignore_errors=True)  # a full disk needs the space
                raise
            self._publish(draft)
            self._delete_surplus()
        except (OSError, SafetensorError) as error:
            raise TrainingError(
                f"the checkpoint {printable_path(final)} cannot be written: {system_reason(error)}. "
                f"Earlier checkpoints are as they were; the same command resumes from the newest"
            ) from error

    def newest(self) -> Checkpoint | None:
        """Return the newest intact checkpoint of this run; those left out before it are named in one warning.

        Where this run has none, the newest intact one of another run is returned, so that the caller can say how the
        runs differ.

        Raises:
            CheckpointError: there are checkpoints, and all are damaged.
        """
        left_out: list[str] = []
        of_another: Checkpoint | None = None
        for folder in self._found():
            try:
                checkpoint = Checkpoint.read(folder)
            except CheckpointError as error:
                if folder.suffix != _PART:  # a damaged draft is what a kill leaves
                    left_out.append(f"{folder.name} ({error})")
                continue
            if checkpoint.run == self._run:
                self._warn(left_out, f"{folder.name} is used")
                return checkpoint
            left_out.append(f"{folder.name} (belongs to another run)")
            of_another = of_another or checkpoint
        if left_out and of_another is None:
            raise CheckpointError(
                f"none of the checkpoints in {printable_path(self._folder)} can be used: {_listed(left_out)}. Restore "
                f"one, move them away to start from the beginning, or choose another --output"
            )
        return of_another

    def _warn(self, left_out: list[str], used: str) -> None:
        if left_out and rank() == 0:
            note(f"warning: checkpoints in {printable_path(self._folder)} left out: {_listed(left_out)}; {used}")

    def _found(self) -> list[Path]:
        """Return folders with the name of a checkpoint or draft: by falling step, a draft before the final one."""
        found = [(match, path) for path in self._folder.glob("step-*") if (match := _NAME.fullmatch(path.name))]
        found.sort(key=lambda item: (int(item[0][1]), item[0][2] == _PART), reverse=True)
        return [path for match, path in found if match[2] != _OLD]

    def _is_own(self, folder: Path) -> bool:
        try:
            return Checkpoint.read(folder).run == self._run
        except CheckpointError:
            return False

    def _clear(self) -> None:
        """Finish what a kill interrupted: publish complete drafts, delete incomplete ones and deleted checkpoints."""
        for draft in self._folder.glob(f"step-*{_PART}"):
            if _NAME.fullmatch(draft.name) and self._is_own(draft):
                self._publish(draft)
        for folder in (*self._folder.glob(f"step-*{_PART}"), *self._folder.glob(f"step-*{_OLD}")):
            if _NAME.fullmatch(folder.name) and (_is_torn(folder) or self._is_own(folder)):
                shutil.rmtree(folder)

    def _write(self, draft: Path, tensors: Mapping[str, Mapping[str, Tensor]], state: Mapping[str, Any]) -> None:
        draft.mkdir()
        for name, values in tensors.items():
            contiguous = {key: value.detach().cpu().contiguous() for key, value in values.items()}
            save_file(contiguous, draft / f"{name}{_TENSORS}")
        files = {file.name: (file.stat().st_size, file_sha256(file)) for file in sorted(draft.iterdir())}
        (draft / _STATE).write_bytes(_seal(self._run, files, state))
        sync_with_folders(draft, [*files, _STATE])

    def _publish(self, draft: Path) -> None:
        """Give a complete draft its final name; what is there is deleted if it is this run's, else moved aside."""
        final = draft.with_suffix("")
        own = self._is_own(final)
        if own:
            os.replace(final, final.with_name(final.name + _OLD))  # from here on the draft is what `newest` reads
        elif os.path.lexists(final):
            _move_aside(final)
        os.replace(draft, final)
        sync_folder(self._folder)
        if own:
            shutil.rmtree(final.with_name(final.name + _OLD))

    def _delete_surplus(self) -> None:
        own = [folder for folder in self._found() if self._is_own(folder)]
        for folder in own[self._keep :]:
            doomed = folder.with_name(folder.name + _OLD)
            os.replace(folder, doomed)
            shutil.rmtree(doomed)


def _seal(run: str, files: Mapping[str, tuple[int, str]], state: Mapping[str, Any]) -> bytes:
    """Return the content of `state.json`: a JSON object that holds the hash of the rest of itself."""
    body = {"run": run, "files": files, "state": state}
    return _dump({**body, "sha256": hashlib.sha256(_dump(body)).hexdigest()})


def _dump(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, indent=1).encode() + b"\n"


def _damage(folder: Path, name: str, expected: tuple[int, str]) -> str | None:
    """Say what is wrong with a file of a checkpoint; None: nothing."""
    path, shown = folder / name, printable(name)
    if Path(name).name != name or path.is_symlink() or not path.is_file():
        return f"{shown} is missing"
    try:
        size = path.stat().st_size
        if size != expected[0]:
            return f"{shown} has {size} bytes, not {expected[0]}"
        return None if file_sha256(path) == expected[1] else f"the content of {shown} has changed"
    except OSError as error:
        return f"{shown} cannot be read: {error.strerror}"


def _is_torn(folder: Path) -> bool:
    """Tell whether a folder is part of a checkpoint: it has no files of other kinds, and is not complete."""
    if folder.is_symlink() or not folder.is_dir():
        return False
    names = [file.name for file in folder.iterdir()]
    if not all(name == _STATE or name.endswith(_TENSORS) or _DRAFT_OF_TENSORS.fullmatch(name) for name in names):
        return False
    try:
        Checkpoint.read(folder)
    except CheckpointError:
        return True
    return False


def _move_aside(path: Path) -> None:
    """Rename what stands in the way of a checkpoint and is not this run's, or damaged."""
    number = 1
    while os.path.lexists(aside := path.with_name(f"{path.name}{_ASIDE}-{number}")):
        number += 1
    os.replace(path, aside)
    note(f"warning: {printable_path(path)} was damaged or not of this run; it is now {printable(aside.name, 200)}")


def _listed(items: list[str]) -> str:
    more = f" and {len(items) - _MOST_NAMED} more" if len(items) > _MOST_NAMED else ""
    return ", ".join(items[:_MOST_NAMED]) + more
