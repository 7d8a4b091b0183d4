"""Results as Parquet: one row an image and rank, the evidence as a list of structs."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recognizer.results.atomic_file import replacing
from recognizer.results.tables import flatten_row, read_rows

if TYPE_CHECKING:
    import pyarrow as pa

_IMAGES_PER_ROW_GROUP = 1024


def write_parquet(journal: Path, output: Path) -> None:
    """Convert a journal to Parquet, a row group at a time.

    Args:
        journal: the finished journal.
        output: the Parquet file, replaced when complete.

    Raises:
        OutputUnusable: the disk refuses.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = _schema()
    with replacing(output) as draft, pq.ParquetWriter(draft, schema, compression="zstd") as writer:
        rows = read_rows(journal)
        while images := list(itertools.islice(rows, _IMAGES_PER_ROW_GROUP)):
            writer.write_table(pa.Table.from_pylist(list(_records(images)), schema=schema))


def _records(rows: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for row in rows:
        rerank = row.get("rerank")
        text = None if rerank is None else json.dumps(rerank, ensure_ascii=False)
        for record in flatten_row(row):
            yield {**record, "rerank": text}


def _schema() -> pa.Schema:
    import pyarrow as pa

    evidence = pa.struct(
        [
            ("term", pa.string()),
            ("description", pa.string()),
            ("region", pa.int32()),
            ("box_xyxy", pa.list_(pa.float64())),
            ("value", pa.float64()),
            ("weight", pa.float64()),
            ("contribution", pa.float64()),
        ]
    )
    return pa.schema(
        [
            ("path", pa.string()),
            ("path_b64", pa.string()),
            ("status", pa.string()),
            ("rank", pa.int32()),
            ("category", pa.string()),
            ("group", pa.string()),
            ("score", pa.float64()),
            ("confidence", pa.float64()),
            ("calibrated", pa.bool_()),
            ("unknown", pa.bool_()),
            ("evidence", pa.list_(evidence)),
            ("rerank_status", pa.string()),
            ("rerank", pa.string()),
            ("error_code", pa.string()),
            ("error_reason", pa.string()),
        ]
    )
