"""Pictures of a run: where they may lie, and how they are drawn from the rows that are written."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from memory.wording import counted
from recognizer.console import note, note_missing_fonts, progress_bar

if TYPE_CHECKING:
    from recognizer.images import Listing
    from recognizer.results import Row
    from recognizer.results.run_files import OutputFormat
    from recognizer.settings import Settings


def check_pictures(folder: Path, images: Sequence[str], output: str) -> None:
    """Refuse a folder for pictures that cannot be used, before anything slow is loaded."""
    from recognizer.errors import RecognizerError
    from recognizer.pictures import require_apart

    if output == "-":
        raise RecognizerError("--pictures draws from the file of results; give a file as --output instead of -")
    if folder.exists() and not folder.is_dir():
        raise RecognizerError(f"{folder} is a file; name a folder for --pictures")
    require_apart(folder, images)


def written_rows(output: str, output_format: OutputFormat | None) -> Iterator[Row]:
    """Read the rows that a run has written."""
    from recognizer.results.row import parse_row
    from recognizer.results.run_files import find_run_files, infer_format
    from recognizer.results.tables import read_rows

    return map(parse_row, read_rows(find_run_files(Path(output), infer_format(output, output_format)).journal))


def draw_run(folder: Path, rows: Callable[[], Iterator[Row]], listing: Listing, count: int, settings: Settings) -> None:
    """Draw the evidence of all rows that are written, and say how many images could not be decoded again."""
    from recognizer.pictures import draw_pictures

    failed = 0
    with progress_bar(count, "images", "draw") as advance:
        for error in draw_pictures(
            rows(), Path(os.fsdecode(listing.root)), folder, limits=settings.images, workers=settings.run.workers
        ):
            failed += error is not None
            advance(1)
    unreadable = f"; {counted(failed, 'image')} could not be read again and left out" if failed else ""
    note(f"pictures in {folder}{unreadable}")
    note_missing_fonts()
