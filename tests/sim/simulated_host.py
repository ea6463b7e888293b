"""A host of a simulated cluster: its engine, its kernel, its files, and the node that runs on it.

The node is ``ClusterMember`` with everything it is made of; its gossip, its channels and its kernel
are simulated ones. A manager's host has a ``ControlServer`` and an orchestration on a member of the
fake etcd besides.
"""

from __future__ import annotations

import asyncio
import random
import shutil
from collections import Counter
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

from netns_model import BRIDGE
from simulated_calls import MemoryChannel, MemoryServer
from simulated_kernel import DIR, HostKernel
from simulated_underlay import SimulatedRunner, Underlay
from virtual_time import Inline

from meshnet import ends
from meshnet.gossip.config import GossipConfig
from meshnet.gossip.engine import GossipEngine
from meshnet.gossip.signing import Signer
from meshnet.kernel import host_probe
from meshnet.kernel.host_probe import HostProbe
from meshnet.model.ids import NodeId
from meshnet.model.wellknown import CONTROL_PORT, GOSSIP_PORT
from meshnet.reconcile import Reconciler
from meshnet_control.agent.agent import Agent
from meshnet_control.api import control_pb2 as pb
from meshnet_control.cluster import gossip_records
from meshnet_control.cluster.hosts import Hosts
from meshnet_control.dataplane.fake import FakeFlows, FakeSockets
from meshnet_control.dataplane.feed import DataPlane
from meshnet_control.engine.fake import FakeEngine
from meshnet_control.engine.labels import TASK_LABEL
from meshnet_control.etcd.fake import FakeEtcd
from meshnet_control.identity.identity import Certificates, Identity
from meshnet_control.manager.leader import Manager
from meshnet_control.manager.leadership import EtcdLeadership
from meshnet_control.manager.members import Members
from meshnet_control.manager.membership import Member, Move, Picture
from meshnet_control.manager.server import ControlServer
from meshnet_control.node import member as node_member
from meshnet_control.node.dispatcher_client import DispatcherClient
from meshnet_control.node.member import ClusterMember, Places
from meshnet_control.store.etcd import EtcdStore
from meshnet_control.store.sealer import Sealer

MTU = 1500
ETCD_S = 0.002
"""To etcd's leader and back, each."""


class WatchedEngine(FakeEngine):
    """An engine that says which program is told to end, just before it is."""

    def __init__(self, stopping: Callable[[str], None]) -> None:
        super().__init__()
        self._stopping = stopping
        self.started: Counter[str] = Counter()
        """Task -> how often a container of it was started."""

    async def start(self, container: str) -> None:
        kept = self._named(container)
        if not kept.running:
            self.started[kept.labels[TASK_LABEL]] += 1
        await super().start(container)

    async def kill(self, container: str, signal: str) -> None:
        self._about_to_end(container)
        await super().kill(container, signal)

    async def remove(self, container: str) -> None:
        self._about_to_end(container)
        await super().remove(container)

    def running(self) -> dict[str, str]:
        """Task -> path of its container's namespace."""
        return {
            kept.labels[TASK_LABEL]: f"/run/docker/netns/{kept.id[-12:]}"
            for kept in self.kept.values()
            if kept.running and TASK_LABEL in kept.labels
        }

    def _about_to_end(self, container: str) -> None:
        kept = self.kept.get(container)
        if kept is not None and kept.running and not kept.signals and TASK_LABEL in kept.labels:
            self._stopping(kept.labels[TASK_LABEL])


@dataclass
class World:
    """What all hosts share."""

    underlay: Underlay
    etcd: FakeEtcd
    root: Path
    rng: random.Random
    began: float
    """Unix time at the loop's zero, seconds."""
    stopping: Callable[[str], None] = lambda _: None
    processes: set[asyncio.Task[Any]] = field(default_factory=set)
    failures: list[BaseException] = field(default_factory=list)
    """Of processes that ended by an error of ours."""
    managers: dict[str, ManagerProcess] = field(default_factory=dict)

    def wall(self) -> float:
        return self.began + asyncio.get_running_loop().time()

    async def ask(self, own: str, address: IPv4Address, _: int) -> bool:
        """Whether a host answers (``host_probe.answers``)."""
        await asyncio.sleep(2 * self.underlay.delay_s())
        if self.underlay.reaches(own, str(address)):
            return True
        await asyncio.sleep(host_probe.TIMEOUT_S)
        return False


