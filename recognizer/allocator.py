"""Settings for programs that compute for long: freed memory is kept, idle threads sleep, imports are not collected."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from contextlib import contextmanager

# Parameters of `mallopt` in glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
# Smaller blocks come from the heap and stay in it: all of a pass of one image, and those of a step of training. Some
# versions of glibc take no more than half a thread's heap, 32 MiB, which still covers the pass of one image.
_MMAP_THRESHOLDS = (2**30, 2**25)
# The heap is cut back once so much of its end is free.
_TRIM_THRESHOLD = 2**30


def keep_freed_memory() -> bool:
    """Tell glibc to keep the blocks that tensors free, for this process.

    By default it returns large blocks to the kernel, which zeroes their pages for the next tensor: a tenth to a half of
    the time of a forward pass or a step of training on a CPU. For programs only: a library leaves the allocator of its
    user alone.

    Returns:
        Whether the setting was made: not with another C library, nor where the user has set glibc's own variables.
    """
    if "CS_GNU_LIBC_VERSION" not in os.confstr_names or any(name.startswith("MALLOC_") for name in os.environ):
        return False
    import ctypes

    mallopt = ctypes.CDLL(None).mallopt
    mapped = any(mallopt(_M_MMAP_THRESHOLD, threshold) for threshold in _MMAP_THRESHOLDS)
    return mapped and bool(mallopt(_M_TRIM_THRESHOLD, _TRIM_THRESHOLD))


def let_idle_threads_sleep() -> None:
    """Tell OpenBLAS, before NumPy loads it, that its threads wait for the next product asleep; the user's choice stays.

    By default each spins for 2^26 cycles after a product. While other threads encode, that takes a tenth of the
    processors from them.
    """
    os.environ.setdefault("OPENBLAS_THREAD_TIMEOUT", "4")  # 2^4 cycles, the least that it takes


@contextmanager
def imports_uncollected() -> Iterator[None]:
    """Pause Python's garbage collector while modules are imported and models are made; what is there then stays.

    Otherwise it looks again and again through a million objects that live as long as the process: an eighth of the
    time of `import torch`, and 0.2 s whenever a run collects them all. For programs only.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
