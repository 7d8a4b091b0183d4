"""Output for people: results on stdout, messages and progress bars on stderr, and the errors shown without traceback.

All text for a terminal goes through here, and leaves escaped and cut: names of files, categories and models, and the
messages of errors may be somebody else's, and a terminal obeys escape sequences.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, NoReturn, Protocol

if TYPE_CHECKING:
    from tqdm import tqdm

LONGEST_LINE = 2000
"""A terminal of 25 lines with 80 characters; longer lines are cut."""
_LOG_SECONDS = 30.0  # between two lines of progress in a log: 120 an hour


def note(message: str) -> None:
    """Write one line to stderr, above the progress bar if there is one; line feeds in the message are escaped too."""
    from tqdm import tqdm

    from memory.errors import printable

    tqdm.write(printable(message, LONGEST_LINE), file=sys.stderr)


class Table(str):
    """Lines of text in which whatever is foreign is escaped already."""

    __slots__ = ()


def note_missing_fonts() -> None:
    """Say which characters of pictures no installed font has."""
    from recognizer.images.fonts import FONTS

    if sentence := FONTS.missing_note():
        note(sentence)


def show(*lines: str) -> None:
    """Write results to stdout, one line each, or a `Table`; line feeds in a line are escaped too."""
    from memory.errors import printable

    for line in lines:
        sys.stdout.write((line if isinstance(line, Table) else printable(line, LONGEST_LINE)) + "\n")


class Advance(Protocol):
    """Moves a progress bar."""

    def __call__(self, done: int, /, failed: int = 0) -> None:
        """Count units that were just done, and how many of them failed."""


@contextmanager
def progress_bar(total: int, unit: str, description: str, *, done: int = 0) -> Iterator[Advance]:
    """Show a progress bar on stderr, with units per second, the time left and the failures so far; none for nothing.

    Args:
        total: number of units.
        unit: their name.
        description: what is done with them.
        done: how many were done before, by an earlier run; they do not count in the speed.
    """
    if done >= total:
        yield lambda done, /, failed=0: None
        return
    with _bar(total=total, initial=done, unit=unit, desc=description) as bar:
        all_failed = 0

        def advance(done: int, /, failed: int = 0) -> None:
            nonlocal all_failed
            all_failed += failed
            if failed:
                bar.set_postfix_str(f"{all_failed} failed", refresh=False)
            bar.update(done)

        yield advance


@contextmanager
def text_progress() -> Iterator[Callable[[int, int], None]]:
    """Show a progress bar of encoded texts on stderr, until all are; yields a callback that takes (done, total)."""
    with ExitStack() as stack:
        bar: tqdm[NoReturn] | None = None

        def show(done: int, total: int) -> None:
            nonlocal bar
            if bar is None and done < total:
                bar = stack.enter_context(_bar(total=total, unit="text", desc="encode texts", delay=0.5))
            if bar is not None:
                bar.total = total
                bar.update(done - bar.n)
                if done >= total:  # or it would be drawn again below whatever is said afterwards
                    stack.close()
                    bar = None

        yield show


def _bar(*, desc: str, unit: str, **options: Any) -> tqdm[NoReturn]:  # noqa: ANN401  options of tqdm
    """Make a progress bar; where stderr is not a terminal, a line now and then."""
    from tqdm import tqdm

    from memory.errors import printable

    options |= {"desc": printable(desc), "unit": f" {unit}", "smoothing": 0.1}
    look = "{desc}: {percentage:3.0f}% {n_fmt}/{total_fmt}, {rate_noinv_fmt}{postfix}, {remaining} left"
    if sys.stderr.isatty():
        look += " |{bar}|"  # last, where a narrow terminal cuts it
        if all(os.get_terminal_size(sys.stderr.fileno())):
            options["dynamic_ncols"] = True
        else:  # a terminal of unknown size, as containers and recorders make it; tqdm would show nothing
            options |= {"ncols": 80, "nrows": 24}
    else:
        options |= {"file": _Lines(), "mininterval": _LOG_SECONDS, "maxinterval": 2 * _LOG_SECONDS}
    bar: tqdm[NoReturn] = tqdm(bar_format=look, **options)
    return bar


class _Lines:
    """A stream on which each drawing of a progress bar is a line of its own, for logs."""

    def write(self, text: str) -> None:
        line = text.strip()
        if line:
            sys.stderr.write(line + "\n")

    def flush(self) -> None:
        sys.stderr.flush()


def table(headers: Sequence[str], rows: Sequence[Sequence[str]], *, widest: int = 60) -> Table:
    """Format a table as text: columns aligned, cells shortened to `widest` characters, non-printable ones escaped."""
    from memory.errors import printable

    cells = [[printable(value, widest) for value in row] for row in (headers, *rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(headers))]
    lines = ["  ".join(value.ljust(width) for value, width in zip(row, widths, strict=True)).rstrip() for row in cells]
    return Table("\n".join([lines[0], "  ".join("-" * width for width in widths), *lines[1:]]))


def user_errors() -> tuple[type[BaseException], ...]:
    """Return the exception types whose message is meant for the user and needs no traceback."""
    from memory import MemoryStoreError
    from recognizer.errors import RecognizerError
    from rerank.base import RerankError

    return MemoryStoreError, RecognizerError, RerankError, OSError, ValueError
