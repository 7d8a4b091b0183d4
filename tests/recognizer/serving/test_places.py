"""Who gets one of few places, and who gives one up."""

import asyncio
from concurrent.futures import ThreadPoolExecutor

import pytest

from recognizer.serving.guards import Body
from recognizer.serving.places import SLOW_AFTER_S, SLOW_BYTES_PER_S, Places
from recognizer.serving.service import Busy

LONG = 2 * SLOW_AFTER_S
SLOW, FAST = (int(share * LONG * SLOW_BYTES_PER_S) for share in (0.9, 1.1))


def newcomer(*bodies):
    """Let requests hold all places, then another one come; returns what became of each, the newcomer last."""

    async def hold(given, body, end):
        try:
            async with given.take(body):
                await end.wait()
            return "answered"
        except Busy as error:
            return str(error).split(";")[0]

    async def all_of_them():
        now, given, end = asyncio.get_running_loop().time(), Places(len(bodies)), asyncio.Event()
        made = [Body(None if age is None else now - age, read, is_read) for age, read, is_read in bodies]
        tasks = [asyncio.create_task(hold(given, body, end)) for body in made]
        await asyncio.sleep(0)
        late = asyncio.create_task(hold(given, Body(), end))
        await asyncio.sleep(0.01)
        end.set()
        outcomes = [await task for task in (*tasks, late)]
        async with given.take(Body()):  # all places are free again
            return outcomes

    with ThreadPoolExecutor(1) as pool:  # the browser of other tests has an event loop in this one
        return pool.submit(asyncio.run, all_of_them()).result()


def test_the_slowest_body_gives_its_place_up():
    held = [(LONG, SLOW, False), (LONG, 10, False), (LONG, SLOW, False)]
    assert newcomer(*held) == ["answered", "the body came slowly, and others wait", "answered", "answered"]


@pytest.mark.parametrize(
    "body",
    [(LONG, FAST, False), (LONG, 10, True), (SLOW_AFTER_S / 2, 0, False), (None, 0, False)],
    ids=["fast", "has come", "young", "not waited for"],
)
def test_a_body_that_comes_fast_enough_has_come_or_has_begun_keeps_its_place(body):
    assert newcomer(body, body) == ["answered", "answered", "2 requests are being read already"]
