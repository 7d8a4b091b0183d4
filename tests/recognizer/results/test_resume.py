"""What a resumed run makes of rows, images and files that are no longer what they were."""

import json
import os
import random
import subprocess
import sys
from dataclasses import replace

import pytest

from memory.durable import file_sha256
from memory.wording import counted
from recognizer.results import (
    BatchTiming,
    ErrorRow,
    OutputUnusable,
    ResultsIncomplete,
    ResumeRefused,
    RunCounts,
    open_results,
    read_run_info,
    restamp_file,
    stamp_file,
    todo_batches,
)
from recognizer.results.disk import open_locked, require_writable
from recognizer.results.run_info import write_run_info

TIMING = BatchTiming(decode_s=0, encode_s=0, score_s=0)
KEYS = [f"{number:03d}.jpg" for number in range(10)]


@pytest.fixture
def run(setup_of, make_row, tmp_path):
    """Runs over the images of a folder in batches of two; an image is failed while its file says `bad`."""
    images = tmp_path / "images"
    images.mkdir()
    for key in KEYS:
        (images / key).write_bytes(b"good" + key.encode())

    def row_of(key):
        try:
            content = (images / key).read_bytes()
        except FileNotFoundError:
            return ErrorRow(path=key, code="E_MISSING", reason="no such file")
        number = int.from_bytes(content[-8:])
        return make_row(number, {number} if b"bad" in content else (), key=key)

    def run_once(output, *, stop=None, keys=None, batch_size=2, **options):
        keys = keys or sorted(path.name for path in images.iterdir())
        said, done = [], []

        def stamp_now(number, before):
            return restamp_file(images / keys[number], before)

        setup = setup_of()
        with open_results(output, keys=keys, setup=setup, current_stamp=stamp_now, warn=said.append, **options) as sink:
            for batch in list(todo_batches(sink, batch_size))[:stop]:
                paths = [images / keys[number] for number in batch]
                hashes = [file_sha256(path) if path.exists() else None for path in paths]
                stamps = [replace(stamp_file(path), sha256=sha256) for path, sha256 in zip(paths, hashes, strict=True)]
                sink.write([row_of(path.name) for path in paths], timing=TIMING, images=stamps)
                done += [path.name for path in paths]
            counts = sink.finish() if stop is None else None
        return done, said, counts

    return run_once


def beside(output, suffix):
    return output.with_name(output.name + suffix)


@pytest.mark.parametrize("stop", [None, 4])
def test_a_flipped_bit_costs_its_image_and_is_said(tmp_path, run, stop, monkeypatch):
    monkeypatch.setattr("os.fsync", lambda _: None)  # hundreds of files
    run(tmp_path / "whole.jsonl")
    expected = (tmp_path / "whole.jsonl").read_bytes()
    output = tmp_path / "r.jsonl"
    run(output, stop=stop)
    files = {path: path.read_bytes() for path in (output, *(beside(output, s) for s in (".run.json", ".images.jsonl")))}
    rng = random.Random(0)
    for trial in range(60):
        for path, content in files.items():
            path.write_bytes(content)
        damaged = beside(output, ".images.jsonl") if trial % 4 == 0 else output
        flipped = bytearray(files[damaged])
        flipped[rng.randrange(len(flipped))] ^= 1 << rng.randrange(8)
        damaged.write_bytes(flipped)
        done, said, counts = run(output)
        assert output.read_bytes() == expected
        assert counts.ok == 10
        lost = len(done) - (0 if stop is None else 2)
        assert lost in (1, 2)  # a flip can make one line of two
        # Of the ledger's last line nothing remains that says the image was ever done, if its line feed is gone.
        assert said == [f"{output}: damaged: {counted(lost, 'row')}; done again"] or (trial % 4 == 0)
        assert run(output)[:2] == ([], [])


