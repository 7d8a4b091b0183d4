from dataclasses import replace

import pytest

from recognizer.results import OutputUnusable
from recognizer.results.run_files import TimingLog, find_run_files, infer_format
from recognizer.results.run_info import RunInfo, write_run_info
from recognizer.results.sink import BatchTiming


@pytest.fixture
def info(setup_of):
    setup = setup_of(templates=("a {}", "the {}"))
    return RunInfo(
        output="results.jsonl",
        format="jsonl",
        command=setup.command,
        model=setup.model,
        memory=setup.memory,
        settings=setup.settings,
        device="cpu",
        input_root="/photos",
        count=9,
        keys_sha256="ab",
        batch_size=4,
    )


def test_each_output_of_a_folder_has_its_own_info(tmp_path, info):
    first = find_run_files(tmp_path / "results.jsonl", "jsonl")
    assert (first.info.name, first.timing.name, first.journal) == ("run.json", "timing.jsonl", first.output)
    write_run_info(first.info, info)
    assert find_run_files(tmp_path / "results.jsonl", "jsonl") == first
    second = find_run_files(tmp_path / "results.csv", "csv")
    assert (second.info.name, second.timing.name) == ("results.run.json", "results.timing.jsonl")
    assert second.journal.name == "results.csv.journal.jsonl"
    write_run_info(second.info, replace(info, output="results.csv"))
    assert find_run_files(tmp_path / "results.parquet", "parquet").info.name == "results.parquet.run.json"
    assert find_run_files(tmp_path / "results.csv", "csv") == second
    assert find_run_files(tmp_path / "sub" / "run.json", "jsonl").info.name == "run.run.json"
    with pytest.raises(OutputUnusable, match="is a folder"):
        find_run_files(tmp_path, "jsonl")


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
        log.write(5, 2, timing, write_s=0.5)
        log.close()
        lines = (tmp_path / "timing.jsonl").read_text().splitlines()
        assert len(lines) == (1 if overwrite else 2)
    assert lines == [
        '{"batch": 5, "images": 2, "decode_s": 0.123457, "encode_s": 1, "score_s": 2, "rerank_s": 3, "write_s": 0.5}'
    ]
    with pytest.raises(OutputUnusable, match="cannot be written"):
        TimingLog(tmp_path / "nowhere" / "timing.jsonl", overwrite=False)
