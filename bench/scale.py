"""What a change costs a node in clusters of 1, 3 and 10 times a thousand services.

A thousand services of ten tasks each on a hundred nodes and 20 networks, three times and ten times
as many of all; every tenth service is published. The node runs a hundred tasks, on 20 networks. The
objects are those of meshnetd, without a kernel under them: records to Snapshot, Snapshot to the
plans of overlay, gwbridge, lb and names, each of which is told that its plan was carried out. Costs
are processor time, the median of ``CHANGES``; the exponent says how they grow with the cluster.

The transactions of nftables are real, in a namespace of their own.
"""

from __future__ import annotations

import asyncio
import gc
import math
import random
import resource
import statistics
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from pathlib import Path

from bench.bed import Bed
from bench.rounds import Goal, Line
from meshnet.gwbridge.operations import GwbridgeOperations
from meshnet.kernel.nft import Namespace, NftOperations
from meshnet.model.ids import MacAddress, NetworkId, NodeId, ServiceId, TaskId, Vni
from meshnet.model.snapshot import Endpoint, Gwbridge, Network, Sandbox, Service, Snapshot
from meshnet.netstate import netns_plan
from meshnet.netstate.objects import Link
from meshnet.netstate.values import Desired, NetnsSpec, NetnsState, Observed
from meshnet.nft.ruleset_plan import Made
from meshnet.overlay.desired import Overlays
from meshnet.process.notify import Notifier
from meshnet_control.api import control_pb2 as pb
from meshnet_control.cluster import gossip_records
from meshnet_control.cluster.node_state import NodeState
from meshnet_control.dataplane import snapshot
from meshnet_control.dataplane.fake import FakeFlows, FakeProbe, FakeSockets, GossipRoom
from meshnet_control.dataplane.feed import DataPlane
from meshnet_dns import operations as names
from meshnet_dns import redirect
from meshnet_dns.held import HeldSockets
from meshnet_dns.loop import Loop
from meshnet_dns.resolver import STATE, Resolver
from meshnet_lb.rules import Rules

SIZES = (1, 3, 10)
NODES, SERVICES, TASKS, NETWORKS, HERE = 100, 1_000, 10, 20, 100
CHANGES = 25
INGRESS = NetworkId("ingress".ljust(25, "0"))
DIR = Path("/run/netns")


def measure() -> list[Line]:
    costs = {size: _costs(size) for size in SIZES}
    lines = []
    for what, goal in (
        ("one endpoint is ready or not: record to the plans of all", 10.0),
        ("one endpoint comes or goes: record to the plans of all", 10.0),
        ("one endpoint of a published service: record to the plans of all", 10.0),
        ("the event loop is blocked by a change, 99 of 100", 20.0),
        ("a change until the resolver answers it", 50.0),
    ):
        by_size = [costs[size][what] for size in SIZES]
        told = ", ".join(
            f"{cost:.2g} at {size}x" for size, cost in zip(SIZES, by_size, strict=True)
        )
        note = f"{told}; exponent {_exponent(by_size):.2f}"
        ours = [costs[SIZES[-1]][what]]
        lines.append(Line(f"node: {what}", _at_most(goal), ours, unit="ms", note=note))
    for services, goal in ((1_000, 1.0), (10_000, 20.0)):
        kernel, whole = _transaction_ms(services)
        what = f"node: one of {services} services of 10 in a container's namespace"
        note = f"with libnftables {statistics.median(whole):.3g} ms"
        lines.append(Line(what, _at_most(goal), [statistics.median(kernel)], unit="ms", note=note))
    return lines


def _at_most(value: float) -> Goal:
    return Goal(value, at_least=False, unit="ms")


def _exponent(costs: list[float]) -> float:
    return math.log(costs[-1] / costs[0]) / math.log(SIZES[-1] / SIZES[0])


# ---- a cluster ----


