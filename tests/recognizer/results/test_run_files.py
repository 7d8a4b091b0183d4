from dataclasses import replace

import pytest

from recognizer.results import OutputUnusable
from recognizer.results.run_files import TimingLog, find_run_files, infer_format
from recognizer.results.run_info import write_run_info
from recognizer.results.sink import BatchTiming


def test_files_are_named_after_the_whole_name_of_the_output(tmp_path):
    first = find_run_files(tmp_path / "results.jsonl", "jsonl")
    names = [path.name for path in (first.info, first.timing, first.ledger)]
    assert names == ["results.jsonl.run.json", "results.jsonl.timing.jsonl", "results.jsonl.images.jsonl"]
    assert first.journal == first.output
    second = find_run_files(tmp_path / "sub" / ".." / "results.csv", "csv")
    assert (second.info.name, second.journal.name) == ("results.csv.run.json", "results.csv.journal.jsonl")
    assert second.output == tmp_path / "results.csv"
    with pytest.raises(OutputUnusable, match="is a folder"):
        find_run_files(tmp_path, "jsonl")
    for beside in (first.info, first.timing, first.ledger, second.journal):
        with pytest.raises(OutputUnusable, match="choose another --output"):
            find_run_files(beside, "jsonl")


@pytest.mark.parametrize("name", ["_run.json", "rows-000000.parquet"])
def test_a_folder_that_ray_filled_is_told_apart_from_others(tmp_path, name):
    (tmp_path / "day").mkdir()
    with pytest.raises(OutputUnusable, match="names no format"):
        infer_format(tmp_path / "day")
    (tmp_path / "day" / name).touch()
    said = "day holds the results of a run on Ray, in Parquet files; continue it with --engine ray, or choose another"
    with pytest.raises(OutputUnusable, match=said):
        infer_format(tmp_path / "day")
    with pytest.raises(OutputUnusable, match=said):
        find_run_files(tmp_path / "day", "parquet")


@pytest.mark.parametrize("name", ["run.json", "results.run.json", "results.jsonl.run.json"])
def test_names_of_earlier_releases_are_read(tmp_path, info, name):
    files = find_run_files(tmp_path / "results.jsonl", "jsonl")
    write_run_info(tmp_path / name, replace(info, output="results.csv"))
    assert files.read_info() is None
    write_run_info(tmp_path / name, info)
    assert files.read_info().output == "results.jsonl"
    assert find_run_files(tmp_path / "results.csv", "csv").read_info() is None


def test_formats():
    assert [infer_format(name) for name in ("a.JSONL", "a.csv", "a.parquet", "-")] == [
        "jsonl",
        "csv",
        "parquet",
        "jsonl",
    ]
    assert infer_format("a.out", "csv") == "csv"
    with pytest.raises(OutputUnusable, match=r"\.jsonl, \.csv or \.parquet"):
        infer_format("a.out")


def test_timings_are_appended_unless_the_run_starts_over(tmp_path):
    timing = BatchTiming(decode_s=0.123456789, encode_s=1, score_s=2, rerank_s=3)
    for overwrite in (True, False, True):
        log = TimingLog(tmp_path / "timing.jsonl", overwrite=overwrite)
        log.write(4, timing, write_s=0.25)
        log.write(2, timing, write_s=0.5)
        log.close()
        lines = (tmp_path / "timing.jsonl").read_text().splitlines()
        assert len(lines) == (2 if overwrite else 4)
    assert lines[1:] == [
        '{"batch": 1, "images": 2, "decode_s": 0.123457, "encode_s": 1, "score_s": 2, "rerank_s": 3, "write_s": 0.5}'
    ]
    with pytest.raises(OutputUnusable, match="cannot be written"):
        TimingLog(tmp_path / "nowhere" / "timing.jsonl", overwrite=False)
