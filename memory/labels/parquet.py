"""Label files in Parquet: the columns of CSV, with texts in lists where a cell of CSV has semicolons."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from memory.errors import printable
from memory.labels.cells import BLANK
from memory.labels.roles import Cell, LabelColumns, find_columns, is_blank, label_row
from memory.labels.rows import LabelFile, Labelling, LabelRow

if TYPE_CHECKING:  # PyArrow is imported where it is needed: it takes longer than reading most label files
    import pyarrow as pa
    import pyarrow.parquet as pq

_MAGIC = b"PAR1"
_ENCRYPTED = b"PARE"
# Rows that are decoded together, and bytes that are read together of each column; a row group may be the whole file.
_BATCH_ROWS = 1024
_BUFFER_BYTES = 2**18
_LIST_ROLES = ("description", "descriptions", "aliases")


def is_parquet(path: Path) -> bool:
    """Say whether a file is Parquet by its suffix or first bytes. A pipe is not looked into: it can be read once."""
    if path.suffix.lower() == ".parquet":
        return True
    try:
        if not path.is_file():
            return False
        with path.open("rb") as stream:
            return stream.read(4) in (_MAGIC, _ENCRYPTED)
    except OSError:
        return False  # the reader of texts says why


def read_parquet(file: LabelFile) -> Labelling:
    """Read a Parquet file, whose columns are those of `find_columns`; it is never held as a whole.

    Numbers, dates, true and false are read as texts, wherever they stand. Descriptions and aliases may be lists of
    texts. Further columns that are neither texts nor numbers are left out with a note.

    Args:
        file: the label file.

    Raises:
        LabelError: the file is not Parquet, encrypted or damaged, there is no column of names, a column of a type that
            it cannot have, or a row without a name.
    """
    try:
        with file.path.open("rb") as stream:
            _check_ends(file, stream)
    except OSError as error:
        raise file.error(f"cannot be read: {error.strerror}", "Check the path and its permissions") from error
    with _opened(file) as table:
        schema = table.schema_arrow
    columns = find_columns(file, [title.strip(BLANK) for title in schema.names])
    places = _readable_places(file, columns, schema.types)
    return Labelling(f"Parquet{columns.kind}", _rows(file, columns, schema.names, places), columns.has_lineage)


def _check_ends(file: LabelFile, stream: BinaryIO) -> None:
    start = stream.read(4)
    if not start:
        raise file.error("the file is empty", "Give another file")
    if start not in (_MAGIC, _ENCRYPTED):
        raise file.error(
            "this is not a Parquet file, though it is read as one", "Give the file the suffix of its format"
        )
    stream.seek(-4, os.SEEK_END)
    end = stream.read(4)
    if _ENCRYPTED in (start, end):
        raise _encrypted(file)
    if end != _MAGIC or stream.tell() < 12:
        raise file.error("the Parquet file is cut off: its end is missing", "Copy or write it again")


def _encrypted(file: LabelFile) -> Exception:
    return file.error("the Parquet file is encrypted", "Write it without encryption")


@contextmanager
def _readable(file: LabelFile, after: int | None = None) -> Iterator[None]:
    """Turn what PyArrow raises into an error that names the file, and the number of rows read before it."""
    import pyarrow as pa

    try:
        yield
    except (pa.ArrowException, OSError) as error:
        reason = str(error).partition("\n")[0].rstrip(". ")
        if "crypt" in reason.lower():
            raise _encrypted(file) from error
        raise file.error(
            f"the Parquet file cannot be read: {printable(reason, 200)}",
            "Copy or write it again",
            where=None if after is None else f"a row after {after}",
        ) from error


@contextmanager
def _opened(file: LabelFile) -> Iterator[pq.ParquetFile]:
    """Open the file; from a stream of Python, as PyArrow takes no path that is not UTF-8."""
    import pyarrow.parquet as pq

    with file.path.open("rb") as stream:
        with _readable(file):
            table = pq.ParquetFile(stream, buffer_size=_BUFFER_BYTES)
        yield table


def _readable_places(file: LabelFile, columns: LabelColumns, types: Sequence[pa.DataType]) -> list[int]:
    """Return the places of the columns to read, and note those that are left out.

    Raises:
        LabelError: a column with a role has another type than it needs.
    """
    places, left_out = list[int](), list[str]()
    for place, (title, role, kind) in enumerate(zip(columns.titles, columns.roles, types, strict=True)):
        if _is_scalar(kind, binary=role is not None) or (role in _LIST_ROLES and _is_list_of_texts(kind)):
            places.append(place)
        elif role is None:
            left_out.append(f"{printable(title)!r} ({kind})")
        else:
            wanted = "texts or lists of texts" if role in _LIST_ROLES else "texts"
            remedy = "Name another column with --name-column, or write" if role == "name" else "Write"
            raise file.error(
                f"the column holds {printable(str(kind))}, not {wanted}",
                f"{remedy} this one as {wanted}",
                where=f"column {printable(title)!r}",
            )
    if left_out:
        shown = ", ".join(left_out[:3] + ["..."] * (len(left_out) > 3))
        file.notes.append(f"columns that are neither texts nor numbers are left out: {shown}")
    return places


def _is_binary(kind: pa.DataType) -> bool:
    import pyarrow.types as types

    storage = getattr(kind, "storage_type", kind)
    kinds = (types.is_binary, types.is_large_binary, types.is_fixed_size_binary, types.is_binary_view)
    return any(is_kind(storage) for is_kind in kinds)


def _is_text(kind: pa.DataType) -> bool:
    import pyarrow.types as types

    kind = kind.value_type if types.is_dictionary(kind) else kind
    kinds = (types.is_string, types.is_large_string, types.is_string_view, types.is_null)
    return any(is_kind(kind) for is_kind in kinds)


def _is_scalar(kind: pa.DataType, *, binary: bool) -> bool:
    """Say whether a type is text, or can be read as text; old writers do not mark texts as such, but as binary."""
    import pyarrow as pa

    if _is_binary(kind):
        return binary
    try:
        pa.nulls(0, kind).cast(pa.string())
    except pa.ArrowException:
        return False
    return True


def _is_list_of_texts(kind: pa.DataType) -> bool:
    import pyarrow.types as types

    kinds = (
        types.is_list,
        types.is_large_list,
        types.is_fixed_size_list,
        types.is_list_view,
        types.is_large_list_view,
    )
    return any(is_kind(kind) for is_kind in kinds) and _is_text(kind.value_type)


def _rows(file: LabelFile, columns: LabelColumns, names: Sequence[str], places: Sequence[int]) -> Iterator[LabelRow]:
    number = 0
    with _opened(file) as table:
        batches = table.iter_batches(_BATCH_ROWS, columns=[names[place] for place in places])
        while True:
            with _readable(file, after=number):
                batch = next(batches, None)
            if batch is None:
                return
            cells: list[list[Cell]] = [[""] * len(batch)] * len(names)
            with _readable(file, after=number):
                for place in places:
                    cells[place] = _cells(file, batch.column(names[place]), columns.titles[place], number)
            for row in zip(*cells, strict=True):
                number += 1
                if not all(map(is_blank, row)):
                    yield label_row(file, columns, row, row=number)


def _cells(file: LabelFile, column: pa.Array, title: str, before: int) -> list[Cell]:
    """Return the cells of a column of a batch; those without a value are empty."""
    try:
        return [_cell(value) for value in _values(column)]
    except UnicodeDecodeError:
        pass
    for row, scalar in enumerate(column, start=before + 1):  # to find the row
        try:
            _cell(scalar.as_py())
        except UnicodeDecodeError as error:
            raise file.error(
                "the text is not UTF-8", "Correct this text", where=f"row {row}, column {printable(title)!r}"
            ) from error
    raise AssertionError("a text of the column is not UTF-8")


def _cell(value: Any) -> Cell:  # noqa: ANN401  what a column of any type may hold
    if value is None:
        return ""
    if isinstance(value, list):
        return [text for each in value if each is not None and (text := each.strip(BLANK))]
    return value.decode() if isinstance(value, bytes) else value


def _values(column: pa.Array) -> list[Any]:
    """Return the values of a column as texts, lists or bytes; numbers are written as PyArrow writes them into CSV."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if pa.types.is_floating(column.type):
        column = pc.if_else(pc.is_nan(column), None, column)
    if not (_is_text(column.type) or _is_binary(column.type) or _is_list_of_texts(column.type)):
        column = column.cast(pa.string())
    values: list[Any] = column.to_pylist()
    return values
