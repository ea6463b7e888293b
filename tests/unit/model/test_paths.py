"""What overlays may carry over the ways between their nodes."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network
from itertools import combinations

from hypothesis import given
from hypothesis import strategies as st

from meshnet.model.ids import NetworkId, NodeId, TaskId, Vni
from meshnet.model.paths import largest, members_of, mtu_of, ways_of
from meshnet.model.snapshot import Endpoint, Network, Node, Snapshot

A, B, C = NodeId("a"), NodeId("b"), NodeId("c")
AT = {node: IPv4Address(f"192.0.2.{at}") for at, node in enumerate((A, B, C), 1)}
NET = Network(
    NetworkId("net"), "net", Vni(4097), IPv4Network("10.0.1.0/24"), IPv4Address("10.0.1.1")
)


def node(id_: NodeId, **more: object) -> Node:
    return replace(Node(id_, id_, AT[id_]), **more)  # type: ignore[arg-type]


SIZES = st.sampled_from([1280, 1400, 1500, 9000])


@st.composite
def some_nodes(draw: st.DrawFn) -> list[Node]:
    return [
        node(
            each,
            underlay_mtu=draw(SIZES),
            narrow=tuple(draw(st.dictionaries(st.sampled_from([A, B, C]), SIZES)).items()),
            down=draw(st.booleans()),
        )
        for each in (A, B, C)
    ]


@given(some_nodes(), st.sets(st.sampled_from([A, B, C]), min_size=1), st.none() | SIZES)
def test_no_overlay_carries_more_than_any_way_between_its_nodes_takes(nodes, on, asked):
    members = {AT[each] for each in on}
    mtu = ways_of(nodes).mtu(replace(NET, mtu=asked), lambda: members)
    assert mtu == ways_of(nodes[::-1]).mtu(replace(NET, mtu=asked), lambda: members)
    assert asked is None or mtu <= asked
    here = [each for each in nodes if each.id in on]
    assert all(mtu <= each.underlay_mtu - 50 for each in here)
    for one, other in combinations([each for each in here if not each.down], 2):
        assert mtu <= largest(one, other) - 50


def test_all_nodes_of_an_overlay_come_to_the_same():
    task = TaskId("t")
    snapshot = Snapshot(
        1,
        A,
        {each.id: each for each in (node(A), node(B, narrow=((A, 1400),)), node(C))},
        {NET.id: NET},
        endpoints={
            TaskId(of): Endpoint(task, of, of, None, {NET.id: IPv4Address("10.0.1.9")})
            for of in (A, B)
        },
    )
    assert members_of(snapshot, NET) == {AT[A], AT[B]}
    assert mtu_of(snapshot, NET) == mtu_of(replace(snapshot, self_id=B), NET) == 1350
    ingress = replace(NET, ingress=True)
    gateway = replace(snapshot.nodes[C], ingress_address=IPv4Address("10.0.0.2"))
    assert AT[C] in members_of(replace(snapshot, nodes={**snapshot.nodes, C: gateway}), ingress)


def test_a_narrow_way_concerns_those_that_it_lies_between():
    ways = ways_of([node(A, narrow=((B, 1400),)), node(B), node(C)])
    assert ways.mtu(NET, lambda: {AT[A], AT[B]}) == 1350
    assert ways.mtu(NET, lambda: {AT[A], AT[C]}) == 1450
    assert ways.mtu(NET, lambda: set(AT.values())) == 1350


def test_either_end_says_that_a_way_is_narrow():
    one, other = node(A, narrow=((B, 1400),)), node(B, narrow=((A, 1380), (C, 1000)))
    assert largest(one, other) == largest(other, one) == 1380
    assert ways_of([one, other]).mtu(NET, lambda: {AT[A], AT[B]}) == 1330


def test_nobody_is_asked_where_no_way_is_narrow():
    def members():
        raise AssertionError

    assert ways_of([node(A), node(B, underlay_mtu=1400)]).mtu(NET, members) == 1350
    stale = [node(A, narrow=((B, 1400), (NodeId("gone"), 600))), node(B, underlay_mtu=1400)]
    assert ways_of(stale).mtu(NET, members) == 1350, "no narrower than the interface"


def test_what_nodes_that_are_down_say_or_are_said_of_does_not_count():
    for nodes in (
        [node(A, narrow=((B, 1400),)), node(B, down=True)],
        [node(A, narrow=((B, 1400),), down=True), node(B)],
    ):
        assert ways_of(nodes).mtu(NET, lambda: {AT[A], AT[B]}) == 1450


def test_what_a_user_sets_is_a_bound_of_its_members():
    ways = ways_of([node(A, underlay_mtu=9000), node(B, underlay_mtu=9000), node(C)])
    jumbo = replace(NET, mtu=8950)
    assert ways.mtu(jumbo, lambda: {AT[A], AT[B]}) == 8950
    assert ways.mtu(jumbo, lambda: set(AT.values())) == 1450
    assert ways.mtu(replace(NET, mtu=1300), lambda: {AT[A], AT[B]}) == 1300


def test_a_host_that_joined_anew_has_the_lower_of_its_lives():
    again = replace(node(C, underlay_mtu=1400), vtep=AT[A])
    assert ways_of([again, node(A)]).lowest == ways_of([node(A), again]).lowest == 1400


def test_an_encrypted_overlay_leaves_room_for_esp():
    ways = ways_of([node(A), node(B, narrow=((A, 1400),)), node(C)])
    secret = replace(NET, encrypted=True)
    assert ways.mtu(secret, lambda: {AT[A], AT[C]}) == 1416
    assert ways.mtu(secret, lambda: {AT[A], AT[B]}) == 1316
    assert ways_of([node(A)]).mtu(secret, lambda: {AT[A]}) == 1416
    assert ways_of([node(A)]).mtu(replace(secret, mtu=1400), lambda: {AT[A]}) == 1400
