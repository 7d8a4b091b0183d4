"""What a resumed run makes of rows, images and files that are no longer what they were."""

import os
import random
import subprocess
import sys

import pytest

from recognizer.results import (
    BatchTiming,
    OutputUnusable,
    ResultsIncomplete,
    ResumeRefused,
    RunCounts,
    open_results,
    read_run_info,
    stamp_file,
)
from recognizer.results.disk import open_locked, require_writable
from recognizer.results.run_info import write_run_info

TIMING = BatchTiming(decode_s=0, encode_s=0, score_s=0)
KEYS = [f"{number:03d}.jpg" for number in range(10)]


@pytest.fixture
def run(setup_of, make_row, tmp_path):
    """Runs over ten images in batches of two; an image is failed while its file says `bad`."""
    images = tmp_path / "images"
    images.mkdir()
    for key in KEYS:
        (images / key).write_bytes(b"good" + key.encode())

    def path_of(number):
        return images / KEYS[number]

    def run_once(output, *, stop=None, **options):
        said, done = [], []
        with open_results(
            output, keys=KEYS, batch_size=2, setup=setup_of(), image_path=path_of, warn=said.append, **options
        ) as sink:
            for batch in list(sink.pending())[:stop]:
                numbers = range(batch.start, batch.stop)
                bad = {number for number in numbers if b"bad" in path_of(number).read_bytes()}
                stamps = [stamp_file(path_of(number)) for number in numbers]
                sink.write(batch.number, [make_row(number, bad) for number in numbers], timing=TIMING, images=stamps)
                done.append(batch.number)
            counts = sink.finish() if stop is None else None
        return done, said, counts

    return run_once


def beside(output, suffix):
    return output.with_name(output.name + suffix)


@pytest.mark.parametrize("stop", [None, 4])
def test_a_flipped_bit_costs_its_batch_and_is_said(tmp_path, run, stop, monkeypatch):
    monkeypatch.setattr("os.fsync", lambda _: None)  # hundreds of files
    run(tmp_path / "whole.jsonl")
    expected = (tmp_path / "whole.jsonl").read_bytes()
    output = tmp_path / "r.jsonl"
    run(output, stop=stop)
    files = {
        path: path.read_bytes() for path in (output, *(beside(output, s) for s in (".run.json", ".batches.jsonl")))
    }
    rng = random.Random(0)
    for trial in range(60):
        for path, content in files.items():
            path.write_bytes(content)
        damaged = beside(output, ".batches.jsonl") if trial % 4 == 0 else output
        flipped = bytearray(files[damaged])
        flipped[rng.randrange(len(flipped))] ^= 1 << rng.randrange(8)
        damaged.write_bytes(flipped)
        done, said, counts = run(output)
        assert output.read_bytes() == expected
        assert counts.ok == 10
        # Of the ledger's last line nothing remains that says the batch was ever done.
        assert len(said) == 1 or (trial % 4 == 0 and not said)
        if said:
            assert f"1 batches of {output} are damaged and are done again (number {done[0]})" in said[0]
        assert len(done) == (1 if stop is None else 2)
        assert run(output)[:2] == ([], [])


def test_a_replaced_image_is_done_again(tmp_path, run):
    output = tmp_path / "r.jsonl"
    run(output, stop=3)
    run(tmp_path / "images.csv")
    os.utime(tmp_path / "images" / KEYS[0], ns=(1, 1))  # without a hash of it, another mtime is another image
    (tmp_path / "images" / KEYS[5]).write_bytes(b"bad")
    (tmp_path / "images" / KEYS[9]).write_bytes(b"bad")
    done, said, counts = run(output)
    assert done == [0, 2, 3, 4]
    assert said == [f"2 batches of {output} have images that changed and are done again (number 0, 2)"]
    assert (counts.ok, counts.failed) == (8, 2)
    run(tmp_path / "fresh.jsonl")
    assert output.read_bytes() == (tmp_path / "fresh.jsonl").read_bytes()
    assert run(output)[:2] == ([], [])
    with pytest.raises(ResumeRefused, match=r"000\.jpg has changed since .*images\.csv was finished; use --overwrite"):
        run(tmp_path / "images.csv")
    assert run(tmp_path / "images.csv", overwrite=True)[2].failed == 2


def test_an_image_that_is_gone_keeps_its_row(tmp_path, run):
    run(tmp_path / "r.jsonl")
    (tmp_path / "images" / KEYS[3]).unlink()
    assert run(tmp_path / "r.jsonl")[0] == []


