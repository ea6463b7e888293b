"""meshnet-manager stands by until it is woken; who wakes it knows whether somebody was there."""

from __future__ import annotations

import asyncio
import signal
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from meshnet.process import limits
from meshnet_control.host import standby
from meshnet_control.host.program import Program


async def test_one_that_waits_is_woken_and_is_there_no_more(tmp_path: Path):
    assert not standby.waits(tmp_path)
    assert not standby.wake(tmp_path)
    with standby.Standby(tmp_path) as stands:
        assert standby.waits(tmp_path)  # to look is not to wake
        assert (tmp_path / standby.SOCKET).stat().st_mode & 0o777 == 0o600
        for _ in range(2):
            assert standby.wake(tmp_path)
            await asyncio.wait_for(stands.woken(), 5)
        for _ in range(1000):
            assert standby.wake(tmp_path)  # again and again is fine, also while nobody listens
    assert not standby.waits(tmp_path)
    assert not (tmp_path / standby.SOCKET).exists()


def test_what_a_killed_one_left_is_nobody(tmp_path: Path):
    with standby.Standby(tmp_path):
        (tmp_path / standby.SOCKET).rename(tmp_path / "kept")
    (tmp_path / "kept").rename(tmp_path / standby.SOCKET)
    assert not standby.waits(tmp_path)
    assert not standby.wake(tmp_path)
    with standby.Standby(tmp_path):
        assert standby.waits(tmp_path)


@pytest.mark.parametrize("signalled", [True, False])
async def test_a_program_with_nothing_to_do_heeds_signals(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, signalled: bool
):
    monkeypatch.setattr(limits, "end_within", lambda _: None)  # it would end this process
    async with AsyncExitStack() as stack:
        program = Program(60.0)
        program.begin(stack)
        with standby.Standby(tmp_path) as stands:
            idle = asyncio.ensure_future(program.idle(stands.woken()))
            await asyncio.sleep(0)
            assert not idle.done()
            if signalled:
                signal.raise_signal(signal.SIGTERM)
            else:
                standby.wake(tmp_path)
            assert await asyncio.wait_for(idle, 5) is not signalled
