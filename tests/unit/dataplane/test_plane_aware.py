"""A program begins when those that shall answer it know the way to it, or were given a second."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Interface

from plane_bed import NET, OTHER, Host, cluster, node, serving, turn

from meshnet.errors import KernelError
from meshnet.gossip.members import State
from meshnet.gossip.shares import share_of
from meshnet.model.ids import NetworkId, TaskId
from meshnet.model.snapshot import Endpoint, Sandbox, Snapshot
from meshnet_control.dataplane import aware
from meshnet_control.dataplane.fake import GossipRoom
from meshnet_control.dataplane.feed import KNOWN_S

BROKEN = KernelError("dump", "host", 16)


async def _starting(host: Host, network: NetworkId = NET) -> asyncio.Future[None]:
    starting = asyncio.ensure_future(host.plane.ready(host.task("b", ready=False, network=network)))
    await turn()
    return starting


def test_a_program_waits_for_a_node_that_has_no_way_to_it_yet():
    async def scene(room: GossipRoom, a: Host, b: Host) -> None:
        await serving(a, b)
        b.kernel.unreadable = BROKEN
        starting = await _starting(a)
        await asyncio.sleep(KNOWN_S / 2)
        assert not starting.done()
        b.kernel.unreadable = None
        await asyncio.sleep(KNOWN_S / 4)
        assert starting.done()

    cluster(2, scene)


def test_a_program_waits_for_nobody_longer_than_a_second():
    async def scene(room: GossipRoom, a: Host, b: Host) -> None:
        await serving(a, b)
        b.kernel.unreadable = BROKEN
        starting = await _starting(a)
        await asyncio.sleep(KNOWN_S - 0.01)
        assert not starting.done()
        await asyncio.sleep(0.02)
        assert starting.done()

    cluster(2, scene)


def test_who_shares_no_network_or_is_not_there_is_not_waited_for():
    async def scene(room: GossipRoom, a: Host, b: Host) -> None:
        await serving(a, b)
        b.kernel.unreadable = BROKEN
        assert (await _starting(a, OTHER)).done()
        room.judge(node(1), State.SUSPECT)
        await turn()
        assert (await _starting(a)).done()

    cluster(2, scene)


def test_nobody_is_asked_who_has_nothing_to_answer():
    async def scene(room: GossipRoom, a: Host, b: Host, c: Host) -> None:
        for host in (a, b, c):
            host.start()
        for host in (a, b):
            host.task("a")
        c.task("a", network=OTHER)
        await turn()
        c.kernel.unreadable = BROKEN
        assert (await _starting(a)).done()

    cluster(3, scene)


TASK = TaskId("a")


def _snapshot(address: str = "", *, there: bool = True) -> Snapshot:
    endpoints = {}
    if address:
        endpoints[TASK] = Endpoint(TASK, "a", node(1), None, {NET: IPv4Address(address)})
    at = IPv4Interface("10.0.1.9/24")
    box = Sandbox(TaskId("own"), "/run/own", ((NET, at),), None)
    return Snapshot(1, node(0), endpoints=endpoints, sandboxes={box.task: box} if there else {})


def test_an_arrival_is_acknowledged_when_there_is_a_way_to_it_and_a_departure_at_once():
    here, moved, nobody = _snapshot("10.0.1.5"), _snapshot("10.0.1.6"), _snapshot()
    there = {share_of(node(1), NET)}
    assert aware.not_reached(here, nobody) == there
    assert aware.not_reached(moved, here) == there
    assert aware.not_reached(here, here) == set()
    assert aware.not_reached(nobody, here) == set()
    drains = replace(here.endpoints[TASK], ready=False)
    assert aware.not_reached(replace(here, endpoints={TASK: drains}), here) == set()
    elsewhere = _snapshot("10.0.1.5", there=False)
    assert aware.not_reached(elsewhere, nobody) == set(), "nobody here could speak with it"
