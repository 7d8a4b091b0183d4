"""Output for people: results on stdout, messages and progress bars on stderr, and the errors shown without traceback.

All text for a terminal goes through here, and leaves escaped and cut: names of files, categories and models, and the
messages of errors may be somebody else's, and a terminal obeys escape sequences.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

LONGEST_LINE = 2000
"""A terminal of 25 lines with 80 characters; longer lines are cut."""


def note(message: str) -> None:
    """Write one line to stderr; line feeds in the message are escaped too."""
    from memory.errors import printable

    sys.stderr.write(printable(message, LONGEST_LINE) + "\n")


class Table(str):
    """Lines of text in which whatever is foreign is escaped already."""

    __slots__ = ()


def show(*lines: str) -> None:
    """Write results to stdout, one line each, or a `Table`; line feeds in a line are escaped too."""
    from memory.errors import printable

    for line in lines:
        sys.stdout.write((line if isinstance(line, Table) else printable(line, LONGEST_LINE)) + "\n")


@contextmanager
def progress_bar(total: int, unit: str, description: str) -> Iterator[Callable[[int], None]]:
    """Show a progress bar on stderr; yields a callback that takes the number of units just done."""
    from tqdm import tqdm

    from memory.errors import printable

    with tqdm(total=total, unit=unit, desc=printable(description), dynamic_ncols=True, smoothing=0.1) as bar:

        def advance(done: int) -> None:
            bar.update(done)

        yield advance


@contextmanager
def text_progress() -> Iterator[Callable[[int, int], None]]:
    """Show a progress bar of encoded texts on stderr; yields a callback that takes (done, total)."""
    from tqdm import tqdm

    with tqdm(total=0, unit="text", desc="encode", dynamic_ncols=True, delay=0.5) as bar:

        def show(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        yield show


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
