"""A process that decodes image files, one at a time, for `recognizer.images.workers`; started with ``python -m``.

A decoder is C code that meets files from anywhere: it may crash, hang or grow, and here that costs one image. The
process imports neither torch nor the caller's program. Requests come on its standard input, replies go to its standard
output, and it ends with either of them. A message is text and data: the lengths of both (4 and 8 bytes, little-endian)
and then both. A request is a `Task` and a path; a reply is JSON and the pixels of the image, 3 bytes each: all that
were decoded, or those of the model input if the task says how to resize. Nothing is pickled: a reply of a worker that
an image took over is still only numbers and text.
"""

from __future__ import annotations

import faulthandler
import json
import os
import signal
import struct
import sys
from dataclasses import dataclass
from functools import cached_property
from typing import IO, Any

from PIL import AvifImagePlugin

from recognizer.images.decode import DecodedImage, decode_image
from recognizer.images.errors import ImageError
from recognizer.images.fit import Fit
from recognizer.images.limits import ImageLimits

READY = "ready"
"""The first message of a worker."""
PIPE_BYTES = 2**20
"""Room for replies: at 64 KiB, Linux's default, the two processes wait for each other 15 times an image."""

_LENGTHS = struct.Struct("<IQ")
_MOST_TEXT = 2**20  # bytes; what asks for more is no length


@dataclass(frozen=True)
class Task:
    """What is to be done with images.

    Attributes:
        limits: of each file and of its decoding.
        target_size_hw: as for `decode_image`.
        fit: resizes the image; None: its pixels are sent as they were decoded.
    """

    limits: ImageLimits
    target_size_hw: tuple[int, int] | None = None
    fit: Fit | None = None

    @cached_property
    def text(self) -> str:
        """The task as JSON; it is written once for all images of a run, and read once by each worker."""
        fit = self.fit.to_json() if self.fit else None
        return json.dumps([self.limits.model_dump(mode="json"), self.target_size_hw, fit])

    @classmethod
    def from_text(cls, text: str) -> Task:
        """Make one of its text."""
        limits, target_size_hw, fit = json.loads(text)
        return cls(
            ImageLimits.model_validate(limits),
            tuple(target_size_hw) if target_size_hw else None,
            Fit.from_json(fit) if fit else None,
        )


def write_message(stream: IO[bytes], text: str, data: bytes | memoryview = b"") -> None:
    """Send a message; `text` is ASCII.

    Raises:
        OSError: the other end is gone.
    """
    stream.write(_LENGTHS.pack(len(text), memoryview(data).nbytes) + text.encode("ascii"))
    stream.write(data)
    stream.flush()


def read_text(stream: IO[bytes]) -> tuple[str, int]:
    """Receive the text of a message.

    Returns:
        The text, and the length in bytes of the data, which are still to be read.

    Raises:
        EOFError: the other end is gone.
        ValueError: this is no message.
    """
    length, size = _LENGTHS.unpack(read_exactly(stream, _LENGTHS.size))
    if length > _MOST_TEXT:
        raise ValueError(f"a text of {length} bytes")
    return read_exactly(stream, length).decode("ascii"), size


def read_exactly(stream: IO[bytes], count: int) -> bytes:
    """Receive `count` bytes.

    Raises:
        EOFError: the other end is gone.
    """
    data = stream.read(count)
    if len(data) < count:
        raise EOFError
    return data


def main() -> None:
    """Answer requests until there are no more."""
    requests = open(os.dup(0), "rb")  # noqa: SIM115  both stay open as long as the process lives
    # A reply that fits into the buffer is one write, and wakes the parent once.
    replies = open(os.dup(1), "wb", buffering=PIPE_BYTES)  # noqa: SIM115
    AvifImagePlugin.DEFAULT_MAX_THREADS = 1  # each worker has one core; the stacks of more threads count as memory
    data_at_start = _data_bytes()
    write_message(replies, READY)
    # What the C libraries print (libtiff prints a line for every odd tag) must not mix with the replies nor fill the
    # terminal. Until here standard error told the parent why a worker could not be started.
    silence = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(silence, descriptor)
    task, task_text = Task(ImageLimits()), ""
    while True:
        try:
            text, size = read_text(requests)
            path = read_exactly(requests, size)
        except EOFError:
            return
        if text != task_text:  # mostly it is that of the image before
            task, task_text = Task.from_text(text), text
            _limit_memory(data_at_start, task.limits.max_memory_bytes)
        _limit_seconds(task.limits.max_seconds)
        reply, pixels = _answer(path, task)
        _limit_seconds(0)
        try:
            write_message(replies, json.dumps(reply), pixels)
        except OSError:  # the parent was killed
            os._exit(0)  # an ordinary exit would try to flush the rest


def _answer(path: bytes, task: Task) -> tuple[dict[str, Any], bytes | memoryview]:
    try:
        decoded = decode_image(path, limits=task.limits, target_size_hw=task.target_size_hw)
        return _describe(decoded), task.fit.pixels(decoded.image).data if task.fit else decoded.image.tobytes()
    except ImageError as error:
        return {"code": error.code, "reason": error.reason}, b""
    except MemoryError:
        return {"code": "E_MEMORY", "reason": "not enough memory for the pixels of this image"}, b""


def _describe(decoded: DecodedImage) -> dict[str, Any]:
    return {
        "size_wh": decoded.image.size,
        "displayed_size_hw": decoded.displayed_size_hw,
        "sha256": decoded.sha256,
        "format": decoded.format,
    }


def _limit_seconds(seconds: float) -> None:
    """End this process after so many seconds, whatever it does then; 0: never. Holds where the parent is gone too."""
    if hasattr(signal, "setitimer"):
        signal.setitimer(signal.ITIMER_REAL, seconds)  # no handler: the system itself ends the process
    elif seconds:
        faulthandler.dump_traceback_later(seconds, exit=True)
    else:
        faulthandler.cancel_dump_traceback_later()


def _data_bytes() -> int:
    """Private writable memory of this process; 0 where the system is not Linux."""
    if sys.platform != "linux":
        return 0
    with open("/proc/self/status", encoding="ascii") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmData:"))


def _limit_memory(at_start: int, growth: int) -> None:
    # Not the whole address space (RLIMIT_AS): threads and allocators reserve gigabytes there that are never used.
    if sys.platform == "linux":
        import resource

        _, hard = resource.getrlimit(resource.RLIMIT_DATA)
        limit = at_start + growth
        resource.setrlimit(resource.RLIMIT_DATA, (limit if hard == resource.RLIM_INFINITY else min(limit, hard), hard))


if __name__ == "__main__":
    main()
