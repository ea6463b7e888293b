"""Turns of an event loop are timed, however long it waits between them."""

from __future__ import annotations

import asyncio
import selectors
import time

import pytest

from meshnet.process import turns
from meshnet.process.turns import LONG_S, TurnsSelector


def test_a_turn_is_from_one_wait_to_the_next():
    now, told = [0.0], list[float]()
    selector = TurnsSelector(told.append, lambda: now[0])
    try:
        for busy_s in (0.3, LONG_S / 2, LONG_S, 2.0):
            selector.select(0)
            now[0] += busy_s
        selector.select(0)
    finally:
        selector.close()
    assert [round(each, 6) for each in told] == [0.3, LONG_S, 2.0]


def test_the_wait_of_a_loop_is_no_turn(monkeypatch: pytest.MonkeyPatch):
    now, told = [0.0], list[float]()

    def waits(_: selectors.EpollSelector, timeout: float | None = None) -> list[object]:
        now[0] += timeout or 0.0
        return []

    monkeypatch.setattr(selectors.EpollSelector, "select", waits)
    selector = TurnsSelector(told.append, lambda: now[0])
    try:
        for _ in range(3):
            selector.select(7.0)
    finally:
        selector.close()
    assert told == []


def test_what_blocks_a_loop_is_told_and_its_result_given():
    told: list[float] = []

    async def blocks() -> str:
        until = time.perf_counter() + 4 * LONG_S
        while time.perf_counter() < until:
            pass
        await asyncio.sleep(0)
        return "done"

    assert turns.run(blocks(), told.append) == "done"
    assert max(told) >= 4 * LONG_S
