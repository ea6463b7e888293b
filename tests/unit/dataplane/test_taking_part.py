"""On which networks a node is; what it says, waits for and asks about on each."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Interface

import pytest
from plane_bed import (
    NET,
    OTHER,
    SERVICE,
    Host,
    assignments,
    cluster,
    drain,
    node,
    serving,
    turn,
)

from meshnet.errors import KernelError
from meshnet.gossip.audiences import EVERY, takes_part_key
from meshnet.gossip.members import State
from meshnet.model.ids import NetworkId, NodeId, TaskId
from meshnet.model.snapshot import Endpoint, Sandbox
from meshnet_control.api import control_pb2 as pb
from meshnet_control.cluster import gossip_records
from meshnet_control.cluster.gossip_records import epoch_key
from meshnet_control.cluster.node_state import NodeState
from meshnet_control.dataplane import taking_part
from meshnet_control.dataplane.fake import GossipRoom
from meshnet_control.dataplane.taking_part import heard_all, networks_of

TASK = TaskId("t1")
AT = {NET: IPv4Address("10.0.1.5"), OTHER: IPv4Address("10.0.2.5")}
BOTH = Endpoint(
    TASK, "web.1", node(0), SERVICE, AT, aliases={NET: ("a",), OTHER: ("b",)}, ready=True, made=7
)


def only(network: str, nodes: int) -> pb.Assignments:
    said = assignments(nodes)
    keep = [each for each in said.networks if each.id == network]
    del said.networks[:]
    said.networks.extend(keep)
    return said


def test_a_node_is_on_the_networks_of_what_runs_and_stops_here_and_a_manager_hears_of_all():
    told = assignments(2)
    mesh = told.networks.add(id="mesh")
    mesh.spec.ingress = True
    all_are = taking_part.everywhere(NodeState.of(told))
    assert all_are == {"mesh"}
    assert networks_of(NodeState.of(told), node(0), (), all_are) == {NET, OTHER}
    stops = Sandbox(TASK, "/run/a", ((NetworkId("old"), IPv4Interface("10.9.0.2/24")),), None)
    assert networks_of(NodeState.of(told), node(0), [stops], all_are) == {NET, OTHER, "old"}
    assert networks_of(None, node(0), [stops], all_are) == {"old"}
    told.nodes[0].role = "manager"
    assert networks_of(NodeState.of(told), node(0), (), all_are) == {NET, OTHER, EVERY}
    assert networks_of(NodeState.of(told), node(1), (), all_are) == {NET, OTHER}


def test_who_has_not_found_its_tasks_or_is_gone_is_not_waited_for():
    members = {NodeId("a"), NodeId("b")}
    assert heard_all("n", set(), set(), {})
    assert heard_all("n", members, set(), {}), "both are starting"
    assert not heard_all("n", members, set(), {"a": (1, 1)})
    assert not heard_all("n", members, set(), {"a": (1, 1), "a m": (1, 1)}), "on another one"
    assert heard_all("n", members, {NodeId("a")}, {"a": (1, 1)})
    assert heard_all("n", members, set(), {"a": (1, 1), "a n": (1, 1)})


def test_an_endpoint_is_told_on_each_network_what_it_is_there():
    told = gossip_records.endpoint_records(BOTH, frozenset())
    assert set(told) == {f"{NET} ep/t1", f"{OTHER} ep/t1"}
    records = {(node(0), key): value for key, value in told.items()}
    assert gossip_records.decode_endpoints(records) == {TASK: BOTH}
    (key,) = (key for key in told if key.startswith(NET))
    seen = gossip_records.decode_endpoints({(node(0), key): told[key]})[TASK]
    assert seen == replace(BOTH, addresses={NET: AT[NET]}, aliases={NET: ("a",)})
    mixed = gossip_records.endpoint_records(BOTH, {OTHER})
    assert set(mixed) == {f"{NET} ep/t1", "ep/t1"}, "where all are, it is told to all"
    nowhere = replace(BOTH, addresses={}, aliases={})
    assert set(gossip_records.endpoint_records(nowhere, set())) == {"ep/t1"}


def test_what_is_withdrawn_anywhere_is_not_ready_and_nobody_speaks_for_another_network():
    here, there = (replace(BOTH, addresses={net: AT[net]}, aliases={}) for net in (NET, OTHER))
    said: dict[str, Endpoint] = {NET: replace(here, ready=False), OTHER: there}
    assert not gossip_records.whole(said).ready
    assert gossip_records.whole({NET: BOTH}).addresses == {NET: AT[NET]}
    assert gossip_records.whole({"": BOTH}) == BOTH


def test_what_is_on_the_ingress_network_is_told_to_all_also_before_the_managers_are_heard():
    async def scene(room: GossipRoom, a: Host) -> None:
        a.start(adopted=False, assigned=False)
        where = tuple((net, IPv4Interface(f"{at}/24")) for net, at in AT.items())
        a.plane.sandbox_added(Sandbox(TASK, "/run/a", where, None, mesh=frozenset({OTHER})))
        a.plane.endpoint(TASK, BOTH)
        a.plane.adopted()
        assert {key for _, key in room.records} >= {f"{NET} ep/t1", "ep/t1", "in/net1", "epoch"}
        assert not any(OTHER in key for _, key in room.records)
        assert a.gossip.writes[-1] == "epoch", "what goes to all last: by then the rest is said"

    cluster(1, scene)


def test_a_change_on_one_network_is_none_on_another():
    async def scene(room: GossipRoom, a: Host) -> None:
        a.start()
        a.task("a")
        a.task("b", network=OTHER)
        before = {k: room.records[node(0), epoch_key(k)] for k in ("", NET, OTHER)}
        a.gossip.writes.clear()
        a.task("a", ready=False)
        assert a.gossip.writes == [f"{NET} ep/a0".ljust(len(NET) + 29, "0"), epoch_key(NET)]
        assert before[OTHER] == room.records[node(0), epoch_key(OTHER)]
        assert before[NET] != room.records[node(0), epoch_key(NET)]

    cluster(1, scene)


@pytest.mark.parametrize("answers", [True, False])
def test_a_task_waits_until_everybody_was_heard_on_its_network(answers):
    async def scene(room: GossipRoom, a: Host, b: Host) -> None:
        b.start()
        there = b.task("a")
        said = room.records.pop((node(1), epoch_key(NET)))
        record = room.records.pop((node(1), gossip_records.endpoint_key(there, NET)))
        a.start()
        waiting = asyncio.ensure_future(a.plane.ready(a.task("a")))
        other = a.task("b", network=OTHER)
        await a.plane.ready(other)
        await asyncio.sleep(taking_part.PATIENCE_S / 2)
        assert not waiting.done()
        if answers:
            room.records[node(1), gossip_records.endpoint_key(there, NET)] = record
            room.records[node(1), epoch_key(NET)] = said
            room.tell()
            await turn()
            assert waiting.done()
            assert len(a.leads_to("a")) == 2, "it chooses from all"
        else:
            await asyncio.sleep(taking_part.PATIENCE_S)
            assert waiting.done(), "somebody who says nothing holds up nobody for ever"

    cluster(2, scene)


def test_who_is_gone_is_not_waited_for():
    async def scene(room: GossipRoom, a: Host, b: Host) -> None:
        b.start()
        del room.records[node(1), epoch_key(NET)]
        room.judge(node(1), State.LEFT)
        a.start()
        waiting = asyncio.ensure_future(a.plane.ready(a.task("a")))
        await turn()
        assert waiting.done()

    cluster(2, scene)


def test_a_withdrawal_is_asked_of_those_alone_who_hear_of_it():
    async def scene(_: GossipRoom, a: Host, b: Host, c: Host) -> None:
        tasks = await serving(a, b, c)
        c.plane.sandbox_removed(tasks[2])
        c.plane.assignments(NodeState.of(only(OTHER, 3)))
        await turn()
        for host in (b, c):
            host.kernel.unreadable = KernelError("dump", "host", 16)
        draining = drain(a, tasks[0], 30.0)
        await turn()
        assert a.gossip.asked == {node(1)}
        b.kernel.unreadable = None
        await asyncio.sleep(7)
        assert draining.done()
        c.kernel.unreadable = None

    cluster(3, scene)


def test_what_a_node_last_said_on_a_network_goes_with_the_network():
    async def scene(room: GossipRoom, a: Host, b: Host) -> None:
        await serving(a, b)
        assert len(a.plane.snapshot.endpoints) == 2
        task = next(iter(a.plane.snapshot.sandboxes))
        a.plane.endpoint(task, None)
        a.plane.sandbox_removed(task)
        a.plane.assignments(NodeState.of(only(OTHER, 2)))
        told = [place for place in room.records if place[1].startswith(f"{NET} ")]
        for place in told:  # as a node that does not hear of it sees them
            del room.records[place]
        room.tell()
        await turn()
        assert a.plane.snapshot.endpoints == {}
        assert (node(1), takes_part_key(NET)) in room.records, "the other one is on it still"

    cluster(2, scene)


def test_what_is_heard_of_first_has_not_happened_now():
    async def scene(room: GossipRoom, a: Host, b: Host) -> None:
        b.start()
        b.task("a")
        a.start()
        await turn()
        assert a.plane.is_unknown(NET), "what this Snapshot has was there before it"
        b.task("b")
        await turn()
        assert not a.plane.is_unknown(NET)
        assert a.plane.is_unknown("elsewhere")

    cluster(2, scene)
