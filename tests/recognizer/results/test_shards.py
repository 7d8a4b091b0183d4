"""A folder of Parquet files, filled as workers would: in any order, with repetitions, with kills in between."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recognizer.results import (
    CandidateRow,
    ErrorRow,
    OutputUnusable,
    ResultRow,
    ResumeRefused,
    encode_row,
    read_run_info,
)
from recognizer.results.run_info import RunSetup
from recognizer.results.shards import NUMBER, ShardWriter, require_continuable
from recognizer.results.tables import arrow_table

KEYS = [f"{number}.jpg" for number in range(6)]
SETUP = RunSetup(
    command=["recognizer"],
    model={"fingerprint": "f"},
    memory={"digest": "d", "index": "exact"},
    settings={"top_k": 2},
    device="cpu",
    input_root="/photos",
)


def table(*numbers, failed=(), keys=KEYS):
    """What a worker sends of some images: two lines each, one where an image failed."""
    rows = []
    for number in numbers:
        if number in failed:
            row = ErrorRow(path=keys[number], code="E_EMPTY", reason="the file has no bytes")
        else:
            candidates = [CandidateRow(category=c, group="", score=0.5, confidence=0.5, evidence=[]) for c in "ab"]
            row = ResultRow(
                path=keys[number], label="a", confidence=0.5, calibrated=False, unknown=None, candidates=candidates
            )
        rows.append(json.loads(encode_row(row)))
    lines = [
        number for number, row in zip(numbers, rows, strict=True) for _ in range(max(1, len(row.get("candidates", ()))))
    ]
    return arrow_table(rows).append_column(NUMBER, pa.array(lines, pa.int64()))


def opened(folder, *, keys=KEYS, setup=SETUP, said=None, **options):
    return ShardWriter(folder, keys, setup, warn=(lambda _: None) if said is None else said.append, **options)


def stored(folder):
    """The (path, rank) pairs that a reader of the folder finds, sorted."""
    read = pq.read_table(folder)
    return sorted(zip(read["path"].to_pylist(), read["rank"].to_pylist(), strict=True), key=str)


def lines_of(*numbers):
    return sorted(((KEYS[number], rank) for number in numbers for rank in (1, 2)), key=str)


def test_an_image_that_is_sent_twice_is_written_once(tmp_path):
    with opened(tmp_path / "rows") as writer:
        assert writer.write(table(3, 1)) == (2, 0)
        assert writer.write(table(1, 0, 5, failed={5})) == (2, 1)
        assert writer.done_rows == 4
        with pytest.raises(ValueError, match="4 of 6"):
            writer.finish()
        assert writer.write(table(2, 4)) == (2, 0)
        counts = writer.finish()
    assert (counts.ok, dict(counts.errors)) == (5, {"E_EMPTY": 1})
    assert stored(tmp_path / "rows") == sorted([*lines_of(0, 1, 2, 3, 4), (KEYS[5], None)], key=str)
    pq.write_table(arrow_table([]), tmp_path / "one.parquet")
    assert pq.read_schema(tmp_path / "one.parquet").equals(pq.read_table(tmp_path / "rows").schema, check_metadata=True)
    info = read_run_info(tmp_path / "rows" / "_run.json")
    assert (info.state, info.count, info.counts, info.errors) == ("finished", 6, {"ok": 5, "error": 1}, {"E_EMPTY": 1})


def test_a_run_that_was_stopped_does_only_what_is_missing_whatever_its_files_are_called(tmp_path):
    folder = tmp_path / "rows"
    with opened(folder) as writer:
        writer.write(table(4, 0))  # written at the end, finished or not
    assert read_run_info(folder / "_run.json").state == "running"
    (folder / "rows-000000.parquet").rename(folder / "rows-000007.parquet")
    (folder / ".rows-000008.parquet.part").write_bytes(b"half a file of a killed process")
    with opened(folder) as writer:
        assert list(writer.todo) == [1, 2, 3, 5]
        writer.write(table(1, 2, 3, 5))
        writer.finish()
    assert sorted(path.name for path in folder.glob("*.parquet")) == ["rows-000007.parquet", "rows-000008.parquet"]
    assert stored(folder) == lines_of(*range(6))
    assert read_run_info(folder / "_run.json").resumed == 1
    with opened(folder) as writer:
        assert list(writer.todo) == []
        assert writer.finish().ok == 6


def test_large_runs_write_many_files(tmp_path, monkeypatch):
    monkeypatch.setattr("recognizer.results.shards.SHARD_IMAGES", 2)
    with opened(tmp_path / "rows") as writer:
        for number in range(6):
            writer.write(table(number))
        assert len(list((tmp_path / "rows").glob("*.parquet"))) == 3
    assert stored(tmp_path / "rows") == lines_of(*range(6))


def test_rows_that_waited_long_are_written(tmp_path, monkeypatch):
    monkeypatch.setattr("recognizer.results.shards.SHARD_SECONDS", -1)
    with opened(tmp_path / "rows") as writer:
        writer.write(table(0))
        assert stored(tmp_path / "rows") == lines_of(0)


def test_failed_images_are_repeated_where_that_is_asked(tmp_path):
    with opened(tmp_path / "rows") as writer:
        writer.write(table(*range(6), failed={1, 2}))
        writer.finish()
    with opened(tmp_path / "rows") as writer:
        assert list(writer.todo) == []
    with opened(tmp_path / "rows", retry_errors=True) as writer:
        assert list(writer.todo) == [1, 2]
        writer.write(table(1, 2, failed={2}))
        assert dict(writer.finish().errors) == {"E_EMPTY": 1}
    assert stored(tmp_path / "rows") == sorted([*lines_of(0, 1, 3, 4, 5), (KEYS[2], None)], key=str)


@pytest.mark.parametrize("keep", [True, False])
def test_rows_of_images_that_are_gone_are_dropped_or_kept(tmp_path, keep):
    with opened(tmp_path / "rows") as writer:
        writer.write(table(*range(6), failed={5}))
    said = []
    with opened(tmp_path / "rows", keys=KEYS[:4], keep_missing=keep, said=said) as writer:
        counts = writer.finish()
    assert len(said) == 1
    assert said[0].startswith("no longer among the images: 2 images; earlier rows are ")
    assert counts.total == (6 if keep else 4)
    assert len(stored(tmp_path / "rows")) == (11 if keep else 8)


def test_a_damaged_file_is_moved_aside_and_its_images_are_done_again(tmp_path):
    folder, said = tmp_path / "rows", []
    for numbers in ((0, 1), (2, 3)):
        with opened(folder) as writer:
            writer.write(table(*numbers))
    content = (folder / "rows-000000.parquet").read_bytes()
    (folder / "rows-000000.parquet").write_bytes(content[: len(content) // 2])
    with opened(folder, said=said) as writer:
        assert list(writer.todo) == [0, 1, 4, 5]
    assert "rows-000000.parquet: damaged" in said[0]
    assert (folder / "rows-000000.parquet.damaged").exists()


def test_rows_that_two_files_have_are_dropped_from_the_second(tmp_path):
    folder = tmp_path / "rows"
    with opened(folder) as writer:
        writer.write(table(0, 1))
    pq.write_table(table(1, 2).drop_columns(NUMBER), folder / "rows-000009.parquet")
    with opened(folder) as writer:
        assert list(writer.todo) == [3, 4, 5]
    assert stored(folder) == lines_of(0, 1, 2)


def test_other_settings_or_another_memory_are_refused_once_there_are_rows(tmp_path):
    from dataclasses import replace

    folder = tmp_path / "rows"
    other = replace(SETUP, memory={"digest": "e", "index": "exact"}, settings={"top_k": 3})
    with opened(folder):
        pass
    with opened(folder, setup=other) as writer:
        writer.write(table(0))
    with pytest.raises(ResumeRefused, match=r"the memory holds other rows .*; top_k: was 3, is 2"):
        opened(folder)
    with opened(folder, overwrite=True) as writer:
        assert len(writer.todo) == 6
    assert list(folder.glob("*.parquet")) == []


def test_settings_are_compared_before_anything_is_started_or_written(tmp_path):
    from dataclasses import replace

    folder = tmp_path / "rows"
    made = replace(SETUP, settings={"top_k": 2, "device": "cuda", "precision": "bf16"})
    asked = replace(SETUP, settings={"top_k": 2, "device": "cpu", "precision": "fp32"})
    assert require_continuable(folder, asked) is None
    assert not folder.exists()
    with opened(folder, setup=made) as writer:
        writer.write(table(0))
    before = {path: path.read_bytes() for path in folder.iterdir()}
    assert require_continuable(folder, asked, unsettled=["device", "precision"]).resumed == 0
    for setup, unsettled, message in (
        (asked, ["precision"], r"other settings: device: was 'cuda', is 'cpu'\."),
        (replace(asked, settings={**asked.settings, "top_k": 3}), ["device", "precision"], "top_k: was 2, is 3"),
    ):
        with pytest.raises(ResumeRefused, match=message):
            require_continuable(folder, setup, unsettled=unsettled)
        assert require_continuable(folder, setup, overwrite=True) is None
    assert {path: path.read_bytes() for path in folder.iterdir()} == before


def test_folders_that_a_run_must_not_write_are_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputUnusable, match="is a file; give a folder"):
        opened(tmp_path / "file")
    folder = tmp_path / "rows"
    with opened(folder) as writer:
        writer.write(table(0))
        with pytest.raises(OutputUnusable, match="another run is writing"):
            opened(folder)
    (folder / "_run.json").unlink()
    with pytest.raises(ResumeRefused, match=r"rows without a _run\.json"):
        opened(folder)
    (folder / "mine.parquet").write_bytes(b"")
    with pytest.raises(ResumeRefused, match=r"holds mine\.parquet, which no run wrote"):
        opened(folder, overwrite=True)
    assert (folder / "rows-000000.parquet").exists()


def test_a_full_disk_is_a_sentence_and_costs_nothing_that_was_written(tmp_path, monkeypatch):
    folder = tmp_path / "rows"
    with opened(folder) as writer:
        writer.write(table(0, 1))

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    writer = opened(folder)
    writer.write(table(2))
    with monkeypatch.context() as patch:
        patch.setattr("pyarrow.parquet.write_table", full)
        with pytest.raises(OutputUnusable, match=r"No space left on device.*the rows of earlier files are safe"):
            writer.flush()
    with writer:
        pass
    assert stored(folder) == lines_of(0, 1, 2)
