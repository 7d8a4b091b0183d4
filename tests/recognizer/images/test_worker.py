"""The worker process by itself: messages on pipes. `test_workers.py` tests it together with its parent."""

import io
import json
import signal
import struct
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recognizer.images import Fit, ImageLimits, decode_image
from recognizer.images.worker import READY, Task, read_exactly, read_text, write_message


def ask(worker, path, **limits):
    write_message(worker.stdin, Task(ImageLimits(**limits)).text, bytes(path))


def answer(worker):
    """Returns what a reply says, and its pixels."""
    text, size = read_text(worker.stdout)
    return json.loads(text), read_exactly(worker.stdout, size)


@pytest.fixture
def worker():
    command = [sys.executable, "-P", "-m", "recognizer.images.worker"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        yield process
        process.kill()


@given(st.text(st.characters(max_codepoint=127)), st.binary())
def test_a_message_arrives_as_it_was_sent_and_data_follow_the_text(text, data):
    stream = io.BytesIO()
    write_message(stream, text, data)
    write_message(stream, "next", np.zeros((2, 2, 3), np.uint8).data)
    stream.seek(0)
    assert read_text(stream) == (text, len(data))
    assert read_exactly(stream, len(data)) == data
    assert read_text(stream) == ("next", 12)
    assert read_exactly(stream, 12) == bytes(12)
    with pytest.raises(EOFError):
        read_text(stream)


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (b"", EOFError),
        (b"\2\0\0", EOFError),
        (struct.pack("<IQ", 3, 0) + b"{}", EOFError),
        (struct.pack("<IQ", 2**20 + 1, 0), ValueError),
        (b"text of a library", ValueError),
        (struct.pack("<IQ", 2, 0) + b"\xff\xff", ValueError),
    ],
)
def test_what_is_no_whole_message_is_refused(data, error):
    with pytest.raises(error):
        read_text(io.BytesIO(data))


@pytest.mark.parametrize("fit", [None, Fit((48, 64), "crop", "bilinear", 9)])
@pytest.mark.parametrize("size_hw", [None, (48, 64)])
def test_a_task_is_read_as_it_was_written(size_hw, fit):
    task = Task(ImageLimits(max_pixels=100, formats=("PNG",)), size_hw, fit)
    assert Task.from_text(task.text) == task


def test_requests_are_answered_in_order_until_the_pipe_ends(worker, tmp_path, gradient):
    gradient.save(tmp_path / "image.png")
    (tmp_path / "text.png").write_text("text")
    assert read_text(worker.stdout) == (READY, 0)
    for name in ("image.png", "text.png", "image.png"):
        ask(worker, tmp_path / name)
    for name in ("image.png", "text.png", "image.png"):
        reply, pixels = answer(worker)
        if name == "text.png":
            assert reply["code"] == "E_NOT_IMAGE"
            continue
        here = decode_image(tmp_path / name)
        assert (reply["sha256"], reply["format"]) == (here.sha256, "PNG")
        assert (reply["size_wh"], reply["displayed_size_hw"]) == ([96, 64], [64, 96])
        assert pixels == np.asarray(here.image).tobytes()
    worker.stdin.close()
    assert worker.wait(60) == 0
    assert worker.stdout.read() == worker.stderr.read() == b""


def test_each_request_has_its_own_limits(worker, tmp_path, gradient):
    gradient.save(tmp_path / "image.png")
    assert read_text(worker.stdout) == (READY, 0)
    for most, known in ((100, "code"), (96 * 64, "size_wh"), (100, "code")):
        ask(worker, tmp_path / "image.png", max_pixels=most)
        assert known in answer(worker)[0]


def test_the_system_ends_a_worker_whose_time_is_over_and_no_earlier_one(worker, tmp_path, gradient):
    gradient.save(tmp_path / "image.png")
    assert read_text(worker.stdout) == (READY, 0)
    # A decoded image stops the clock: the worker waits for the next request as long as it takes.
    ask(worker, tmp_path / "image.png", max_seconds=5)
    answer(worker)
    # 26 gigapixels of work in a microsecond.
    ask(worker, tmp_path / "image.png", max_seconds=1e-6)
    assert worker.wait(60) == -signal.SIGALRM
