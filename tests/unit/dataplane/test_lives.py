"""What a node's kernel encrypts by reaches the others, and what managers say of it reaches it."""

from __future__ import annotations

from plane_bed import Host, cluster, node, serving, turn

from meshnet_control.cluster.node_state import NodeState
from meshnet_control.dataplane.fake import GossipRoom

ONE, OTHER = b"1" * 16, b"2" * 16


def test_the_salt_of_a_life_is_told_to_all_and_its_end_too():
    async def scene(_room: GossipRoom, one: Host, other: Host) -> None:
        await serving(one, other)
        for salt in (ONE, OTHER, b""):
            one.plane.own.life(salt)
            await turn()
            for host in (one, other):
                told = {n: each.salt for n, each in host.plane.snapshot.nodes.items()}
                assert told == {node(0): salt, node(1): b""}

    cluster(2, scene)


def test_keys_are_in_the_next_snapshot_also_when_nothing_else_is_new():
    async def scene(_room: GossipRoom, one: Host) -> None:
        await serving(one)
        for keys in ([b"a"], [b"a", b"b"], [b"b"], []):
            said = one.told()
            said.esp_keys.extend(keys)
            one.plane.assignments(NodeState.of(said))
            await turn()
            assert list(one.plane.snapshot.esp_keys) == keys
            assert "esp_keys" not in repr(one.plane.snapshot)

    cluster(1, scene)