class Cluster:
    """What the managers and the nodes say."""

    def __init__(self, size: int) -> None:
        self.nodes = [NodeId(f"node{i:021}") for i in range(NODES * size)]
        self.networks = [NetworkId(f"net{i:022}") for i in range(NETWORKS * size)]
        self.assignments = pb.Assignments()
        for at, node in enumerate(self.nodes):
            self.assignments.nodes.add(
                id=node,
                hostname=f"h{at}",
                addr=f"192.168.{at // 250}.{at % 250 + 1}",
                ingress_address=f"10.255.{at // 250}.{at % 250 + 1}/16",
            )
        for at, net in enumerate([INGRESS, *self.networks]):
            made = self.assignments.networks.add(id=net, vni=4096 + at)
            made.spec.name, made.spec.ingress = net[:12], net == INGRESS
            made.ipam_options.configs.add(subnet=self._subnet(net))
        self.endpoints: dict[TaskId, Endpoint] = {}
        for at in range(SERVICES * size):
            self._add_service(at)
        self.records = {
            (each.node, gossip_records.endpoint_key(each.task)): gossip_records.encode_endpoint(
                each
            )
            for each in self.endpoints.values()
        }
        self.records |= {(n, gossip_records.EPOCH_KEY): b"\x92\1\1" for n in self.nodes}
        mine = [self.endpoints[task] for task in self._mine()]
        self.sandboxes = {each.task: self._sandbox(at, each) for at, each in enumerate(mine)}

    def _subnet(self, net: NetworkId) -> str:
        at = -1 if net == INGRESS else self.networks.index(net)
        return "10.254.0.0/15" if at < 0 else f"10.{at}.0.0/16"

    def _add_service(self, at: int) -> None:
        net = self.networks[at % len(self.networks)]
        first = IPv4Network(self._subnet(net)).network_address
        number = at // len(self.networks)
        service = self.assignments.services.add(
            id=f"svc{at:022}", name=f"service{at}", endpoint_mode="vip"
        )
        service.virtual_ips.add(network_id=net, addr=f"{first + 2 + number * 16}/16")
        service.networks.add(target=net)
        mesh = at % 10 == 0
        if mesh:
            vip = IPv4Address("10.254.1.0") + at
            service.virtual_ips.add(network_id=INGRESS, addr=f"{vip}/15")
            service.ports.add(target_port=80, published_port=10_000 + at)
        for task in range(TASKS):
            id_ = TaskId(f"t{at}x{task}".ljust(25, "0"))
            addresses = {net: first + 3 + number * 16 + task}
            if mesh:
                addresses[INGRESS] = IPv4Address("10.254.64.0") + at * TASKS + task
            self.endpoints[id_] = Endpoint(
                id_,
                f"service{at}.{task + 1}.{id_}",
                self.nodes[(at * TASKS + task) % len(self.nodes)],
                ServiceId(service.id),
                addresses,
                container=f"{at * TASKS + task:064x}",
                hostname=f"host{at}x{task}",
            )

    def _mine(self) -> list[TaskId]:
        """The node's: five tasks on each of 20 networks."""
        at = [n + len(self.networks) * t for t in range(HERE // NETWORKS) for n in range(NETWORKS)]
        found = [TaskId(f"t{each}x0".ljust(25, "0")) for each in at]
        for task in found:
            self.endpoints[task] = replace(self.endpoints[task], node=self.nodes[0])
        return found

    def _sandbox(self, at: int, endpoint: Endpoint) -> Sandbox:
        nets = sorted(endpoint.addresses)
        where = tuple((net, IPv4Interface(f"{endpoint.addresses[net]}/16")) for net in nets)
        own = IPv4Interface(f"172.18.1.{at + 1}/16")
        return Sandbox(endpoint.task, f"/run/docker/netns/{at}", where, own)

    def others(self, *, published: bool) -> list[Endpoint]:
        """Endpoints on other nodes and on networks of this one."""
        here = {net for box in self.sandboxes.values() for net, _ in box.networks} - {INGRESS}
        every = [e for e in self.endpoints.values() if e.task not in self.sandboxes]
        return [
            e
            for e in random.Random(1).sample(every, len(every))
            if (INGRESS in e.addresses) == published and not here.isdisjoint(e.addresses)
        ]


# ---- what a node makes of it ----


class Node:
    """The objects of meshnetd, each told that what it planned was done."""

    def __init__(self, cluster: Cluster, run_dir: Path) -> None:
        self._cluster = cluster
        self.room = GossipRoom()
        self.plane = DataPlane(cluster.nodes[0], (), FakeProbe, FakeSockets(), FakeFlows())
        gossip = self.room.enter(cluster.nodes[0])
        self.room.records |= cluster.records
        bridge = Gwbridge(
            "docker_gwbridge", IPv4Network("172.18.0.0/16"), IPv4Address("172.18.0.1")
        )
        self.plane.attach(gossip, bridge, 1500)
        self.plane.assignments(NodeState.of(cluster.assignments))
        for box in cluster.sandboxes.values():
            self.plane.sandbox_added(box)
        self.plane.adopted()
        self._overlays = Overlays(DIR)
        self._gwbridge = GwbridgeOperations()
        self._nft = NftOperations([Rules().rulesets, redirect.rulesets])
        self._names = names.Desires()
        self._resolver = Resolver(Loop(), run_dir / STATE, HeldSockets(Notifier(), {}))
        self._tables: dict[str | None, Namespace] = {}
        self._made: dict[str | None, object] = {}
        self._realised = Desired({})

    def say(self, endpoint: Endpoint | None, was: Endpoint) -> None:
        """Gossip brings a record."""
        place = (was.node, gossip_records.endpoint_key(was.task))
        value = gossip_records.encode_endpoint(endpoint) if endpoint is not None else None
        self.plane.gossip_changed({place: value}, members=False)

    def plan(self, before: Snapshot, now: Snapshot) -> None:
        """Plans of all reconcilers, carried out."""
        snapshot.only_withdraws(before, now)
        self._plan_overlay(now)
        self._gwbridge.desired(now)
        desired = self._nft.desired(now)
        stale = {p: t for p, t in desired.items() if self._made.get(p) is not t}
        observed = {p: self._tables.get(p, Namespace((0, 0), {})) for p in stale}
        for change in self._nft.plan(stale, observed, prune=True):
            had = observed[change.netns]
            results = {each.table: each.result for each in change.tables if each.result}
            rulesets = {(each.family, each.name): each for each in desired[change.netns]}
            made = {key: Made(rulesets[key], result) for key, result in results.items()}
            self._tables[change.netns] = replace(
                had,
                tables={**had.tables, **results},
                known=change.known,
                made={**had.made, **made},
            )
        self._made |= stale

    def _plan_overlay(self, now: Snapshot) -> None:
        wanted = self._overlays.of(now)
        if wanted is not self._realised:
            had = self._realised.specs
            looked = {p for p, spec in wanted.specs.items() if had.get(p) is not spec}
            states = {p: _state(had[p]) for p in looked if p in had}
            if states:
                netns_plan.plan(wanted, Observed(states, looked=frozenset(states)), prune=True)
            self._realised = wanted

    def name(self, now: Snapshot) -> None:
        """The resolver is told what it should know of names."""
        said = self._resolver.status()
        told = names.Observed(said["zones"], said["sandboxes"])
        for change in names.plan(self._names.of(now), told, prune=True):
            if change.op.endswith("zone"):
                self._resolver.handle(change.message())

    def close(self) -> None:
        self._gwbridge.close()
        self._nft.close()


def _state(spec: NetnsSpec) -> NetnsState:
    """A namespace that is as wanted."""
    mac = MacAddress("02:42:00:00:00:01")
    links = {n: Link(1, n, "bridge", up=True, mtu=mtu, mac=mac) for n, mtu in spec.bridges.items()}
    links |= {
        n: Link(2, n, "vxlan", up=True, mtu=v.mtu, mac=mac, master=1, vxlan=v.vxlan)
        for n, v in spec.vxlans.items()
    }
    return NetnsState(
        links,
        {n: v.master for n, v in spec.vxlans.items()},
        spec.addresses,
        spec.neighbours,
        spec.fdb,
        sysctls=spec.sysctls,
    )


# ---- measurements ----


def _costs(size: int) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as run_dir:
        return asyncio.run(_costs_of(Cluster(size), Path(run_dir)))


async def _costs_of(cluster: Cluster, run_dir: Path) -> dict[str, float]:
    node = Node(cluster, run_dir)
    try:
        return await _measured(cluster, node)
    finally:
        node.close()
        await node.plane.close()


async def _measured(cluster: Cluster, node: Node) -> dict[str, float]:
    await _turn()
    first = node.plane.snapshot
    assert len(first.endpoints) == len(cluster.endpoints)
    assert first.complete
    node.plan(replace(first, endpoints={}), first)
    node.name(first)
    gc.collect()
    gc.freeze()
    blocked: list[float] = []
    answered: list[float] = []

    async def change(now: Endpoint | None, was: Endpoint) -> float:
        """Processor time from the record to all plans, ms."""
        before = node.plane.snapshot
        node.say(now, was)
        began, loop_began = time.process_time(), time.perf_counter()
        await _turn()
        blocked.append((time.perf_counter() - loop_began) * 1e3)
        after = node.plane.snapshot
        assert after is not before
        node.name(after)
        named = time.process_time()
        answered.append((named - began) * 1e3)
        node.plan(before, after)
        return (time.process_time() - began) * 1e3

    async def median(pairs: Iterator[tuple[Endpoint | None, Endpoint]]) -> float:
        return statistics.median([await change(now, was) for now, was in pairs])

    few = cluster.others(published=False)[:CHANGES]
    mesh = cluster.others(published=True)[:CHANGES]
    flips = [(replace(each, ready=False), each) for each in few]
    for now, was in flips[:3]:  # tables are compared whole once after they were first made
        await change(now, was)
        await change(was, was)
    ready = await median(iter([*flips, *((was, was) for _, was in flips)]))
    comes = await median(iter([*((None, each) for each in few), *((each, each) for each in few)]))
    published = await median(iter([(replace(each, ready=False), each) for each in mesh]))
    return {
        "one endpoint is ready or not: record to the plans of all": ready,
        "one endpoint comes or goes: record to the plans of all": comes,
        "one endpoint of a published service: record to the plans of all": published,
        "the event loop is blocked by a change, 99 of 100": _p99(blocked),
        "a change until the resolver answers it": _p99(answered),
    }


async def _turn() -> None:
    """What was scheduled is done."""
    for _ in range(3):
        await asyncio.sleep(0)


def _p99(values: list[float]) -> float:
    return sorted(values)[math.ceil(len(values) * 0.99) - 1]


def _transaction_ms(services: int) -> tuple[list[float], list[float]]:
    """Of a transaction that changes one service: (in the kernel, with libnftables), each."""
    with Bed("scale") as bed:
        bed.netns("scale")
        path = bed.path("scale")
        operations = NftOperations([Rules().rulesets])
        now = _one_network(services, path)
        kernel, whole = [], []
        try:
            for turn in range(CHANGES + 1):
                desired = operations.desired(now)
                observed = operations.observe({path: desired[path]})
                changes = operations.plan(desired, observed, prune=True)
                assert changes
                began, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_SELF)
                operations.apply(changes)
                if turn:
                    after = resource.getrusage(resource.RUSAGE_SELF)
                    whole.append((time.perf_counter() - began) * 1e3)
                    kernel.append((after.ru_stime - before.ru_stime) * 1e3)
                task = TaskId(f"t{turn:024}")
                put = {task: replace(now.endpoints[task], ready=False)}
                now = replace(now, endpoints={**now.endpoints, **put})
        finally:
            operations.close()
    return kernel, whole


def _one_network(services: int, path: str) -> Snapshot:
    """All services and one container on one network."""
    net, here = NetworkId("net".ljust(25, "0")), NodeId("node".ljust(25, "0"))
    subnet = IPv4Network("10.0.0.0/8")
    ids = [ServiceId(f"svc{at:022}") for at in range(services)]
    tasks = {
        TaskId(f"t{at:024}"): Endpoint(
            TaskId(f"t{at:024}"),
            f"t{at}",
            here,
            ids[at % services],
            {net: subnet[100_000 + at]},
        )
        for at in range(services * TASKS)
    }
    box = Sandbox(TaskId("box".ljust(25, "0")), path, ((net, IPv4Interface("10.0.0.9/8")),), None)
    return Snapshot(
        1,
        here,
        networks={net: Network(net, "net", Vni(4096), subnet, subnet[1])},
        services={
            of: Service(of, f"s{at}", vips={net: subnet[10 + at]}) for at, of in enumerate(ids)
        },
        endpoints=tasks,
        sandboxes={box.task: box},
    )
