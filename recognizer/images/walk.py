"""Walking a folder for image files."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass

from recognizer.images.key import display_key

IMAGE_SUFFIXES = frozenset(
    b".jpg .jpeg .jpe .jfif .png .webp .gif .bmp .dib .tif .tiff .avif .jp2 .j2k .jpx .ppm .pgm .pbm .pnm".split()
)


@dataclass(frozen=True, slots=True)
class ListingProblem:
    """Something that was left out of a listing.

    Attributes:
        path: the path as text.
        reason: why it was left out.
    """

    path: str
    reason: str


def walk_files(
    folder: bytes,
    *,
    problems: list[ListingProblem],
    any_suffix: bool = False,
    hidden: bool = False,
    depth: int | None = None,
) -> Iterator[bytes]:
    """Find the image files below a folder, each once, in no order.

    Links to folders are not followed (so a loop of links ends), links to regular files are taken.

    Args:
        folder: where to start; itself it may be a link.
        problems: receives the folders that could not be read and the links that were not followed.
        any_suffix: take files of every suffix, not those of :data:`IMAGE_SUFFIXES` alone.
        hidden: take names that begin with a dot.
        depth: how many levels of folders to look into; 1 is the folder alone, None has no end.

    Yields:
        Paths relative to the folder, with forward slashes.
    """
    pending: list[tuple[bytes, int]] = [(b"", 1)]
    while pending:
        prefix, level = pending.pop()
        where = os.path.join(folder, prefix)
        try:
            entries = os.scandir(where)
        except OSError as error:
            problems.append(ListingProblem(display_key(where), f"the folder cannot be read: {error.strerror}"))
            continue
        with entries:
            for entry in entries:
                name = entry.name
                if name.startswith(b".") and not hidden:
                    continue
                if entry.is_dir(follow_symlinks=False):
                    if depth is None or level < depth:
                        pending.append((prefix + name + b"/", level + 1))
                elif (any_suffix or _has_image_suffix(name)) and _is_regular(entry):
                    yield prefix + name
                elif entry.is_symlink() and _is_folder(entry):
                    problems.append(ListingProblem(display_key(entry.path), "a link to a folder is not followed"))


def _has_image_suffix(name: bytes) -> bool:
    return os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES


def _is_regular(entry: os.DirEntry[bytes]) -> bool:
    try:
        return entry.is_file(follow_symlinks=False) or stat.S_ISREG(entry.stat().st_mode)
    except OSError:  # a link that leads nowhere
        return False


def _is_folder(entry: os.DirEntry[bytes]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads to itself
        return False
