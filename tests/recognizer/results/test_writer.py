import json
import os
import signal
import subprocess
import sys

import pyarrow.parquet as pq
import pytest

from recognizer.results import (
    BatchTiming,
    ErrorRow,
    ResumeRefused,
    encode_row,
    open_results,
    read_run_info,
    todo_batches,
)

KEYS = [f"{number:03d}.jpg" for number in range(10)]
TIMING = BatchTiming(decode_s=0.5, encode_s=0.25, score_s=0.125)


@pytest.fixture
def run(setup_of, make_row):
    """Runs over ten images in batches of four; stops after `stop` batches where given."""

    def run_once(output, *, bad=(), stop=None, keys=KEYS, settings=None, **options):
        setup = setup_of(**(settings or {}))
        with open_results(output, keys=keys, setup=setup, **options) as sink:
            done = []
            for batch in list(todo_batches(sink, 4))[:stop]:
                sink.write([make_row(int(keys[number][:3]), bad) for number in batch], timing=TIMING)
                done += batch
            return done, (sink.finish() if stop is None else None)

    return run_once


def info_of(output):
    return read_run_info(output.with_name(f"{output.name}.run.json"))


def beside(*outputs):
    """The names of outputs and of the files beside them, sorted."""
    names = [output + suffix for output in outputs for suffix in ("", ".images.jsonl", ".run.json", ".timing.jsonl")]
    return sorted(names + [output + ".journal.jsonl" for output in outputs if not output.endswith(".jsonl")])


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("suffix", ["jsonl", "csv", "parquet"])
def test_interrupted_anywhere_gives_the_same_bytes(tmp_path, run, suffix):
    run(tmp_path / "whole" / f"r.{suffix}", bad={5})
    whole = (tmp_path / "whole" / f"r.{suffix}").read_bytes()
    for stop in (0, 1, 2, 3):
        output = tmp_path / str(stop) / f"r.{suffix}"
        assert run(output, bad={5}, stop=stop)[0] == list(range(10))[: 4 * stop]
        assert info_of(output).state == "running"
        done, counts = run(output, bad={5})
        assert done == list(range(10))[4 * stop :]
        assert (counts.ok, counts.errors, counts.failed) == (9, {"E_TRUNCATED": 1}, 1)
        assert output.read_bytes() == whole


@pytest.mark.parametrize("suffix", ["jsonl", "csv", "parquet"])
def test_a_finished_run_is_not_done_again(tmp_path, run, suffix):
    output = tmp_path / f"r.{suffix}"
    run(output)
    before, file = output.read_bytes(), output.stat().st_ino
    done, counts = run(output)
    assert (done, counts.ok, counts.failed) == ([], 10, 0)
    assert (output.read_bytes(), output.stat().st_ino) == (before, file)
    assert names(tmp_path) == beside(output.name)
    info = info_of(output)
    assert (info.state, info.counts, info.count) == ("finished", {"ok": 10, "error": 0}, 10)


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_a_table_that_was_deleted_is_made_again_from_its_journal(tmp_path, run, suffix):
    output = tmp_path / f"r.{suffix}"
    run(output)
    before = output.read_bytes()
    output.unlink()
    assert run(output)[0] == []
    assert output.read_bytes() == before


@pytest.mark.parametrize("suffix", ["jsonl", "csv", "parquet"])
def test_failed_images_are_retried_in_place(tmp_path, run, suffix):
    output = tmp_path / f"r.{suffix}"
    run(output, bad={1, 9})
    run(tmp_path / "well" / f"r.{suffix}")
    done, counts = run(output, retry_errors=True)
    assert (done, counts.ok, counts.failed) == ([1, 9], 10, 0)
    assert output.read_bytes() == (tmp_path / "well" / f"r.{suffix}").read_bytes()
    assert names(tmp_path) == sorted([*beside(output.name), "well"])


def test_a_retry_goes_on_with_what_was_never_done(tmp_path, run):
    output = tmp_path / "r.jsonl"
    run(output, bad={1}, stop=2)
    assert run(output, retry_errors=True, stop=0)[0] == []
    done, counts = run(output, retry_errors=True)
    assert (done, counts.ok) == ([1, 8, 9], 10)


def test_a_retry_that_is_interrupted_keeps_what_it_did(tmp_path, run):
    output = tmp_path / "r.jsonl"
    run(output, bad={1, 2, 3, 4, 5, 9})
    assert run(output, retry_errors=True, stop=1)[0] == [1, 2, 3, 4]
    assert run(output, retry_errors=True, bad={9})[0] == [5, 9]
    run(tmp_path / "fresh.jsonl", bad={9})
    assert output.read_bytes() == (tmp_path / "fresh.jsonl").read_bytes()
    assert names(tmp_path) == beside("fresh.jsonl", "r.jsonl")


def test_other_settings_are_refused_unless_overwritten(tmp_path, run):
    output = tmp_path / "r.jsonl"
    run(output, bad={1})
    before = output.read_bytes()
    with pytest.raises(ResumeRefused, match="top_k: was 5, is 3"):
        run(output, settings={"top_k": 3})
    assert output.read_bytes() == before
    assert run(output, settings={"top_k": 3}, overwrite=True)[0] == list(range(10))
    assert output.read_bytes() != before


