"""A whole cluster on a virtual clock: managers on a store, nodes with agents and data planes.

    async def scene(cluster): ...
    play(scene, nodes=5)

A scene changes the cluster as users, failures and the network do, waits until it holds still
(``quiet``) and asks whether every node's kernel is what the managers' word makes of it
(``whole``). Two laws hold at every moment and are asserted as they are broken: no program is told
to end while some node still chooses it, and no task is started twice.
"""

from __future__ import annotations

import asyncio
import random
import tempfile
from collections import Counter
from collections.abc import Callable, Coroutine, Iterable
from ipaddress import IPv4Address, IPv4Interface
from pathlib import Path
from typing import Any, TypeVar

import from_scratch
from netns_model import BRIDGE
from simulated_host import Host, World
from simulated_kernel import DIR, HostKernel
from simulated_underlay import Underlay
from virtual_run import run

from meshnet.gossip.signing import SEED_BYTES
from meshnet.model.ids import NetworkId, NodeId, TaskId, new_id
from meshnet.model.snapshot import Sandbox, Snapshot
from meshnet.model.wellknown import CONTROL_PORT
from meshnet.overlay.desired import netns_name
from meshnet_control.agent import task_networks
from meshnet_control.api import control_pb2 as pb
from meshnet_control.cluster import assignments, gossip_records
from meshnet_control.cluster.node_state import NodeState
from meshnet_control.etcd.fake import FakeEtcd
from meshnet_control.identity import ca
from meshnet_control.identity.identity import Certificates, Identity
from meshnet_control.node.birth import birth
from meshnet_control.store.etcd import EtcdStore
from meshnet_control.store.sealer import Sealer
from meshnet_control.store.store import Delete, OutOfSequenceError, Put

T = TypeVar("T")
BEGAN = 1_900_000_000.0
RUNNING = pb.TASK_STATE_RUNNING
_MEMORY = Path("/dev/shm")  # noqa: S108 - agents sync their files; on a disk that would be the cost


