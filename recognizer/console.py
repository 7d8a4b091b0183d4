"""Output for people: messages and progress bars on stderr, tables as text, and the errors shown without traceback."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager


def note(message: str) -> None:
    """Write one line to stderr."""
    sys.stderr.write(message + "\n")


@contextmanager
def progress_bar(total: int, unit: str, description: str) -> Iterator[Callable[[int], None]]:
    """Show a progress bar on stderr; yields a callback that takes the number of units just done."""
    from tqdm import tqdm

    with tqdm(total=total, unit=unit, desc=description, dynamic_ncols=True, smoothing=0.1) as bar:

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


def table(headers: Sequence[str], rows: Sequence[Sequence[str]], *, widest: int = 60) -> str:
    """Format a table as text: columns aligned, cells shortened to `widest` characters, non-printable ones escaped."""
    from memory.errors import printable

    cells = [[printable(value, widest) for value in row] for row in (headers, *rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(headers))]
    lines = ["  ".join(value.ljust(width) for value, width in zip(row, widths, strict=True)).rstrip() for row in cells]
    return "\n".join([lines[0], "  ".join("-" * width for width in widths), *lines[1:]])


def user_errors() -> tuple[type[BaseException], ...]:
    """Return the exception types whose message is meant for the user and needs no traceback."""
    from memory import MemoryStoreError
    from recognizer.errors import RecognizerError
    from rerank.base import RerankError

    return MemoryStoreError, RecognizerError, RerankError, OSError, ValueError
