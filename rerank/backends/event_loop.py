"""An event loop on a thread of its own, so that blocking code of any thread can run coroutines beside each other."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import CancelledError
from typing import Any, TypeVar

Result = TypeVar("Result")


class EventLoopThread:
    """Runs coroutines handed over by any thread until it is closed."""

    def __init__(self, name: str) -> None:
        """Start the thread.

        Args:
            name: of the thread, as debuggers show it.
        """
        self._loop = asyncio.new_event_loop()
        # A daemon, so that an object nobody closed does not keep the process from ending.
        self._thread = threading.Thread(target=self._loop.run_forever, name=name, daemon=True)
        self._thread.start()
        self._closed = False
        # What was handed over before the flag is set is on the loop by then, and gets cancelled; nothing comes after.
        self._handing_over = threading.Lock()

    def run(self, coroutine: Coroutine[Any, Any, Result]) -> Result:
        """Wait for a coroutine's result; an interrupt while waiting cancels it.

        Raises:
            RuntimeError: the thread is closed, or was closed meanwhile.
        """
        with self._handing_over:
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
        """Cancel what still runs, run `last` and end the thread; closing again does nothing."""
        with self._handing_over:
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
