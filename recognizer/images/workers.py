"""Decoding in worker processes, so that an image that crashes, hangs or bloats the decoder costs itself alone.

`WorkerStock` holds the workers that have nothing to do; a `WorkerPool` lends them to threads that want images. A
worker serves one image at a time, so there is never a doubt about which one ended it. A pool is cheap: whoever
decodes makes one, and the worker that is back in the stock serves the next. Pixels come through a pipe, which leaves
nothing behind that shared memory would after a kill. An image for an encoder is resized by the worker, so that the pipe
carries no more than the model input. An image of 1 to 2 megapixels then takes up to a twentieth more of the processors
than in threads.
"""

from __future__ import annotations

import atexit
import fcntl
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from io import BufferedReader
from pathlib import Path
from queue import SimpleQueue
from typing import IO, Any, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from recognizer.errors import RecognizerError
from recognizer.images.decode import DecodedImage
from recognizer.images.errors import ImageError
from recognizer.images.fit import FittedImage
from recognizer.images.limits import ImageLimits
from recognizer.images.remote import is_remote, local_copy
from recognizer.images.worker import PIPE_BYTES, READY, Task, read_text, write_message

COMMAND = (sys.executable, "-P", "-m", "recognizer.images.worker")  # -P: nothing is imported from the current folder
# What may be the fault of images that the worker had before: each is tried once more, by a new worker.
_TRIED_AGAIN = frozenset({"E_WORKER", "E_TIMEOUT", "E_MEMORY"})
_ENDING_S = 1  # from the end of a worker's pipe to the end of its process


class WorkerUnavailable(RecognizerError):
    """No worker process can be started; the message holds its last words."""


class WorkerPoolClosed(Exception):
    """The pool was closed while a thread waited for an image."""


class _Reply(NamedTuple):
    """A decoded image, or the pixels of a model input: (H, W, 3)."""

    decoded_size_hw: tuple[int, int]
    displayed_size_hw: tuple[int, int]
    sha256: str
    format: str
    pixels: NDArray[np.uint8]


