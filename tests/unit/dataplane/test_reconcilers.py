"""A kernel that hangs keeps neither a node's end nor its leave."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from meshnet.errors import ControlError
from meshnet.model.ids import NodeId
from meshnet.model.snapshot import Snapshot
from meshnet_control.dataplane.reconcilers import NodeReconcilers
from meshnet_control.engine.client import EngineClient
from meshnet_control.node import cleanup

LONG_S = 2.0
STEP_S = 0.05


class Hanging:
    """Kernel state that cannot be read until it is let go: iptables whose lock is taken."""

    name, chooses = "hanging", False

    def __init__(self, held: threading.Event) -> None:
        self._held = held
        self.reading = threading.Event()
        self.applied: list[str] = []
        self.closed = False

    def desired(self, _: Snapshot) -> str:
        return ""

    def observe(self, _: str, __: object = None) -> str:
        self.reading.set()
        self._held.wait()
        return ""

    def plan(self, _desired: str, _observed: str, *, prune: bool) -> list[str]:
        return ["change"] if prune else []

    def apply(self, changes: Sequence[str]) -> None:
        self.applied += changes

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def held():
    """Name: held; Scope: function. What hangs, until it is set; at the latest after the test."""
    made = threading.Event()
    yield made
    made.set()


@pytest.mark.timeout(15)
@pytest.mark.parametrize("hangs", [True, False])
async def test_a_node_ends_in_time_and_says_whether_its_kernel_still_works(
    tmp_path: Path, held: threading.Event, hangs
):
    kernel = Hanging(held)
    loop = asyncio.get_running_loop()

    def spawn(work, name: str) -> asyncio.Task[None]:
        return loop.create_task(work, name=name)

    made = NodeReconcilers(NodeId("n1"), tmp_path, spawn, [kernel])
    made._in_kernel[0].submit(Snapshot(revision=1, self_id=NodeId("n1"), complete=True))
    await asyncio.to_thread(kernel.reading.wait)
    if not hangs:
        held.set()
    began = time.monotonic()
    await made.close(STEP_S if hangs else LONG_S)
    assert time.monotonic() - began < LONG_S
    assert made.idle is not hangs
    assert kernel.closed is not hangs


async def test_a_clean_up_that_nobody_waits_for_any_more_goes_no_further(held: threading.Event):
    first, second = Hanging(held), Hanging(held)
    given_up = threading.Event()
    emptying = asyncio.to_thread(cleanup._empty_kernel, [first, second], given_up)
    cleaning = asyncio.create_task(emptying)
    await asyncio.to_thread(first.reading.wait)
    given_up.set()
    held.set()
    await cleaning
    assert (first.applied, second.applied) == (["change"], [])
    assert not second.reading.is_set()
    assert second.closed


async def test_a_clean_up_of_a_kernel_that_hangs_is_given_up_in_a_sentence(
    tmp_path: Path, held: threading.Event, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(cleanup, "KERNEL_S", STEP_S)
    monkeypatch.setattr(cleanup, "kernel_operations", lambda: (Hanging(held),))
    engine = EngineClient(f"unix://{tmp_path}/none.sock")
    async with asyncio.timeout(LONG_S):
        with pytest.raises(ControlError, match="the kernel was not emptied within"):
            await cleanup.clean_up(tmp_path, engine)
    held.set()
    await engine.close()
