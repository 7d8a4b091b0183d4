"""An event loop on its own thread, so that blocking code of any thread can run coroutines concurrently."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import CancelledError
from typing import Any, TypeVar

Result = TypeVar("Result")


class EventLoopThread:
    """Runs the coroutines of any thread until it is closed."""

    def __init__(self, name: str) -> None:
        """Start the thread.

        Args:
            name: of the thread, shown by debuggers.
        """
        self._loop = asyncio.new_event_loop()
        # A daemon, so that an object that nobody closed does not keep the process alive.
        self._thread = threading.Thread(target=self._loop.run_forever, name=name, daemon=True)
        self._thread.start()
        self._closed = False
        # A coroutine submitted before `_closed` is set is on the loop by then and is cancelled; none comes after it.
        self._submitting = threading.Lock()

    def run(self, coroutine: Coroutine[Any, Any, Result]) -> Result:
        """Wait for the result of a coroutine; an interrupt while waiting cancels it.

        Raises:
            RuntimeError: the thread was closed, before or while the coroutine ran.
        """
        with self._submitting:
            if self._closed:
                coroutine.close()
                raise RuntimeError("closed: make a new object to ask again")
            future = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        try:
            return future.result()
        except CancelledError:
            raise RuntimeError("closed while it was asked") from None
        except BaseException:
            future.cancel()
            raise

    def close(self, last: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Cancel the running coroutines, run `last` and end the thread; closing again does nothing."""
        with self._submitting:
            if self._closed:
                return
            self._closed = True
        asyncio.run_coroutine_threadsafe(_finish(last), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


async def _finish(last: Callable[[], Coroutine[Any, Any, None]]) -> None:
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await last()
    loop = asyncio.get_running_loop()
    await loop.shutdown_asyncgens()
    await loop.shutdown_default_executor()
