"""Forward passes whose results do not depend on what else is encoded.

A library computes the last few numbers of a tensor, the last rows of a product and the parts of several threads in
other ways than the rest, which round differently. So on the CPU every pass has one shape, `PASS_SIZE` images, blanks
among them, and runs on one thread; what follows the image tower is done for each image alone. (On onnxruntime a pass
is one image.) The cores work on different passes, which is faster than working on one together
(`tests/benchmarks/passes.py`).

On other devices a batch is one pass; where the memory does not suffice for it, it is halved, and so are later ones.
There fp32 means fp32, too: cuDNN would compute convolutions in TF32. On an H200
its 10 bits moved region vectors of the starter by 1e-3, and a box by 130 pixels, from one batch size to another;
without it they move by 1e-6 and 0.0005 pixels.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from recognizer.encoder.features import Frame, ImageFeatures

# Larger passes are no faster, and leave more blanks and take more memory; smaller ones read the weights too often.
PASS_SIZE = 4

Forward = Callable[[Tensor, Sequence[Frame]], list[ImageFeatures]]
"""Encodes (B, 3, H, W) pixels with their B frames; returns features in parts, in order."""


class SmallerBatch(UserWarning):
    """A batch did not fit into the memory of the device."""


class Passes:
    """Runs the forward passes of one encoder.

    Attributes:
        largest: images of a pass that fit into the memory of the device; None: no pass was too large yet.
    """

    def __init__(self, device: torch.device, size: int | None = None) -> None:
        """Start nothing yet.

        Args:
            device: Where the passes run.
            size: Images of every pass on the CPU; None: `PASS_SIZE`.
        """
        self._device = device
        self._size = size or PASS_SIZE
        self._cores: ThreadPoolExecutor | None = None
        # Of the thread that loads the encoder: the one that encodes first may compute alone.
        self._threads = torch.get_num_threads()
        self._turn = threading.Lock()
        self.largest: int | None = None

    def encode(self, forward: Forward, pixels: Tensor, frames: Sequence[Frame]) -> ImageFeatures:
        """Encode a batch in as many passes as it takes.

        Threads may do so side by side: on the CPU their passes queue for the cores, elsewhere their batches do.

        Args:
            forward: One pass.
            pixels: (B, 3, H, W), B at least 1.
            frames: (B) frames.
        """
        if self._device.type != "cpu":
            with self._turn, torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
                return self._in_passes_that_fit(forward, pixels, frames)
        with self._turn:
            if self._cores is None:
                self._cores = single_threads(self._threads, "encode")
        blanks = -len(frames) % self._size
        padded = F.pad(pixels, (0, 0, 0, 0, 0, 0, 0, blanks)) if blanks else pixels
        padded_frames = [*frames, *[frames[-1]] * blanks]
        parts = [slice(start, start + self._size) for start in range(0, len(padded_frames), self._size)]
        passes = [self._cores.submit(forward_pass, forward, padded[part], padded_frames[part]) for part in parts]
        features = ImageFeatures.concatenate([one.result() for one in passes])
        return features.take(np.arange(len(frames))) if blanks else features

    def _in_passes_that_fit(self, forward: Forward, pixels: Tensor, frames: Sequence[Frame]) -> ImageFeatures:
        """Encode a batch in one pass, or in smaller ones where the memory of the device does not suffice.

        Raises:
            OutOfMemoryError: it does not suffice for one image.
        """
        parts: list[ImageFeatures] = []
        start = 0
        while start < len(frames):
            size = min(self.largest or len(frames), len(frames) - start)
            part = slice(start, start + size)
            try:
                parts.append(forward_pass(forward, pixels[part], frames[part]))
                start += size
                continue
            except torch.OutOfMemoryError:
                if size == 1:
                    raise
            # Outside of the handler: there the traceback would still hold the tensors of the pass.
            torch.cuda.empty_cache()
            self.largest = size // 2
            warnings.warn(
                f"the memory of {self._device} does not suffice for {size} images at a time; from here on at most "
                f"{self.largest} are encoded at a time",
                SmallerBatch,
                stacklevel=2,
            )
        return ImageFeatures.concatenate(parts)


def forward_pass(forward: Forward, pixels: Tensor, frames: Sequence[Frame]) -> ImageFeatures:
    """Encode images in one pass."""
    with torch.inference_mode():  # a setting of each thread
        return ImageFeatures.concatenate(forward(pixels, frames))


def single_threads(count: int, name: str) -> ThreadPoolExecutor:
    """Return a pool of named threads in each of which torch computes alone."""
    others = torch.get_num_threads()
    all_started = threading.Barrier(count)

    def start() -> None:
        torch.get_num_threads()  # torch's first call in a thread would undo the next line later
        torch.set_num_threads(1)  # of this thread, and of threads that torch has not seen yet
        all_started.wait()

    pool = ThreadPoolExecutor(count, thread_name_prefix=name)
    for started in [pool.submit(start) for _ in range(count)]:
        started.result()
    torch.set_num_threads(others)  # of threads that torch has not seen yet
    return pool