class Process:
    """Tasks that end together, as those of one process do."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._tasks: set[asyncio.Task[Any]] = set()

    def spawn(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    async def kill(self) -> None:
        """None of them does anything any more."""
        await ends.ended(*self._tasks)
        self._tasks.clear()

    def _done(self, task: asyncio.Task[Any]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self._world.failures.append(error)


class Host:
    """A machine; ``node`` is what runs on it while its daemons do."""

    def __init__(self, world: World, number: int, images: tuple[str, ...] = ("web:1", "web:2")):
        self.world, self.number = world, number
        self.address = f"192.168.{number // 250}.{number % 250 + 1}"
        self.name = f"h{number}"
        self.engine = WatchedEngine(world.stopping)
        for image in images:
            self.engine.add_image(image)
        self.kernel = HostKernel(lambda: self.engine.running().values())
        self.files = world.root / self.name
        self.light = False
        """Its data plane knows everything and plans nothing."""
        self.identity: Identity | None = None
        self.node: Node | None = None
        self.manager: ManagerProcess | None = None

    @property
    def id(self) -> NodeId:
        assert self.identity is not None
        return NodeId(self.identity.node_id)

    @property
    def plane(self) -> DataPlane:
        assert self.node is not None
        return self.node.kernel.dataplane

    @property
    def up(self) -> bool:
        """Its meshnetd runs."""
        return self.node is not None

    async def start(self) -> None:
        """meshnetd, and meshnet-manager where the role wants it."""
        assert self.identity is not None
        if self.identity.role == "manager" and self.manager is None:
            await self.start_manager()
        for name in ("run", "state"):
            (self.files / name).mkdir(parents=True, exist_ok=True)
        self.node = Node(self)
        await self.node.start()

    async def start_manager(self) -> None:
        assert self.identity is not None
        self.manager = ManagerProcess(self.world, self.number, self.identity)
        self.world.managers[self.id] = self.manager
        await self.manager.start()

    async def kill(self) -> None:
        """meshnetd dies; containers and kernel stay."""
        node, self.node = self.node, None
        if node is not None:
            self.identity = node.identity
            await node.die()

    async def kill_manager(self) -> None:
        """meshnet-manager dies, and its etcd with it."""
        manager, self.manager = self.manager, None
        if manager is not None:
            del self.world.managers[self.id]
            await manager.die()

    async def power_off(self) -> None:
        """Everything on it ends at once, and nobody is told."""
        self.world.underlay.switch(self.address, on=False)
        self.engine.go()
        await self.kill()
        await self.kill_manager()
        shutil.rmtree(self.files / "run", ignore_errors=True)
        self.kernel.boot()

    async def power_on(self) -> None:
        """It boots."""
        self.world.underlay.switch(self.address, on=True)
        self.engine.come()
        await self.start()

    async def leave(self) -> None:
        """``docker swarm leave``."""
        node, self.node = self.node, None
        assert node is not None
        await node.leave()
        await node.process.kill()
        shutil.rmtree(self.files, ignore_errors=True)
        self.identity = None


class _Managing:
    """meshnet-manager of this host as its meshnetd has it (``node.managing.Managing``)."""

    error = ""

    def __init__(self, host: Host, on_hosts: Callable[[], None]) -> None:
        self._host = host
        is_manager = host.identity is not None and host.identity.role == "manager"
        self.link = self if is_manager else None
        self.probe: HostProbe | None = None
        if is_manager:
            own = host.address
            self.probe = HostProbe(
                GOSSIP_PORT, on_hosts, ask=lambda to, port: host.world.ask(own, to, port)
            )

    def hosts(self, hosts: Hosts) -> None:
        if self._host.manager is not None:
            self._host.manager.hear(hosts)

    def certify(self, identity: Identity) -> None:
        """The certificates of a simulation last."""

    def follow(self, identity: Identity) -> None:
        """Nobody is promoted here."""

    async def run(self) -> None:
        await asyncio.Event().wait()

    async def close(self) -> None:
        if self.probe is not None:
            await self.probe.close()


LIGHT_S = 0.2
"""A light data plane makes a Snapshot this late, one for all that happened meanwhile."""


class _Kernel:
    """What realises Snapshots (``dataplane.reconcilers.NodeReconcilers``)."""

    idle = True

    def __init__(self, host: Host, process: Process) -> None:
        loop = asyncio.get_running_loop()
        self.reconcilers = [
            Reconciler(each, Inline(), wall=host.world.wall)
            for each in host.kernel.operations(light=host.light)
        ]
        self.dataplane = DataPlane(
            host.id,
            self.reconcilers,
            lambda news: HostProbe(
                GOSSIP_PORT, news, ask=lambda to, port: host.world.ask(host.address, to, port)
            ),
            FakeSockets(),
            FakeFlows(),
            netns_dir=DIR,
            wall=lambda: host.world.began + loop.time(),
            pause_s=LIGHT_S if host.light else 0.0,
        )
        self._tasks = [process.spawn(r.run(), r.operations.name) for r in self.reconcilers]

    async def empty(self) -> bool:
        async with asyncio.timeout(15):
            await self.dataplane.empty()
        return True

    async def close(self) -> None:
        await ends.ended(*self._tasks)
        await ends.closed(self.dataplane.close)


class Node(ClusterMember):
    """meshnetd's part in the cluster."""

    def __init__(self, host: Host) -> None:
        assert host.identity is not None
        self._host, self._world = host, host.world
        self.process = Process(host.world)
        places = Places(host.files / "run", host.files / "state")
        engine: Any = host.engine
        super().__init__(
            host.identity, places, engine, host.name, self.process.spawn, self._removed
        )
        self.managing = _Managing(host, self._tell_hosts)  # type: ignore[assignment]
        self.removed = False

    def _removed(self) -> None:
        self.removed = True

    async def die(self) -> None:
        """SIGKILL."""
        self._leaving = True
        runner: Any = self.gossip
        runner.die()
        await self.kernel.dataplane.close()
        await self.managing.close()
        await self.process.kill()

    async def _follow(self, stack: AsyncExitStack) -> None:
        host, world = self._host, self._world
        spawn = self.process.spawn
        loop = asyncio.get_running_loop()
        signer = Signer(self.identity.gossip_key)
        engine = GossipEngine(
            GossipConfig.lan().through(MTU),
            host.id,
            (host.address, GOSSIP_PORT),
            int(world.wall() * 1000),
            random.Random(world.rng.getrandbits(64)),
            loop.time(),
            signer,
            gossip_records.is_well_formed,
        )
        kernel: Any = _Kernel(host, self.process)
        self.kernel = kernel
        self.gossip = SimulatedRunner(
            engine, world.underlay, self._gossip_changed, self.kernel.dataplane.acknowledged
        )
        stack.push_async_callback(self.kernel.close)
        stack.push_async_callback(self.gossip.close)
        await self.gossip.start()
        spawn(self.gossip.run(), "gossip")
        self.kernel.dataplane.attach(self.gossip, BRIDGE, MTU)
        self.agent = Agent(
            host.engine,
            self.kernel.dataplane,
            self.report,
            node_id=host.id,
            hostname=host.name,
            run_dir=self._places.run_dir,
            state_dir=self._places.state_dir,
            gwbridge=BRIDGE,
            proc=self._places.run_dir / "proc",
            wall=world.wall,
        )
        stack.push_async_callback(self.agent.close)
        self._works.set()
        self.attaching: Any = _Attaching()
        description = pb.NodeDescription(
            hostname=host.name, underlay_mtu=MTU, gossip_key=signer.public
        )
        description.resources.nano_cpus, description.resources.memory_bytes = 8 * 10**9, 2**33
        self.session = DispatcherClient(
            self.identity,
            description,
            self._assigned,
            on_removed=self._on_removed,
            on_identity=self._renewed,
            addr=host.address,
            lasting=lambda: self._identity_keeper.saved.certs,
            dial=self._dial,
        )
        saving = spawn(self._identity_keeper.run(), "keep identity")
        stack.push_async_callback(ends.ended, saving)
        self.agent_task = spawn(self.agent.run(), "agent")
        stack.push_async_callback(ends.ended, self.agent_task)
        self.session_task = spawn(self.session.run(), "session")
        stack.push_async_callback(ends.ended, self.session_task)

    def _dial(self, remote: str, certs: Certificates) -> Any:
        return MemoryChannel(self._world.underlay, self._host.address, remote, certs)