@pytest.mark.parametrize("lost", ["ledger", "all"])
def test_rows_without_a_ledger_are_taken_up_unless_they_are_broken(tmp_path, run, lost):
    run(tmp_path / "whole.jsonl")
    output = tmp_path / "r.jsonl"
    run(output, stop=4)
    beside(output, ".batches.jsonl").unlink()
    if lost == "all":  # as an earlier release leaves it
        beside(output, ".run.json").rename(tmp_path / "run.json")
        beside(output, ".timing.jsonl").unlink()
    lines = output.read_bytes().splitlines(keepends=True)
    output.write_bytes(b"".join([*lines[:3], lines[3].replace(b'"score"', b'"score', 1), *lines[4:]]))
    done, said, _ = run(output)
    assert done == [1, 4]
    assert "are damaged and are done again (number 1)" in said[0]
    assert output.read_bytes() == (tmp_path / "whole.jsonl").read_bytes()
    assert read_run_info(beside(output, ".run.json")).resumed == 1


def test_files_of_another_output_are_never_replaced(tmp_path, run):
    run(tmp_path / "a.jsonl")
    foreign = beside(tmp_path / "b.jsonl", ".run.json")
    foreign.write_bytes(beside(tmp_path / "a.jsonl", ".run.json").read_bytes())
    with pytest.raises(ResumeRefused, match=r"exists and does not describe b\.jsonl"):
        run(tmp_path / "b.jsonl")
    assert read_run_info(foreign).output == "a.jsonl"
    assert not (tmp_path / "b.jsonl").exists()
    earlier = tmp_path / "run.json"  # of an earlier release
    write_run_info(earlier, read_run_info(foreign))
    before = earlier.read_bytes()
    run(tmp_path / "c.jsonl")
    assert earlier.read_bytes() == before


def test_what_another_run_finished_before_the_lock_is_not_taken_for_our_own(tmp_path, run, monkeypatch):
    output = tmp_path / "r.jsonl"

    def finish_another_first(path):
        monkeypatch.undo()
        run(output)
        return open_locked(path)

    monkeypatch.setattr("recognizer.results.journal.open_locked", finish_another_first)
    with pytest.raises(ResumeRefused, match="another run has just written this file; repeat the command"):
        run(output)
    assert run(output)[0] == []


TWO_RUNS = """
import sys, time
from recognizer.results import ErrorRow, RunSetup, open_results
output, stop = sys.argv[1], int(sys.argv[2])
keys = [f"{n:03d}.jpg" for n in range(20)]
setup = RunSetup(command=[], model={}, memory={}, settings={"of": output}, device="cpu", input_root="")
sys.stdin.readline()
with open_results(output, keys=keys, batch_size=2, setup=setup) as sink:
    for batch in list(sink.pending())[:stop]:
        numbers = range(batch.start, batch.stop)
        sink.write(batch.number, [ErrorRow(path=keys[i], code="E", reason=output) for i in numbers])
    print(sink.done_rows)
    if stop > 10:
        sink.finish()
"""


