"""The writes that the campaign disturbs: what is there before, the write, and what is there after it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lancedb  # noqa: F401  a second that no process of the campaign should spend again
import numpy as np
import torch

import memory.build
import memory.encode
from memory import Category, Description, Memory, MemoryNotFound
from memory.search import Fold
from recognizer.results import ErrorRow, RunSetup, open_results, todo_batches
from recognizer.results.run_files import find_run_files, infer_format
from tests.memory.building import build, exported
from tests.memory.fake_encoder import FakeEncoder
from training.checkpoint import Checkpoints

CATEGORIES = [Category(f"thing {n}", descriptions=(Description(f"part {n}"),)) for n in range(12)]
NEW = [Category("new", descriptions=(Description("of new"),))]
# A build of as many texts writes the journal more than once when chunks are this small.
CHUNK_TEXTS = 8
memory.encode.CHUNK_TEXTS = CHUNK_TEXTS


@dataclass(frozen=True)
class Write:
    """A write to a folder.

    Attributes:
        make: makes what is there before.
        act: the write, which may be repeated after it failed.
        read: what is there, checked; raises where it is damaged.
        grows: what is there may also be the state before with a part of the write.
    """

    make: Callable[[Path], object]
    act: Callable[[Path], object]
    read: Callable[[Path], Any]
    grows: bool = False

    def may_leave(self, found: Any, before: Any, after: Any) -> bool:
        """Say whether a disturbed write may leave this."""
        return found in (before, after) or (self.grows and found[: len(before)] == before)


def _make_memory(folder: Path) -> None:
    build(CATEGORIES, folder / "memory", FakeEncoder())


def _make_indexed(folder: Path) -> None:
    build(CATEGORIES, folder / "memory", FakeEncoder(), index="hnsw")


def _read_memory(folder: Path) -> Any:
    """Return the content of the memory; None where there is none."""
    try:
        opened = Memory.open(folder / "memory")
    except MemoryNotFound:
        return None
    # A missing index is built again by the next search.
    bad = [finding for finding in opened.verify() if not finding.ok and finding.check != "index"]
    if bad:
        raise AssertionError(f"checks failed: {bad}")
    return exported(opened)


def _search_memory(folder: Path) -> Any:
    """Return the content of the memory and what a search with its index finds."""
    opened = Memory.open(folder / "memory")
    return _read_memory(folder), opened.index().search(np.eye(16, dtype=np.float32)[:1], 3)[1].tolist()


def _add(folder: Path, categories: list[Category] = NEW) -> None:
    Memory.open(folder / "memory").add(categories, encoder=FakeEncoder())


def _extend(folder: Path) -> None:
    _add(folder, [Category("thing 3", descriptions=(Description("more of 3"),))])


def _compact(folder: Path) -> None:
    memory.build.MAX_TABLE_FILES = 2
    _add(folder)


def _rebuild(folder: Path) -> None:
    build([*CATEGORIES[3:], *NEW], folder / "memory", FakeEncoder())


def _index(folder: Path) -> None:
    build([*CATEGORIES[3:], *NEW], folder / "memory", FakeEncoder(), index="hnsw")


def _refold(folder: Path) -> None:
    Memory.open(folder / "memory").index(Fold(name=0.9, description=0.1))


def _save(folder: Path, step: int) -> None:
    tensors = {name: {"w": torch.full((40, 5), float(step))} for name in ("weights", "optimizer")}
    Checkpoints(folder / "checkpoints", keep=1, run="run").save(step, tensors, {"steps": step})


def _read_checkpoint(folder: Path) -> Any:
    newest = Checkpoints(folder / "checkpoints", keep=1, run="run").newest()
    if newest is None:
        return None
    values = {float(value) for name in ("weights", "optimizer") for value in newest.tensors(name)["w"].unique()}
    return newest.state["steps"], values


def _run(folder: Path, name: str, batches: int) -> None:
    keys = [f"{number:02}.jpg" for number in range(9)]
    setup = RunSetup(command=[], model={}, memory={}, settings={}, device="cpu", input_root="")
    with open_results(folder / name, keys=keys, setup=setup) as sink:
        for batch in list(todo_batches(sink, 3)):
            if batch[0] >= 3 * batches:
                return
            sink.write([ErrorRow(path=keys[i], code="E", reason="r") for i in batch])
        sink.finish()


def _read_run(folder: Path, name: str) -> Any:
    """Return the whole lines of the results, or of the journal that a table is converted from."""
    files = find_run_files(folder / name, infer_format(name, None))
    path = files.output if files.output.exists() else files.journal
    return [line for line in path.read_bytes().splitlines(keepends=True) if line.endswith(b"\n")]


def _run_write(name: str) -> Write:
    def act(folder: Path) -> None:
        _run(folder, name, 3)

    return Write(lambda folder: _run(folder, name, 1), act, lambda folder: _read_run(folder, name), grows=True)


WRITES: dict[str, Write] = {
    "first build": Write(lambda folder: None, _make_memory, _read_memory),
    "build again": Write(_make_memory, _rebuild, _read_memory),
    "build an index": Write(_make_indexed, _index, _search_memory),
    "add": Write(_make_memory, _add, _read_memory),
    "add to a category": Write(_make_memory, _extend, _read_memory),
    "add and compact": Write(_make_memory, _compact, _read_memory),
    "remove": Write(_make_memory, lambda folder: Memory.open(folder / "memory").remove(["thing 5"]), _read_memory),
    "rebuild an index": Write(_make_indexed, _refold, _search_memory),
    "first checkpoint": Write(lambda folder: None, lambda folder: _save(folder, 2), _read_checkpoint),
    "checkpoint": Write(lambda folder: _save(folder, 1), lambda folder: _save(folder, 2), _read_checkpoint),
    "checkpoint again": Write(lambda folder: _save(folder, 1), lambda folder: _save(folder, 1), _read_checkpoint),
    "results": _run_write("runs/r.jsonl"),
    "results as CSV": _run_write("runs/r.csv"),
}
