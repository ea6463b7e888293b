"""DataPlane: what becomes of its inputs, who waits for what, and how it ends; in virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from pathlib import Path
from typing import Any

import msgpack
import pytest
from virtual_time import Inline, VirtualLoop

from meshnet.errors import KernelError
from meshnet.gossip.engine import UNREACHED_KEY
from meshnet.gossip.members import State
from meshnet.model.ids import NetworkId, NodeId, ServiceId, TaskId
from meshnet.model.snapshot import Endpoint, Gwbridge, Sandbox
from meshnet.overlay.desired import netns_name
from meshnet.reconcile import Reconciler
from meshnet_control.api import control_pb2 as pb
from meshnet_control.cluster.gossip_records import is_applied_key
from meshnet_control.dataplane.fake import FakeGossip, FakeKernel, FakeProbe, GossipRoom
from meshnet_control.dataplane.feed import DataPlane
from meshnet_control.dataplane.liveness import PATIENCE_S

NET, OTHER = NetworkId("net1"), NetworkId("net2")
SERVICE = ServiceId("svc1")
BRIDGE = Gwbridge("docker_gwbridge", IPv4Network("172.18.0.0/16"), IPv4Address("172.18.0.1"))
DIR = Path("/run/netns")
GRACE_S = 10.0


def node(number: int) -> NodeId:
    return NodeId(f"n{number}")


def assignments(nodes: int) -> pb.Assignments:
    said = pb.Assignments()
    for key, third in ((NET, 1), (OTHER, 2)):
        network = said.networks.add(id=key, vni=4096 + third)
        network.spec.name = key
        network.ipam_options.configs.add(subnet=f"10.0.{third}.0/24", gateway=f"10.0.{third}.1")
    service = said.services.add(id=SERVICE, name="web", endpoint_mode="vip")
    service.virtual_ips.add(network_id=NET, addr="10.0.1.2/24")
    for number in range(nodes):
        said.nodes.add(id=node(number), hostname=f"h{number}", addr=f"192.0.2.{number + 1}")
    return said


class Host:
    """One node: its process may end and start again, its kernel stays."""

    def __init__(self, room: GossipRoom, number: int, nodes: int) -> None:
        self.number, self._room, self._nodes = number, room, nodes
        self.kernel = FakeKernel()
        self.lives = 0

    def start(self, *, adopted: bool = True) -> None:
        self.lives += 1
        self.reconciler: Reconciler[Any, Any, Any] = Reconciler(self.kernel, Inline())
        self.running = asyncio.ensure_future(self.reconciler.run())
        self.snapshots: list[int] = []
        wall = float(self.lives)

        def probe(news: Callable[[], None]) -> FakeProbe:
            self.probe = FakeProbe(news)
            return self.probe

        self.plane = DataPlane(
            node(self.number),
            (self.reconciler,),
            probe,
            lambda snapshot: self.snapshots.append(snapshot.revision),
            netns_dir=DIR,
            wall=lambda: wall,
        )
        self.gossip: FakeGossip = self._room.enter(node(self.number), self.plane.gossip_changed)
        self.plane.attach(self.gossip, BRIDGE, 1500)
        self.plane.assignments(assignments(self._nodes))
        if adopted:
            self.plane.adopted()

    async def end(self) -> None:
        """The process is killed, or told to stop."""
        self._room.listeners.pop(node(self.number), None)
        self.running.cancel()
        await asyncio.gather(self.running, return_exceptions=True)
        await self.plane.close()

    def task(self, label: str, *, ready: bool = True, network: NetworkId = NET) -> TaskId:
        """A task of the service here: a sandbox and an endpoint."""
        third = 1 if network == NET else 2
        at = IPv4Address(f"10.0.{third}.{10 + self.number * 20 + ord(label) - ord('a')}")
        task = TaskId(f"{label}{self.number}".ljust(25, "0"))
        where = ((network, IPv4Interface(f"{at}/24")),)
        self.plane.sandbox_added(Sandbox(task, self.netns(label), where, None))
        self.plane.endpoint(
            task,
            Endpoint(task, f"web.{task}", node(self.number), SERVICE, {network: at}, ready=ready),
        )
        return task

    def netns(self, label: str) -> str:
        return f"/run/docker/netns/{label}{self.number}"

    def leads_to(self, label: str) -> set[str]:
        """Addresses of the service that a container here is led to."""
        return {led.split()[1] for led in self.kernel.world.get(self.netns(label), frozenset())}


async def turn(times: int = 20) -> None:
    """Everything that can happen now does."""
    for _ in range(times):
        await asyncio.sleep(0)


def cluster(nodes: int, scene: Callable[..., Coroutine[Any, Any, None]]) -> float:
    """Play a scene with the hosts of a cluster; how long it took, in virtual seconds."""
    loop = VirtualLoop()

    async def whole() -> None:
        room = GossipRoom()
        hosts = [Host(room, number, nodes) for number in range(nodes)]
        try:
            await scene(room, *hosts)
        finally:
            for host in hosts:
                if host.lives:
                    await host.end()

    try:
        loop.run_until_complete(whole())
        return loop.now
    finally:
        loop.close()


# ---- what a daemon that starts leaves alone ----


def test_complete_when_own_containers_are_found_and_all_others_spoke():
    async def scene(_: GossipRoom, a: Host, b: Host) -> None:
        a.start(adopted=False)
        b.start(adopted=False)
        await turn()
        assert not a.plane.snapshot.complete
        a.plane.adopted()
        await turn()
        assert not a.plane.snapshot.complete, "the other has not spoken"
        b.plane.adopted()
        await turn()
        assert a.plane.snapshot.complete
        assert b.plane.snapshot.complete

    assert cluster(2, scene) == 0


def test_complete_without_a_host_that_is_silent_and_not_without_one_that_answers():
    async def scene(room: GossipRoom, a: Host, *_: Host) -> None:
        room.enter(node(1))
        room.judge(node(1), State.DEAD)
        a.start()
        await turn()
        assert a.probe.asked == {node(1), node(2)}, "one is dead, of one nobody heard"
        a.probe.answer(node(1), answering=False)
        await turn()
        assert not a.plane.snapshot.complete
        a.probe.answer(node(2), answering=True)
        await turn()
        assert not a.plane.snapshot.complete
        a.probe.answer(node(2), answering=False)
        await turn()
        assert a.plane.snapshot.complete

    assert cluster(3, scene) == 0


def test_patience_with_a_daemon_that_does_not_start_ends_and_complete_stays():
    async def scene(room: GossipRoom, a: Host, b: Host) -> None:
        a.start()
        b.start(adopted=False)
        await asyncio.sleep(PATIENCE_S - 0.1)
        assert not a.plane.snapshot.complete
        await asyncio.sleep(0.2)
        assert a.plane.snapshot.complete
        room.enter(node(1), b.plane.gossip_changed)
        await turn()
        assert a.plane.snapshot.complete

    cluster(2, scene)


def test_alone_nobody_is_waited_for():
    async def scene(_: GossipRoom, a: Host) -> None:
        a.start()
        await turn()
        assert a.plane.snapshot.complete

    assert cluster(1, scene) == 0


def test_a_restart_leaves_the_kernel_as_it_is_until_it_knows_as_much_as_before():
    async def scene(_: GossipRoom, a: Host, b: Host) -> None:
        a.start()
        b.start()
        a.task("a")
        b.task("a")
        await turn()
        before = a.leads_to("a")
        assert len(before) == 2
        await a.end()
        await b.end()
        a.start(adopted=False)
        b.start(adopted=False)
        a.task("a")
        a.plane.adopted()
        await turn()
        assert a.leads_to("a") == before
        b.task("a")
        b.plane.adopted()
        await turn()
        assert a.leads_to("a") == before
        assert a.plane.snapshot.complete

    cluster(2, scene)


def test_a_daemon_speaks_for_its_node_when_it_has_found_all_its_tasks():
    async def scene(_: GossipRoom, a: Host, b: Host) -> None:
        a.start()
        b.start()
        a.task("a")
        b.task("a")
        b.task("b")
        await turn()
        before = a.leads_to("a")
        assert len(before) == 3
        await b.end()
        b.start(adopted=False)
        b.task("a")
        await turn()
        assert a.leads_to("a") == before, "the second is not found yet"
        b.plane.adopted()
        await turn()
        assert len(a.leads_to("a")) == 2

    cluster(2, scene)


def test_a_task_whose_address_was_given_to_another_since_is_not_chosen_and_says_so(caplog):
    async def scene(_: GossipRoom, a: Host, b: Host) -> None:
        a.start()
        b.start()
        mine = a.task("a")
        at = a.plane.snapshot.endpoints.get(mine) or a.plane._endpoints[mine]
        b.task("a")
        other = TaskId("later".ljust(25, "0"))
        b.plane.endpoint(other, replace(at, task=other, node=node(1), made=5))
        await turn()
        for host in (a, b):
            assert host.plane.snapshot.endpoints[mine].addresses == {}
            assert host.plane.snapshot.endpoints[other].addresses == at.addresses
        assert len(a.leads_to("a")) == 2, "the one that has it now, and the third"
        assert "is not this task's any more" in a.plane.trouble(mine)
        assert caplog.text.count("is not this task's any more") == 1
        b.plane.endpoint(other, None)
        await turn()
        assert a.plane.snapshot.endpoints[mine].addresses == at.addresses
        assert a.plane.trouble(mine) == ""

    cluster(2, scene)


# ---- a silent daemon is not a dead host ----


def test_what_runs_beside_a_dead_daemon_is_chosen_while_its_host_answers():
    async def scene(room: GossipRoom, a: Host, b: Host) -> None:
        a.start()
        b.start()
        a.task("a")
        b.task("a")
        await turn()
        both = a.leads_to("a")
        rows = a.plane.snapshot.remote_macs(NET)
        assert (len(both), len(rows)) == (2, 1)
        await b.end()
        room.judge(node(1), State.SUSPECT)
        await turn()
        assert a.probe.asked == {node(1)}, "asked as soon as it is doubtful"
        a.probe.answer(node(1), answering=True)
        room.judge(node(1), State.DEAD)
        await turn()
        assert a.leads_to("a") == both
        a.probe.answer(node(1), answering=False)
        await turn()
        assert len(a.leads_to("a")) == 1
        assert a.plane.snapshot.remote_macs(NET) == rows, "reachable for as long as it is known"
        b.start(adopted=False)
        await turn()
        assert a.probe.asked == set()
        assert a.leads_to("a") == both, "what it said before holds until it has found its tasks"
        b.plane.adopted()
        await turn()
        assert len(a.leads_to("a")) == 1, "they were gone"
        assert a.plane.snapshot.remote_macs(NET) == {}

    cluster(2, scene)


def test_a_daemon_that_starts_beside_a_dead_one_keeps_the_way_to_what_runs_there():
    async def scene(room: GossipRoom, a: Host, b: Host) -> None:
        a.start()
        b.start()
        a.task("a")
        b.task("a")
        await turn()
        both, rows = a.leads_to("a"), a.plane.snapshot.remote_macs(NET)
        await b.end()
        room.judge(node(1), State.DEAD)
        await a.end()
        a.start(adopted=False)
        a.task("a")
        a.plane.adopted()
        a.probe.answer(node(1), answering=True)
        await asyncio.sleep(2 * PATIENCE_S)
        assert a.plane.snapshot.complete
        assert a.leads_to("a") == both
        assert a.plane.snapshot.remote_macs(NET) == rows
        a.probe.answer(node(1), answering=False)
        await turn()
        assert len(a.leads_to("a")) == 1
        assert a.plane.snapshot.remote_macs(NET) == rows

    cluster(2, scene)


def test_what_is_beyond_a_cut_is_reachable_and_not_chosen_from_here():
    async def scene(room: GossipRoom, a: Host, b: Host) -> None:
        a.start()
        b.start()
        task = a.task("a")
        b.task("a")
        await turn()
        rows = a.plane.snapshot.remote_macs(NET)
        room.members[node(1)] = replace(room.members[node(1)], direct=False)
        room.tell()
        await turn()
        assert len(a.leads_to("a")) == 1
        assert a.plane.snapshot.remote_macs(NET) == rows
        b.kernel.unreadable = KernelError("dump", "host", 16)
        draining = drain(a, task)
        await asyncio.sleep(1)
        assert not draining.done(), "it may send, and says so through others"
        b.kernel.unreadable = None
        await draining
        room.members[node(1)] = replace(room.members[node(1)], direct=True)
        b.gossip.set_record(UNREACHED_KEY, msgpack.packb([node(0)]))
        a.task("a")
        await turn()
        assert len(a.leads_to("a")) == 1, "it does not reach us"
        b.gossip.set_record(UNREACHED_KEY, None)
        await turn()
        assert len(a.leads_to("a")) == 2

    cluster(2, scene)


def test_a_daemon_that_restarts_costs_its_host_nothing_unless_the_host_goes():
    async def scene(room: GossipRoom, a: Host, b: Host) -> None:
        a.start()
        b.start()
        a.task("a")
        b.task("a")
        await turn()
        await b.end()
        room.judge(node(1), State.RESTARTING)
        await turn()
        assert len(a.leads_to("a")) == 2
        assert a.probe.asked == {node(1)}
        a.probe.answer(node(1), answering=False)
        await turn()
        assert len(a.leads_to("a")) == 1

    cluster(2, scene)


def test_a_node_that_left_is_not_chosen_and_not_asked():
    async def scene(room: GossipRoom, a: Host, b: Host) -> None:
        a.start()
        b.start()
        a.task("a")
        b.task("a")
        await turn()
        room.judge(node(1), State.LEFT)
        await turn()
        assert len(a.leads_to("a")) == 1
        assert a.probe.asked == set()

    cluster(2, scene)


def test_a_node_that_the_managers_remove_takes_its_rows_with_it():
    async def scene(room: GossipRoom, a: Host, b: Host) -> None:
        a.start()
        b.start()
        a.task("a")
        b.task("a")
        await turn()
        room.judge(node(1), State.DEAD)
        await turn()
        assert a.plane.snapshot.remote_macs(NET)
        a.plane.assignments(assignments(1))
        await turn()
        assert not a.plane.snapshot.remote_macs(NET)
        assert a.probe.asked == set()

    cluster(2, scene)


def test_a_node_that_the_managers_call_down_stays_reachable_and_is_not_chosen_or_waited_for():
    async def scene(room: GossipRoom, a: Host, b: Host) -> None:
        a.start()
        b.start()
        task = a.task("a")
        b.task("a")
        await turn()
        rows = a.plane.snapshot.remote_macs(NET)
        said = assignments(2)
        said.nodes[1].down = True
        await b.end()
        room.judge(node(1), State.DEAD)
        a.plane.assignments(said)
        await turn()
        assert len(a.leads_to("a")) == 1
        assert a.plane.snapshot.remote_macs(NET) == rows
        assert a.probe.asked == set()
        await drain(a, task)

    cluster(2, scene)


# ---- draining ----


def drain(host: Host, task: TaskId, within_s: float = GRACE_S) -> asyncio.Task[None]:
    endpoint = host.plane._endpoints[task]
    host.plane.endpoint(
        task, Endpoint(task, endpoint.name, endpoint.node, SERVICE, endpoint.addresses, ready=False)
    )
    return asyncio.ensure_future(host.plane.drained(task, within_s))


def test_drained_when_every_kernel_has_let_go():
    async def scene(_: GossipRoom, a: Host, b: Host) -> None:
        a.start()
        b.start()
        task = a.task("a")
        b.task("a")
        await turn()
        b.kernel.unreadable = KernelError("dump", "host", 16)
        draining = drain(a, task)
        await asyncio.sleep(5)
        assert len(b.leads_to("a")) == 2
        assert not draining.done(), "told by gossip, not yet in the kernel"
        b.kernel.unreadable = None
        await asyncio.sleep(4)
        assert len(b.leads_to("a")) == 1
        assert draining.done()

    cluster(2, scene)


def test_a_round_that_is_not_complete_acknowledges_nothing():
    async def scene(_: GossipRoom, a: Host, b: Host, c: Host) -> None:
        a.start()
        b.start()
        c.start(adopted=False)
        task = a.task("a")
        await turn()
        assert not b.plane.snapshot.complete
        draining = drain(a, task)
        await turn()
        assert not any(map(is_applied_key, b.gossip.writes))
        assert not draining.done()
        c.plane.adopted()
        await turn()
        assert draining.done()

    cluster(3, scene)


@pytest.mark.parametrize("within_s", [0.5, 30.0])
def test_the_wait_ends_with_the_time_that_the_task_has(within_s):
    async def scene(_: GossipRoom, a: Host, b: Host) -> None:
        a.start()
        b.start()
        task = a.task("a")
        await turn()
        b.kernel.unreadable = KernelError("dump", "host", 16)
        await drain(a, task, within_s)

    assert cluster(2, scene) == pytest.approx(within_s)


def test_only_hosts_that_are_there_are_waited_for():
    async def scene(room: GossipRoom, a: Host, b: Host) -> None:
        a.start()
        b.start()
        task = a.task("a")
        await turn()
        await b.end()
        room.judge(node(1), State.DEAD)
        await turn()
        a.probe.answer(node(1), answering=True)
        draining = drain(a, task)
        await asyncio.sleep(5)
        assert not draining.done(), "its kernel may still send"
        a.probe.answer(node(1), answering=False)
        await turn()
        assert draining.done()

    assert cluster(2, scene) == pytest.approx(5)


def test_what_was_acknowledged_to_an_earlier_process_is_no_answer():
    async def scene(_: GossipRoom, a: Host, b: Host) -> None:
        a.start()
        b.start()
        for ready in (True, False) * 5:
            a.task("a", ready=ready)
        await turn()
        await a.end()
        b.kernel.unreadable = KernelError("dump", "host", 16)
        a.start(adopted=False)
        task = a.task("a")
        a.plane.adopted()
        await turn()
        draining = drain(a, task)
        await asyncio.sleep(5)
        assert not draining.done()
        b.kernel.unreadable = None
        await draining

    cluster(2, scene)


def test_what_fails_elsewhere_holds_no_acknowledgement():
    async def scene(_: GossipRoom, a: Host, b: Host) -> None:
        a.start()
        b.start()
        task = a.task("a")
        b.kernel.broken = {(b.netns("x"), "")}
        b.task("a")
        b.task("x", network=OTHER)
        await turn()
        assert b.reconciler.failures
        draining = drain(a, task)
        await turn()
        assert draining.done(), "no container there can choose it"
        again = a.task("b")
        await turn()
        b.kernel.broken = {(b.netns("a"), "")}
        draining = drain(a, again)
        await asyncio.sleep(1)
        assert not draining.done(), "one that can could not be changed"
        b.kernel.broken = set()
        await draining

    cluster(2, scene)


def test_events_while_rounds_fail_pile_nothing_up():
    async def scene(_: GossipRoom, a: Host, b: Host) -> None:
        a.start()
        b.start()
        await turn()
        a.kernel.unreadable = KernelError("dump", "host", 16)
        a.task("a")
        await turn()
        before = len(asyncio.all_tasks())
        for each in range(500):
            b.task("a", ready=bool(each % 2))
            await turn(3)
        assert len(asyncio.all_tasks()) <= before
        a.kernel.unreadable = None

    cluster(2, scene)


# ---- ready ----


def test_ready_when_the_kernel_holds_what_the_task_needs():
    async def scene(_: GossipRoom, a: Host) -> None:
        a.start()
        await turn()
        waiting = asyncio.ensure_future(a.plane.ready(TaskId("a0".ljust(25, "0"))))
        await turn()
        assert not waiting.done(), "there is no such sandbox yet"
        a.kernel.unreadable = KernelError("dump", "host", 16)
        task = a.task("a")
        await turn()
        assert not waiting.done()
        assert a.plane.trouble(task) == "dump host: Device or resource busy"
        a.kernel.unreadable = None
        await waiting
        assert a.kernel.world.keys() == {None, a.netns("a")}
        assert a.plane.trouble(task) == ""

    cluster(1, scene)


def test_one_broken_namespace_keeps_only_its_own_task_waiting_and_says_why():
    async def scene(_: GossipRoom, a: Host) -> None:
        a.start()
        a.kernel.broken = {(a.netns("a"), "eth0"), (None, "mn-ingress")}
        broken, whole = a.task("a"), a.task("b")
        waiting = asyncio.ensure_future(a.plane.ready(broken))
        async with asyncio.timeout(60):
            await a.plane.ready(whole)
        assert a.plane.trouble(whole) == ""
        assert a.plane.trouble(broken) == f"change {a.netns('a')}: Input/output error"
        await asyncio.sleep(5)
        assert not waiting.done()
        a.kernel.broken = set()
        await waiting

    cluster(1, scene)


def test_a_task_waits_for_its_networks_and_not_for_other_tasks_on_them():
    async def scene(_: GossipRoom, a: Host) -> None:
        overlay = str(DIR / netns_name(NET))
        a.start()
        task, other = a.task("a"), a.task("b", network=OTHER)
        a.kernel.world[overlay] = frozenset()  # a leftover, which cannot be removed
        a.kernel.broken = {(overlay, "vx0")}
        await turn()
        assert not a.plane._is_ready(task)
        assert a.plane._is_ready(other)
        a.kernel.broken = {(overlay, "vstranger")}
        await asyncio.sleep(1)
        assert a.plane._is_ready(task)

    cluster(1, scene)


def test_a_container_that_came_back_elsewhere_is_not_ready_yet():
    async def scene(_: GossipRoom, a: Host) -> None:
        a.start()
        task = a.task("a")
        await a.plane.ready(task)
        moved = Sandbox(task, "/run/docker/netns/new", a.plane._sandboxes[task].networks, None)
        a.plane.sandbox_added(moved)
        assert not a.plane._is_ready(task)
        await a.plane.ready(task)
        assert moved.netns in a.kernel.world

    cluster(1, scene)


# ---- the end ----


def test_empty_removes_everything_and_nothing_comes_after():
    async def scene(_: GossipRoom, a: Host, b: Host) -> None:
        a.start()
        b.start()
        a.task("a")
        await turn()
        assert a.kernel.world
        revision = a.plane.snapshot.revision
        a.plane.assignments(assignments(2))  # a rebuild is on its way
        emptied = asyncio.ensure_future(a.plane.empty())
        await turn()
        b.task("a")
        a.task("b")
        a.plane.adopted()
        await emptied
        await turn()
        assert a.kernel.world == {None: frozenset()}
        assert a.plane.snapshot.revision == revision + 1
        assert a.plane.snapshot.networks == {}
        assert "ep/" + "b0".ljust(25, "0") not in a.gossip.writes

    cluster(2, scene)


def test_no_snapshot_after_close():
    async def scene(_: GossipRoom, a: Host) -> None:
        a.start()
        a.task("a")
        await turn()
        world, snapshots = dict(a.kernel.world), list(a.snapshots)
        a.plane.assignments(assignments(1))
        await a.plane.close()
        a.task("b")
        a.plane.gossip_changed()
        await asyncio.sleep(PATIENCE_S + 1)
        assert (a.kernel.world, a.snapshots) == (world, snapshots)
        assert a.probe.closed

    cluster(1, scene)
