"""What a large cluster says fits: many nodes, a thousand endpoints, acknowledgements of all."""

from __future__ import annotations

import random
from ipaddress import IPv4Address

import from_scratch
import pytest
from simulated_gossip import Cluster

from meshnet.gossip.acknowledgements import reaches
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

    def follow(self, number: int) -> None:
        """The data plane of a node has applied what gossip told it."""
        records = self.engine(number).records()
        self.engine(number).applied(from_scratch.epochs(records))
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

    Nodes that know of each other's thousand endpoints.
    """
    c = Population(NODES)
    for number in range(NODES):
        for task in range(TASKS):
            c.says(number, *endpoint(number, task))
        c.says(number, EPOCH_KEY, gossip_records.encode_epoch((7, 1)))
    for _ in range(2):  # everybody with the first, which then knows of all, and once more
        for number in range(1, NODES):
            c._exchange(c.address(number), c.address(0))
    assert len({engine._entropy.fingerprint() for engine in c.engines.values()}) == 1
    c.run(1)
    return c


def test_withdrawals_in_a_row_are_acknowledged_by_all_nodes_at_once(formed: Population) -> None:
    """A rolling update: no acknowledgement waits for the turn of a stream, or for another node."""
    c = formed
    streams, before = c.streams, c.bytes
    for changes in (2, 3, 4):
        key, _ = endpoint(0, changes)
        mark = (7, changes)
        c.says(0, key, None)
        c.says(0, EPOCH_KEY, gossip_records.encode_epoch(mark))
        c.engine(0).ask(dict.fromkeys(_IDS[1:], mark), c.now)
        c._settle([c.address(0)])
        waiting = set(range(1, NODES))

        def drained(mark: tuple[int, int] = mark, waiting: set[int] = waiting) -> bool:
            told = c.engine(0).acknowledged
            for number in list(waiting):
                if c.told(number, 0, EPOCH_KEY) == gossip_records.encode_epoch(mark):
                    waiting.discard(number)
                    c.follow(number)
                else:
                    assert not reaches(told.get(_IDS[number]), mark), "before it has applied it"
            return not waiting and all(reaches(told.get(node), mark) for node in _IDS[1:])

        assert c.run(20, until=drained) < 0.5
    assert c.streams - streams < 5, "those of every 15 s, and no other"
    assert c.bytes - before < 3 * NODES * 3_000, "asked and answered once each, besides the record"


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
