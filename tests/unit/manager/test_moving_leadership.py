"""Leadership that becomes another kind of it while it is waited for."""

from __future__ import annotations

import asyncio
from typing import cast

from meshnet_control.manager.leadership import MovingLeadership, Sole, Term
from meshnet_control.store.store import Store

STORE = cast("Store", None)


class Chosen:
    """Leads when a test says so."""

    def __init__(self) -> None:
        self.leader = "other"
        self.led: asyncio.Future[Term] = asyncio.get_running_loop().create_future()

    async def term(self) -> Term:
        return await asyncio.shield(self.led)


async def test_the_only_manager_leads_until_there_are_others():
    sole = Sole(STORE, "m1")
    leadership = MovingLeadership(sole)
    term = await leadership.term()
    assert leadership.leader == "m1"
    assert not term.over.is_set()

    chosen = Chosen()
    leadership.move(chosen)
    sole.end()
    assert term.over.is_set()
    assert leadership.leader == "other"
    waiting = asyncio.ensure_future(leadership.term())
    for _ in range(10):
        await asyncio.sleep(0)
    assert not waiting.done()
    led = Term(STORE)
    chosen.led.set_result(led)
    assert await waiting is led


async def test_who_waits_already_goes_on_waiting_for_the_other_kind():
    first, second = Chosen(), Chosen()
    leadership = MovingLeadership(first)
    waiting = asyncio.ensure_future(leadership.term())
    await asyncio.sleep(0)
    leadership.move(second)
    led = Term(STORE)
    second.led.set_result(led)
    async with asyncio.timeout(10):
        assert await waiting is led


async def test_a_term_of_the_only_manager_that_ended_is_not_given_again():
    sole = Sole(STORE, "m1")
    sole.end()
    waiting = asyncio.ensure_future(sole.term())
    for _ in range(10):
        await asyncio.sleep(0)
    assert not waiting.done()
    waiting.cancel()
