"""Files that appear whole or not at all."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from recognizer.results.errors import OutputUnusable


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Write a file beside its final place, then put it there durably.

    Args:
        path: the final place, replaced if there is a file.

    Yields:
        The path to write to, in the same folder. On an error it is deleted and `path` stays as it was.

    Raises:
        OutputUnusable: the disk refuses.
    """
    draft = path.with_name(f".{path.name}.part")
    try:
        yield draft
        with open(draft, "rb+") as stream:
            os.fsync(stream.fileno())
        os.replace(draft, path)
        sync_folder(path.parent)
    except OSError as error:
        raise OutputUnusable(f"{path}: cannot be written: {error.strerror or error}") from error
    finally:
        draft.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Make a rename in a folder durable, where the system can."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
