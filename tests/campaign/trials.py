"""What holds after a disturbed write, whatever disturbed it."""

from __future__ import annotations

import os
import random
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from memory.recovery import QUARANTINE
from tests.campaign.conclusion import conclude
from tests.campaign.disk import Outcome, in_child
from tests.campaign.writes import WRITES, Write

T = TypeVar("T")
PROGRESS = 50  # trials between two lines on standard error
# Files that a failed write leaves on purpose: vectors that the next build does not compute again, locks, and a hint of
# Lance that it replaces in place.
_KEPT = {"vectors.journal", "memory.lock", "latest_version_hint.json"}


@dataclass(frozen=True)
class Trial:
    """A write that is disturbed again and again, each time in a fresh copy of what is there before.

    Attributes:
        name: of the write.
        write: the write.
        folder: holds a copy of what is there before.
        before: what is there before.
        after: what is there after it.
        files: number of files after it, or after it was done twice.
    """

    name: str
    write: Write
    folder: Path
    before: Any
    after: Any
    files: int

    @classmethod
    def prepare(cls, name: str, base: Path) -> Trial:
        """Make what is there before, and do the write once in a copy."""
        write, folder = WRITES[name], base / name.replace(" ", "-")
        folder.mkdir()
        in_child(lambda: write.make(folder)).result()
        before = in_child(lambda: write.read(folder)).result()
        whole = shutil.copytree(folder, base / "whole")
        in_child(lambda: write.act(whole)).result()
        after = in_child(lambda: write.read(whole)).result()
        files = len(_files(whole))
        if in_child(lambda: write.act(whole)).how == "returned":  # a memory keeps its last version for readers
            files = max(files, len(_files(whole)))
        shutil.rmtree(whole)
        return cls(name, write, folder, before, after, files)

    @contextmanager
    def copy(self, base: Path | None = None) -> Iterator[Path]:
        """Give a fresh copy of what is there before, below a folder."""
        with tempfile.TemporaryDirectory(dir=base or self.folder.parent) as folder:
            yield shutil.copytree(self.folder, Path(folder) / "copy")

    def faults(self, folder: Path, outcome: Outcome) -> Iterator[str]:
        """Look at what a disturbed write left, do it again, and yield what must not be."""
        if outcome.how not in ("returned", "refused", "killed"):
            yield f"{outcome.how}: {outcome.value}"
        if outcome.how == "refused" and ("[Errno" in outcome.value or "error:" in outcome.value):
            yield f"NO SENTENCE: {outcome.value}"
        found = in_child(lambda: self.write.read(folder))
        if found.how != "returned":
            yield f"UNREADABLE: {found.how} {found.value}"
        elif outcome.how == "returned" and found.value != self.after:
            yield "SILENT: it returned, and the write is not there"
        elif not self.write.may_leave(found.value, self.before, self.after):
            yield "LOST: neither the old nor the new state"
        if found.value != self.after:
            yield from self._again(folder)

    def _again(self, folder: Path) -> Iterator[str]:
        again = in_child(lambda: self.write.act(folder))
        if again.how != "returned":
            yield f"AGAIN {again.how}: {again.value}"
        elif in_child(lambda: self.write.read(folder)).value != self.after:
            yield "AGAIN: another state than that of the undisturbed write"
        elif len(_files(folder)) > self.files:
            in_child(lambda: self.write.act(folder))  # a leftover may count as a part of a memory's last version
            if len(_files(folder)) > self.files:
                yield f"LEFTOVERS: {len(_files(folder)) - self.files} files too many"

    def leftovers(self, folder: Path) -> list[str]:
        """Return the files of a failed write that fill a full disk."""
        return sorted(name for name in _files(folder) - _files(self.folder) if Path(name).name not in _KEPT)


def _files(folder: Path) -> set[str]:
    """Return the files that no writer has set aside."""
    files = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return {str(path) for path in files if QUARANTINE not in path.parts}


def scratch() -> tempfile.TemporaryDirectory[str]:
    """Return a temporary folder, in memory where there is one, because each write waits for many fsyncs."""
    shared = "/dev/shm"
    return tempfile.TemporaryDirectory(dir=shared if os.access(shared, os.W_OK) else None)


def sample(cases: Sequence[T], count: int, rng: random.Random) -> list[T]:
    """Return all cases, or a random sample of them, in their order."""
    chosen = sorted(rng.sample(range(len(cases)), min(count, len(cases))))
    return [cases[place] for place in chosen]


class Tally:
    """Counts what happened, and prints each fault when it is found."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self.counts: Counter[str] = Counter()
        self.failed = 0

    def note(self, case: str, what: str, faults: Iterable[str]) -> None:
        """Count a case."""
        first = next(iter(faults), None)
        self.counts[what] += 1
        if first is not None:
            self.failed += 1
            print(f"FAULT {case}: {first}", flush=True)
        if self.counts.total() % PROGRESS == 0:
            print(f"{self.counts.total()} done, {self.failed} faults, now {case}", file=sys.stderr)

    def end(self, kind: str, seed: int) -> NoReturn:
        """Print the counts, and end the process, with 1 where there was a fault."""
        total = self.counts.total()
        print(f"seed {seed}:", ", ".join(f"{number} {what}" for what, number in self.counts.most_common()))
        conclude(total - self.failed, total, kind)