class _Attaching:
    """No container of ``docker run`` is on a network here."""

    async def leave(self) -> None:
        """There is none."""


class _AllManagers:
    """The managers as a fake etcd has them (``manager.members.Members``)."""

    def __init__(self, world: World, own: str) -> None:
        self._world, self._own = world, own

    async def look(self, nodes: Any) -> tuple[Picture, dict[str, str]]:
        names = sorted(n.id for n in nodes.values() if n.spec.role == "manager")
        members = [Member(at, name, "", learner=False) for at, name in enumerate(names)]
        alive = {name: m.identity.advertise_addr for name, m in self._world.managers.items()}
        own = names.index(self._own) if self._own in names else 0
        return Picture(nodes, members, alive.keys(), own, {}), alive

    async def act(self, move: Move) -> None:
        """The members of a simulation are what it says."""


class _Server(ControlServer):
    """2377 on the underlay."""

    def __init__(
        self,
        world: World,
        store: EtcdStore,
        identity: Identity,
        leadership: EtcdLeadership,
        members: Members,
    ) -> None:
        loop = asyncio.get_running_loop()
        super().__init__(
            store,
            identity,
            listen=identity.listen_addr,
            run_dir=world.root,
            leadership=leadership,
            clock=loop.time,
            wall=world.wall,
        )
        self._keeper._members = members
        host = identity.advertise_addr.partition(":")[0]
        self.memory = MemoryServer(world.underlay, (host, CONTROL_PORT))
        self._authority._callers = self.memory.callers.get

    async def _serve(self) -> None:
        server: Any = self.memory
        self._offer(server)
        self.memory.start()

    @property
    def dispatcher(self) -> Any:
        return self._dispatcher


