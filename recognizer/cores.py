"""How arrays are shared among the cores: by blocks of fixed size, each product on the thread that asks for it.

OpenBLAS would split every product among threads of its own. The parts round differently, so results would depend on
their number, and a product waits until those of all other threads are done: rows were written only between the
products of the next batch, which doubled the time of a run over stored features.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import cache
from typing import TypeVar

from threadpoolctl import OpenBLASController, ThreadpoolController  # type: ignore[import-untyped]

Part = TypeVar("Part")
Result = TypeVar("Result")

_turn = threading.Lock()
_inside = 0
_limits = ExitStack()


@contextmanager
def single_threads() -> Iterator[None]:
    """Let BLAS compute each product on the thread that asks for it, in the whole process, until the last one leaves.

    Threads may enter side by side, and again while they are inside.
    """
    global _inside
    with _turn:
        if not _inside:
            core_pool()  # it counts the threads that BLAS has otherwise
            OpenBLASController.clear_controlling_thread(force=True)  # another thread may have set it the last time
            _limits.enter_context(_controller().limit(limits=1, user_api="blas"))
        _inside += 1
    try:
        yield
    finally:
        with _turn:
            _inside -= 1
            if not _inside:
                OpenBLASController.clear_controlling_thread(force=True)
                _limits.close()


def share_out(parts: Sequence[Part], work: Callable[[Part], Result]) -> list[Result]:
    """Do some work on every part, on as many threads as BLAS has, and return what comes of each, in their order.

    Raises:
        Exception: the first one that a part raises.
    """
    pool = core_pool()
    if pool is None or len(parts) < 2:
        return [work(part) for part in parts]
    return list(pool.map(work, parts))


def _controller() -> ThreadpoolController:
    """Return what limits the libraries of this process; SciPy brings its own BLAS, and is imported late or never."""
    return _controller_of_libraries("scipy.linalg" in sys.modules)


@cache
def _controller_of_libraries(_with_scipy: bool) -> ThreadpoolController:
    return ThreadpoolController()


@cache
def core_pool() -> ThreadPoolExecutor | None:
    """Return threads for all cores that BLAS may use, which OMP_NUM_THREADS and the like limit; None for one."""
    threads = max((library.num_threads for library in _controller().select(user_api="blas").lib_controllers), default=1)
    return ThreadPoolExecutor(threads, thread_name_prefix="block") if threads > 1 else None


def blas_kernels() -> list[str]:
    """Return what decides how products are rounded now: the kernels of BLAS, and its threads."""
    libraries = _controller().select(user_api="blas").info()
    return sorted({f"{one['internal_api']} {one.get('architecture')} {one['num_threads']}" for one in libraries})
