"""Reading label files: detect the format, read the rows, make categories."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from memory.category import Category
from memory.errors import LabelError
from memory.labels.json import coco_rows, description_rows, json_format, list_rows, record_rows
from memory.labels.json_document import Json, looks_like_json, parse_json
from memory.labels.rows import LabelFile, LabelRow, read_text, rows_to_categories
from memory.labels.table import header_delimiter, table_rows

# Suffixes, in lower case, of the files that are taken for images, in label folders, runs and training data alike: the
# usual ones of the formats that can be decoded.
# fmt: off
IMAGE_SUFFIXES = frozenset([
    ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".gif", ".bmp", ".dib", ".tif", ".tiff", ".avif",
    ".jp2", ".j2k", ".jpx", ".ppm", ".pgm", ".pbm", ".pnm",
])
# fmt: on
FORMATS = ("auto", "text", "csv", "tsv", "json", "descriptors", "cupl", "jsonl", "folder", "coco")


def read_labels(path: str | Path, *, format: str = "auto", key: str = "name") -> list[Category]:
    """Read the categories of a label file or folder.

    Args:
        path: a file (UTF-8), or a folder with one folder of images for each category.
        format: "auto" decides by content. The others: "text" (one name per line), "csv" or "tsv" (with a header),
            "json" (any JSON document, its structure decided by content), "descriptors" (``{name: [descriptions]}``),
            "cupl" (``{name: [sentences]}``), "jsonl", "coco" (also LVIS), "folder".
        key: "name": a name is one category; "name,group": equal names in different groups are different categories.

    Returns:
        The categories in file order; rows of equal name and group are merged, names are NFC-normalised.

    Raises:
        LabelError: the file cannot be read as labels; the message says file, line and remedy.
        ValueError: an unknown format or key.
    """
    if format not in FORMATS:
        raise ValueError(f"unknown label format {format!r}; known are {', '.join(FORMATS)}")
    path = Path(path)
    if path.is_dir() != (format == "folder") and format != "auto":
        kind = "is a folder" if path.is_dir() else "is not a folder"
        raise LabelError(f"the path {kind}", file=path, remedy=f"Give another path, or another format than {format}")
    rows = folder_rows(path) if path.is_dir() else _file_rows(read_text(path), format)
    return rows_to_categories(rows, path, key)


def folder_rows(root: Path) -> Iterator[LabelRow]:
    """Yield a row for every folder in ``root``: its name, with the images below it, sorted by path, as exemplars.

    Hidden files and folders, and links to folders inside a category, are left out.

    Raises:
        LabelError: there is no folder in the root.
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
            if os.path.splitext(file)[1].lower() in IMAGE_SUFFIXES and not file.startswith("."):
                yield os.path.join(parent, file)


def text_rows(file: LabelFile) -> Iterator[LabelRow]:
    """Yield a row for every line that is not blank; space around a name is removed."""
    for number, line in enumerate(file.lines(), start=1):
        name = line.strip(" \t\r")
        if name:
            yield LabelRow(name, line=number)


def _file_rows(file: LabelFile, format: str) -> Iterable[LabelRow]:
    if format == "auto":
        format = _detect(file)
    if format == "text":
        return text_rows(file)
    if format in ("csv", "tsv"):
        return table_rows(file, format)
    if format == "jsonl":
        return record_rows(file)
    return _document_rows(file, parse_json(file, file.text), format)


def _document_rows(file: LabelFile, document: Json, format: str) -> Iterable[LabelRow]:
    if format == "json":
        format = json_format(document)
    if format == "coco":
        return coco_rows(file, document)
    if format == "jsonl":
        return list_rows(file, document)
    return description_rows(file, document, "sentence" if format == "cupl" else "attribute")


def _detect(file: LabelFile) -> str:
    suffix = file.path.suffix.lower()
    if suffix in (".jsonl", ".ndjson"):
        return "jsonl"
    if looks_like_json(file.text) or suffix == ".json":
        return "jsonl" if _has_a_document_per_line(file) else "json"
    delimiter = header_delimiter(file)
    if delimiter is not None:
        return "tsv" if delimiter == "\t" else "csv"
    return suffix.removeprefix(".") if suffix in (".csv", ".tsv") else "text"


def _has_a_document_per_line(file: LabelFile) -> bool:
    """Say whether the first two lines that are not blank are JSON objects."""
    lines = [line for line in file.lines() if line.strip()][:2]
    try:
        documents = [json.loads(line) for line in lines]
    except (ValueError, RecursionError):
        return False
    return len(documents) == 2 and all(isinstance(document, dict) for document in documents)
