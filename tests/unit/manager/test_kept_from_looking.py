"""A manager that had no turn itself blames no node for it."""

from __future__ import annotations

import asyncio
from typing import cast

from hypothesis import given
from hypothesis import strategies as st

from meshnet_control.api import control_pb2 as pb
from meshnet_control.cluster import assignments
from meshnet_control.identity.identity import Certificates, Identity
from meshnet_control.manager.authority import Authority
from meshnet_control.manager.dispatcher import CHECK_S, Dispatcher
from meshnet_control.manager.liveness import MISSED, Liveness
from meshnet_control.store.sqlite import SqliteStore

PERIOD_S = 5.0


@given(st.floats(0, 1e6), st.floats(0, MISSED * PERIOD_S))
def test_time_without_a_look_is_nobodys_silence(late_s, silent_s):
    nodes = Liveness()
    nodes.opened("a", 0)
    now = silent_s + late_s
    nodes.slept(now, late_s)
    assert nodes.overdue(now, PERIOD_S + 1e-6) == []
    assert nodes.overdue(now + MISSED * PERIOD_S + 1, PERIOD_S) == [("a", "down")]


async def test_a_dispatcher_that_was_stuck_gives_up_who_is_silent_afterwards(tmp_path):
    store = SqliteStore.open(tmp_path / "s", tmp_path / "k")
    who = Identity("m1", "c1", "manager", Certificates(b"", b"", b""))
    node = pb.Node(id="n1")
    node.status.state = "ready"
    objects = assignments.Objects(pb.Cluster(), nodes={"n1": node})
    now = 0.0
    dispatcher = Dispatcher(store, cast("Authority", None), who, lambda: objects, clock=lambda: now)
    watching = asyncio.ensure_future(dispatcher.lead(store))

    async def look() -> bool:
        """Whether the node is still waited for."""
        dispatcher._suspects.set()
        while dispatcher._suspects.is_set():  # noqa: ASYNC110 - it takes one turn
            await asyncio.sleep(0)
        return "n1" in dispatcher._liveness._seen

    try:
        assert await look()
        now = 1000.0
        assert await look()
        while now < 1000 + 10 * PERIOD_S and await look():
            now += CHECK_S
        assert MISSED * PERIOD_S <= now - 1000 < 4 * PERIOD_S
    finally:
        watching.cancel()
        await asyncio.wait({watching})
        await store.close()
