"""The key of gossip is rotated while nodes gossip: what managers decide, on the virtual clock."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from simulated_gossip import KEY, Cluster

from meshnet.gossip.members import State
from meshnet.gossip.wire import WRONG_KEY
from meshnet_control.api import control_pb2 as pb
from meshnet_control.cluster import gossip_ring
from meshnet_control.cluster.gossip_ring import Ring, ring

_STEP_S = 0.02


@dataclass
class Managers:
    """Tell each node the ring, some time later, and hear its word, some time later again."""

    c: Cluster
    stored: pb.Cluster = field(default_factory=lambda: pb.Cluster(id="c", gossip_keys=[KEY]))
    away: set[int] = field(default_factory=set)
    """Nodes whose session is broken, each still Unknown."""
    draw: random.Random = field(default_factory=lambda: random.Random(5))
    nodes: dict[int, pb.Node] = field(default_factory=dict)
    acknowledged: dict[str, Ring] = field(default_factory=dict)
    told: dict[int, list[tuple[float, Ring]]] = field(default_factory=dict)
    """Rings on their way to a node."""
    heard: dict[int, list[tuple[float, Ring]]] = field(default_factory=dict)
    """Words on their way back."""
    rings: int = 1

    def __post_init__(self) -> None:
        self.stored.gossip_rotation.begun = 1
        for number in range(len(self.c.engines)):
            self.nodes[number] = pb.Node(id=self.c.id_of(number))
            self.nodes[number].status.state = "ready"
            self.heard[number], self.told[number] = [], []
            self.acknowledged[self.c.id_of(number)] = (KEY,)

    def run(self, seconds: float) -> None:
        end = self.c.now + seconds
        while self.c.now < end:
            self.c.run(_STEP_S)
            for number in self.nodes:
                self._talk(number)
            after = gossip_ring.turn(
                self.stored, self.nodes.values(), self.acknowledged, self.c.now, self.draw
            ).cluster
            if after is not None:
                self.stored, self.rings = after, self.rings + 1
                self.tell(*self.nodes)

    def tell(self, *numbers: int) -> None:
        for number in numbers:
            due = self.c.now + self.draw.random() * 0.5
            self.told[number].append((due, ring(self.stored)))

    def remove(self, number: int) -> None:
        del self.nodes[number]
        del self.acknowledged[self.c.id_of(number)]
        gossip_ring.want(self.stored)

    def _talk(self, number: int) -> None:
        if number in self.away:
            self.told[number].clear()
            return
        while self.told[number] and self.told[number][0][0] <= self.c.now:
            _, keys = self.told[number].pop(0)
            self.c.engine(number).set_keys(keys)
            self.heard[number].append((self.c.now + self.draw.random() * 0.5, keys))
        while self.heard[number] and self.heard[number][0][0] <= self.c.now:
            _, self.acknowledged[self.c.id_of(number)] = self.heard[number].pop(0)


def _formed(size: int) -> Managers:
    c = Cluster(size)
    c.run(10, until=c.agree)
    return Managers(c)


def test_no_packet_is_lost_to_a_rotation() -> None:
    managers = _formed(20)
    c = managers.c
    begun = c.now
    for _ in range(3):
        gossip_ring.want(managers.stored)
        for number in range(20):
            c.engine(number).set_record("new", str(c.now).encode(), c.now)
            managers.run(0.5)
    assert managers.rings == 1 + 3 * 3
    assert managers.stored.gossip_keys != [KEY]
    assert sum(e.dropped[WRONG_KEY] for e in c.engines.values()) == 0
    assert c.refused == 0
    assert c.verdicts(State.SUSPECT, begun) == []
    assert c.agree()


def test_one_that_was_away_for_a_rotation_is_back_with_its_next_session() -> None:
    managers = _formed(6)
    c = managers.c
    managers.away.add(5)
    managers.nodes[5].status.state = "unknown"
    del managers.acknowledged[c.id_of(5)]
    gossip_ring.want(managers.stored)
    managers.run(gossip_ring.HASTE_S - 1)
    assert ring(managers.stored)[0] == KEY, "it is waited for: it gossips"
    assert c.agree()
    managers.run(2 * gossip_ring.HASTE_S + gossip_ring.HOLD_S + 3)
    assert len(ring(managers.stored)) == 1
    assert not c.agree()
    managers.away.clear()
    managers.tell(5)
    managers.run(5)
    assert c.agree()


def test_who_is_removed_understands_nothing_more_and_nobody_understands_it() -> None:
    managers = _formed(6)
    c = managers.c
    managers.remove(5)  # it is told nothing, and goes on
    managers.run(gossip_ring.HOLD_S + 4)
    assert len(ring(managers.stored)) == 1
    c.engine(0).set_record("new", b"secret", c.now)
    c.engine(5).set_record("ep/1", b"false", c.now)
    managers.run(5)
    assert c.engine(5).dropped[WRONG_KEY] > 0
    assert (c.id_of(0), "new") not in c.engine(5).records()
    for number in range(5):
        assert (c.id_of(5), "ep/1") not in c.engine(number).records()
        assert (c.id_of(0), "new") in c.engine(number).records()
