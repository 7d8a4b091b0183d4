"""The folder of a report, written beside its place and moved there when it is complete; and that of its images."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from memory.durable import draft_name, make_folder, write_failure
from recognizer.errors import RecognizerError
from recognizer.results.reading import StoredResults

MARKER = "recognizer-report.txt"
_MARKER_TEXT = "A report of Recognizer. Open index.html. A new report replaces this folder as a whole.\n"


class ReportRefused(RecognizerError):
    """The report cannot be written where it was asked for."""


def image_root(stored: StoredResults, images: Path | None) -> Path | None:
    """Return the folder in which the images of results may be opened; None: none is known.

    Args:
        stored: the results.
        images: a folder that the user named; None: the one that the run names.

    Raises:
        ReportRefused: the user named something else than a folder.
    """
    if images is not None:
        if not images.is_dir():
            raise ReportRefused(
                f"{images} is no folder of images; name the folder that the paths of the rows lead from"
            )
        return images
    named = stored.info.input_root if stored.info is not None else ""
    # A whole disk is no folder of images: rows are data, and may name any file.
    return Path(named) if os.path.isdir(named) and os.path.realpath(named) != os.path.abspath(os.sep) else None


def require_replaceable(folder: Path) -> None:
    """Refuse a folder that holds something else than a report.

    Raises:
        ReportRefused: it is a file, or a folder with other files in it.
    """
    if folder.is_dir() and ((folder / MARKER).is_file() or not any(folder.iterdir())):
        return
    if folder.exists() or folder.is_symlink():
        raise ReportRefused(f"{folder} exists and is no report of `recognizer report`; choose another --output")


def require_apart(folder: Path, roots: Sequence[Path]) -> None:
    """Refuse a folder in which the next run would take the pictures of the report for images.

    Raises:
        ReportRefused: it lies in a folder of images.
    """
    place = os.path.realpath(folder)
    for root in map(os.path.realpath, roots):
        if os.path.isdir(root) and os.path.commonpath([place, root]) == root:
            raise ReportRefused(
                f"the report would lie in {root}, where the next run would take its pictures for images; choose an "
                "--output outside of it"
            )


@contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """Write a folder beside its place; it takes the place, and that of an earlier report, when it is complete.

    A kill leaves the earlier report as it is; only one between two renames leaves it under a hidden name, and the next
    report in this place deletes what is left.

    Yields:
        The folder to write to. After an error it is deleted.

    Raises:
        ReportRefused: what is there is no report.
        WriteFailed: the disk refuses.
    """
    folder = Path(os.path.abspath(folder))
    require_replaceable(folder)
    draft, old = (folder.with_name(draft_name(name)) for name in (folder.name, f"{folder.name}.old"))
    try:
        make_folder(folder.parent)
        for left in (draft, old):
            if left.exists():
                shutil.rmtree(left)
        draft.mkdir()
        yield draft
        (draft / MARKER).write_text(_MARKER_TEXT, encoding="utf-8")
        require_replaceable(folder)  # it may have come into being in the meantime
        if folder.exists():
            os.rename(folder, old)
        os.rename(draft, folder)
    except OSError as error:
        raise write_failure(folder, error) from error
    finally:
        for left in (draft, old):
            with suppress(OSError):
                shutil.rmtree(left)
