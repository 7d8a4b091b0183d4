"""A process that decodes image files, one at a time, for `recognizer.images.workers`; started with ``python -m``.

A decoder is C code that meets files from anywhere: it may crash, hang or grow, and here that costs one image. The
process imports neither torch nor the caller's program. Requests come on its standard input, replies go to its standard
output, and it ends with either of them. A message is its length (4 bytes, little-endian) and JSON; the pixels of the
image, 3 bytes each, follow the reply: all that were decoded, or those of the model input if the request says how to
resize. Nothing is pickled: a reply of a worker that an image took over is still only numbers and text.
"""

from __future__ import annotations

import faulthandler
import json
import os
import signal
import struct
import sys
from typing import IO, Any

from PIL import AvifImagePlugin

from recognizer.images.decode import DecodedImage, decode_image
from recognizer.images.errors import ImageError
from recognizer.images.fit import Fit
from recognizer.images.limits import ImageLimits

READY = {"ready": True}
"""The first message of a worker."""

_LENGTH = struct.Struct("<I")
_MOST_BYTES = 2**26  # of a message; what asks for more is no length


def write_message(stream: IO[bytes], message: dict[str, Any], pixels: bytes = b"") -> None:
    """Send a message and, behind it, pixels.

    Raises:
        OSError: the other end is gone.
    """
    text = json.dumps(message).encode("ascii")
    stream.write(_LENGTH.pack(len(text)) + text)
    stream.write(pixels)
    stream.flush()


def read_message(stream: IO[bytes]) -> dict[str, Any]:
    """Receive a message.

    Raises:
        EOFError: the other end is gone.
        ValueError: this is no message.
    """
    length = int.from_bytes(read_exactly(stream, _LENGTH.size), "little")
    if length > _MOST_BYTES:
        raise ValueError(f"a message of {length} bytes")
    message = json.loads(read_exactly(stream, length))
    if not isinstance(message, dict):
        raise ValueError("a message that is no object")
    return message


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
    replies = open(os.dup(1), "wb")  # noqa: SIM115
    AvifImagePlugin.DEFAULT_MAX_THREADS = 1  # each worker has one core; the stacks of more threads count as memory
    data_at_start = _data_bytes()
    write_message(replies, READY)
    # What the C libraries print (libtiff prints a line for every odd tag) must not mix with the replies nor fill the
    # terminal. Until here standard error told the parent why a worker could not be started.
    silence = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(silence, descriptor)
    limits, limits_sent = ImageLimits(), None
    while True:
        try:
            request = read_message(requests)
        except EOFError:
            return
        if request["limits"] != limits_sent:  # mostly they are those of the image before
            limits_sent = request["limits"]
            limits = ImageLimits.model_validate(limits_sent)
            _limit_memory(data_at_start, limits.max_memory_bytes)
        _limit_seconds(limits.max_seconds)
        message, pixels = _answer(request, limits)
        _limit_seconds(0)
        try:
            write_message(replies, message, pixels)
        except OSError:  # the parent was killed
            os._exit(0)  # an ordinary exit would try to flush the rest


def _answer(request: dict[str, Any], limits: ImageLimits) -> tuple[dict[str, Any], bytes]:
    target_hw, fit = request["target_size_hw"], request["fit"]
    try:
        decoded = decode_image(
            request["path"].encode("latin-1"), limits=limits, target_size_hw=tuple(target_hw) if target_hw else None
        )
        pixels = Fit.from_json(fit).pixels(decoded.image) if fit else decoded.image
        return _describe(decoded), pixels.tobytes()
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
