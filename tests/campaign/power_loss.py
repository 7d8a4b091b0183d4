"""Simulate power losses during writes: the last durable version is there, whatever became of what was not synced.

usage: python -m tests.campaign.power_loss [--cases 1000] [--seed 0]

A write is done once and watched. Ahead of each change of the disk, the disk is copied, with a list of what a power loss
may undo: content since the last fsync of its file, names since the last fsync of their folder. Then one of these
things, or all of them, are set back or spoilt in a copy, and the write is looked at and done again.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeAlias

from tests.campaign.disk import Outcome, in_child, watch
from tests.campaign.trials import Tally, Trial, sample, scratch
from tests.campaign.writes import WRITES

DAMAGES = ("old", "empty", "zeros", "half", "garbage")


@dataclass(frozen=True, slots=True)
class Name:
    """A name that may be set back: another file, or none, had it when the folder was synced.

    Attributes:
        name: relative to the root.
        old: by name relative to the root, the content of the files that come back.
    """

    name: str
    old: dict[str, bytes]

    def spoil(self, root: Path, damage: str) -> None:
        """Set the name back; spoilt content is that of a file that keeps its name."""
        path = root / self.name
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
        for name, content in self.old.items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_bytes(content)


@dataclass(frozen=True, slots=True)
class Content:
    """A file whose content may be lost from a place on.

    Attributes:
        name: relative to the root.
        old: its content when it was synced.
        kept: bytes from the start that cannot be lost.
    """

    name: str
    old: bytes
    kept: int

    def spoil(self, root: Path, damage: str) -> None:
        """Set the content back or spoil it."""
        content = (root / self.name).read_bytes() if (root / self.name).is_file() else b""
        tail = content[self.kept :]
        garbage = random.Random(self.name).randbytes(len(tail))
        tails = {"empty": b"", "zeros": bytes(len(tail)), "half": tail[: len(tail) // 2], "garbage": garbage}
        (root / self.name).write_bytes(self.old if damage == "old" else content[: self.kept] + tails[damage])


Unsynced: TypeAlias = Name | Content


class Disk:
    """What of a folder is durable while it is written to."""

    def __init__(self, root: Path) -> None:
        """Take everything that is there for durable."""
        self._root = root
        self._contents: dict[int, bytes] = {}  # by inode
        self._entries: dict[int, dict[str, int]] = {}  # by inode of the folder, the inodes of its entries
        self._kept_open: list[int] = []  # so that no inode is used again
        for parent, _, files in os.walk(root):
            for path in (Path(parent), *(Path(parent, file) for file in files)):
                self.sync(path)

    def sync(self, path: Path) -> None:
        """Take the present content of a file, or the names in a folder, for durable."""
        self._kept_open.append(os.open(path, os.O_RDONLY))
        if path.is_dir():
            self._entries[path.stat().st_ino] = _inodes(path)
        else:
            self._contents[path.stat().st_ino] = path.read_bytes()

    def unsynced(self) -> list[Unsynced]:
        """Return what a power loss now may change."""
        return list(self._changes(self._root, self._root.stat().st_ino))

    def _changes(self, folder: Path, durable: int | None) -> Iterator[Unsynced]:
        """Yield what has changed in a folder since the durable one; None: its own name has changed."""
        old = self._entries.get(durable, {}) if durable is not None else {}
        present = _inodes(folder)
        for name in sorted(old.keys() | present.keys()):
            path, same = folder / name, old.get(name) == present.get(name)
            if durable is not None and not same:
                inside = str(path.relative_to(self._root))
                yield Name(inside, dict(self._files(inside, old[name])) if name in old else {})
            if path.is_dir():
                yield from self._changes(path, present[name] if same else None)
            elif name in present:
                yield from self._written(path, present[name])

    def _written(self, path: Path, inode: int) -> Iterator[Content]:
        content, known = path.read_bytes(), self._contents.get(inode, b"")
        if content != known or inode not in self._contents:
            kept = next((len(part) for part in (known, content) if content[: len(part)] == known[: len(part)]), 0)
            yield Content(str(path.relative_to(self._root)), known, min(kept, len(content)))

    def _files(self, name: str, inode: int) -> Iterator[tuple[str, bytes]]:
        """Yield the durable files of an entry, which may be a folder."""
        if inode not in self._entries:
            yield name, self._contents.get(inode, b"")
        for inner, number in self._entries.get(inode, {}).items():
            yield from self._files(f"{name}/{inner}", number)


def _inodes(folder: Path) -> dict[str, int]:
    return {entry.name: entry.inode() for entry in os.scandir(folder)}


def record(trial: Trial, copies: Path) -> list[list[Unsynced]]:
    """Do a write and copy the disk ahead of each change, and at the end; returns what is unsynced in each copy."""

    def watched(folder: Path) -> list[list[Unsynced]]:
        disk, states = Disk(folder), []

        def copy() -> None:
            shutil.copytree(folder, copies / str(len(states)))
            states.append(disk.unsynced())

        watch(folder, copy, disk.sync)
        trial.write.act(folder)
        copy()
        return states

    copies.mkdir()
    with trial.copy() as folder:
        states: list[list[Unsynced]] = in_child(lambda: watched(folder)).result()
    return states


@dataclass(frozen=True)
class Case:
    """A power loss.

    Attributes:
        trial: the write; what is there before is what is durable already.
        copy: of the disk.
        lost: what is changed.
        damage: how.
    """

    trial: Trial
    copy: Path
    lost: list[Unsynced]
    damage: str

    def __str__(self) -> str:
        """Return what is lost when."""
        return f"{self.trial.name}, change {self.copy.name}, {self.damage} {[thing.name for thing in self.lost]}"

    @contextmanager
    def after_the_loss(self) -> Iterator[Path]:
        """Give the folder as the power loss leaves it."""
        with tempfile.TemporaryDirectory(dir=self.copy.parent) as base:
            folder = shutil.copytree(self.copy, Path(base) / "copy")
            for thing in sorted(self.lost, key=lambda thing: isinstance(thing, Name)):
                thing.spoil(folder, self.damage)
            yield folder


def cases(trial: Trial, tally: Tally) -> list[Case]:
    """Return the power losses of a write; those that undo everything that is not durable are noted at once."""
    copies = trial.folder.with_name(f"{trial.folder.name}-copies")
    states, found = record(trial, copies), []
    for number, unsynced in enumerate(states):
        whole = Case(trial, copies / str(number), unsynced, "old")
        with whole.after_the_loss() as folder:
            durable = in_child(lambda folder=folder: trial.write.read(folder))
        lost = number + 1 == len(states) and durable.value != trial.after
        wrong = ["UNREADABLE"] if durable.how != "returned" else ["LOST: the write returned"] if lost else []
        tally.note(str(whole), "all that is not durable", wrong)
        whole = replace(whole, trial=replace(trial, before=durable.value))
        contents = [thing for thing in unsynced if isinstance(thing, Content)]
        names = [thing for thing in unsynced if isinstance(thing, Name)]
        found += [replace(whole, lost=[thing]) for thing in names]
        found += [replace(whole, lost=[thing], damage=damage) for thing in contents for damage in DAMAGES]
        found += [replace(whole, lost=contents, damage=damage) for damage in DAMAGES if contents]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--writes", nargs="+", choices=list(WRITES), default=list(WRITES))
    arguments = parser.parse_args()
    tally = Tally()
    with scratch() as base:
        every = []
        for name in arguments.writes:
            every += cases(Trial.prepare(name, Path(base)), tally)
        for case in sample(every, arguments.cases, random.Random(arguments.seed)):
            with case.after_the_loss() as folder:
                tally.note(str(case), f"with {case.damage} content", case.trial.faults(folder, Outcome("killed")))
    tally.end("power losses", arguments.seed)


if __name__ == "__main__":
    main()
