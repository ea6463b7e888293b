"""A node while it is in a cluster: everything that runs, and how it is wired together.

```
 manager only:  store ─ Manager (orchestrate) ─ ControlServer 2377
 every node:    DispatcherClient ── assignments ──> DataPlane ──> reconcilers
                     ^    └──────────────────> Agent ──> engine
                     ├── statuses ────────────── ┘└── sandboxes, endpoints ──> DataPlane
                     └── LogSource <── engine
                Gossip 7946 ── members, records ──> DataPlane; hosts ──> ControlServer
```

Be aware: ``stop`` leaves kernel and containers as they are, ``leave`` removes both. Each of their
steps is bounded in time: a peer, an engine or a worker that hangs keeps no node in its cluster.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path
from typing import Final

from meshnet import ends
from meshnet.errors import ConfigError, ControlError, KernelError
from meshnet.gossip.config import GossipConfig
from meshnet.gossip.engine import GossipEngine
from meshnet.gossip.members import State
from meshnet.gossip.runner import GossipRunner
from meshnet.kernel import host
from meshnet.kernel.host_probe import HostProbe
from meshnet.kernel.rtnl import RtnlClient
from meshnet.model.ids import NodeId
from meshnet.model.wellknown import GOSSIP_PORT
from meshnet_control.agent.agent import Agent, remove_task_containers
from meshnet_control.api import control_pb2 as pb
from meshnet_control.cluster import gossip_records
from meshnet_control.dataplane.reconcilers import NodeReconcilers, Spawn
from meshnet_control.engine.client import EngineClient
from meshnet_control.engine.gwbridge_keeper import MEMORY as GWBRIDGE_MEMORY
from meshnet_control.engine.gwbridge_keeper import GwbridgeKeeper
from meshnet_control.identity import identity as identities
from meshnet_control.identity.identity import Identity
from meshnet_control.manager.authority import own_certificate
from meshnet_control.manager.leader import Manager
from meshnet_control.manager.liveness import Hosts
from meshnet_control.manager.log_broker import LogBroker
from meshnet_control.manager.server import ControlServer
from meshnet_control.manager.snapshots import Snapshots
from meshnet_control.node import dispatcher_client
from meshnet_control.node.cleanup import clean_up
from meshnet_control.node.locked import SwarmLockedError
from meshnet_control.node.log_source import LogSource
from meshnet_control.store.files import STORE, STORE_FILES, STORE_KEY
from meshnet_control.store.keyring import NO_LOCK, StoreSealedError
from meshnet_control.store.sqlite import SqliteStore
from meshnet_control.store.store import Object, Put, StoreError, retry_delays

_log = logging.getLogger(__name__)

GOODBYE_S: Final = 5.0
TASKS_S: Final = 30.0
"""For all tasks of a node that leaves to stop; their grace periods run side by side."""
CLEAN_S: Final = 10.0
"""For what could not be removed in order to be removed once more."""
_ANY: Final = "0.0.0.0"  # noqa: S104 - gossip comes in on every address, as in Swarm


@dataclass(frozen=True)
class Places:
    """Directories of this node."""

    run_dir: Path
    state_dir: Path


class ClusterMember:
    """This node's part in one cluster.

    Args:
        identity: of this node in it.
        places: directories.
        engine: the local Docker Engine.
        hostname: of this host.
        spawn: starts a task whose failure ends the process.
        on_removed: the cluster no longer knows this node.
        unlock_key: opens the store of a manager that was locked.
    """

    def __init__(
        self,
        identity: Identity,
        places: Places,
        engine: EngineClient,
        hostname: str,
        spawn: Spawn,
        on_removed: Callable[[], None],
        unlock_key: bytes = NO_LOCK,
    ) -> None:
        self.identity, self._unlock_key = identity, unlock_key
        self.store: SqliteStore | None = None
        self.snapshots: Snapshots | None = None
        self._places, self._engine, self._hostname = places, engine, hostname
        self._spawn, self._on_removed = spawn, on_removed
        self._stack = AsyncExitStack()
        self._server: ControlServer | None = None
        self._seeds: frozenset[str] = frozenset()
        self._probe: HostProbe | None = None
        self._leaving = False
        self._unsaved = asyncio.Event()
        self._save_trouble = ""
        self.assignments = pb.Assignments()
        self.hostnames: dict[str, str] = {}
        """Of every node that is known or still heard of; a removed one is heard of for a while."""
        self.gossip: GossipRunner
        self.kernel: NodeReconcilers
        self.session: dispatcher_client.DispatcherClient
        self.agent: Agent

    async def start(self, first: tuple[Object, ...] = ()) -> None:
        """Start everything; ``first``: the objects of a cluster that is born with this node.

        Raises:
            ControlError: a port is taken, an address is gone, the engine or the store fails; one
                sentence. What was started is stopped again.
        """
        async with AsyncExitStack() as stack:
            if self.identity.role == "manager":
                await self._lead(stack, first)
            await self._follow(stack)
            self._stack = stack.pop_all()

    async def stop(self) -> None:
        """Stop; kernel and containers stay as they are, the others know that we will be back."""
        self.gossip.pause()
        await self._stack.aclose()

    async def leave(self) -> None:
        """Say goodbye, remove this node's tasks and everything in the kernel, stop.

        Who could put something back is ended before it is removed: the session (assignments), the
        agent (sandboxes), gossip (records), and only then the kernel is emptied.
        """
        await ends.ended(self.session_task)
        if self.identity.role == "worker":
            goodbye = dispatcher_client.leave(self.session.identity)
            await ends.within(GOODBYE_S, goodbye, "no manager heard that this node leaves")
        await ends.within(TASKS_S, self.agent.stop_all(), "tasks did not stop in time")
        await ends.ended(self.agent_task)
        left = remove_task_containers(self._engine)
        await ends.within(TASKS_S, left, "containers of tasks are left to the Docker Engine")
        with contextlib.suppress(OSError):
            self.gossip.leave()
        self._leaving = True
        await ends.closed(self.gossip.close)
        await asyncio.sleep(0)  # a Snapshot that was due is made now, before the empty one
        emptied = await self.kernel.empty()
        await self.stop()
        if not emptied and self.kernel.idle:
            cleaning = clean_up(self._places.run_dir, self._engine)
            await ends.within(CLEAN_S, cleaning, "not everything of this node could be removed")
        elif not emptied:
            _log.warning("the kernel keeps state of this node: meshnet down removes it")
        (self._places.run_dir / GWBRIDGE_MEMORY).unlink(missing_ok=True)

    @property
    def log_broker(self) -> LogBroker | None:
        """Logs of all tasks; None when this node is not a manager."""
        return self._server.logs if self._server is not None else None

    @property
    def troubles(self) -> list[str]:
        """What this node cannot do now though it runs, a sentence each."""
        store = self.store.trouble if self.store is not None else ""
        snapshot = self.snapshots.trouble if self.snapshots is not None else ""
        return [each for each in (store, snapshot, self._save_trouble) if each]

    def report(self, task_id: str, status: pb.TaskStatus) -> None:
        """The agent's word on a task, passed to the managers."""
        self.session.report(task_id, status)

    # ---- inside ----

    async def _lead(self, stack: AsyncExitStack, first: tuple[Object, ...]) -> None:
        store = await self._open_store(stack, first)
        cluster = (await store.list(pb.Cluster))[0]
        self.identity = own_certificate(self.identity, cluster, time.time())
        server = ControlServer(
            store,
            self.identity,
            listen=self.identity.listen_addr,
            run_dir=self._places.run_dir,
        )
        stack.push_async_callback(ends.closed, server.close)
        await server.start()
        self.store, self._server = store, server
        self._probe = HostProbe(GOSSIP_PORT, self._tell_hosts)
        stack.push_async_callback(ends.closed, self._probe.close)
        manager = Manager(store, secrets.SystemRandom(), time.time)
        self.snapshots = Snapshots(store, self._places.state_dir, time.time)
        for work, name in (
            (manager.run(), "manager"),
            (server.wait(), "control server"),
            (self.snapshots.run(), "snapshots"),
        ):
            task = self._spawn(work, name)
            stack.push_async_callback(ends.ended, task)

    async def _open_store(self, stack: AsyncExitStack, first: tuple[Object, ...]) -> SqliteStore:
        """The store of this cluster, and of no other one.

        Raises:
            SwarmLockedError: it is locked, and not with the unlock key that was given.
            ControlError: it cannot be used, or holds another cluster than the identity names.
        """
        state = self._places.state_dir
        try:
            if first:  # what is there has no identity: an init that a crash cut short
                put_aside(state)
            store = SqliteStore.open(state / STORE, state / STORE_KEY, unlock_key=self._unlock_key)
            stack.push_async_callback(ends.closed, store.close)
            if first:
                await store.commit([Put(each) for each in first])
        except StoreSealedError as error:
            raise SwarmLockedError from error
        except (StoreError, OSError) as error:
            raise ControlError(str(error), 500) from error
        held = [cluster.id for cluster in await store.list(pb.Cluster)]
        if held != [self.identity.cluster_id]:
            raise ControlError(
                f"{state / STORE} holds {_clusters(held)}, and this node is of cluster "
                f"{self.identity.cluster_id}: bring back the store that belongs to it, or leave "
                "the cluster (docker swarm leave --force)",
                500,
            )
        return store

    async def _follow(self, stack: AsyncExitStack) -> None:
        node_id = NodeId(self.identity.node_id)
        vtep = IPv4Address(self.identity.data_path_addr)
        mtu = _underlay_mtu(vtep)
        keeper = GwbridgeKeeper(self._engine, self._places.run_dir)
        gwbridge = await keeper.start()
        description = await self._engine.describe(self._hostname)
        description.underlay_mtu = mtu
        loop = asyncio.get_running_loop()
        gossip_engine = GossipEngine(
            GossipConfig.lan(),
            node_id,
            (str(vtep), GOSSIP_PORT),
            time.time_ns() // 1_000_000,
            secrets.SystemRandom(),
            loop.time(),
            gossip_records.is_well_formed,
        )
        self.gossip = GossipRunner(gossip_engine, _ANY, GOSSIP_PORT, self._gossip_changed)
        self.kernel = NodeReconcilers(node_id, self._places.run_dir, self._spawn)
        stack.push_async_callback(self.kernel.close)
        stack.push_async_callback(ends.closed, self.gossip.close)
        try:
            await self.gossip.start()
        except ConfigError as error:
            raise ControlError(
                f"listen udp and tcp {_ANY}:{GOSSIP_PORT}: {error.why}", 500
            ) from error
        gossiping = self._spawn(self.gossip.run(), "gossip")
        stack.push_async_callback(ends.ended, gossiping)
        self.kernel.dataplane.attach(self.gossip, gwbridge, mtu)
        self.agent = Agent(
            self._engine,
            self.kernel.dataplane,
            self.report,
            node_id=node_id,
            hostname=self._hostname,
            run_dir=self._places.run_dir,
            state_dir=self._places.state_dir,
            gwbridge=gwbridge,
        )
        stack.push_async_callback(ends.closed, self.agent.close)
        self.session = dispatcher_client.DispatcherClient(
            self.identity,
            description,
            self._assigned,
            on_removed=self._on_removed,
            on_identity=self._renewed,
            addr=str(vtep),
            alongside=LogSource(self._engine).run,
        )
        saving = self._spawn(self._keep_identity(), "keep identity")
        stack.push_async_callback(ends.ended, saving)
        keeping = self._spawn(keeper.run(), "keep docker_gwbridge")
        stack.push_async_callback(ends.ended, keeping)
        self.agent_task = self._spawn(self.agent.run(), "agent")
        stack.push_async_callback(ends.ended, self.agent_task)
        self.session_task = self._spawn(self.session.run(), "session")
        stack.push_async_callback(ends.ended, self.session_task)

    def _assigned(self, assignments: pb.Assignments) -> None:
        if self._leaving:
            return
        self.assignments = assignments
        heard = {str(node) for node in self.gossip.members()}
        self.hostnames = {
            **{node: name for node, name in self.hostnames.items() if node in heard},
            **{node.id: node.hostname for node in assignments.nodes},
        }
        self.gossip.set_keys(list(assignments.gossip_keys))
        seeds = frozenset(
            node.addr
            for node in assignments.nodes
            if node.addr and not node.down and node.id != self.identity.node_id
        )
        if seeds != self._seeds:
            self._seeds = seeds
            self.gossip.join([(addr, GOSSIP_PORT) for addr in sorted(seeds)])
        self._tell_hosts()
        self.kernel.dataplane.assignments(assignments)
        self.agent.assign(assignments)

    def _gossip_changed(self) -> None:
        if self._leaving:
            return
        self.kernel.dataplane.gossip_changed()
        self._tell_hosts()

    def _tell_hosts(self) -> None:
        """Tell the manager's liveness of hosts, and ask those whose daemons gossip misses."""
        if self._server is None or self._probe is None:
            return
        state = {node: member.state for node, member in self.gossip.members().items()}
        doubtful = {
            NodeId(node.id): IPv4Address(node.addr)
            for node in self.assignments.nodes
            if node.addr and state.get(NodeId(node.id)) is not State.ALIVE
        }
        doubtful.pop(NodeId(self.identity.node_id), None)
        self._probe.watch(doubtful)
        answering = self._probe.answering
        # A host that is switched off in order says that its daemon restarts, too.
        silent = {State.DEAD, State.LEFT, State.RESTARTING}
        missed = {node for node, said in state.items() if said in silent}
        left = {node for node, said in state.items() if said is State.LEFT}  # its own last word
        self._server.hosts(
            Hosts(
                gone={node for node in missed if answering.get(node) is False} | left,
                there={node for node, said in state.items() if said is State.ALIVE}
                | {node for node, answers in answering.items() if answers} - left,
                unreached={
                    node: set[str](there)
                    for node, there in gossip_records.unreached(self.gossip.records()).items()
                },
            )
        )

    def _renewed(self, identity: Identity) -> None:
        self.identity = identity
        self._unsaved.set()
        if self._server is not None:
            self._server.certify(identity)

    async def _keep_identity(self) -> None:
        """Write each new identity to the disk, as soon as the disk takes it."""
        while True:
            await self._unsaved.wait()
            for delay in retry_delays():
                self._unsaved.clear()
                try:
                    identities.save(self._places.state_dir, self.identity)
                except OSError as error:
                    if not self._save_trouble:
                        _log.warning("identity is not saved, trying again: %s", error)
                    self._save_trouble = f"identity: {error}"
                    await asyncio.sleep(delay)
                else:
                    self._save_trouble = ""
                    break


def put_aside(state_dir: Path) -> None:
    """Move a store that no identity owns out of the way; one is kept, the newest.

    Raises:
        OSError: the directory cannot be written.
    """
    for name in (STORE_KEY, *STORE_FILES):
        path = state_dir / name
        if path.exists():
            path.replace(path.with_name(f"{name}.orphan"))


def _clusters(held: list[str]) -> str:
    return f"cluster {', '.join(held)}" if held else "no cluster"


def _underlay_mtu(vtep: IPv4Address) -> int:
    rtnl = RtnlClient()
    try:
        found = host.underlay(rtnl, vtep)
    except KernelError as error:
        raise ControlError(str(error), 500) from error
    finally:
        rtnl.close()
    if found is None:
        raise ControlError(
            f"{vtep}, the address of this node in the cluster, is not on this host any more: "
            "give it back, or leave the cluster (docker swarm leave --force) and join again",
            500,
        )
    return found[1]
