"""Which image files a run covers, in which order, under which keys.

The inputs may be folders, globs, file lists and single files. All become one `Listing` with one root folder.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import overload

from recognizer.images.errors import ImageInputError
from recognizer.images.key import display_key, key_base64
from recognizer.images.left_out import EXCLUDED_FILE, left_out_lines
from recognizer.images.remote import is_remote
from recognizer.images.walk import ListingProblem, Matcher, exclusion, is_pattern, split_pattern, walk_files

_PARQUET = b".parquet"
_TABLES = (b".csv", b".tsv", b".json", b".jsonl", b".yaml")  # label files and results, given by mistake


@dataclass(frozen=True, slots=True)
class ImageItem:
    """One image of a run.

    Attributes:
        key_bytes: path relative to the root of the listing, or absolute, with forward slashes, or the address of an
            object; unique within the listing.
        path: path that opens the file, or the address.
    """

    key_bytes: bytes
    path: bytes

    @property
    def key(self) -> str:
        """`key_bytes` as text; unique, and escaped where it is not UTF-8."""
        return display_key(self.key_bytes)

    @property
    def key_base64(self) -> str | None:
        """`key_bytes` in base64 where `key` is escaped, else None."""
        return key_base64(self.key_bytes)


class Listing(Sequence[ImageItem]):
    """The images of a run, in order.

    It stores one bytes object per image and makes each `ImageItem` on request, so that millions of images fit.

    Attributes:
        root: absolute path of the folder that the keys are relative to.
        problems: folders that were left out, and why.
        left_out: lines that count the files that were left out, by reason, and say what to do; empty if there are none.
    """

    def __init__(
        self, root: bytes, keys: Sequence[bytes], problems: Sequence[ListingProblem], left_out: Sequence[str] = ()
    ) -> None:
        """Store the keys, which must be distinct."""
        self.root = root
        self.problems = tuple(problems)
        self.left_out = tuple(left_out)
        self._keys = keys

    @property
    def keys(self) -> Sequence[str]:
        """The keys as text, in order; each is decoded when it is read."""
        return _TextKeys(self._keys)

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self._keys)

    @overload
    def __getitem__(self, index: int) -> ImageItem: ...
    @overload
    def __getitem__(self, index: slice) -> list[ImageItem]: ...
    def __getitem__(self, index: int | slice) -> ImageItem | list[ImageItem]:
        """Return one image, or the list of a slice."""
        if isinstance(index, slice):
            return [self._item(key) for key in self._keys[index]]
        return self._item(self._keys[index])

    def with_absolute_keys(self) -> Listing:
        """Return the same images under keys that are absolute paths."""
        keys = [key if is_remote(key) else _with_slashes(os.path.join(self.root, key)) for key in self._keys]
        return Listing(self.root, keys, self.problems, self.left_out)

    def _item(self, key_bytes: bytes) -> ImageItem:
        return ImageItem(key_bytes, key_bytes if is_remote(key_bytes) else os.path.join(self.root, key_bytes))


class _TextKeys(Sequence[str]):
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


def list_images(inputs: Sequence[str | bytes | Path] | str | Path, *, exclude: Sequence[str | bytes] = ()) -> Listing:
    """List the images that the inputs name.

    Each input is one of:

    - a folder: its image files at any depth, sorted by path bytes: those with an image's suffix, and those of other
      names with an image's content. All other files are counted in `Listing.left_out`. Links to files are followed,
      links to folders are not.
    - a glob with ``*``, ``?``, ``[...]`` or ``**``: as a folder, except that a pattern whose last part contains a dot
      matches files of any kind.
    - ``@FILE`` or ``FILE.txt``: a file list with one path per line (or paths ended by zero bytes), relative to the
      folder of the list, in the order of the list. A line may also be the address of an object in a store.
    - ``FILE.parquet``: likewise, the rows of its column `path`.
    - any other file: listed whatever its name.

    Files from a list and single files are not opened here; a missing one fails later, by itself. Keys are relative to
    the folder, or to the deepest folder that contains all inputs; an address is its own key. A file that is named twice
    is listed once.

    Args:
        inputs: one or several inputs.
        exclude: globs of files and folders to leave out, at any depth; one with a slash is compared with the path
            relative to its input.

    Returns:
        The listing, empty where the folders contain no image.

    Raises:
        ImageInputError: an input does not exist or cannot be read, or a glob is not valid or matches nothing.
    """
    sources = [inputs] if isinstance(inputs, (str, Path)) else list(inputs)
    if not sources:
        raise ImageInputError("no images were named; give a folder, a file list, a glob or image files")
    problems: list[ListingProblem] = []
    left_out: dict[bytes, str] = {}
    excluded = exclusion(exclude)
    alone = len(sources) == 1
    resolved = [_resolve(os.fsencode(source), problems, left_out, excluded, alone=alone) for source in sources]
    root = os.path.commonpath([each.base for each in resolved])
    keys: dict[bytes, None] = {}  # a dict is an ordered set: the first mention of a file decides its place
    for each in resolved:
        prefix = _with_slashes(os.path.relpath(each.base, root))
        prefix = b"" if prefix == b"." else prefix + b"/"
        keys.update(dict.fromkeys(prefix + file if prefix and not is_remote(file) else file for file in each.files))
    if len(resolved) > 1:  # what one input leaves out, another may name
        named = {os.path.join(root, key) for key in keys}
        left_out = {path: why for path, why in left_out.items() if path not in named}
    return Listing(root, list(keys), problems, left_out_lines(left_out.values()))


def require_images(listing: Listing, inputs: Sequence[str | bytes | Path] | str | Path) -> None:
    """Check that a listing has images.

    Raises:
        ImageInputError: it has none; the message says what the inputs hold instead.
    """
    if not listing:
        named = [inputs] if isinstance(inputs, (str, Path)) else inputs
        shown = ", ".join(display_key(os.fsencode(source)) for source in named)
        advice = "give a folder, a glob, image files or a .txt list of them"
        raise ImageInputError("; ".join([f"no images in {shown}", *listing.left_out, advice]))


@dataclass(frozen=True, slots=True)
class _InputFiles:
    """The files of one input: paths relative to `base`, an absolute folder, and addresses."""

    base: bytes
    files: Sequence[bytes]


def _resolve(
    source: bytes,
    problems: list[ListingProblem],
    left_out: dict[bytes, str],
    excluded: Matcher | None,
    *,
    alone: bool,
) -> _InputFiles:
    """Decide what kind of input this is, `alone` if there is no other, and list its files."""
    if os.path.isdir(source):
        folder = os.path.abspath(source)
        return _InputFiles(folder, sorted(walk_files(folder, problems=problems, left_out=left_out, excluded=excluded)))
    exists = os.path.lexists(source)  # a file whose name begins with @ or contains [ is that file
    if source.startswith(b"@") and not exists:
        return _without(_list_from_file(source[1:]), left_out, excluded)
    if source.lower().endswith((b".txt", _PARQUET)) and exists:
        return _without(_list_from_file(source), left_out, excluded)
    if alone and source.lower().endswith(_TABLES) and exists:  # beside others a shell's * may have named it
        raise ImageInputError(
            f"{display_key(source)} is no image; give a folder, a glob, image files, or a .txt or .parquet list of them"
        )
    if exists:
        folder, name = os.path.split(os.path.abspath(source))
        return _without(_InputFiles(folder, [name]), left_out, excluded)
    if is_pattern(source):
        return _list_from_pattern(source, problems, left_out, excluded)
    raise ImageInputError(f"{display_key(source)}: no such file or folder")


def _list_from_file(list_path: bytes) -> _InputFiles:
    folder = os.path.dirname(os.path.abspath(list_path))
    read = _read_parquet_list if list_path.lower().endswith(_PARQUET) else _read_file_list
    named = [line if is_remote(line) else os.path.abspath(os.path.join(folder, line)) for line in read(list_path)]
    paths = [path for path in named if not is_remote(path)]
    inside = os.path.join(folder, b"")
    if not all(path.startswith(inside) for path in paths):
        folder = os.path.commonpath([os.path.dirname(path) for path in paths])
        inside = os.path.join(folder, b"")
    return _InputFiles(folder, [path if is_remote(path) else _with_slashes(path[len(inside) :]) for path in named])


def _read_parquet_list(list_path: bytes) -> list[bytes]:
    """Read the column `path` of a Parquet file: text or bytes, at least one; null and empty values are dropped."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    shown = display_key(list_path)
    try:
        schema = pq.read_schema(os.fsdecode(list_path))
        if "path" not in schema.names:
            columns = ", ".join(schema.names)
            raise ImageInputError(f"{shown}: has no column path, which lists the images; its columns are {columns}")
        column = pq.read_table(os.fsdecode(list_path), columns=["path"])["path"]
        paths = list(filter(None, column.cast(pa.large_binary()).to_pylist()))
    except (OSError, pa.ArrowException) as error:
        raise ImageInputError(f"{shown}: the list of images cannot be read: {error}") from None
    if not paths:
        raise ImageInputError(f"{shown}: its column path names no image")
    return paths


