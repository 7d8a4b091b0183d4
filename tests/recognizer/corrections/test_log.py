"""Corrections on the disk: none lost by a kill, none there twice, the last one counts."""

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recognizer.corrections.log import Correction, CorrectionLog, Corrections, CorrectionsUnusable, read_corrections


def correction(number, **changes):
    return Correction(**{"id": f"c{number}", "path": f"{number}.jpg", "new": "owl", "old": "cat"} | changes)


def written(path, *corrections):
    log = CorrectionLog(path)
    log.append(corrections)
    log.close()
    return read_corrections(path)


def test_what_is_written_is_read_in_order_with_every_text(tmp_path):
    texts = ["owl", "naïve\n🦉", '"><script>', "\u202eright to left", "x" * 10_000]
    said = [correction(n, new=text, group=text, old=None) for n, text in enumerate(texts)]
    assert written(tmp_path / "new" / "c.jsonl", *said).all == said


def test_sending_again_adds_nothing(tmp_path):
    path = tmp_path / "c.jsonl"
    written(path, correction(1))
    size = path.stat().st_size
    assert written(path, correction(1)).all == [correction(1)]
    assert path.stat().st_size == size


def test_a_torn_last_line_costs_itself_alone(tmp_path):
    path = tmp_path / "c.jsonl"
    written(path, correction(1), correction(2))
    whole = path.read_bytes()
    for cut in range(len(correction(1).to_line()) + 1, len(whole) - 1):
        path.write_bytes(whole[:cut])
        read = written(path, correction(3))
        assert [one.id for one in read.all] == ["c1", "c3"]
        assert read.damaged == 1


@pytest.mark.parametrize("line", [b"[]", b"null", b"{}", b"{", b'{"path":"b","verdict":"maybe"}', b"\xff"])
def test_what_is_no_correction_is_counted(tmp_path, line):
    path = tmp_path / "c.jsonl"
    path.write_bytes(line + b"\n" + correction(1).to_line())
    read = read_corrections(path)
    assert (read.all, read.damaged) == ([correction(1)], 1)
    assert read.first_damage.startswith("line 1: ")
    path.write_bytes(line + b"\n")
    with pytest.raises(CorrectionsUnusable, match="holds no corrections"):
        read_corrections(path)


def test_a_line_by_hand_needs_a_path_and_a_name(tmp_path):
    path = tmp_path / "c.jsonl"
    path.write_text(
        '{"path": "a.jpg", "new": "owl"}\n{"path": "a.jpg", "new": "owl"}\n{"path": "b.jpg", "new": "fox"}\n'
    )
    assert [(one.path, one.new) for one in read_corrections(path).all] == [("a.jpg", "owl"), ("b.jpg", "fox")]


def test_a_drawn_box_comes_back_and_lines_of_rows_are_as_before(tmp_path):
    drawn = correction(1, box="b", xyxy=[1.004, 2, 30, 40], old=None)
    assert drawn.xyxy == (1.0, 2.0, 30.0, 40.0)
    assert written(tmp_path / "c.jsonl", drawn).all == [drawn]
    assert b"xyxy" not in correction(1).to_line()
    assert drawn.key == "1.jpg#b"
    undone = correction(2, path="1.jpg", box="b", xyxy=drawn.xyxy, verdict="undo", new=None)
    assert Corrections([drawn, undone]).latest() == {}


def test_a_correction_that_says_nothing_is_refused():
    refusals = [
        ({"xyxy": (1, 2, 3, 4)}, "has an id"),
        ({"box": "b", "xyxy": (3, 2, 3, 4)}, "no area"),
        ({"box": "b", "xyxy": (-1, 2, 3, 4)}, "no area"),
        ({"box": "b", "xyxy": (1, 2, 3)}, "x_max"),
        ({"box": "b", "xyxy": (1, 2, 3, float("nan"))}, "x_max"),
        ({"box": "b", "xyxy": (1, 2, 3, 4), "verdict": "unknown", "new": None}, "has a name"),
        ({"new": None}, "only then"),
        ({"verdict": "unknown"}, "only then"),
        ({"verdict": "maybe"}, "none of"),
        ({"id": ""}, "is empty"),
        ({"new": "a\0"}, "NUL"),
    ]
    for changes, said in refusals:
        with pytest.raises(ValueError, match=said):
            correction(1, **changes)


def test_files_that_cannot_be_used_are_named(tmp_path):
    with pytest.raises(CorrectionsUnusable, match="none"):
        read_corrections(tmp_path / "none")
    with pytest.raises(CorrectionsUnusable, match="cannot be written"):
        CorrectionLog(tmp_path)


@settings(max_examples=50)
@given(st.lists(st.tuples(st.integers(0, 3), st.sampled_from(["owl", "fox", None])), max_size=20))
def test_undoing_brings_back_what_was_said_before(steps):
    said, stacks = [], {}
    for number, (row, name) in enumerate(steps):
        undo = {"verdict": "undo", "new": None} if name is None else {"new": name}
        said.append(correction(number, path=f"{row}.jpg", **undo))
        stack = stacks.setdefault(f"{row}.jpg", [])
        if name is not None:
            stack.append(name)
        elif stack:
            stack.pop()
    latest = Corrections(said).latest()
    assert {key: one.new for key, one in latest.items()} == {key: stack[-1] for key, stack in stacks.items() if stack}


def write_many(path, start):
    log = CorrectionLog(path)
    for number in range(start, start + 30):
        log.append([correction(number)])


def test_two_windows_write_side_by_side(tmp_path):
    path = tmp_path / "c.jsonl"
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=write_many, args=(path, start)) for start in (0, 100)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    read = read_corrections(path)
    assert sorted(one.id for one in read.all) == sorted(f"c{n}" for n in [*range(30), *range(100, 130)])
    assert read.damaged == 0


WRITER = """
import sys
from pathlib import Path
from recognizer.corrections.log import Correction, CorrectionLog
log = CorrectionLog(Path(sys.argv[1]))
for number in range(int(sys.argv[2]), 10**6):
    log.append([Correction(id=f"c{number}", path=f"{number}.jpg", new="owl")])
    print(number, flush=True)
"""


def test_nothing_that_was_acknowledged_is_lost_by_a_kill(tmp_path):
    path, start = tmp_path / "c.jsonl", 0
    for _ in range(3):
        process = subprocess.Popen([sys.executable, "-c", WRITER, path, str(start)], stdout=subprocess.PIPE, text=True)
        acknowledged = [int(process.stdout.readline()) for _ in range(5)]
        time.sleep(0.02)
        os.kill(process.pid, signal.SIGKILL)
        acknowledged += [int(line) for line in process.communicate()[0].split("\n") if line.strip().isdecimal()]
        ids = [one.id for one in read_corrections(path).all]
        assert {f"c{number}" for number in range(max(acknowledged) + 1)} <= set(ids)
        assert len(ids) == len(set(ids))
        start = max(acknowledged)  # sent again, as a client does that had no answer
    assert all(json.loads(line) for line in path.read_bytes().split(b"\n") if line.endswith(b"}"))