@pytest.mark.parametrize("names", [("r.jsonl", "s.jsonl"), ("r.jsonl", "r.csv")])
def test_two_runs_that_start_together_in_a_folder_are_both_resumed(tmp_path, names):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    for stop in (5, 11):
        processes = [
            subprocess.Popen(
                [sys.executable, "-c", TWO_RUNS, str(tmp_path / name), str(stop)],
                env=environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            for name in names
        ]
        for process in processes:
            process.stdin.write("go\n")
            process.stdin.flush()
        assert [process.communicate()[0] for process in processes] == [f"{min(2 * stop, 20)}\n"] * 2
        assert [process.returncode for process in processes] == [0, 0]
    for name in names:
        info = read_run_info(tmp_path / f"{name}.run.json")
        assert (info.output, info.state, info.resumed) == (name, "finished", 1)


def test_an_output_is_tried_without_deleting_what_another_run_has_begun(tmp_path, monkeypatch):
    output = tmp_path / "r.jsonl"
    require_writable(output)
    assert not output.exists()
    with open_locked(output) as stream:
        monkeypatch.setattr("pathlib.Path.exists", lambda self: False)  # it was not there when the other one looked
        with pytest.raises(OutputUnusable, match="another run"):
            require_writable(output)
        stream.write(b"row")
    assert output.read_bytes() == b"row"


def test_a_file_that_is_deleted_between_open_and_lock_is_opened_again(tmp_path, monkeypatch):
    from memory.durable import try_lock

    output = tmp_path / "r.jsonl"
    calls = []

    def delete_first(descriptor):
        if not calls:
            output.unlink()
        calls.append(descriptor)
        return try_lock(descriptor)

    monkeypatch.setattr("recognizer.results.disk.try_lock", delete_first)
    with open_locked(output) as stream:
        stream.write(b"row")
    assert output.read_bytes() == b"row"


FULL_DISK = """
import os, resource, signal, sys
from recognizer.results import ErrorRow, OutputUnusable, RunSetup, open_results
output, limit = sys.argv[1], int(sys.argv[2])
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
keys = [f"{n:03d}.jpg" for n in range(100)]
setup = RunSetup(command=[], model={}, memory={}, settings={}, device="cpu", input_root="")
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
try:
    with open_results(output, keys=keys, batch_size=5, setup=setup) as sink:
        for batch in sink.pending():
            numbers = range(batch.start, batch.stop)
            sink.write(batch.number, [ErrorRow(path=keys[i], code="E", reason="r" * 50) for i in numbers])
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]), resource.RLIM_INFINITY))
        sink.finish()
except OutputUnusable as error:
    print(error)
"""


@pytest.mark.parametrize("suffix", ["jsonl", "csv"])
def test_a_disk_that_is_full_costs_no_row_and_is_one_sentence(tmp_path, suffix):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    output = tmp_path / f"r.{suffix}"

    def run(output, limit, limit_at_the_end=10**9):
        command = [sys.executable, "-c", FULL_DISK, str(output), str(limit), str(limit_at_the_end)]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout

    assert run(tmp_path / "whole" / output.name, 10**9) == ""
    whole = (tmp_path / "whole" / output.name).read_bytes()
    size = (
        len(whole) if suffix == "jsonl" else beside(tmp_path / "whole" / output.name, ".journal.jsonl").stat().st_size
    )
    journal = output if suffix == "jsonl" else beside(output, ".journal.jsonl")
    kept = 0
    for limit in (3000, 5000, 7000, size - 1):
        said = run(output, limit)
        assert said.startswith(f"{journal}: writing ")
        assert "File too large; the rows written before are kept: free some space, then repeat the command" in said
        assert journal.read_bytes().count(b"\n") >= kept
        kept = journal.read_bytes().count(b"\n")
        assert kept % 5 == 0
        assert not list(tmp_path.glob(".*"))
    assert kept == 95
    if suffix == "csv":
        said = run(output, 10**9, len(whole) - 1)
        assert said.startswith(f"{output}: cannot be written: File too large; all rows are safe in {journal}: free")
        assert not list(tmp_path.glob(".*"))
        assert not output.exists()
    assert run(output, 10**9) == ""
    assert output.read_bytes() == whole


@pytest.mark.parametrize("suffix", ["timing", "batches"])
def test_a_file_beside_the_results_that_cannot_be_written_is_named(tmp_path, run, suffix, monkeypatch):
    def refuse(stream, data):
        raise OSError(28, "No space left on device")

    module = {"timing": "run_files", "batches": "ledger"}[suffix]
    monkeypatch.setattr(f"recognizer.results.{module}.write_all", refuse)
    output = tmp_path / "r.jsonl"
    with pytest.raises(OutputUnusable, match=rf"r\.jsonl\.{suffix}\.jsonl: writing \d+ bytes failed: No space left"):
        run(output)
    monkeypatch.undo()
    assert run(output)[2].ok == 10


def test_a_run_whose_rows_are_not_one_for_each_image_does_not_end_well(tmp_path, run, monkeypatch):
    monkeypatch.setattr("recognizer.results.writer.count_rows", lambda spans: RunCounts(8, {"E_EMPTY": 1}))
    with pytest.raises(ResultsIncomplete, match="10 images went in, and 8 rows with status ok and 1 with status error"):
        run(tmp_path / "r.jsonl")
    assert read_run_info(beside(tmp_path / "r.jsonl", ".run.json")).state == "running"


def test_a_row_that_is_encoded_to_two_lines_is_not_written(tmp_path, run, monkeypatch):
    monkeypatch.setattr("recognizer.results.journal.encode_row", lambda row: b"{}\n{}\n")
    with pytest.raises(ResultsIncomplete, match="in 4 lines"):
        run(tmp_path / "r.jsonl")
    assert (tmp_path / "r.jsonl").read_bytes() == b""


def test_a_journal_that_cannot_be_deleted_is_named_and_the_run_finishes_when_it_is_repeated(run, tmp_path, monkeypatch):
    def refuse(path, **_):
        raise OSError(30, "Read-only file system")

    output = tmp_path / "r.csv"
    run(output, stop=3)
    with monkeypatch.context() as patch:
        patch.setattr("pathlib.Path.unlink", refuse)
        with pytest.raises(
            OutputUnusable, match=r"r\.csv\.journal\.jsonl\S*: cannot be written: Read-only file system"
        ):
            run(output)
    run(output)
    assert not beside(output, ".journal.jsonl").exists()
    assert output.read_bytes().count(b"\n") > len(KEYS)