def _read_file_list(list_path: bytes) -> list[bytes]:
    """Read the paths of a file list, at least one, as they stand there.

    Lines end in LF or CRLF. If the file contains a zero byte, paths end in zero bytes instead (``find -print0``) and
    may contain newlines. Blank lines and a UTF-8 byte order mark are dropped; nothing else is changed, because any
    other byte may belong to a file name.
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
        raise ImageInputError(f"{shown}: the file list names no image; write one path per line")
    return paths


def _without(named: _InputFiles, left_out: dict[bytes, str], excluded: Matcher | None) -> _InputFiles:
    """Leave out what is excluded among files that are named one by one."""
    if excluded is None:
        return named
    files = []
    for file in named.files:
        parts = file.split(b"/")
        if any(excluded(b"/".join(parts[: end + 1])) for end in range(len(parts))):
            left_out[os.path.join(named.base, file)] = EXCLUDED_FILE
        else:
            files.append(file)
    return _InputFiles(named.base, files)


def _list_from_pattern(
    pattern: bytes, problems: list[ListingProblem], left_out: dict[bytes, str], excluded: Matcher | None
) -> _InputFiles:
    prefix, matches, rule = split_pattern(pattern)
    folder = os.path.abspath(prefix or b".")
    files = sorted(
        walk_files(
            folder,
            problems=problems,
            left_out=left_out,
            matches=matches,
            excluded=excluded,
            any_suffix=rule.any_suffix,
            hidden=rule.hidden,
            depth=rule.depth,
        )
    )
    if not files:
        raise ImageInputError(
            f"{display_key(pattern)}: matches no image file; use ** to search subfolders, and quote the pattern so "
            f"that the shell does not expand it{''.join(f'; {line}' for line in left_out_lines(left_out.values()))}"
        )
    return _InputFiles(folder, files)


def _with_slashes(path: bytes) -> bytes:
    return path.replace(os.fsencode(os.sep), b"/")