@pytest.mark.parametrize("suffix", ["jsonl", "csv", "parquet"])
def test_a_folder_that_changes_is_recognised_where_it_has_changed(tmp_path, run, suffix):
    output, images = tmp_path / f"r.{suffix}", tmp_path / "images"
    run(output)
    os.utime(images / KEYS[0], ns=(1, 1))  # the same content
    (images / KEYS[5]).write_bytes(b"bad")
    (images / KEYS[9]).unlink()
    (images / "000a.jpg").write_bytes(b"new")
    (images / "zz.jpg").write_bytes(b"bad")
    done, said, counts = run(output)
    assert done == ["000a.jpg", KEYS[5], "zz.jpg"]
    assert said == [
        "1 image (005.jpg) changed since the earlier run; done again",
        "no longer among the images: 1 image (009.jpg); earlier rows are dropped (--keep-missing keeps them)",
    ]
    assert (counts.ok, counts.failed) == (9, 2)
    run(tmp_path / "fresh" / f"r.{suffix}")
    assert output.read_bytes() == (tmp_path / "fresh" / f"r.{suffix}").read_bytes()
    assert run(output)[:2] == ([], [])
    info = read_run_info(beside(output, ".run.json"))
    assert (info.count, info.counts, info.resumed) == (11, {"ok": 9, "error": 2}, 2)


@pytest.mark.parametrize("suffix", ["jsonl", "csv", "parquet"])
def test_rows_of_images_that_are_gone_are_kept_on_request(tmp_path, run, suffix):
    output, images = tmp_path / f"r.{suffix}", tmp_path / "images"
    run(output)
    for key in (KEYS[7], KEYS[2]):
        (images / key).unlink()
    (images / "zz.jpg").write_bytes(b"new")
    done, said, counts = run(output, keep_missing=True)
    assert (done, counts.total) == (["zz.jpg"], 11)
    assert said == ["no longer among the images: 2 images (002.jpg, 007.jpg); earlier rows are kept at the end"]
    kept = [*KEYS[:2], *KEYS[3:7], *KEYS[8:], "zz.jpg", KEYS[2], KEYS[7]]
    journal = output if suffix == "jsonl" else beside(output, ".journal.jsonl")
    assert [json.loads(line)["path"] for line in journal.read_bytes().splitlines()] == kept
    assert read_run_info(beside(output, ".run.json")).count == 11
    before = output.read_bytes()
    assert run(output, keep_missing=True)[0] == []
    assert output.read_bytes() == before
    (images / "zzz.jpg").write_bytes(b"newer")
    assert run(output, keep_missing=True)[0] == ["zzz.jpg"]
    assert run(output)[:1] == ([],)
    run(tmp_path / "fresh" / f"r.{suffix}")
    assert output.read_bytes() == (tmp_path / "fresh" / f"r.{suffix}").read_bytes()


def test_a_listed_image_without_a_file_is_an_error_unless_rows_are_kept(tmp_path, run):
    output = tmp_path / "r.jsonl"
    run(output, keys=KEYS)
    before = output.read_bytes()
    (tmp_path / "images" / KEYS[3]).unlink()
    assert run(output, keys=KEYS, keep_missing=True)[0] == []
    assert output.read_bytes() == before
    done, said, counts = run(output, keys=KEYS)
    assert (done, counts.errors) == ([KEYS[3]], {"E_MISSING": 1})
    assert said == ["1 image (003.jpg) changed since the earlier run; done again"]
    assert run(output, keys=KEYS)[0] == []


def test_images_in_another_order_are_not_recognised_again(tmp_path, run):
    output = tmp_path / "r.csv"
    run(output)
    assert run(output, keys=KEYS[::-1])[0] == []
    run(tmp_path / "fresh.csv", keys=KEYS[::-1])
    assert output.read_bytes() == (tmp_path / "fresh.csv").read_bytes()


def change(images, rng):
    """Add, remove, replace or touch some images."""
    for _ in range(rng.randint(0, 4)):
        path = images / f"{rng.randrange(16):03d}.jpg"
        if path.exists() and rng.random() < 0.4:
            path.unlink()
        elif path.exists() and rng.random() < 0.3:
            os.utime(path, ns=(1, rng.randrange(10**9)))
        else:
            path.write_bytes(rng.choice([b"bad", b"good"]) + rng.randbytes(rng.randint(0, 6)))


