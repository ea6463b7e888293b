"""One key of gossip takes the place of another: who has which ring, at each moment."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshnet_control.api import control_pb2 as pb
from meshnet_control.cluster import gossip_ring
from meshnet_control.cluster.gossip_ring import HASTE_S, HOLD_S, PATIENCE_S, PERIOD_S, ring, turn

START = 1_800_000_000.0
A = b"a" * 16


def node(name, state="ready"):
    made = pb.Node(id=name)
    made.status.state = state
    return made


@dataclass
class Bed:
    """A store's cluster, nodes, and what these acknowledged."""

    nodes: dict[str, pb.Node] = field(default_factory=lambda: {n: node(n) for n in "xyz"})
    acknowledged: dict[str, gossip_ring.Ring] = field(default_factory=dict)
    now: float = START
    rng: random.Random = field(default_factory=lambda: random.Random(1))
    cluster: pb.Cluster = field(default_factory=lambda: pb.Cluster(id="c", gossip_keys=[A]))

    def __post_init__(self) -> None:
        at = int(START * 1e9)
        self.cluster.gossip_rotation.begun = self.cluster.gossip_rotation.moved = at
        self.hear(*self.nodes)

    def hear(self, *names: str) -> None:
        self.acknowledged |= dict.fromkeys(names, ring(self.cluster))

    def turn(self) -> gossip_ring.Turn:
        return turn(self.cluster, self.nodes.values(), self.acknowledged, self.now, self.rng)

    def moved(self) -> bool:
        after = self.turn().cluster
        if after is not None:
            self.cluster = after
        return after is not None


def rotated(bed: Bed) -> bytes:
    """The key after a whole rotation in which everybody answers."""
    for _ in range(3):
        assert bed.moved()
        bed.hear(*bed.nodes)
        bed.now += HOLD_S
    assert len(ring(bed.cluster)) == 1
    return ring(bed.cluster)[0]


def test_a_key_is_replaced_when_it_is_old_and_not_before():
    bed = Bed()
    bed.now += PERIOD_S - 1
    assert bed.turn() == gossip_ring.Turn(None, START + PERIOD_S)
    bed.now += 1
    new = rotated(bed)
    assert new != A
    assert bed.turn().wake_at == START + 2 * PERIOD_S
    bed.now += PERIOD_S
    assert rotated(bed) not in {A, new}


def test_a_clock_that_went_back_replaces_it_at_once():
    bed = Bed()
    bed.now -= 1
    assert bed.moved()


def test_a_cluster_of_before_counts_from_its_birth():
    bed = Bed()
    bed.cluster.ClearField("gossip_rotation")
    bed.cluster.created_at.FromNanoseconds(int((START - 5) * 1e9))
    assert bed.turn().wake_at == START - 5 + PERIOD_S


def test_each_step_waits_for_every_node_that_is_there():
    bed = Bed()
    gossip_ring.want(bed.cluster)
    assert gossip_ring.is_rotating(bed.cluster)
    assert bed.moved()
    both = ring(bed.cluster)
    assert both[0] == A
    bed.hear("x", "y")
    assert bed.turn().waits_for == ("z",)
    bed.hear("z")
    assert bed.moved()
    assert ring(bed.cluster) == both[::-1]
    bed.now += HOLD_S
    bed.hear("y", "z")
    assert bed.turn().waits_for == ("x",)
    bed.hear("x")
    assert bed.moved()
    assert ring(bed.cluster) == both[1:]
    assert not gossip_ring.is_rotating(bed.cluster)


def test_what_is_on_its_way_is_still_opened():
    bed = Bed()
    gossip_ring.want(bed.cluster)
    for _ in range(2):
        assert bed.moved()
        bed.hear(*bed.nodes)
    assert bed.turn() == gossip_ring.Turn(None, bed.now + HOLD_S)


@pytest.mark.parametrize(
    ("state", "asked", "waited_s"),
    [("down", True, 0.0), ("unknown", True, HASTE_S), ("unknown", False, PATIENCE_S)],
)
def test_a_node_that_cannot_be_talked_to_is_not_waited_for_for_ever(state, asked, waited_s):
    bed = Bed()
    bed.nodes["z"], bed.acknowledged = node("z", state), {}
    if asked:
        gossip_ring.want(bed.cluster)
    else:
        bed.now += PERIOD_S
    assert bed.moved()
    bed.hear("x", "y")
    if waited_s:
        assert bed.turn().wake_at == bed.now + waited_s
        bed.now += waited_s - 1
        assert bed.turn().waits_for == ("z",)
        bed.now += 1
    assert bed.moved()


def test_one_that_is_there_is_waited_for_however_long_it_takes():
    bed = Bed()
    gossip_ring.want(bed.cluster)
    assert bed.moved()
    bed.hear("x", "y")
    bed.now += 10 * PATIENCE_S
    assert bed.turn() == gossip_ring.Turn(None, None, ("z",))


def test_a_key_that_somebody_had_when_it_was_removed_is_replaced_too():
    bed = Bed()
    gossip_ring.want(bed.cluster)
    assert bed.moved()
    bed.hear(*bed.nodes)
    had = set(ring(bed.cluster))
    del bed.nodes["z"]
    gossip_ring.want(bed.cluster)
    for _ in range(5):
        assert bed.moved()
        bed.hear(*bed.nodes)
        bed.now += HOLD_S
    assert len(ring(bed.cluster)) == 1
    assert had.isdisjoint(ring(bed.cluster))


@given(st.data())
def test_whoever_is_there_opens_what_whoever_is_there_seals(data):
    """Nodes hear of rings in any order and late; some go Down, come back, or are removed."""
    bed = Bed(nodes={n: node(n) for n in "uvwxyz"})
    told, stolen = [ring(bed.cluster)], set[bytes]()
    for _ in range(data.draw(st.integers(1, 60))):
        name = data.draw(st.sampled_from(sorted(bed.nodes)))
        match data.draw(st.sampled_from(["hear", "hear", "hear", "time", "want", "down", "gone"])):
            case "hear" if bed.nodes[name].status.state == "ready":
                bed.hear(name)
            case "time":
                bed.now += data.draw(st.sampled_from([0.1, HOLD_S, HASTE_S, PERIOD_S]))
            case "want":
                gossip_ring.want(bed.cluster)
            case "down":
                back = bed.nodes[name].status.state == "down"
                bed.nodes[name].status.state = "ready" if back else "down"
                bed.hear(name) if back else bed.acknowledged.pop(name)
            case "gone" if len(bed.nodes) > 1:
                stolen |= set(ring(bed.cluster))
                del bed.nodes[name]
                bed.acknowledged.pop(name, None)
                gossip_ring.want(bed.cluster)
        bed.moved()
        if told[-1] != ring(bed.cluster):
            told.append(ring(bed.cluster))
        # Each that is there has what it acknowledged, or already what it was told since.
        for sealing in {*bed.acknowledged.values(), told[-1]}:
            for opening in {*bed.acknowledged.values(), told[-1]}:
                assert sealing[0] in opening
    for each in bed.nodes.values():
        each.status.state = "ready"
    for _ in range(8):
        bed.hear(*bed.nodes)
        bed.now += HOLD_S
        bed.moved()
    assert len(ring(bed.cluster)) == 1
    assert stolen.isdisjoint(ring(bed.cluster)), "who was removed opens nothing"