@pytest.mark.parametrize("suffix", ["jsonl", "csv"])
def test_a_run_that_ended_before_its_first_row_does_not_bind_the_next(tmp_path, run, suffix):
    output = tmp_path / f"r.{suffix}"
    run(output, stop=0)
    assert run(output, settings={"top_k": 3})[1].ok == 10
    assert info_of(output).settings["top_k"] == 3


def test_files_of_others_are_refused(tmp_path, run):
    (tmp_path / "r.csv").write_text("my own table\n")
    with pytest.raises(ResumeRefused, match=r"without a r\.csv\.run\.json"):
        run(tmp_path / "r.csv")
    assert names(tmp_path) == ["r.csv"]
    (tmp_path / "empty.csv").touch()
    assert run(tmp_path / "empty.csv")[1].ok == 10
    (tmp_path / "empty.csv.journal.jsonl").unlink()
    with pytest.raises(ResumeRefused, match=r"empty\.csv\.journal\.jsonl is missing, and without it the rows of"):
        run(tmp_path / "empty.csv")


def test_run_info_and_timing(tmp_path, run):
    output = tmp_path / "r.jsonl"
    run(output, stop=1)
    started = info_of(output).started
    run(output, bad={7})
    info = info_of(output)
    assert (info.started, info.resumed, info.errors) == (started, 1, {"E_TRUNCATED": 1})
    assert info.input_root == "/photos"
    lines = [json.loads(line) for line in (tmp_path / "r.jsonl.timing.jsonl").read_text().splitlines()]
    assert [(line["batch"], line["images"]) for line in lines] == [(0, 4), (0, 4), (1, 2)]
    assert list(lines[0]) == ["batch", "images", "decode_s", "encode_s", "score_s", "rerank_s", "write_s"]
    assert lines[0]["decode_s"] == 0.5


def test_two_outputs_in_a_folder_do_not_disturb_each_other(tmp_path, run):
    run(tmp_path / "a.jsonl", stop=1)
    run(tmp_path / "b.jsonl")
    assert run(tmp_path / "a.jsonl")[0] == [4, 5, 6, 7, 8, 9]
    assert names(tmp_path) == beside("a.jsonl", "b.jsonl")


def test_no_images_at_all(tmp_path, run):
    for suffix in ("jsonl", "csv", "parquet"):
        done, counts = run(tmp_path / f"r.{suffix}", keys=[])
        assert (done, counts.ok, counts.failed) == ([], 0, 0)
        assert (tmp_path / f"r.{suffix}").exists()
    assert pq.read_table(tmp_path / "r.parquet").num_rows == 0


def test_order_is_enforced(tmp_path, setup_of, make_row):
    with open_results(tmp_path / "r.jsonl", keys=KEYS, setup=setup_of()) as sink:
        with pytest.raises(ValueError, match="out of turn"):
            sink.write([make_row(number) for number in range(4, 8)])
        sink.write([make_row(number) for number in range(4)])
        assert sink.done_rows == 4
        with pytest.raises(ValueError, match="4 of 10 rows"):
            sink.finish()


KILLED = """
import os, signal, sys
from recognizer.results import ErrorRow, RunSetup, open_results, todo_batches
import recognizer.results.journal as journal
keys = [f"{n:03d}.jpg" for n in range(200)]
setup = RunSetup(command=[], model={}, memory={}, settings={}, device="cpu", input_root="")
def run(output, limit):
    written = 0
    def write_all(stream, data):
        nonlocal written
        if written + len(data) > limit:
            stream.write(data[: limit - written])
            os.kill(os.getpid(), signal.SIGKILL)
        written += len(data)
        stream.write(data)
    journal.write_all = write_all
    with open_results(output, keys=keys, setup=setup) as sink:
        for batch in todo_batches(sink, 16):
            sink.write([ErrorRow(path=keys[i], code="E", reason="r" * (i % 7)) for i in batch])
        sink.finish()
for output, limit in zip(sys.argv[1::2], map(int, sys.argv[2::2])):  # one process each, which may be killed
    child = os.fork()
    if not child:
        run(output, limit)
        os._exit(0)
    status = os.waitpid(child, 0)[1]
    print(os.waitstatus_to_exitcode(status), os.path.getsize(output))
"""


def test_killed_while_writing_and_resumed(tmp_path):
    whole, output = tmp_path / "whole" / "r.jsonl", tmp_path / "killed" / "r.jsonl"
    starts = [(whole, 10**9), (output, 700), (output, 4321), (output, 9000), (output, 10**9)]
    command = [sys.executable, "-c", KILLED, *(str(word) for start in starts for word in start)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    ended = [tuple(map(int, line.split())) for line in done.stdout.splitlines()]
    assert [code for code, _ in ended] == [0, -signal.SIGKILL, -signal.SIGKILL, -signal.SIGKILL, 0]
    assert all(size >= limit for (_, size), (_, limit) in zip(ended[1:4], starts[1:4], strict=True))
    assert output.read_bytes() == whole.read_bytes()
    assert output.read_bytes().splitlines(keepends=True)[0] == encode_row(ErrorRow(path="000.jpg", code="E", reason=""))
