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

from recognizer.images import ImageLimits, decode_image
from recognizer.images.worker import READY, read_exactly, read_message, write_message

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda some: st.lists(some) | st.dictionaries(st.text(), some),
)


def request(path, **limits):
    return {
        "path": str(path),
        "limits": ImageLimits(**limits).model_dump(mode="json"),
        "target_size_hw": None,
        "fit": None,
    }


@pytest.fixture
def worker():
    command = [sys.executable, "-P", "-m", "recognizer.images.worker"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        yield process
        process.kill()


@given(st.dictionaries(st.text(), JSON), st.binary())
def test_a_message_arrives_as_it_was_sent_and_pixels_follow_it(message, pixels):
    stream = io.BytesIO()
    write_message(stream, message, pixels)
    write_message(stream, {"next": True})
    stream.seek(0)
    assert read_message(stream) == message
    assert read_exactly(stream, len(pixels)) == pixels
    assert read_message(stream) == {"next": True}
    with pytest.raises(EOFError):
        read_message(stream)


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (b"", EOFError),
        (b"\2\0\0", EOFError),
        (struct.pack("<I", 3) + b"{}", EOFError),
        (struct.pack("<I", 2**26 + 1), ValueError),
        (b"text of a library", ValueError),
        (struct.pack("<I", 2) + b"[]", ValueError),
        (struct.pack("<I", 2) + b"{]", ValueError),
        (struct.pack("<I", 2) + b"\xff\xff", ValueError),
    ],
)
def test_what_is_no_whole_message_is_refused(data, error):
    with pytest.raises(error):
        read_message(io.BytesIO(data))


def test_requests_are_answered_in_order_until_the_pipe_ends(worker, tmp_path, gradient):
    gradient.save(tmp_path / "image.png")
    (tmp_path / "text.png").write_text("text")
    assert read_message(worker.stdout) == READY
    for name in ("image.png", "text.png", "image.png"):
        write_message(worker.stdin, request(tmp_path / name))
    for name in ("image.png", "text.png", "image.png"):
        reply = read_message(worker.stdout)
        if name == "text.png":
            assert reply["code"] == "E_NOT_IMAGE"
            continue
        here = decode_image(tmp_path / name)
        assert (reply["sha256"], reply["format"]) == (here.sha256, "PNG")
        assert (reply["size_wh"], reply["displayed_size_hw"]) == ([96, 64], [64, 96])
        assert read_exactly(worker.stdout, 96 * 64 * 3) == np.asarray(here.image).tobytes()
    worker.stdin.close()
    assert worker.wait(60) == 0
    assert worker.stdout.read() == worker.stderr.read() == b""


def test_each_request_has_its_own_limits(worker, tmp_path, gradient):
    gradient.save(tmp_path / "image.png")
    assert read_message(worker.stdout) == READY
    for most, known in ((100, "code"), (96 * 64, "size_wh")):
        write_message(worker.stdin, request(tmp_path / "image.png", max_pixels=most))
        assert known in read_message(worker.stdout)
    read_exactly(worker.stdout, 96 * 64 * 3)


def test_the_system_ends_a_worker_whose_time_is_over_and_no_earlier_one(worker, tmp_path, gradient):
    gradient.save(tmp_path / "image.png")
    assert read_message(worker.stdout) == READY
    # A decoded image stops the clock: the worker waits for the next request as long as it takes.
    write_message(worker.stdin, request(tmp_path / "image.png", max_seconds=5))
    read_message(worker.stdout)
    read_exactly(worker.stdout, 96 * 64 * 3)
    # 26 gigapixels of work in a microsecond.
    write_message(worker.stdin, request(tmp_path / "image.png", max_seconds=1e-6))
    assert worker.wait(60) == -signal.SIGALRM


def test_replies_are_plain_json(worker, tmp_path):
    assert read_message(worker.stdout) == READY
    write_message(worker.stdin, request(tmp_path / "missing.png"))
    length = int.from_bytes(read_exactly(worker.stdout, 4), "little")
    assert json.loads(read_exactly(worker.stdout, length).decode("ascii"))["code"] == "E_NOT_FOUND"
