"""Who asks for another key of gossip, and that no user's version moves by it."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator

import pytest

from meshnet.errors import ControlError
from meshnet_control.api import control_pb2 as pb
from meshnet_control.cluster import gossip_ring
from meshnet_control.controlapi.access import Access
from meshnet_control.controlapi.networks import Networks
from meshnet_control.controlapi.nodes import Nodes
from meshnet_control.controlapi.swarm import Swarm
from meshnet_control.store.sqlite import SqliteStore
from meshnet_control.store.store import Put


@pytest.fixture
async def access(tmp_path) -> AsyncIterator[Access]:
    store = SqliteStore.open(tmp_path / "s", tmp_path / "k")
    node = pb.Node(id="n1")
    node.status.state = "down"
    await store.commit([Put(pb.Cluster(id="c", gossip_keys=[b"k" * 16])), Put(node)])
    yield Access(store, random.Random(1), lambda: 0.0)
    await store.close()


async def test_a_removed_node_takes_the_key_with_it(access):
    before = await Swarm(access).inspect()
    await Nodes(access).remove("n1", force=False)
    assert await access.all(pb.Node) == []
    after = await Swarm(access).inspect()
    assert gossip_ring.is_rotating(after)
    assert after.version.asked == before.version.asked, "docker swarm update goes on"
    assert after.gossip_keys == before.gossip_keys, "who leads makes the new one"


async def test_a_key_can_be_asked_for(access):
    before = await Swarm(access).inspect()
    await Swarm(access).rotate_gossip_key()
    after = await Swarm(access).inspect()
    assert gossip_ring.is_rotating(after)
    assert after.version.asked == before.version.asked


async def test_the_first_encrypted_network_brings_keys_and_no_other_network_does(access):
    def asked(name: str, options: dict[str, str]) -> pb.NetworkCreateRequest:
        return pb.NetworkCreateRequest(name=name, driver="overlay", options=options)

    networks = Networks(access)
    before = await Swarm(access).inspect()
    await networks.create(asked("plain", {"encrypted": "false"}), ())
    assert not (await Swarm(access).inspect()).esp_keys
    await networks.create(asked("secret", {"encrypted": ""}), ())
    after = await Swarm(access).inspect()
    assert [len(key) for key in after.esp_keys] == [16]
    assert after.version.asked == before.version.asked, "docker swarm update goes on"
    await networks.create(asked("more", {"encrypted": "true"}), ())
    assert (await Swarm(access).inspect()).esp_keys == after.esp_keys
    await Nodes(access).remove("n1", force=False)
    assert gossip_ring.is_rotating(await Swarm(access).inspect(), gossip_ring.OVERLAYS)


async def test_the_ingress_network_is_encrypted_when_every_node_can_alone(access):
    asked = pb.NetworkCreateRequest(
        name="mesh", driver="overlay", ingress=True, options={"encrypted": ""}
    )
    able, old = pb.Node(id="n2"), pb.Node(id="n3")
    able.description.esp, able.status.state, old.status.state = True, "ready", "ready"
    old.description.hostname = "h3"
    await access.store.commit([Put(able), Put(old)])
    with pytest.raises(ControlError, match="too old: h3"):
        await Networks(access).create(asked, ())
    old.description.esp = True
    await access.store.commit([Put(old)])
    await Networks(access).create(asked, ())
