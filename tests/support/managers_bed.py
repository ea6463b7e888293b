"""Managers of one cluster, each a process with an etcd of its own, on loopback addresses."""

from __future__ import annotations

import asyncio
import random
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from ipaddress import IPv4Network
from pathlib import Path
from random import SystemRandom

from etcd_cluster import until

from meshnet import ends
from meshnet.model.ids import new_id
from meshnet.model.wellknown import CONTROL_PORT
from meshnet_control.api import control_pb2 as pb
from meshnet_control.host.paths import MANAGER
from meshnet_control.identity import ca, identity
from meshnet_control.identity.identity import Certificates, Identity
from meshnet_control.link.manager_link import ManagerLink
from meshnet_control.node.birth import Birth, birth
from meshnet_control.store import files
from meshnet_control.store.store import OutOfSequenceError, Put, Store, StoreError

STARTS_S = 60.0


class Manager:
    """A host's meshnet-manager, what meshnetd has of it, and who starts it again."""

    def __init__(self, path: Path, who: Identity) -> None:
        self.path, self.who = path, who
        self.link = ManagerLink(path / "run", who)
        self.process: asyncio.subprocess.Process | None = None
        self._linked: asyncio.Task[None] | None = None

    @property
    def store(self) -> Store:
        return self.link.store

    async def start(self) -> None:
        for name in ("run", "state"):
            (self.path / name).mkdir(parents=True, exist_ok=True)
        identity.save(self.path / "state", self.who)
        program = Path(sys.executable).with_name(MANAGER)
        places = ("--run-dir", str(self.path / "run"), "--state-dir", str(self.path / "state"))
        with (self.path / "log").open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(program, *places, stderr=log)
        if self._linked is None:
            self._linked = asyncio.create_task(self.link.run())

    async def serves(self) -> None:
        """Wait until its store answers."""
        await until(self._answers, STARTS_S)

    async def _answers(self) -> bool:
        try:
            return bool(await self.store.list(pb.Cluster))
        except StoreError:
            return False

    def log(self) -> str:
        return (self.path / "log").read_text()

    async def end(self, how: signal.Signals = signal.SIGTERM) -> int:
        assert self.process is not None
        if self.process.returncode is None:
            self.process.send_signal(how)
        return await self.process.wait()

    async def close(self) -> None:
        await self.end()
        if self._linked is not None:
            await ends.ended(self._linked)
        await self.link.close()


class Cluster:
    """One manager at first; others on request."""

    def __init__(self, path: Path) -> None:
        self._path = path
        middle = random.SystemRandom().randrange(2**16)
        self.net = IPv4Network((0x7F << 24 | middle << 8, 24))
        self.managers: list[Manager] = []
        self.born: Birth
        self.signs: tuple[bytes, bytes, bytes]
        """Root, key, and what goes along with certificates."""

    def addr(self) -> str:
        return f"{self.net[len(self.managers) + 1]}:{CONTROL_PORT}"

    async def first(self) -> Manager:
        host = (str(self.net[1]), CONTROL_PORT)
        routes = [IPv4Network("10.0.0.0/24")]
        request = pb.SwarmInitRequest()
        self.born = birth(request, host, host, host[0], time.time(), SystemRandom(), routes)
        self.signs = (self.born.cluster.ca_certificate, self.born.cluster.ca_key, b"")
        state = self._path / "m0" / "state"
        state.mkdir(parents=True)
        await files.begin(state, (self.born.cluster, self.born.node, self.born.ingress))
        return await self._begin(self.born.identity)

    async def another(self, name: str, known: tuple[str, ...] = ()) -> Manager:
        """A node that is a manager already, by its role and its certificate; and whom it knows."""
        addr = self.addr()
        who = await self.member(name, "manager", addr)
        who = replace(who, managers=known or who.managers)
        return await self._begin(replace(who, advertise_addr=addr, listen_addr=addr))

    async def member(self, name: str, role: ca.Role, addr: str = "127.0.0.1:0") -> Identity:
        """A node in the store of the first manager that answers, with a certificate."""
        node_id = new_id(SystemRandom())
        node = pb.Node(id=node_id, spec={"role": role, "availability": "active"})
        node.description.hostname, node.status.state = name, "unknown"
        node.status.addr = addr.partition(":")[0]
        await self.managers[0].store.commit([Put(node)])
        key, csr = ca.new_csr()
        root, root_key, crossed = self.signs
        cluster_id = self.born.cluster.id
        leaf = ca.issue(
            root, root_key, csr, node_id, role, cluster_id, time.time(), addr=node.status.addr
        )
        remotes = tuple(manager.who.advertise_addr for manager in self.managers)
        certs = Certificates(key, leaf + crossed, self.born.cluster.ca_certificate)
        return Identity(node_id, cluster_id, role, certs, managers=remotes)

    async def _begin(self, who: Identity) -> Manager:
        made = Manager(self._path / f"m{len(self.managers)}", who)
        self.managers.append(made)
        await made.start()
        await made.serves()
        return made

    async def close(self) -> None:
        await asyncio.gather(*(manager.close() for manager in self.managers))


async def said(manager: Manager) -> dict[str, tuple[bool, str]]:
    """``manager_status`` of every node that has one: leads, reachability."""
    try:
        nodes = await manager.store.list(pb.Node)
    except StoreError:
        return {}
    return {
        n.id: (n.manager_status.leader, n.manager_status.reachability)
        for n in nodes
        if n.HasField("manager_status")
    }


def are(manager: Manager, *expected: tuple[Manager, bool, str]) -> Callable[[], object]:
    wanted = {each.who.node_id: (leads, how) for each, leads, how in expected}

    async def holds() -> bool:
        return await said(manager) == wanted

    return holds


def service(name: str, replicas: int = 1) -> pb.Service:
    made = pb.Service(id=new_id(SystemRandom()))
    made.spec.name = name
    made.spec.task_template.container_spec.image = "web:1"
    made.spec.task_template.runtime = "container"
    made.spec.mode.replicated.replicas = replicas
    return made


async def written(manager: Manager, *objects: pb.Service) -> float:
    """Write as a client that tries again; seconds it took."""
    began = time.monotonic()
    while True:
        try:
            await manager.store.commit([Put(each) for each in objects], {})
        except StoreError:
            await asyncio.sleep(0.02)
        else:
            return time.monotonic() - began


async def tasks_of(manager: Manager, service_id: str) -> list[pb.Task]:
    return [t for t in await manager.store.list(pb.Task) if t.service_id == service_id]


async def set_role(manager: Manager, node_id: str, role: str) -> None:
    while True:
        node = await manager.store.get(pb.Node, node_id)
        assert node is not None
        node.spec.role = role
        try:
            await manager.store.commit([Put(node)], {(pb.Node, node_id): node.version.index})
        except OutOfSequenceError:
            continue
        else:
            return