class Cluster:
    """Hosts by number; the first few are managers."""

    def __init__(self, root: Path, seed: int) -> None:
        rng = random.Random(seed)
        underlay = Underlay(random.Random(rng.getrandbits(64)))
        self.world = World(underlay, FakeEtcd(), root, rng, BEGAN, self._stopping)
        self.underlay, self.etcd = underlay, self.world.etcd
        self.hosts: dict[int, Host] = {}
        self.torn: list[str] = []
        """Connections that were lost although nobody was at fault."""
        self.excused = False
        """Nodes cannot hear of each other now: who stops waits in vain."""
        self._signs: tuple[bytes, bytes]
        self.cluster_id = ""
        self.store: EtcdStore

    # ---- its life ----

    async def begin(self, nodes: int, managers: int = 1, whole: int | None = None) -> None:
        """A cluster that is formed.

        Args:
            nodes: how many.
            managers: of them.
            whole: how many have a whole data plane; None: all. The others know and say the same.
        """
        first = Host(self.world, 0)
        addr = (first.address, CONTROL_PORT)
        born = birth(
            pb.SwarmInitRequest(), addr, addr, first.address, self.world.wall(), self.world.rng
        )
        first.identity = born.identity
        self._signs = (born.cluster.ca_certificate, born.cluster.ca_key)
        self.cluster_id = born.cluster.id
        self.store = await EtcdStore.open(
            self.etcd.member(9999), Sealer([bytes(32)]), self.world.wall
        )
        self.hosts[0] = first
        await self.store.commit([Put(born.cluster), Put(born.node), Put(born.ingress)])
        await first.start()
        made = [self._machine(n, manager=n < managers) for n in range(1, nodes)]
        await self.store.commit([Put(node) for _, node in made])
        for host, _ in made:
            host.light = whole is not None and host.number >= whole
            await host.start()
        await self.until(self._all_ready, 30.0)

    async def _all_ready(self) -> bool:
        return all(n.status.state == "ready" for n in await self.store.list(pb.Node))

    async def join(self, number: int, name: str = "") -> Host:
        """Another node; ``name`` may be that of one that left."""
        host, node = self._machine(number)
        if name:
            host.name = node.description.hostname = name
        await self.store.commit([Put(node)])
        await host.start()
        return host

    def _machine(self, number: int, *, manager: bool = False) -> tuple[Host, pb.Node]:
        """A host with a certificate, and its node as the managers write it."""
        host = self.hosts.get(number) or Host(self.world, number)
        self.hosts[number] = host
        role: ca.Role = "manager" if manager else "worker"
        node_id = new_id(self.world.rng)
        root, root_key = self._signs
        key, csr = ca.new_csr()
        addr = f"{host.address}:{CONTROL_PORT}"
        leaf = ca.issue(
            root,
            root_key,
            csr,
            node_id,
            role,
            self.cluster_id,
            self.world.wall(),
            addr=host.address,
        )
        host.identity = Identity(
            node_id,
            self.cluster_id,
            role,
            Certificates(key, leaf, root),
            managers=(f"{self.hosts[0].address}:{CONTROL_PORT}",),
            advertise_addr=addr,
            listen_addr=addr if manager else "",
            data_path_addr=host.address,
            gossip_key=node_id.encode().ljust(SEED_BYTES, b"-"),
        )
        node = pb.Node(id=node_id, spec=pb.NodeSpec(role=role, availability="active"))
        node.description.hostname = host.name
        node.status.state, node.status.addr = "unknown", host.address
        if manager:
            node.manager_status.addr, node.manager_status.reachability = addr, "reachable"
        return host, node

    async def end(self) -> None:
        for host in self.hosts.values():
            await host.kill()
            await host.kill_manager()
        await self.store.close()
        if self.world.failures:
            raise ExceptionGroup("a process of the cluster failed", self.world.failures)  # type: ignore[type-var]

    # ---- what users do ----

    async def network(self, name: str) -> str:
        made = pb.Network(id=new_id(self.world.rng))
        made.spec.name, made.spec.driver_configuration.name = name, "overlay"
        await self.store.commit([Put(made)])
        return made.id

    async def service(
        self, name: str, replicas: int, *networks: str, port: int = 0, mode: str = "vip"
    ) -> str:
        """``docker service create``; 0 replicas: global."""
        made = pb.Service(id=new_id(self.world.rng), spec_version=1)
        made.spec.name = name
        if replicas:
            made.spec.mode.replicated.replicas = replicas
        else:
            getattr(made.spec.mode, "global").SetInParent()
        made.spec.task_template.container_spec.image = "web:1"
        made.spec.task_template.runtime = "container"
        for network in networks:
            made.spec.task_template.networks.add(target=network)
        made.spec.endpoint_spec.mode = mode
        if port:
            made.spec.endpoint_spec.ports.add(
                protocol="tcp", target_port=80, published_port=port, publish_mode="ingress"
            )
        await self.store.commit([Put(made)])
        return made.id

    async def change(self, service: str, change: Callable[[pb.ServiceSpec], None]) -> None:
        """``docker service update``, as the control API does it."""

        def apply(new: pb.Service) -> None:
            new.previous_spec.CopyFrom(new.spec)
            new.previous_spec_version = new.spec_version
            change(new.spec)
            new.ClearField("update_status")
            if new.spec.task_template != new.previous_spec.task_template:
                new.spec_version += 1

        await self.edit(pb.Service, service, apply)

    async def edit(self, kind: type[T], name: str, change: Callable[[T], None]) -> None:
        """Change an object, whoever else does meanwhile."""
        while True:
            old: Any = await self.store.get(kind, name)
            new = type(old)()
            new.CopyFrom(old)
            change(new)
            try:
                await self.store.commit([Put(new)], {(type(old), name): old.version.index})
            except OutOfSequenceError:
                continue
            return

    async def remove(self, kind: Any, name: str) -> None:
        await self.store.commit([Delete(kind, name)])

    async def availability(self, host: Host, what: str) -> None:
        """``docker node update --availability``."""

        def change(node: pb.Node) -> None:
            node.spec.availability = what

        await self.edit(pb.Node, host.id, change)

    # ---- waiting ----

    @property
    def now(self) -> float:
        return asyncio.get_running_loop().time()

    async def until(
        self, holds: Callable[[], object | Coroutine[Any, Any, object]], within_s: float
    ) -> float:
        """Until it holds; how long that took.

        Raises:
            AssertionError: it does not in that time.
        """
        began = self.now
        while True:
            said = holds()
            if asyncio.iscoroutine(said):
                said = await said
            if said:
                return self.now - began
            assert self.now - began < within_s, "it does not come to hold"
            await asyncio.sleep(0.05)

    async def converged(self, within_s: float = 30.0) -> float:
        """Until every service has the tasks that it wants, and they run where a host does."""
        return await self.until(self._has_converged, within_s)

    async def _has_converged(self) -> bool:
        nodes = {n.id: n for n in await self.store.list(pb.Node)}
        if not all(nodes[host.id].status.state == "ready" for host in self.there()):
            return False
        tasks = [t for t in await self.store.list(pb.Task) if not t.displaced]
        active = [
            n
            for n in nodes.values()
            if n.status.state == "ready" and n.spec.availability == "active"
        ]
        for service in await self.store.list(pb.Service):
            mine = [t for t in tasks if t.service_id == service.id]
            wanted = [t for t in mine if t.desired_state == RUNNING]
            replicated = service.spec.mode.HasField("replicated")
            number = service.spec.mode.replicated.replicas if replicated else len(active)
            good = [
                t
                for t in wanted
                if t.status.state == RUNNING and t.spec == service.spec.task_template
            ]
            if len(wanted) != number or len(good) != number:
                return False
        there = {s.id for s in await self.store.list(pb.Service)}
        ending = [
            t
            for t in tasks
            if t.status.state <= RUNNING
            and (t.desired_state > RUNNING or t.service_id not in there)
            and nodes.get(t.node_id, pb.Node()).status.state == "ready"
        ]
        return not ending

    async def quiet(self, within_s: float = 30.0) -> float:
        """Until every node that is there has what the managers' word makes of it."""
        try:
            return await self.until(self._is_whole, within_s)
        except AssertionError:
            found = [each[:600] for each in await self.differences()]
            raise AssertionError("\n".join(found[:8]) or "services do not converge") from None

    async def _is_whole(self) -> bool:
        if not all(host.plane.snapshot.complete for host in self.there()):
            return False  # one that has just begun leaves everything as it is
        return await self._has_converged() and not await self.differences()

    # ---- what is true ----

    def there(self) -> list[Host]:
        """Hosts whose meshnetd runs."""
        return [host for host in self.hosts.values() if host.up]

    def whole(self) -> list[Host]:
        """Those of them that have a whole data plane."""
        return [host for host in self.there() if not host.light]

    async def tasks(self, service: str) -> list[pb.Task]:
        """Those that run by the managers' word."""
        return [
            t
            for t in await self.store.list(pb.Task)
            if t.service_id == service
            and not t.displaced
            and t.desired_state == RUNNING
            and t.status.state == RUNNING
        ]

    async def objects(self) -> assignments.Objects:
        kinds = (pb.Node, pb.Service, pb.Task, pb.Network, pb.Secret, pb.Config)
        by_id = [{each.id: each for each in await self.store.list(kind)} for kind in kinds]
        return assignments.Objects((await self.store.list(pb.Cluster))[0], *by_id)  # type: ignore[arg-type]

    async def differences(self, hosts: Iterable[Host] | None = None) -> list[str]:
        """What of nodes' kernels is not as one makes it from scratch of the managers' truth."""
        objects = await self.objects()
        records = self._records(objects)
        found = []
        for host in hosts if hosts is not None else self.whole():
            wanted = self._from_scratch(host, objects, records)
            host.kernel.look()
            held = host.kernel.picture()
            found += [
                f"{host.name}: {part}: {held.get(part)} instead of {wanted.get(part)}"
                for part in sorted(wanted.keys() | held.keys())
                if wanted.get(part) != held.get(part)
            ]
        return found

    def _records(self, objects: assignments.Objects) -> dict[tuple[NodeId, str], bytes]:
        """What nodes have to say when everything is as the managers and engines know it."""
        found: dict[tuple[NodeId, str], bytes] = {}
        by_id = {host.id: host for host in self.hosts.values() if host.identity is not None}
        for node in objects.nodes.values():
            found[NodeId(node.id), gossip_records.NODE_KEY] = gossip_records.encode_node(1500)
        there = self.there()
        silent = objects.nodes.keys() - {host.id for host in there}
        if there and there[0].node is not None:  # the way to what a silent node last said stays
            last = there[0].node.gossip.all_records()
            found |= {place: value for place, value in last.items() if place[0] in silent}
        for task in objects.tasks.values():
            host = by_id.get(NodeId(task.node_id))
            if host is None or not host.up:
                continue
            running = host.engine.running()
            if task.id not in running or not task_networks.overlays_of(task):
                continue
            kept = host.engine.of_task(task.id)
            ready = task.status.state == RUNNING and task.desired_state <= RUNNING
            said = task_networks.endpoint_of(
                task, task.node_id, kept.id, hostname=kept.id[:12], ready=ready
            )
            found[host.id, gossip_records.endpoint_key(TaskId(task.id))] = (
                gossip_records.encode_endpoint(said)
            )
        return found

    def _from_scratch(
        self,
        host: Host,
        objects: assignments.Objects,
        records: dict[tuple[NodeId, str], bytes],
    ) -> dict[str, Any]:
        """The picture of a kernel that a node makes which begins now and knows everything."""
        told = assignments.node_assignments(objects, host.id)
        running = host.engine.running()
        sandboxes: dict[TaskId, Sandbox] = {}
        for task_id, path in running.items():
            task = objects.tasks.get(task_id)
            if task is None or not task_networks.overlays_of(task):
                continue
            mine = host.plane.own.sandboxes.get(TaskId(task_id))
            gateway: IPv4Interface | None = mine.gateway_address if mine is not None else None
            sandboxes[TaskId(task_id)] = task_networks.sandbox_of(task, path, gateway)
        silent = {NodeId(n.id) for n in objects.nodes.values() if n.status.state == "down"}
        built = from_scratch.build(
            revision=1,
            self_id=host.id,
            assignments=NodeState.of(told),
            gone=silent,
            records=records,
            sandboxes=sandboxes,
            gwbridge=BRIDGE,
            complete=True,
        )
        return realised(built, running.values())

    def reach(self, host: Host, task: str, name: str) -> dict[IPv4Address, str]:
        """Where connections of a container to a name may go: address -> task, or what is wrong."""
        addresses = host.kernel.resolve(TaskId(task), name)
        if addresses is None:
            return {}
        path = host.engine.running()[task]
        vips = host.kernel.vips(path)
        backends = {to for each in addresses for to in vips.get(each, frozenset({each}))}
        sandbox = host.plane.snapshot.sandboxes[TaskId(task)]
        found = {}
        for address in backends:
            for network, own in sandbox.networks:
                if address in own.network:
                    found[address] = self._arrives(host, network, address)
        return found

    def mesh(self, host: Host, port: int) -> dict[IPv4Address, str]:
        """Where connections of a client to a published port of a host may go."""
        ingress = host.plane.snapshot.ingress
        backends = host.kernel.ports().get(f"tcp . {port}", frozenset())
        if ingress is None:
            return {}
        return {to: self._arrives(host, ingress.id, to) for to in backends}

    def _arrives(self, host: Host, network: NetworkId, address: IPv4Address) -> str:
        """The task that a packet in a network of a host gets to, or what becomes of it."""
        path = str(DIR / netns_name(network))
        way = host.kernel.way(path, address)
        if way.why:
            return f"lost on {host.name}: {way.why}"
        there = host
        if way.vtep is not None:
            at = [h for h in self.hosts.values() if h.address == str(way.vtep)]
            if not at or not self.underlay.reaches(host.address, at[0].address):
                return f"lost between {host.name} and {way.vtep}"
            there = at[0]
            way = there.kernel.way(path, address)
            if way.why or way.vtep is not None:
                return f"lost on {there.name}: {way.why or 'sent on'}"
        there.kernel.look()
        for task, netns in there.engine.running().items():
            state = there.kernel.netns.netns.get(netns)
            if state is not None and any(a.ip == address for _, a in state.addresses):
                return task
        return f"lost on {there.name}: nobody has {address}"

    # ---- laws of every moment ----

    def _stopping(self, task: str) -> None:
        """A program is told to end: nobody may choose it any more."""
        at = [h for h in self.hosts.values() if task in h.engine.running()]
        for holder in at:
            state = holder.kernel.netns.netns.get(holder.engine.running()[task])
            own = {a.ip for _, a in state.addresses} if state is not None else set()
            for host in self.whole():
                reached = self.underlay.reaches(host.address, holder.address)
                chosen = own & self.chosen(host)
                if chosen and reached and not self.excused:
                    self.torn.append(f"{self.now:.3f} task {task} ends, {host.name}: {chosen}")

    def chosen(self, host: Host) -> set[IPv4Address]:
        """Every address that a new connection on a host may be led to."""
        found = {to for led in host.kernel.ports().values() for to in led}
        for path in host.engine.running().values():
            for led in host.kernel.vips(path).values():
                found |= led
        return found

    def check(self) -> None:
        """What was true all the time."""
        assert not self.torn, self.torn
        starts: Counter[str] = Counter()
        for host in self.hosts.values():
            starts += host.engine.started
        assert all(times == 1 for times in starts.values()), "a task is run once"

    def addresses_are_unique(self) -> None:
        """No two containers that run have one address of a network."""
        seen: Counter[tuple[NetworkId, IPv4Address]] = Counter()
        for host in self.hosts.values():
            if host.node is None:
                continue
            for task in host.engine.running():
                sandbox = host.plane.own.sandboxes.get(TaskId(task))
                for network, own in sandbox.networks if sandbox is not None else ():
                    seen[network, own.ip] += 1
        assert all(times == 1 for times in seen.values()), seen


def realised(built: Snapshot, running: Iterable[str]) -> dict[str, Any]:
    """What the reconcilers make of a Snapshot on a host where nothing of ours was."""
    paths = list(running)
    kernel = HostKernel(lambda: paths)
    for operations in kernel.operations():
        desired = operations.desired(built)
        changes = operations.plan(desired, operations.observe(desired), prune=True)
        operations.apply(changes)
        assert not operations.plan(desired, operations.observe(desired), prune=True)
    return kernel.picture()


def play(
    scene: Callable[[Cluster], Coroutine[Any, Any, T]],
    nodes: int,
    *,
    managers: int = 1,
    whole: int | None = None,
    seed: int = 1,
) -> T:
    """A scene with a cluster that is formed; what it returns."""

    async def played(root: Path) -> T:
        cluster = Cluster(root, seed)
        try:
            await cluster.begin(nodes, managers, whole)
            said = await scene(cluster)
            cluster.check()
            return said
        finally:
            await cluster.end()

    random.seed(seed)  # of delays that nobody hands a source of
    parent = _MEMORY if _MEMORY.is_dir() else None
    with tempfile.TemporaryDirectory(prefix="meshnet-sim-", dir=parent) as root:
        return run(played(Path(root)))
