"""The logs of a run: log.jsonl, TensorBoard and a progress bar. Written by rank 0 only."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from tqdm import tqdm

from memory.durable import replacing
from memory.errors import printable
from recognizer.console import LONGEST_LINE, note
from training.engine import Step

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

LOG_NAME = "log.jsonl"


class TrainLog:
    """Logs steps and metrics; a context manager."""

    def __init__(self, output: Path, *, steps: int, total: int, samples_per_step: int, every: int) -> None:
        """Open the logs of a run.

        Args:
            output: the run's folder.
            steps: steps taken before; log lines of later steps are dropped, because these steps are taken again.
            total: steps of the whole run.
            samples_per_step: samples of one step on all ranks.
            every: steps between two lines.
        """
        path = output / LOG_NAME
        _drop_lines_after(path, steps)
        self._file = path.open("a", encoding="utf-8")
        self._board = _open_board(output / "tensorboard", steps)
        self._bar = tqdm(total=total, initial=steps, unit="step", desc="train", dynamic_ncols=True, smoothing=0.05)
        self._samples, self._every, self._last = samples_per_step, every, (steps, time.monotonic())

    def __enter__(self) -> Self:
        """Return the log itself."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Close the files."""
        self._bar.close()
        self._file.close()
        if self._board is not None:
            self._board.close()

    def step(self, number: int, epoch: int, step: Step) -> None:
        """Count a finished step; one in `every` is written."""
        self._bar.update()
        if number % self._every:
            return
        (last_number, last_time), now = self._last, time.monotonic()
        rate = (number - last_number) * self._samples / max(now - last_time, 1e-9)
        self._last = number, now
        self._bar.set_postfix_str(f"{rate:.0f} img/s, loss {step.terms['loss']:.3f}")
        values = {"lr": step.lr, "grad_norm": step.grad_norm, "logit_scale": step.logit_scale, "images_per_s": rate}
        self._write({"step": number, "epoch": epoch, "terms": step.terms, **values})
        self._plot(number, {f"terms/{name}": value for name, value in step.terms.items()} | values)

    def metrics(self, number: int, epoch: int, metrics: Mapping[str, Mapping[str, Mapping[str, float]]]) -> None:
        """Write zero-shot accuracies: by set, then by way of scoring."""
        self._write({"step": number, "epoch": epoch, "zero_shot": metrics})
        self._plot(
            number,
            {f"zero_shot/{name}/{way}": row["top1"] for name, ways in metrics.items() for way, row in ways.items()},
        )
        self._last = number, time.monotonic()

    def rejects(self, number: int, epoch: int, report: str) -> None:
        """Write which data could not be used in an epoch."""
        tqdm.write(printable(f"epoch {epoch}: {report}", LONGEST_LINE), file=sys.stderr)
        self._write({"step": number, "epoch": epoch, "rejects": report})

    def _write(self, value: Mapping[str, Any]) -> None:
        self._file.write(json.dumps(value, ensure_ascii=False) + "\n")
        self._file.flush()

    def _plot(self, number: int, values: Mapping[str, float]) -> None:
        if self._board is not None:
            for name, value in values.items():
                self._board.add_scalar(name, value, number)


def _drop_lines_after(path: Path, steps: int) -> None:
    if not path.is_file():
        return
    lines = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            if json.loads(line)["step"] <= steps:
                lines.append(line + "\n")
        except (ValueError, KeyError, TypeError):  # a line cut short when the run was killed
            continue
    with replacing(path) as draft:
        draft.write_text("".join(lines), encoding="utf-8")


def _open_board(folder: Path, steps: int) -> SummaryWriter | None:
    """Return a TensorBoard writer, or None if the package is missing."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        note('TensorBoard is not installed (pip install "recognizer[train]"); log.jsonl has the same values')
        return None
    return SummaryWriter(str(folder), purge_step=steps + 1)
