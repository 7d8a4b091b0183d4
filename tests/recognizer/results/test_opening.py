import io
import json
from types import SimpleNamespace

import pytest

from recognizer.results import ErrorRow, OutputUnusable, ResumeRefused, check_output, is_finished, open_results

KEYS = ["a.jpg", "b.jpg", "c.jpg"]


def write(sink, batches):
    for batch in list(sink.pending())[:batches]:
        sink.write(
            batch.number, [ErrorRow(path=key, code="E_EMPTY", reason="") for key in KEYS[batch.start : batch.stop]]
        )


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
        with open_results(output, keys=KEYS, batch_size=2, setup=setup_of()) as sink:
            write(sink, batches)
            if finished:
                sink.finish()
    assert is_finished(output)
    assert not is_finished("-")


def test_standard_output_has_every_row_and_is_never_resumed(setup_of, monkeypatch):
    for _ in range(2):
        shown = io.BytesIO()
        monkeypatch.setattr("sys.stdout", SimpleNamespace(buffer=shown))
        with open_results("-", keys=KEYS, batch_size=2, setup=setup_of()) as sink:
            write(sink, 2)
            sink.finish()
        assert [json.loads(line)["path"] for line in shown.getvalue().splitlines()] == KEYS


def test_a_run_of_other_images_or_no_batches_is_refused(tmp_path, setup_of):
    with open_results(tmp_path / "r.jsonl", keys=KEYS, batch_size=2, setup=setup_of()) as sink:
        write(sink, 1)
    with pytest.raises(ResumeRefused):
        open_results(tmp_path / "r.jsonl", keys=["z.jpg", *KEYS[1:]], batch_size=2, setup=setup_of())
    with pytest.raises(ValueError, match="a batch size of 0; give 1 or more"):
        open_results(tmp_path / "r.jsonl", keys=KEYS, batch_size=0, setup=setup_of())
