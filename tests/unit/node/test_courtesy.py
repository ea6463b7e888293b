"""Who had a node begin is answered first, and not for ever; who waits for it is not held up."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest
import virtual_run

from meshnet_control.node.courtesy import LONGEST_S, QUIET_S, Courtesy

IDLE_S = QUIET_S / 5
SOON_S = QUIET_S / 50


async def _asks_on(courtesy: Courtesy, times: int, method: str = "GET") -> None:
    """As the docker CLI after an init: one request after the other, with a pause before each."""
    for _ in range(times):
        await asyncio.sleep(IDLE_S)
        with courtesy.answering(method):
            await asyncio.sleep(IDLE_S)


def _over_after(client: Callable[[Courtesy], Awaitable[None]]) -> float:
    """Seconds from the answer to an init to the end of the courtesy."""

    async def play() -> float:
        courtesy, clock = Courtesy(), asyncio.get_running_loop().time
        with courtesy.answering("POST"):  # the init itself
            waiting = asyncio.ensure_future(courtesy.over())
            await asyncio.sleep(IDLE_S)
            assert courtesy.gives_way
        began = clock()
        asking = asyncio.ensure_future(client(courtesy))
        await waiting
        assert not courtesy.gives_way
        took = clock() - began
        await asking
        return took

    return virtual_run.run(play())


def test_it_is_over_when_nobody_asks_on():
    assert _over_after(lambda courtesy: _asks_on(courtesy, 0)) == pytest.approx(QUIET_S)


def test_who_asks_on_is_waited_for():
    took = _over_after(lambda courtesy: _asks_on(courtesy, 2))
    assert took == pytest.approx(4 * IDLE_S + QUIET_S)


def test_an_init_that_takes_long_itself_is_waited_for():
    async def play() -> bool:
        courtesy = Courtesy()
        with courtesy.answering("POST"):
            waiting = asyncio.ensure_future(courtesy.over())
            await asyncio.sleep(4 * QUIET_S)
            early = waiting.done()
        await waiting
        return early

    assert not virtual_run.run(play())


def test_who_asks_for_ever_does_not_keep_a_node_from_working():
    took = _over_after(lambda courtesy: _asks_on(courtesy, 100))
    assert took == pytest.approx(LONGEST_S - IDLE_S)


def test_a_change_that_is_asked_for_waits_for_nothing():
    took = _over_after(lambda courtesy: _asks_on(courtesy, 1, "POST"))
    assert took <= IDLE_S + SOON_S


def test_a_task_that_is_assigned_waits_for_nothing():
    async def assigned(courtesy: Courtesy) -> None:
        await asyncio.sleep(IDLE_S)
        courtesy.hurry()

    assert _over_after(assigned) <= IDLE_S + SOON_S
