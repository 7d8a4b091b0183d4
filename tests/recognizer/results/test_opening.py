import io
import json
from types import SimpleNamespace

import pytest

from recognizer.results import ErrorRow, OutputUnusable, check_output, is_finished, open_results, todo_batches

KEYS = ["a.jpg", "b.jpg", "c.jpg"]


def write(sink, batches):
    for batch in list(todo_batches(sink, 2))[:batches]:
        sink.write([ErrorRow(path=KEYS[number], code="E_EMPTY", reason="") for number in batch])


def test_outputs_are_checked_before_any_work(tmp_path):
    (tmp_path / "file").touch()
    for bad in (tmp_path, tmp_path / "file" / "r.jsonl", tmp_path / "r.docx"):
        with pytest.raises(OutputUnusable):
            check_output(bad)
    check_output(tmp_path / "r.csv")
    check_output("-")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("suffix", ["jsonl", "csv", "parquet"])
def test_a_run_is_finished_when_its_last_batch_is(tmp_path, setup_of, suffix):
    output = tmp_path / f"r.{suffix}"
    for batches, finished in ((1, False), (2, True)):
        assert not is_finished(output)
        with open_results(output, keys=KEYS, setup=setup_of()) as sink:
            write(sink, batches)
            if finished:
                sink.finish()
    assert is_finished(output)
    assert not is_finished("-")


def test_standard_output_has_every_row_and_is_never_resumed(setup_of, monkeypatch):
    for _ in range(2):
        shown = io.BytesIO()
        monkeypatch.setattr("sys.stdout", SimpleNamespace(buffer=shown))
        with open_results("-", keys=KEYS, setup=setup_of()) as sink:
            write(sink, 2)
            sink.finish()
        assert [json.loads(line)["path"] for line in shown.getvalue().splitlines()] == KEYS