@pytest.mark.parametrize("suffix", ["jsonl", "csv", "parquet"])
def test_any_history_of_a_folder_ends_in_the_bytes_of_a_fresh_run(tmp_path, run, suffix, monkeypatch):
    """Runs are cut short after some batches, and may leave half a batch; the folder grows and shrinks between them."""
    monkeypatch.setattr("os.fsync", lambda _: None)
    rng = random.Random(suffix)
    images = tmp_path / "images"
    output = tmp_path / f"r.{suffix}"
    journal = output if suffix == "jsonl" else beside(output, ".journal.jsonl")
    for trial in range(25):
        for _ in range(rng.randint(0, 3)):
            change(images, rng)
            stop = rng.choice([None, 0, 1, 2, 3])
            if not any(images.iterdir()):
                continue
            run(output, stop=stop, batch_size=rng.randint(1, 5), keep_missing=rng.random() < 0.3)
            if stop is not None and rng.random() < 0.5:  # killed while it wrote
                with open(journal, "ab") as stream:
                    stream.write(rng.choice([b'{"path":"0', b'{"path":"001.jpg","status":"ok"}\n{"pa', bytes(20)]))
        change(images, rng)
        (images / "always.jpg").write_bytes(b"good")
        counts = run(output, batch_size=rng.randint(1, 5))[2]
        fresh = tmp_path / str(trial) / output.name
        assert run(fresh)[2] == counts
        assert output.read_bytes() == fresh.read_bytes()
        assert run(output)[:2] == ([], [])
        assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize("lost", ["ledger", "all"])
def test_rows_without_a_ledger_are_taken_up_unless_they_are_broken(tmp_path, run, lost):
    run(tmp_path / "whole.jsonl")
    output = tmp_path / "r.jsonl"
    run(output, stop=4)
    beside(output, ".images.jsonl").unlink()
    if lost == "all":  # as an earlier release leaves it
        beside(output, ".run.json").rename(tmp_path / "run.json")
        beside(output, ".timing.jsonl").unlink()
    lines = output.read_bytes().splitlines(keepends=True)
    output.write_bytes(b"".join([*lines[:3], lines[3].replace(b'"score"', b'"score', 1), *lines[4:]]))
    done, said, _ = run(output)
    assert done == [KEYS[3], *KEYS[8:]]
    assert said == [f"{output}: damaged: 1 row; done again"]
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
from recognizer.results import ErrorRow, RunSetup, open_results, todo_batches
output, stop = sys.argv[1], int(sys.argv[2])
keys = [f"{n:03d}.jpg" for n in range(20)]
setup = RunSetup(command=[], model={}, memory={}, settings={"of": output}, device="cpu", input_root="")
sys.stdin.readline()
with open_results(output, keys=keys, setup=setup) as sink:
    for batch in list(todo_batches(sink, 2))[:stop]:
        sink.write([ErrorRow(path=keys[i], code="E", reason=output) for i in batch])
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
from recognizer.results import ErrorRow, OutputUnusable, RunSetup, open_results, todo_batches
output, limit = sys.argv[1], int(sys.argv[2])
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
keys = [f"{n:03d}.jpg" for n in range(100)]
setup = RunSetup(command=[], model={}, memory={}, settings={}, device="cpu", input_root="")
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
try:
    with open_results(output, keys=keys, setup=setup) as sink:
        for batch in todo_batches(sink, 5):
            sink.write([ErrorRow(path=keys[i], code="E", reason="r" * 50) for i in batch])
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


@pytest.mark.parametrize("suffix", ["timing", "images"])
def test_a_file_beside_the_results_that_cannot_be_written_is_named(tmp_path, run, suffix, monkeypatch):
    def refuse(stream, data):
        raise OSError(28, "No space left on device")

    module = {"timing": "run_files", "images": "ledger"}[suffix]
    monkeypatch.setattr(f"recognizer.results.{module}.write_all", refuse)
    output = tmp_path / "r.jsonl"
    with pytest.raises(OutputUnusable, match=rf"r\.jsonl\.{suffix}\.jsonl: writing \d+ bytes failed: No space left"):
        run(output)
    monkeypatch.undo()
    assert run(output)[2].ok == 10


def test_a_run_whose_rows_are_not_one_for_each_image_does_not_end_well(tmp_path, run, monkeypatch):
    monkeypatch.setattr("recognizer.results.sink.count_rows", lambda rows: RunCounts(1, {}))
    with pytest.raises(ResultsIncomplete, match="10 images went in, and 5 rows with status ok and 0 with status error"):
        run(tmp_path / "r.jsonl")
    assert read_run_info(beside(tmp_path / "r.jsonl", ".run.json")).state == "running"
