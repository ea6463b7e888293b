"""What gossip says of the members: their hosts, and news for a person."""

from __future__ import annotations

from ipaddress import IPv4Address

import pytest

from meshnet.gossip.members import Member, State
from meshnet.model.ids import NodeId
from meshnet_control.api import control_pb2 as pb
from meshnet_control.node import peers

NAMES = {"two": "h2"}


def members(state: State, incarnation: int = 1, own: int = 1) -> dict[NodeId, Member]:
    two = Member(NodeId("two"), ("192.0.2.2", 7946), incarnation, state, 0.0)
    one = Member(NodeId("one"), ("192.0.2.1", 7946), own, State.ALIVE, 0.0)
    return {two.id: two, one.id: one}


def told(*course: dict[NodeId, Member]) -> list[list[str]]:
    found: list[list[str]] = []
    before: peers.Heard = {}
    for now in course:
        after = peers.heard(before, now)
        found.append(peers.news(before, after, "one", NAMES))
        before = after
    return found


def test_who_is_there_from_the_beginning_is_no_news():
    assert told(members(State.ALIVE), members(State.ALIVE, 2)) == [[], []]


def test_a_host_goes_and_comes_back():
    course = [members(state) for state in (State.ALIVE, State.DEAD, State.DEAD, State.ALIVE)]
    assert told(*course) == [[], ["h2 gave no sign of life"], [], ["h2 is back"]]


def test_a_suspicion_alone_is_no_news():
    course = [members(state) for state in (State.ALIVE, State.SUSPECT, State.ALIVE)]
    assert told(*course) == [[], [], []]
    course = [members(state) for state in (State.DEAD, State.SUSPECT, State.ALIVE)]
    assert told(*course) == [[], [], ["h2 is back"]]


def test_a_node_that_has_to_say_that_it_lives_was_not_heard():
    course = [members(State.ALIVE, own=own) for own in (3, 3, 5)]
    assert told(*course) == [[], [], [peers.UNHEARD]]


def test_a_host_without_a_name_is_called_by_its_id():
    one = peers.heard({}, members(State.ALIVE))
    two = peers.heard(one, members(State.LEFT))
    assert peers.news(one, two, "one", {}) == ["two has left"]


TWO = NodeId("two")


@pytest.mark.parametrize("state", [State.DEAD, State.RESTARTING])
def test_a_host_whose_daemon_is_missed_is_gone_once_it_does_not_answer(state: State):
    def known(answering: dict[NodeId, bool]) -> tuple[bool, bool]:
        found = peers.hosts({TWO: state}, answering, {})
        return TWO in found.gone, TWO in found.there

    assert known({}) == (False, False)
    assert known({TWO: True}) == (False, True)
    assert known({TWO: False}) == (True, False)


def test_a_node_that_has_left_is_gone_though_its_host_answers():
    found = peers.hosts({TWO: State.LEFT}, {TWO: True}, {})
    assert (found.gone, found.there) == ({TWO}, set())


def test_a_suspected_host_is_not_gone_though_it_does_not_answer():
    found = peers.hosts({TWO: State.SUSPECT}, {TWO: False}, {TWO: frozenset({NodeId("one")})})
    assert (found.gone, found.there, found.unreached) == (set(), set(), {TWO: {"one"}})


def test_other_nodes_that_are_not_alive_are_to_be_asked():
    nodes = [pb.NodeView(id=name, addr=f"192.0.2.{n}") for n, name in enumerate("abcd")]
    nodes.append(pb.NodeView(id="e"))
    states = {NodeId("a"): State.ALIVE, NodeId("b"): State.SUSPECT}
    asked = peers.doubtful(nodes, states, "d")
    assert asked == {NodeId("b"): IPv4Address("192.0.2.1"), NodeId("c"): IPv4Address("192.0.2.2")}
