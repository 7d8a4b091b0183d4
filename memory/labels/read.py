"""Reading label files: detect the format, read the rows, make categories."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import overload

from memory.category import Category
from memory.errors import LabelError, printable
from memory.labels.categories import rows_to_categories
from memory.labels.json import read_document, read_records
from memory.labels.json_document import looks_like_json, parse_json
from memory.labels.lineage import with_groups
from memory.labels.markup import (
    is_label_config,
    is_label_map,
    is_yaml_with_names,
    python_literal,
    read_label_config,
    read_label_map,
    read_yaml,
)
from memory.labels.parquet import is_parquet, read_parquet
from memory.labels.rows import LabelFile, Labelling, LabelRow, held_text
from memory.labels.table import header_delimiter, read_table
from memory.labels.text import IMAGE_SUFFIXES, is_id_list, read_lines
from memory.wording import counted

FORMATS = ("auto", "text", "csv", "tsv", "json", "descriptors", "cupl", "jsonl", "parquet", "folder", "coco")
# A name may hold braces; texts with a word before or after them, one and all, are templates of CLIP.
_TEMPLATE = re.compile(r"\w \{c?\}|\{c?\} \w")


@dataclass(frozen=True, slots=True)
class Labels(Sequence[Category]):
    """The categories of a label file, in file order, with what is known of the file.

    Attributes:
        categories: rows of equal name and group are merged; those of a large file are made when they are asked for.
        format: the format that was read, for people: "YOLO names".
        notes: sentences about names that were changed or occur twice, and about what was left out.
    """

    categories: Sequence[Category]
    format: str
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        """Return the number of categories."""
        return len(self.categories)

    @overload
    def __getitem__(self, index: int) -> Category: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Category]: ...
    def __getitem__(self, index: int | slice) -> Category | Sequence[Category]:
        """Return one category, or several."""
        return self.categories[index]

    def __iter__(self) -> Iterator[Category]:
        """Yield the categories."""
        return iter(self.categories)

    def __str__(self) -> str:
        """Return one line: how many categories, the first three names, the format."""
        names = ", ".join(repr(printable(category.name, 40)) for category in self.categories[:3])
        return f"{counted(len(self), 'category')}, such as {names}; format: {self.format}"


def read_labels(
    path: str | Path,
    *,
    format: str = "auto",
    key: str = "name",
    header: bool | None = None,
    name_column: str | None = None,
    aliases: str | None = None,
    skip_bad: bool = False,
) -> Labels:
    """Read the categories of a label file or folder.

    Names are stored in NFC, without invisible characters and with control characters as escapes. A group may be a path,
    "animal > bird"; columns of ranks (kingdom to species) and a column or field ``parent``, which names another row,
    are turned into one.

    Args:
        path: a file (of text in UTF-8, or Parquet), or a folder with one folder of images for each category.
        format: "auto" decides by content, and knows the class lists of other tools. The others: "text" (one name per
            line), "csv" or "tsv", "json" (any JSON document, its structure decided by content), "descriptors"
            (``{name: [descriptions]}``), "cupl" (``{name: [sentences]}``), "jsonl", "parquet", "coco" (also LVIS),
            "folder".
        key: "name": a name is one category; "name,group": equal names in different groups are different categories.
        header: whether the first line of a text file or table is a header; None where it must be clear by itself.
        name_column: the column or field that holds the names; None for "name".
        aliases: "comma" when a name is several names of one thing with commas between them; the first one is shown.
        skip_bad: whether a JSON entry that cannot be read costs itself alone, and a note.

    Returns:
        The categories, with the format and notes about what was changed or left out.

    Raises:
        LabelError: the file cannot be read as labels, or its parents form a circle; the message says file, place and
            remedy.
        ValueError: an unknown format, key or kind of aliases.
    """
    if format not in FORMATS:
        raise ValueError(f"unknown label format {format!r}; known are {', '.join(FORMATS)}")
    path = Path(path)
    if path.is_dir() != (format == "folder") and format != "auto":
        kind = "is a folder" if path.is_dir() else "is not a folder"
        raise LabelError(f"the path {kind}", file=path, remedy=f"Give another path, or another format than {format}")
    notes: list[str] = []
    if path.is_dir():
        labelling = Labelling("folder of images", folder_rows(path))
    elif format == "parquet" or (format == "auto" and is_parquet(path)):
        labelling = read_parquet(LabelFile(path, None, name_column=name_column, notes=notes))
    else:
        labelling = _read_file(LabelFile(path, held_text(path), header, name_column, notes, skip_bad), format)
    rows = with_groups(labelling, path, key, notes)
    categories = rows_to_categories(rows, path, key, aliases, notes)
    if format == "auto" and len(categories) > 1 and all(_TEMPLATE.search(category.name) for category in categories):
        raise LabelError(
            f"the names are templates, such as {printable(categories[0].name, 40)!r}",
            file=path,
            remedy="Give a file of names, and this one as --templates; or say with --format what kind of file it is",
        )
    kept = tuple(categories) if isinstance(categories, list) else categories
    return Labels(kept, labelling.format, tuple(notes))


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


def _read_file(file: LabelFile, format: str) -> Labelling:
    if format == "auto":
        return _detect(file)
    if format == "text":
        return read_lines(file, plain=True)
    if format in ("csv", "tsv"):
        return read_table(file, format)
    if format == "jsonl":
        return read_records(file)
    return read_document(file, parse_json(file, file.text), format)


def _detect(file: LabelFile) -> Labelling:
    suffix = file.path.suffix.lower()
    if suffix in (".jsonl", ".ndjson"):
        return _read_file(file, "jsonl")
    if looks_like_json(file.start) or suffix == ".json":
        return _read_file(file, "jsonl" if _has_a_document_per_line(file) else "json")
    if suffix in (".yaml", ".yml") or is_yaml_with_names(file):
        return read_yaml(file)
    if is_label_config(file):
        return read_label_config(file)
    if is_label_map(file):
        return read_label_map(file)
    literal = python_literal(file)
    if literal is not None:
        return read_document(file, literal, "json")
    delimiter = header_delimiter(file)
    if delimiter is not None:
        return read_table(file, "tsv" if delimiter == "\t" else "csv")
    if suffix in (".csv", ".tsv") and not is_id_list(file):
        return read_table(file, suffix.removeprefix("."))
    return read_lines(file, plain=False)


def _has_a_document_per_line(file: LabelFile) -> bool:
    """Say whether the first two lines that are not blank are JSON objects."""
    lines = list(islice((line for line in file.lines() if line.strip()), 2))
    try:
        documents = [json.loads(line) for line in lines]
    except (ValueError, RecursionError):
        return False
    return len(documents) == 2 and all(isinstance(document, dict) for document in documents)
