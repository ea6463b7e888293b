"""Whom a node does not reach is said of it for as long as it is so."""

from __future__ import annotations

import asyncio
from typing import Any, cast

from meshnet import ends
from meshnet_control.api import control_pb2 as pb
from meshnet_control.cluster import assignments
from meshnet_control.cluster.hosts import Hosts
from meshnet_control.identity.identity import Certificates, Identity
from meshnet_control.manager.authority import Authority
from meshnet_control.manager.dispatcher import NO_WAY, Dispatcher
from meshnet_control.store.sqlite import SqliteStore
from meshnet_control.store.store import Put


async def test_a_node_that_says_again_what_it_is_still_does_not_reach_whom_it_did_not(tmp_path):
    store = SqliteStore.open(tmp_path / "s", tmp_path / "k")
    who = Identity("m1", "c1", "manager", Certificates(b"", b"", b""))
    node = pb.Node(id="n1", status=pb.NodeStatus(state="ready"))
    await store.commit([Put(node)])
    objects = assignments.Objects(pb.Cluster(), nodes={"n1": node})
    dispatcher = Dispatcher(store, cast("Authority", None), who, lambda: objects)
    leading = asyncio.ensure_future(dispatcher.lead(store))

    async def said(hostname: str, message: str) -> None:
        async with asyncio.timeout(20):
            while True:
                stored = await store.get(pb.Node, "n1")
                assert stored is not None
                found = stored.description.hostname, stored.status.message
                if found == (hostname, message):
                    return
                await asyncio.sleep(0)

    def describe(hostname: str) -> None:
        request = pb.SessionRequest(addr="192.168.0.1")
        request.description.hostname = hostname
        dispatcher._described("n1", request, cast("Any", None))

    try:
        while not dispatcher.leading:  # noqa: ASYNC110 - it takes one turn
            await asyncio.sleep(0)
        dispatcher.hosts(Hosts(unreached={"n1": {"n2"}}))
        await said("", f"{NO_WAY} n2")
        describe("h1")
        await said("h1", f"{NO_WAY} n2")
        dispatcher.hosts(Hosts())
        await said("h1", "")
        describe("h2")
        await said("h2", "")
    finally:
        await ends.ended(leading)
        await store.close()
