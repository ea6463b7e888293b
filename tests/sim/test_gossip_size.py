"""What a large cluster says fits: many nodes, a thousand endpoints, acknowledgements of all."""

from __future__ import annotations

import random
from ipaddress import IPv4Address

import msgpack
import pytest
from simulated_gossip import Cluster

from meshnet.model.ids import NetworkId, NodeId, ServiceId, TaskId, new_id
from meshnet.model.snapshot import Endpoint
from meshnet_control.cluster import gossip_records
from meshnet_control.cluster.gossip_records import EPOCH_KEY

NODES = 40
TASKS = 25
_IDS = [NodeId(new_id(random.Random(number))) for number in range(NODES)]


class Population(Cluster):
    """Nodes with ids as the managers give them, which say what data planes say."""

    @staticmethod
    def id_of(number: int) -> NodeId:
        return _IDS[number]

    def says(self, number: int, key: str, value: bytes | None) -> None:
        self.engine(number).set_record(key, value, self.now)

    def acknowledge(self, number: int, epochs: dict[NodeId, int]) -> None:
        for key, value in gossip_records.encode_applied(epochs).items():
            self.says(number, key, value)
        self._settle([self.address(number)])

    def told(self, by: int, of: int, key: str) -> bytes | None:
        return self.engine(by)._entropy.table.value(self.id_of(of), key)


def endpoint(number: int, task: int) -> tuple[str, bytes]:
    id_ = TaskId(new_id(random.Random(number * 1000 + task)))
    net = NetworkId(new_id(random.Random(1)))
    at = IPv4Address("10.0.0.0") + number * 256 + task
    said = Endpoint(
        id_,
        f"some-service.{task}.{id_}",
        _IDS[number],
        ServiceId(new_id(random.Random(2))),
        {net: at},
        container="c" * 64,
        hostname="h" * 12,
        aliases={net: ("some-service",)},
    )
    return gossip_records.endpoint_key(id_), gossip_records.encode_endpoint(said)


@pytest.fixture(scope="module")
def formed() -> Population:
    """Name: formed. Scope: module. Depends: nothing.

    Nodes that know of each other's thousand endpoints and acknowledged them.
    """
    c = Population(NODES)
    first = dict.fromkeys(_IDS, 1)
    for number in range(NODES):
        for task in range(TASKS):
            c.says(number, *endpoint(number, task))
        c.says(number, EPOCH_KEY, msgpack.packb(1))
        c.acknowledge(number, first)
    for _ in range(2):  # everybody with the first, which then knows of all, and once more
        for number in range(1, NODES):
            c._exchange(c.address(number), c.address(0))
    assert len({engine._entropy.fingerprint() for engine in c.engines.values()}) == 1
    c.run(1)
    return c


def test_withdrawals_in_a_row_are_acknowledged_by_all_nodes_at_once(formed: Population) -> None:
    """A rolling update: no acknowledgement waits for the turn of a stream."""
    c = formed
    mine, streams = gossip_records.applied_key(_IDS[0]), c.streams
    for epoch in (2, 3, 4):
        key, _ = endpoint(0, epoch)
        c.says(0, key, None)
        c.says(0, EPOCH_KEY, msgpack.packb(epoch))
        c._settle([c.address(0)])
        waiting, unaware = set(range(1, NODES)), set(range(1, NODES))

        def drained(
            epoch: int = epoch, waiting: set[int] = waiting, unaware: set[int] = unaware
        ) -> bool:
            for number in list(waiting):
                if c.told(number, 0, EPOCH_KEY) == msgpack.packb(epoch):
                    waiting.discard(number)
                    c.acknowledge(number, dict.fromkeys(_IDS, 1) | {_IDS[0]: epoch})
            for number in list(unaware):
                said = gossip_records.decode_applied(c.told(0, number, mine) or b"") or {}
                if said.get(_IDS[0]) == epoch:
                    unaware.discard(number)
            return not unaware

        assert c.run(20, until=drained) < 0.5
    assert c.streams - streams < 5, "those of every 15 s, and no other"
    assert c.longest <= c.config.packet_bytes


def test_what_is_too_large_for_a_datagram_holds_up_nobody_else(formed: Population) -> None:
    c = formed
    c.says(1, "ep/large", b"x" * 20_000)
    c.run(0.5)
    c.says(1, "ep/behind", b"x")
    c.says(2, "ep/other", b"x")
    c._settle([c.address(1), c.address(2)])

    def seen(of: int, key: str) -> bool:
        return all(c.told(number, of, key) for number in range(NODES))

    assert c.run(5, until=lambda: seen(2, "ep/other")) < 0.5
    assert c.run(60, until=lambda: seen(1, "ep/behind") and seen(1, "ep/large")) < 15