class _Worker:
    """One process and the pipes to it; for one thread at a time."""

    def __init__(self, command: Sequence[str]) -> None:
        try:
            process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=_environment(),
                start_new_session=True,  # an interrupt from the keyboard reaches the parent alone
            )
        except OSError as error:
            raise WorkerUnavailable(f"no decoding process can be started with {command[0]}: {error}") from error
        with suppress(OSError, AttributeError):  # a system without it, or a user who has many pipes already
            fcntl.fcntl(cast("IO[bytes]", process.stdout), fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        self._process = process
        self._requests = cast("IO[bytes]", process.stdin)
        self._replies = cast("BufferedReader", process.stdout)
        self._errors = cast("IO[bytes]", process.stderr)
        self._is_ready = False

    def decode(self, path: bytes, task: Task) -> _Reply:
        """Have an image decoded.

        Raises:
            ImageError: there is none, and why; after one of `_TRIED_AGAIN` the worker is to be closed.
            WorkerUnavailable: the process ended before it was ready.
        """
        self._wait_until_ready()
        started, seconds = time.monotonic(), task.limits.max_seconds
        try:
            write_message(self._requests, task.text, path)
            text, size = read_text(self._replies)
            reply = json.loads(text)
            if "code" not in reply:
                return self._read_pixels(reply, size, task)
        except (EOFError, OSError, ValueError, KeyError, TypeError):
            if time.monotonic() - started >= seconds:
                raise ImageError("E_TIMEOUT", f"not decoded in {seconds:g} s (images.max_seconds)") from None
            raise ImageError("E_WORKER", f"the decoder failed on this image: {self._how_it_ended()}") from None
        raise ImageError(str(reply["code"]), str(reply["reason"]))

    def _read_pixels(self, reply: dict[str, Any], size: int, task: Task) -> _Reply:
        width, height = reply["size_wh"]
        if min(width, height) <= 0 or width * height > task.limits.max_pixels:
            raise ValueError("no pixels, or more than the limit")
        pixels = np.empty((*(task.fit.size_hw if task.fit else (height, width)), 3), np.uint8)
        if size != pixels.nbytes:
            raise ValueError("more or fewer bytes than pixels")
        if self._replies.readinto(pixels.data.cast("B")) < size:
            raise EOFError
        return _Reply((height, width), tuple(reply["displayed_size_hw"]), reply["sha256"], reply["format"], pixels)

    def _wait_until_ready(self) -> None:
        if not self._is_ready:
            with suppress(EOFError, ValueError):
                self._is_ready = read_text(self._replies) == (READY, 0)
        if not self._is_ready:
            ending = self._how_it_ended()
            last_words = self._errors.read().decode("utf-8", "replace").strip().split("\n")[-1] or ending
            raise WorkerUnavailable(f"a decoding process does not start: {last_words}")

    def _how_it_ended(self) -> str:
        try:
            code = self._process.wait(_ENDING_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return "its reply made no sense"
        return f"ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"

    def kill(self) -> None:
        """End the process at once, also while another thread waits for its reply."""
        self._process.kill()

    def close(self, *, disown: bool = False) -> None:
        """End the process, or disown it, and leave nothing of it here."""
        if disown:
            self._process.returncode = 0  # nobody here kills it or waits for it
        self._process.kill()
        self._process.wait()
        for pipe in (self._requests, self._replies, self._errors):
            with suppress(OSError):  # a request that could not be sent any more
                pipe.close()


class WorkerStock:
    """Workers that have nothing to do."""

    def __init__(self, command: Sequence[str] = COMMAND) -> None:
        """Start nothing yet; `command` will start a worker."""
        self._command = command
        self._idle: list[_Worker] = []  # its methods are atomic

    def start(self) -> None:
        """Start a worker ahead where none is idle; it gets ready while the caller does something else."""
        if not self._idle:
            self._idle.append(_Worker(self._command))

    def take(self, *, fresh: bool = False) -> _Worker:
        """Take the worker that was used last out of the stock; start one where there is none, or it is to be fresh."""
        try:
            return _Worker(self._command) if fresh else self._idle.pop()
        except IndexError:
            return _Worker(self._command)

    def put(self, worker: _Worker) -> None:
        """Put a worker back."""
        self._idle.append(worker)

    def keep(self, count: int, *, disown: bool = False) -> None:
        """End the idle workers beyond `count`; `disown` leaves them to the parent, of which this process is a fork."""
        while len(self._idle) > count:
            with suppress(IndexError):  # another thread took the last one
                self._idle.pop().close(disown=disown)


STOCK = WorkerStock()
"""The workers of this process."""
atexit.register(STOCK.keep, 0)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=partial(STOCK.keep, 0, disown=True))


class WorkerPool:
    """Lends workers to threads; one that is not closed holds nothing but what it lent."""

    def __init__(self, workers: int, *, stock: WorkerStock = STOCK) -> None:
        """Start nothing yet; at most `workers` will be lent at a time."""
        self._stock = stock
        self._turns: SimpleQueue[None] = SimpleQueue()  # a semaphore written in C, unlike that of `threading`
        for _ in range(workers):
            self._turns.put(None)
        self._busy: set[_Worker] = set()
        self._closed = False
        self._lock = threading.Lock()  # of the two above

    def decode(
        self,
        path: str | bytes | Path,
        *,
        limits: ImageLimits | None = None,
        target_size_hw: tuple[int, int] | None = None,
    ) -> DecodedImage:
        """Do in a worker what `decode_image` does; the pixels are the same, bit for bit.

        An image that ended its worker, or found no memory or no time, is tried once more by a new worker alone.

        Raises:
            ImageError: as `decode_image`, and E_WORKER and E_TIMEOUT.
            WorkerUnavailable: no worker can be started.
            WorkerPoolClosed: the pool was closed by another thread.
        """
        reply = self._ask(path, Task(limits or ImageLimits(), target_size_hw))
        return DecodedImage(
            image=Image.fromarray(reply.pixels),
            displayed_size_hw=reply.displayed_size_hw,
            sha256=reply.sha256,
            format=reply.format,
        )

    def decode_fitted(self, path: str | bytes | Path, task: Task) -> tuple[FittedImage, str]:
        """Decode an image as `decode` does and resize it in the worker too, so that few bytes pass the pipe.

        Args:
            path: of the file.
            task: with a fit, whose size is the target size; one for all images of a run.

        Returns:
            The image, and the hex digest of its file's bytes (SHA-256).

        Raises:
            ImageError: as `decode`, and likewise the others.
        """
        reply = self._ask(path, task)
        return FittedImage(reply.pixels, reply.decoded_size_hw, reply.displayed_size_hw), reply.sha256

    def _ask(self, path: str | bytes | Path, task: Task) -> _Reply:
        path = os.fsencode(path)
        if is_remote(path):  # fetched here: a worker has a limit of seconds, and opens nothing but files
            with local_copy(path, max_bytes=task.limits.max_file_bytes) as copy:
                return self._ask(copy, task)
        if not path.startswith(b"/"):
            path = os.path.join(os.getcwdb(), path)  # where the worker was started may be elsewhere
        self._turns.get()
        try:
            if self._closed:
                raise WorkerPoolClosed
            try:
                return self._decode(self._stock.take(), path, task)
            except ImageError as error:
                if error.code not in _TRIED_AGAIN:
                    raise
            return self._decode(self._stock.take(fresh=True), path, task)
        finally:
            self._turns.put(None)

    def _decode(self, worker: _Worker, path: bytes, task: Task) -> _Reply:
        is_fit = False
        with self._lock:
            self._busy.add(worker)
            if self._closed:
                worker.kill()
        try:
            reply = worker.decode(path, task)
            is_fit = True
        except ImageError as error:
            is_fit = error.code not in _TRIED_AGAIN
            raise
        finally:
            with self._lock:
                self._busy.remove(worker)
                closed = self._closed
            if is_fit and not closed:
                self._stock.put(worker)
            else:
                worker.close()
            if closed:
                raise WorkerPoolClosed
        return reply

    def close(self) -> None:
        """End the workers that are at an image, whose threads get `WorkerPoolClosed`, and all idle ones but one."""
        with self._lock:
            self._closed = True
            for worker in self._busy:
                worker.kill()
        self._stock.keep(1)


def _environment() -> dict[str, str]:
    """Let the worker find what this process finds, the current folder excepted."""
    places = [*filter(None, sys.path), str(Path(__file__).parents[2])]
    # NumPy would start a thread per core for algebra that no worker does.
    # glibc would give the pixels of each image back to the system, which zeroes their pages for the next.
    keep = {"MALLOC_MMAP_THRESHOLD_": str(2**26), "MALLOC_TRIM_THRESHOLD_": str(2**28)}
    return os.environ | keep | {"PYTHONPATH": os.pathsep.join(places), "OPENBLAS_NUM_THREADS": "1"}
