"""Label folders: one folder of images for each category, as torchvision's ImageFolder has it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from memory.errors import LabelError
from memory.label_rows import LabelRow

# fmt: off
_IMAGE_SUFFIXES = frozenset([
    ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".avif", ".heic", ".heif",
    ".ppm", ".pgm", ".pbm",
])
# fmt: on


def folder_rows(root: Path) -> Iterator[LabelRow]:
    """Yield a row for every folder in ``root``: its name, and the images below it, sorted by path, as exemplars.

    Hidden folders and links to folders inside a category are left out.

    Raises:
        LabelError: the root holds no folder.
    """
    try:
        names = sorted(e.name for e in os.scandir(root) if e.is_dir() and not e.name.startswith("."))
    except OSError as error:
        raise LabelError(
            f"cannot be read: {error.strerror}", file=root, remedy="Check the path and its permissions"
        ) from error
    if not names:
        raise LabelError(
            "the folder holds no folders",
            file=root,
            remedy="Put the images of each category into a folder with its name, or give a label file",
        )
    for name in names:
        yield LabelRow(name, exemplars=list(_images(root / name)), where=name)


def _images(folder: Path) -> Iterator[str]:
    for parent, folders, files in os.walk(folder):
        folders[:] = sorted(f for f in folders if not f.startswith("."))
        for file in sorted(files):
            if os.path.splitext(file)[1].lower() in _IMAGE_SUFFIXES and not file.startswith("."):
                yield os.path.join(parent, file)
