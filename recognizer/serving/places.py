"""Places for requests with a body: so many at a time; where all are taken, a slow body gives its place up."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from recognizer.serving.guards import Body
from recognizer.serving.service import Busy

SLOW_AFTER_S = 3.0
"""Seconds of a body before its pace says anything: connections begin slowly."""
SLOW_BYTES_PER_S = 20_000
"""Below it a body is slow: a photograph of a megabyte would take 50 s, and is refused after 30."""


class Places:
    """Gives places to requests, on one event loop.

    Args:
        most: requests at a time.
    """

    def __init__(self, most: int) -> None:
        """Begin without any."""
        self._most = most
        self._taken: dict[Body, asyncio.Timeout] = {}

    @asynccontextmanager
    async def take(self, body: Body) -> AsyncIterator[None]:
        """Hold a place for a request while it is read and answered.

        Raises:
            Busy: all are taken, by requests that come fast enough or have come; or this one came slowly, and another
                needed its place.
        """
        if len(self._taken) >= self._most and not self._free_slowest():
            raise Busy(f"{len(self._taken)} requests are being read already; ask again in a moment")
        limit = asyncio.timeout(None)
        try:
            async with limit:
                self._taken[body] = limit
                yield
        except TimeoutError:
            if not limit.expired():
                raise
            raise Busy("the body came slowly, and others wait; ask again in a moment") from None
        finally:
            self._taken.pop(body, None)

    def _free_slowest(self) -> bool:
        now = asyncio.get_running_loop().time()
        slowest = min(self._taken, key=lambda body: _pace(body, now))
        if _pace(slowest, now) >= SLOW_BYTES_PER_S:
            return False
        self._taken.pop(slowest).reschedule(now)  # its request ends with a TimeoutError in a moment
        return True


def _pace(body: Body, now: float) -> float:
    """Return the bytes per second of a body that is coming; infinity where it is too early to say, or all came."""
    if body.is_read or body.since is None or now - body.since < SLOW_AFTER_S:
        return float("inf")
    return body.read / (now - body.since)
