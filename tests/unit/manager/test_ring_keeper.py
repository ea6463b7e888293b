"""Who leads writes what follows of a rotation, each time something changed."""

from __future__ import annotations

import asyncio
import random
from typing import cast

from meshnet import ends
from meshnet_control.api import control_pb2 as pb
from meshnet_control.cluster.assignments import Objects
from meshnet_control.cluster.gossip_ring import Ring, ring, want
from meshnet_control.manager.agent_stream import AgentStream
from meshnet_control.manager.ring_keeper import RingKeeper
from meshnet_control.store.sqlite import SqliteStore
from meshnet_control.store.store import Put, Store, StoreError


class Failing:
    """A store that takes nothing the first time."""

    def __init__(self, behind: SqliteStore) -> None:
        self._behind, self.failures = behind, 1

    async def commit(self, writes, expect):
        if self.failures:
            self.failures -= 1
            raise StoreError("no space left")
        return await self._behind.commit(writes, expect)


async def test_it_writes_what_follows_and_goes_on_after_a_failure(tmp_path):
    store = SqliteStore.open(tmp_path / "s", tmp_path / "k")
    cluster, node = pb.Cluster(id="c", gossip_keys=[b"k" * 16]), pb.Node(id="n1")
    node.status.state = "ready"
    want(cluster)
    await store.commit([Put(cluster), Put(node)])
    (stored,) = await store.list(pb.Cluster)
    objects = [Objects(stored, {"n1": node})]
    acknowledged: dict[str, Ring] = {}
    keeper = RingKeeper(lambda: objects[-1], lambda: acknowledged, lambda: 9e8, random.Random(1))
    watch = store.watch(store.revision)
    job = asyncio.create_task(keeper.run(cast("Store", Failing(store))))

    async def follow() -> pb.Cluster:
        (change,) = await anext(watch)
        assert isinstance(change.message, pb.Cluster)
        objects.append(Objects(change.message, {"n1": node}))
        keeper.look()
        return change.message

    try:
        async with asyncio.timeout(20):
            given = await follow()
            assert ring(given)[0] == b"k" * 16
            acknowledged["n1"] = ring(given)
            keeper.look()
            sealing = await follow()
            assert ring(sealing) == ring(given)[::-1]
    finally:
        await ends.ended(job)
        await store.close()


def _message(session: AgentStream, objects: Objects) -> None:
    session.beat = session.look = True
    assert session.due(objects, "n1", lambda _: None) is not None


def test_a_node_has_the_ring_that_it_was_told_last_when_it_acknowledged():
    session, node = AgentStream(), pb.Node(id="n1")
    _message(session, Objects(pb.Cluster(id="c", gossip_keys=[b"1"]), {"n1": node}))
    assert not session.gossip.ring
    assert not session.acknowledged(0, 1.0)
    assert not session.acknowledged(7, 1.0), "of an earlier stream"
    _message(session, Objects(pb.Cluster(id="c", gossip_keys=[b"2", b"1"]), {"n1": node}))
    node = pb.Node(id="n1", ingress_address="10.0.0.2/24")
    _message(session, Objects(pb.Cluster(id="c", gossip_keys=[b"2"]), {"n1": node}))
    assert session.acknowledged(1, 2.0)
    assert list(session.gossip.ring) == [b"1"]
    assert not session.acknowledged(1, 2.0)
    assert session.acknowledged(3, 3.0), "two at once"
    assert list(session.gossip.ring) == [b"2"]
