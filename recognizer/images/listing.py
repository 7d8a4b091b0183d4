"""Which image files a run covers, in which order, under which keys."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import overload

from recognizer.images.errors import ImageInputError
from recognizer.images.key import display_key, key_base64
from recognizer.images.walk import ListingProblem, is_pattern, split_pattern, walk_files


def read_file_list(list_path: bytes) -> list[bytes]:
    """Read the paths of a file list.

    Lines end in LF or CRLF; where the file holds a zero byte, paths end in zero bytes instead (``find -print0``), so
    that they may hold newlines. Blank lines are skipped, a UTF-8 byte order mark is dropped, nothing else is changed:
    file names are data.

    Args:
        list_path: the list.

    Returns:
        The paths as written, at least one.

    Raises:
        ImageInputError: the list cannot be read or names nothing.
    """
    shown = display_key(list_path)
    try:
        with open(list_path, "rb") as stream:
            content = stream.read().removeprefix(b"\xef\xbb\xbf")
    except OSError as error:
        raise ImageInputError(f"{shown}: the file list cannot be read: {error.strerror}") from None
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise ImageInputError(f"{shown}: the file list is UTF-16; save it as UTF-8")
    if b"\0" in content:
        paths = [path for path in content.split(b"\0") if path]
    else:
        paths = [line.removesuffix(b"\r") for line in content.split(b"\n") if line.strip()]
    if not paths:
        raise ImageInputError(f"{shown}: the file list names no image; write one path a line")
    return paths


__all__ = ["ImageItem", "Listing", "ListingProblem", "list_images"]


@dataclass(frozen=True, slots=True)
class ImageItem:
    """One image of a run.

    Attributes:
        key_bytes: path relative to the root of the listing, with forward slashes; unique within the listing.
        path: path that opens the file.
    """

    key_bytes: bytes
    path: bytes

    @property
    def key(self) -> str:
        """`key_bytes` as text; unique, and escaped where it is not UTF-8."""
        return display_key(self.key_bytes)

    @property
    def key_base64(self) -> str | None:
        """`key_bytes` in base64 where :attr:`key` is escaped, else None."""
        return key_base64(self.key_bytes)


class Listing(Sequence[ImageItem]):
    """The images of a run in order; holds one bytes object an image.

    Attributes:
        root: absolute path of the folder the keys are relative to.
        problems: what was left out and why, for the user to see.
        duplicates: how many further mentions of an image already listed were dropped.
    """

    def __init__(self, root: bytes, keys: Sequence[bytes], problems: Sequence[ListingProblem], duplicates: int) -> None:
        """Take over the sorted, distinct keys."""
        self.root = root
        self.problems = tuple(problems)
        self.duplicates = duplicates
        self._keys = keys

    @property
    def keys(self) -> Sequence[str]:
        """The keys as text, in order, made as they are asked for."""
        return _Keys(self._keys)

    def __len__(self) -> int:
        """Count the images."""
        return len(self._keys)

    @overload
    def __getitem__(self, index: int) -> ImageItem: ...
    @overload
    def __getitem__(self, index: slice) -> list[ImageItem]: ...
    def __getitem__(self, index: int | slice) -> ImageItem | list[ImageItem]:
        """One image, or the list of a slice."""
        if isinstance(index, slice):
            return [self._item(key) for key in self._keys[index]]
        return self._item(self._keys[index])

    def _item(self, key_bytes: bytes) -> ImageItem:
        return ImageItem(key_bytes, os.path.join(self.root, key_bytes))


class _Keys(Sequence[str]):
    def __init__(self, keys: Sequence[bytes]) -> None:
        self._keys = keys

    def __len__(self) -> int:
        return len(self._keys)

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> list[str]: ...
    def __getitem__(self, index: int | slice) -> str | list[str]:
        if isinstance(index, slice):
            return [display_key(key) for key in self._keys[index]]
        return display_key(self._keys[index])


@dataclass(frozen=True, slots=True)
class _Found:
    """The files of one input: paths relative to `base`, an absolute folder."""

    base: bytes
    files: Sequence[bytes]


def list_images(inputs: Sequence[str | bytes | Path] | str | Path) -> Listing:
    """List the images that the inputs name.

    Each input is one of:

    - a folder: its image files at any depth, sorted by path bytes. Hidden files and folders, files without an image
      suffix, pipes, sockets and devices are left out; links to folders are not followed, links to files are.
    - a glob with ``*``, ``?``, ``[...]`` or ``**``: as a folder, but a pattern whose last part holds a dot decides on
      the suffix itself.
    - ``@FILE`` or ``FILE.txt``: a file list, one path a line (or ended by zero bytes), relative to the list's folder,
      in its own order.
    - any other file: taken as it is, whatever its name.

    Files named in a list or directly are not looked at here; a missing one fails later, on its own. Keys are relative
    to the folder, or to the deepest folder that holds all inputs. A file named twice is listed once.

    Args:
        inputs: one or several inputs.

    Returns:
        The listing, empty where the folders hold no image.

    Raises:
        ImageInputError: an input does not exist, cannot be read or, being a glob, matches nothing.
    """
    named = [inputs] if isinstance(inputs, (str, Path)) else list(inputs)
    if not named:
        raise ImageInputError("no images were named; give a folder, a file list, a glob or image files")
    problems: list[ListingProblem] = []
    found = [_find(os.fsencode(each), problems) for each in named]
    root = os.path.commonpath([each.base for each in found])
    keys: dict[bytes, None] = {}
    mentions = 0
    for each in found:
        prefix = os.path.relpath(each.base, root).replace(os.fsencode(os.sep), b"/")
        prefix = b"" if prefix == b"." else prefix + b"/"
        mentions += len(each.files)
        keys.update(dict.fromkeys(prefix + file if prefix else file for file in each.files))
    return Listing(root, list(keys), problems, mentions - len(keys))


def _find(named: bytes, problems: list[ListingProblem]) -> _Found:
    if os.path.isdir(named):
        folder = os.path.abspath(named)
        return _Found(folder, sorted(walk_files(folder, problems=problems)))
    is_there = os.path.lexists(named)
    if named.startswith(b"@") and not is_there:
        return _from_list(named[1:])
    if named.lower().endswith(b".txt") and is_there:
        return _from_list(named)
    if is_there:
        folder, name = os.path.split(os.path.abspath(named))
        return _Found(folder, [name])
    if is_pattern(named):
        return _from_pattern(named, problems)
    raise ImageInputError(f"{display_key(named)}: no such file or folder")


def _from_list(list_path: bytes) -> _Found:
    folder = os.path.dirname(os.path.abspath(list_path))
    paths = [os.path.abspath(os.path.join(folder, line)) for line in read_file_list(list_path)]
    inside = os.path.join(folder, b"")
    if not all(path.startswith(inside) for path in paths):
        folder = os.path.commonpath([os.path.dirname(path) for path in paths])
        inside = os.path.join(folder, b"")
    return _Found(folder, [path[len(inside) :].replace(os.fsencode(os.sep), b"/") for path in paths])


def _from_pattern(pattern: bytes, problems: list[ListingProblem]) -> _Found:
    prefix, matches, rule = split_pattern(pattern)
    folder = os.path.abspath(prefix or b".")
    walked = walk_files(folder, problems=problems, any_suffix=rule.any_suffix, hidden=rule.hidden, depth=rule.depth)
    files = sorted(file for file in walked if matches(file))
    if not files:
        raise ImageInputError(
            f"{display_key(pattern)}: matches no image file; ** goes into folders, and quote the pattern for the shell"
        )
    return _Found(folder, files)
