import csv
import io
import sys
import types

import pytest

from recognizer.results import OutputUnusable, ResultsIncomplete, open_results, todo_batches
from recognizer.results.stream import StreamWriter

KEYS = [f"{number:03d}.jpg" for number in range(10)]


def write_all(sink, make_row, bad=()):
    for batch in todo_batches(sink, 4):
        sink.write([make_row(number, bad) for number in batch])
    return sink.finish()


@pytest.mark.parametrize("output_format", ["jsonl", "csv"])
def test_standard_output_gets_the_bytes_of_a_file_and_no_file_is_made(
    tmp_path, monkeypatch, make_row, setup_of, output_format
):
    stream = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", types.SimpleNamespace(buffer=stream))
    monkeypatch.chdir(tmp_path)
    options = {"keys": KEYS, "setup": setup_of()}
    with open_results("-", output_format=output_format, **options) as sink:
        counts = write_all(sink, make_row, bad={2})
    assert (sink.done_rows, counts.ok, counts.errors) == (10, 9, {"E_TRUNCATED": 1})
    assert list(tmp_path.iterdir()) == []
    with open_results(tmp_path / f"r.{output_format}", **options) as sink:
        write_all(sink, make_row, bad={2})
    assert stream.getvalue() == (tmp_path / f"r.{output_format}").read_bytes()


def test_rows_come_out_as_soon_as_their_batch_is_written(make_row):
    stream = io.BytesIO()
    writer = StreamWriter(io.BufferedWriter(stream), keys=KEYS, output_format="csv")
    writer.write([make_row(number) for number in range(4)])
    table = list(csv.DictReader(io.StringIO(stream.getvalue().decode(), newline="")))
    assert {line["path"] for line in table} == set(KEYS[:4])
    for number in (0, 3, 5):
        with pytest.raises(ValueError, match="out of turn"):
            writer.write([make_row(number)])
    with pytest.raises(ResultsIncomplete, match="10 images went in, and 4 rows with status ok and 0 with"):
        writer.finish()


def test_parquet_cannot_be_streamed():
    with pytest.raises(OutputUnusable, match="parquet cannot be written to standard output"):
        StreamWriter(io.BytesIO(), keys=KEYS, output_format="parquet")
