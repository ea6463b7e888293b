"""Hosts with the real DataPlane and fakes that ship around it, in virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from pathlib import Path
from typing import Any

from virtual_time import Inline, VirtualLoop

from meshnet.kernel.host_probe import Ask, HostProbe
from meshnet.model.ids import NetworkId, NodeId, ServiceId, TaskId
from meshnet.model.snapshot import Endpoint, Gwbridge, Sandbox
from meshnet.model.wellknown import GOSSIP_PORT
from meshnet.reconcile import Reconciler
from meshnet_control.api import control_pb2 as pb
from meshnet_control.cluster.node_state import NodeState
from meshnet_control.dataplane.fake import (
    FakeFlows,
    FakeGossip,
    FakeKernel,
    FakeProbe,
    FakeSockets,
    GossipRoom,
)
from meshnet_control.dataplane.feed import DataPlane
from meshnet_control.dataplane.sources import Probe

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
        self.sockets = FakeSockets()
        self.flows = FakeFlows()
        self.lives = 0
        self.clock_s = 0.0

    def start(
        self,
        *,
        adopted: bool = True,
        assigned: bool = True,
        reconcilers: Sequence[Reconciler[Any, Any, Any]] = (),
        ask: Ask | None = None,
    ) -> None:
        """The process starts; with ``ask`` it asks hosts itself, by that."""
        self.lives += 1
        self.reconciler: Reconciler[Any, Any, Any] = Reconciler(
            self.kernel, Inline(), chance=lambda: 1.0
        )
        self.running = asyncio.ensure_future(self.reconciler.run())
        self.snapshots: list[int] = []
        wall = self.clock_s + self.lives

        def probe(news: Callable[[], None]) -> Probe:
            if ask is not None:
                return HostProbe(GOSSIP_PORT, news, ask=ask)
            self.probe = FakeProbe(news)
            return self.probe

        self.plane = DataPlane(
            node(self.number),
            tuple(reconcilers) or (self.reconciler,),
            probe,
            self.sockets,
            self.flows,
            lambda snapshot: self.snapshots.append(snapshot.revision),
            netns_dir=DIR,
            wall=lambda: wall,
        )
        self.gossip: FakeGossip = self._room.enter(node(self.number), self.plane.gossip_changed)
        self.plane.attach(self.gossip, BRIDGE, 1500)
        if assigned:
            self.plane.assignments(NodeState.of(self.told()))
        if adopted:
            self.plane.adopted()

    def told(self) -> pb.Assignments:
        """What the managers say."""
        return assignments(self._nodes)

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


async def serving(*hosts: Host) -> list[TaskId]:
    """Every host runs with one task of the service, and all know of all."""
    for host in hosts:
        host.start()
    tasks = [host.task("a") for host in hosts]
    await turn()
    return tasks


def drain(host: Host, task: TaskId, within_s: float = GRACE_S) -> asyncio.Task[None]:
    endpoint = host.plane.own.endpoints[task]
    host.plane.endpoint(
        task, Endpoint(task, endpoint.name, endpoint.node, SERVICE, endpoint.addresses, ready=False)
    )
    return asyncio.ensure_future(host.plane.drained(task, within_s))