class ManagerProcess:
    """meshnet-manager."""

    def __init__(self, world: World, number: int, identity: Identity) -> None:
        self.identity = identity
        self._world, self._process = world, Process(world)
        self.member = world.etcd.member(number)
        self.member.latency_s = ETCD_S
        self.store: EtcdStore
        self._server: _Server
        self._hosts = Hosts().on(identity.node_id)

    async def start(self) -> None:
        world = self._world
        self.store = await EtcdStore.open(self.member, Sealer([bytes(32)]), world.wall)
        node = self.identity.node_id
        self.leadership = EtcdLeadership(self.member, self.store, node)
        members = _AllManagers(world, node)
        self._server = _Server(world, self.store, self.identity, self.leadership, members)
        await self._server.start()
        self._server.hosts(self._hosts)
        rng = random.Random(world.rng.getrandbits(64))
        manager = Manager(self.store, rng, world.wall, self.leadership)
        for work, name in (
            (self.leadership.run(), "leadership"),
            (self._server.wait(), "control server"),
            (manager.run(), "manager"),
        ):
            self._process.spawn(work, name)

    @property
    def leads(self) -> bool:
        return bool(self._server.dispatcher.leading)

    @property
    def sessions(self) -> int:
        return self._server.sessions

    def hear(self, hosts: Hosts) -> None:
        self._hosts = hosts.on(self.identity.node_id)
        self._server.hosts(self._hosts)

    async def die(self) -> None:
        """SIGKILL."""
        self.member.cut_off()
        await self._process.kill()
        self._server.memory.die()
        await ends.ended(*self._server._jobs)
        await self.store.close()


__all__ = ["Host", "ManagerProcess", "Node", "World", "node_member"]
