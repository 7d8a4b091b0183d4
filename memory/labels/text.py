"""Label files with an entry on each line: plain names, and the lists of data sets that have an id before each name."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from itertools import islice

import numpy as np

from memory.errors import printable
from memory.labels.rows import LabelFile, Labelling, LabelRow
from memory.wording import counted

# Suffixes, in lower case, of the files that are taken for images, in label folders, runs and training data alike: the
# usual ones of the formats that can be decoded.
# fmt: off
IMAGE_SUFFIXES = frozenset([
    ".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".webp", ".gif", ".bmp", ".dib", ".tif", ".tiff", ".avif",
    ".jp2", ".j2k", ".jpx", ".ppm", ".pgm", ".pbm", ".pnm",
])
# fmt: on
# fmt: off
HEADER_WORDS = frozenset([
    "name", "names", "class", "classes", "label", "labels", "category", "categories", "species", "taxon", "title",
    *(f"{what}{blank}name" for what in ("class", "category", "label", "species", "common", "scientific", "display")
      for blank in ("", " ", "_")),
])
# fmt: on
"""Titles, in lower case, that people give to a column of names."""
_PLAIN = "names, one per line"
_RANKS = ("class", "order", "family", "genus")
_DIGITS = re.compile(r"(?P<number>\d{1,9})[ \t,:.)]+(?P<name>\S.*)", re.ASCII)
_ID_LISTS = (
    ("ImageNet synsets", re.compile(r"(?P<wnid>n\d{8})[ \t,]+(?P<name>\S.*)", re.ASCII)),
    ("Open Images classes", re.compile(r"(?P<mid>/[mgt]/\w+),(?P<name>\S.*)", re.ASCII)),
    ("CUB classes", re.compile(r"\d+ (?P<name>\d{3}\.\S+)", re.ASCII)),
    (
        "SpeciesNet taxonomy",
        re.compile(
            r"(?P<id>[0-9a-f]{8}-[0-9a-f-]{27});(?P<class>[^;]*);(?P<order>[^;]*);(?P<family>[^;]*);(?P<genus>[^;]*);"
            r"(?P<species>[^;]*);(?P<name>[^;]*)"
        ),
    ),
)
_BARE_ID = re.compile(r"n\d{8}|/[mgt]/\w+|[0-9a-f]{8}-[0-9a-f-]{27}", re.ASCII)


def is_comment(line: str) -> bool:
    """Say whether a line is a comment: a number sign, alone or with a space after it."""
    return re.match(r"\s*#(?:[\s#]|$)", line) is not None


def is_id_list(file: LabelFile) -> bool:
    """Say whether the first line is an id with a name, as in the lists of ImageNet, Open Images, CUB and SpeciesNet."""
    first = next((line.strip() for line in file.lines() if line.strip()), "")
    return any(pattern.fullmatch(first) for _, pattern in _ID_LISTS)


def read_lines(file: LabelFile, *, plain: bool) -> Labelling:
    """Read a file with an entry on each line; blank lines and comments are left out.

    Args:
        file: the label file.
        plain: the user says that each line is a name, whatever it looks like.

    Raises:
        LabelError: the first line looks like a header and the user has not said whether it is one, or the file looks
            like something other than names.
    """
    comments = [number for number, line in enumerate(file.lines(), start=1) if is_comment(line)]
    if comments:
        file.notes.append(f"{counted(len(comments), 'comment line')} left out, the first on line {comments[0]}")
    entries = _Entries(file)
    number, first = next(iter(entries), (0, ""))
    if file.header is None and first.lower() in HEADER_WORDS:
        raise file.error(
            f"{printable(first)!r} looks like a header",
            "Say with --header yes that it is one, or with --header no that it is a name",
            line=number,
        )
    if not plain and first:
        for name, pattern in _ID_LISTS:
            if all(pattern.fullmatch(line) for _, line in entries):
                matches = ((number, pattern.fullmatch(line)) for number, line in entries)
                return Labelling(name, (_id_row(number, match) for number, match in matches if match), False)
        if _is_numbered(entries):
            rows = ((number, _DIGITS.fullmatch(line)) for number, line in entries)
            return Labelling("numbered names", (LabelRow(m["name"], line=number) for number, m in rows if m), False)
        _refuse_what_is_no_name(file, entries)
    return Labelling(_PLAIN, (LabelRow(line, line=number) for number, line in entries), has_lineage=False)


class _Entries:
    """The lines of a file with their numbers, without comments, header and blanks; read anew each time."""

    def __init__(self, file: LabelFile) -> None:
        self._file = file

    def __iter__(self) -> Iterator[tuple[int, str]]:
        lines = ((number, line.strip(" \t\r")) for number, line in enumerate(self._file.lines(), start=1))
        entries = ((number, line) for number, line in lines if line and not is_comment(line))
        return islice(entries, 1 if self._file.header else 0, None)


def _id_row(line: int, match: re.Match[str]) -> LabelRow:
    fields = match.groupdict()
    name = fields.pop("name")
    if len(name) > 1 and name[0] == name[-1] == '"':
        name = name[1:-1].replace('""', '"')
    species = fields.pop("species", None)
    lineage = ";".join(fields.pop(rank, "") for rank in _RANKS).rstrip(";")
    if species is not None:
        fields["species"] = species
        name = name or f"{lineage.rpartition(';')[2]} {species}".strip()
    return LabelRow(name, lineage, metadata={key: value for key, value in fields.items() if value}, line=line)


def _is_numbered(entries: _Entries) -> bool:
    """Say whether all lines are numbered from 0 or 1 without a gap.

    At least three, with distinct names: "1 of hearts", "2 of hearts", "3 of hearts" are names.
    """
    matches = [_DIGITS.fullmatch(line) for _, line in islice(entries, 3)]
    if len(matches) < 3 or matches[0] is None or int(matches[0]["number"]) not in (0, 1):
        return False
    first, count = int(matches[0]["number"]), 0
    for _, line in entries:
        match = _DIGITS.fullmatch(line)
        if match is None or int(match["number"]) != first + count:
            return False
        count += 1
    names = (hash(match["name"]) for _, line in entries if (match := _DIGITS.fullmatch(line)))
    return len(np.unique(np.fromiter(names, np.int64))) == count


def _refuse_what_is_no_name(file: LabelFile, entries: _Entries) -> None:
    """Raise a LabelError for lines that are markup, ids, paths of images, settings or rows of a table."""
    number, first = next(iter(entries))
    are_several = len(list(islice(entries, 2))) > 1
    remedy = "Give a file of names; or pass --format text to take each line as a name"
    if re.match(r"<[!?a-zA-Z]", first):
        raise file.error(f"this looks like markup: {printable(first)!r}", remedy, line=number)
    if all(_BARE_ID.fullmatch(text) for _, text in entries):
        raise file.error(
            f"the lines are ids without names, such as {printable(first)!r}",
            "Give the list that has the names as well; or pass --format text to take the ids as names",
            line=number,
        )
    if all(os.path.splitext(text)[1].lower() in IMAGE_SUFFIXES for _, text in entries):
        raise file.error(f"the lines are paths of images, such as {printable(first)!r}", remedy, line=number)
    if are_several and all(re.match(r"[\w-]+:(?: |$)", text) for _, text in entries):
        raise file.error(f"the lines look like settings, such as {printable(first)!r}", remedy, line=number)
    for delimiter, called, format in (("\t", "tabs", "tsv"), (";", "semicolons", "csv"), (",", "commas", "csv")):
        count = first.count(delimiter)
        if not (are_several and count and all(text.count(delimiter) == count for _, text in entries)):
            continue
        # Names with commas ("bass, the fish") have a space after them; cells do not.
        if delimiter != "," or not any(", " in text for _, text in entries):
            raise file.error(
                f"this looks like a table without a header: {called} in every line, such as {printable(first)!r}",
                f"Pass --format {format} --header no to take the first column as names, or --format text to take each "
                "line as a name",
                line=number,
            )
