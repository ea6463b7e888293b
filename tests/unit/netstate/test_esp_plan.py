"""What is encrypted, whatever others do to it: no association of a life is made a second time."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address
from zlib import crc32

from hypothesis import given
from hypothesis import strategies as st

from meshnet.netstate import esp_plan
from meshnet.netstate.esp import (
    AddAssociation,
    AddPolicy,
    Association,
    BeginLife,
    DelAssociation,
    DelPolicy,
    EndLife,
    Esp,
    EspChange,
    EspState,
    Life,
    Policy,
    Remember,
    digest,
)

SELF = IPv4Address("192.0.2.1")
PEERS = [IPv4Address(f"192.0.2.{n}") for n in (2, 3)]
OTHER = Policy("out", SELF, 9999)


@dataclass
class Kernel:
    """XFRM in memory; ``made`` is every association that was ever there."""

    state: EspState = field(default_factory=EspState)
    made: list[Association] = field(default_factory=list)
    lives: int = 0

    def apply(self, changes: list[EspChange]) -> None:
        for change in changes:
            there = self.state
            match change:
                case AddPolicy(policy):
                    self.state = replace(there, policies=there.policies | {policy})
                case DelPolicy(policy):
                    self.state = replace(there, policies=there.policies - {policy})
                case AddAssociation(each):
                    assert there.policies, "nothing is before the policies"
                    self.made.append(each)
                    self.state = replace(there, associations=there.associations | {each})
                case DelAssociation(each):
                    self.state = replace(there, associations=there.associations - {each})
                case BeginLife():
                    self.lives += 1
                    salt = self.lives.to_bytes(16, "big")
                    self.state = replace(there, life=Life(salt, digest(there.associations)))
                case Remember(life):
                    self.state = replace(there, life=life)
                case EndLife():
                    self.state = replace(there, life=None)


def wanted(kernel: Kernel, peers: dict[IPv4Address, int], ring: int) -> Esp:
    """Of nodes that tell a life (0: none yet), as what is derived of both lives and the ring."""
    salt = kernel.state.life.salt if kernel.state.life is not None else b""
    found = frozenset(
        Association(*ends, spi=crc32(repr((salt, theirs, ring, ends)).encode()), key=b"k")
        for peer, theirs in peers.items()
        if theirs and salt
        for ends in ((SELF, peer), (peer, SELF))
    )
    nodes = frozenset({SELF, *peers})
    return Esp(SELF, 4790, salt, found, nodes, frozenset({"/run/netns/mn-a"}))


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("lives"), st.integers(0, 1), st.integers(0, 3)),
        st.tuples(st.just("gone"), st.integers(0, 1), st.just(0)),
        st.tuples(st.just("ring"), st.integers(0, 9), st.just(0)),
        st.tuples(st.just("taken"), st.integers(0, 5), st.just(0)),
        st.tuples(
            st.sampled_from(["flushed", "policies", "nothing", "restart"]), st.just(0), st.just(0)
        ),
    ),
    max_size=14,
)


@given(STEPS)
def test_whatever_happens_it_settles_and_nothing_is_made_twice(steps):
    kernel, peers, ring, told = Kernel(), dict.fromkeys(PEERS, 1), 0, 10
    for kind, at, more in [*steps, ("nothing", 0, 0)]:
        desired: Esp | None = None
        prune = True
        match kind:
            case "lives":
                told += 1  # a node never tells a life again
                peers[PEERS[at]] = told if more else 0
            case "gone":
                peers.pop(PEERS[at], None)
                told += 1
            case "ring":
                ring += 1
            case "taken":
                there = sorted(kernel.state.associations)
                lost = frozenset(there[at : at + 1])
                kernel.state = replace(kernel.state, associations=kernel.state.associations - lost)
            case "flushed":
                kernel.state = replace(kernel.state, associations=frozenset(), life=None)
            case "policies":
                kernel.state = replace(kernel.state, policies=frozenset())
            case "restart":
                prune = False
        if kind == "nothing" and told % 2:
            kernel.apply(esp_plan.plan(None, kernel.state, prune=True))
            assert kernel.state == EspState()
        for _ in range(3):
            desired = wanted(kernel, peers, ring)
            kernel.apply(esp_plan.plan(desired, kernel.state, prune=prune))
        assert desired is not None
        assert esp_plan.plan(desired, kernel.state, prune=prune) == []
        assert desired.associations <= kernel.state.associations
        assert kernel.state.policies >= esp_plan.policies(desired)
    assert len(set(kernel.made)) == len(kernel.made)


def test_a_node_that_has_not_told_its_life_keeps_what_there_is_with_it():
    kernel, peers = Kernel(), dict.fromkeys(PEERS, 1)
    for _ in range(2):
        kernel.apply(esp_plan.plan(wanted(kernel, peers, 0), kernel.state, prune=True))
    there = kernel.state
    assert len(there.associations) == 4
    assert esp_plan.plan(wanted(kernel, {PEERS[0]: 1, PEERS[1]: 0}, 0), there, prune=True) == []
    gone = esp_plan.plan(wanted(kernel, {PEERS[0]: 1}, 0), there, prune=True)
    assert [type(each) for each in gone] == [DelAssociation, DelAssociation, Remember]
    assert esp_plan.plan(wanted(kernel, {PEERS[0]: 1}, 0), there, prune=False) == []


def test_the_next_one_is_there_before_the_last_one_goes():
    kernel, peers = Kernel(), {PEERS[0]: 1}
    for _ in range(2):
        kernel.apply(esp_plan.plan(wanted(kernel, peers, 0), kernel.state, prune=True))
    changes = esp_plan.plan(wanted(kernel, peers, 1), kernel.state, prune=True)
    kinds = [type(each) for each in changes]
    assert kinds == [AddAssociation] * 2 + [DelAssociation] * 2 + [Remember]


def test_nothing_of_a_life_goes_while_it_is_not_known_what_should_be():
    kernel = Kernel()
    kernel.apply(esp_plan.plan(wanted(kernel, {}, 0), kernel.state, prune=False))
    assert esp_plan.plan(None, kernel.state, prune=False) == []
    kinds = [type(each) for each in esp_plan.plan(None, kernel.state, prune=True)]
    assert kinds == [EndLife, DelPolicy, DelPolicy], "policies go last"


def test_a_key_is_in_no_text():
    secret = b"0123456789abcdefghij"
    each = Association(SELF, PEERS[0], 300, secret, 4790)
    assert "0123" not in repr(AddAssociation(each)) + str(each)
