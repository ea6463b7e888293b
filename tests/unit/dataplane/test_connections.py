"""Who is connected to a task of a node, and whether others serve in its place."""

from __future__ import annotations

from ipaddress import IPv4Interface, IPv6Interface

import pytest
from plane_bed import OTHER, Host, cluster, drain, serving, turn

from meshnet.errors import KernelError
from meshnet.model.ids import NetworkId, TaskId
from meshnet.model.snapshot import Sandbox
from meshnet.nft.flows import Flow
from meshnet_control.dataplane.connections import open_to
from meshnet_control.dataplane.fake import GossipRoom

OWN, CLIENT, ELSEWHERE = "10.0.1.10", "192.0.2.99", "10.0.1.30"


def flow(protocol="tcp", source=CLIENT, backend=OWN, **more):
    return Flow(protocol, source, backend, 80, backend, source, **more)


def test_those_by_ipv6_count_too():
    net = NetworkId("net")
    first, second = IPv4Interface("10.0.1.10/24"), IPv6Interface("fd00::10/64")
    box = Sandbox(TaskId("t"), "/n", ((net, first),), None, networks6=((net, second),))
    there = [
        flow(source="fd00::9", backend="fd00::10"),
        flow(source="fd00::10", backend="fd00::10"),
    ]
    assert open_to(box, [*there, flow()]) == 2


@pytest.mark.parametrize(
    ("there", "expected"),
    [
        ([], 0),
        ([flow(), flow(source_port=2), flow(source=ELSEWHERE)], 3),
        ([flow("udp"), flow("other")], 0),
        ([flow(unanswered=True), flow(ended=True)], 0),
        ([flow(source=OWN, backend=ELSEWHERE)], 0),  # its own, to another
        ([flow(source=OWN, backend=OWN)], 0),  # to itself
        ([flow(source="127.0.0.1", backend="127.0.0.1")], 0),  # a health check
    ],
)
def test_what_others_have_open_counts(there, expected):
    async def scene(_: GossipRoom, a: Host) -> None:
        (task,) = await serving(a)
        a.flows.there[a.netns("a")] = there
        a.flows.there[a.netns("b")] = [flow()]
        assert await a.plane.connections(task) == expected

    cluster(1, scene)


def test_nobody_is_connected_to_what_is_not_here():
    async def scene(_: GossipRoom, a: Host) -> None:
        a.start()
        a.flows.unreadable = KernelError("list", "conntrack", 1)
        assert await a.plane.connections(TaskId("x" * 25)) == 0
        with pytest.raises(KernelError):
            await a.plane.connections(a.task("a"))

    cluster(1, scene)


def test_others_serve_while_one_is_ready_on_a_node_that_lives():
    async def scene(_: GossipRoom, a: Host, b: Host) -> None:
        here, there = await serving(a, b)
        assert a.plane.others_serve(here)
        assert b.plane.others_serve(there)
        await drain(a, here)
        await turn()
        assert a.plane.others_serve(here)
        assert not b.plane.others_serve(there)
        await drain(b, there)
        await turn()
        assert not a.plane.others_serve(here)

    cluster(2, scene)


def test_one_alone_has_nobody_who_serves_for_it():
    async def scene(_: GossipRoom, a: Host) -> None:
        (task,) = await serving(a)
        assert not a.plane.others_serve(task)
        assert not a.plane.others_serve(TaskId("x" * 25))
        a.task("b", network=OTHER)
        await turn()
        assert a.plane.others_serve(task)

    cluster(1, scene)
