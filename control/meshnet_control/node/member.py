"""A node while it is in a cluster: everything that runs, and how it is wired together.

```
 manager only:  ManagerLink ──> meshnet-manager (store, orchestration, 2377)
 every node:    DispatcherClient ── assignments ──> DataPlane ──> reconcilers
                     ^    └──────────────────> Agent ──> engine
                     ├── statuses ────────────── ┘└── sandboxes, endpoints ──> DataPlane
                     └── LogSource <── engine
                Gossip 7946 ── members, records ──> DataPlane; hosts ──> ManagerLink
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
from dataclasses import dataclass, replace
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
from meshnet_control.cluster.hosts import Hosts
from meshnet_control.dataplane.reconcilers import NodeReconcilers, Spawn
from meshnet_control.engine.client import EngineClient
from meshnet_control.engine.gwbridge_keeper import MEMORY as GWBRIDGE_MEMORY
from meshnet_control.engine.gwbridge_keeper import GwbridgeKeeper
from meshnet_control.host import manager_process
from meshnet_control.host.manager_process import ManagerProcessError
from meshnet_control.identity import identity as identities
from meshnet_control.identity.identity import Certificates, Identity
from meshnet_control.link.manager_link import ManagerLink
from meshnet_control.node import dispatcher_client
from meshnet_control.node.cleanup import clean_up
from meshnet_control.node.log_source import LogSource
from meshnet_control.store.store import retry_delays

_log = logging.getLogger(__name__)

GOODBYE_S: Final = 5.0
TASKS_S: Final = 30.0
"""For all tasks of a node that leaves to stop; their grace periods run side by side."""
WITHDRAWS_S: Final = 3.0
"""For the others to choose nothing more of a host that goes off; they take a second."""
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
    """

    def __init__(
        self,
        identity: Identity,
        places: Places,
        engine: EngineClient,
        hostname: str,
        spawn: Spawn,
        on_removed: Callable[[], None],
    ) -> None:
        self.identity = identity
        self.link: ManagerLink | None = None
        """To meshnet-manager; None when this node is not a manager."""
        self._places, self._engine, self._hostname = places, engine, hostname
        self._spawn, self._on_removed = spawn, on_removed
        self._stack = AsyncExitStack()
        self._seeds: frozenset[str] = frozenset()
        self._probe: HostProbe | None = None
        self._leaving = False
        self._unsaved = asyncio.Event()
        self._saved = identity.certs
        self._save_trouble = ""
        self.assignments = pb.Assignments()
        self.hostnames: dict[str, str] = {}
        """Of every node that is known or still heard of; a removed one is heard of for a while."""
        self.gossip: GossipRunner
        self.kernel: NodeReconcilers
        self.session: dispatcher_client.DispatcherClient
        self.agent: Agent

    async def start(self, *, born: bool = False, unlock_key: bytes = b"") -> None:
        """Start everything.

        Args:
            born: the cluster begins with this node, whose meshnet-manager has to serve for it.
            unlock_key: of a cluster that is born locked; empty: it is not.

        Raises:
            ControlError: a port is taken, an address is gone, the engine or the store fails; one
                sentence. What was started is stopped again, but for meshnet-manager.
        """
        async with AsyncExitStack() as stack:
            if self.identity.role == "manager":
                await self._lead(stack, born=born, unlock_key=unlock_key)
            await self._follow(stack)
            self._stack = stack.pop_all()

    async def stop(self, *, host_stops: bool = False) -> None:
        """Stop; kernel and containers stay as they are, the others know that we will be back.

        Args:
            host_stops: the containers end after us, and nobody is left here who could say so.
        """
        if host_stops:
            withdrawn = self.kernel.dataplane.withdraw(WITHDRAWS_S)
            await ends.within(2 * WITHDRAWS_S, withdrawn, "the others may still choose this host")
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
    def not_ready(self) -> str:
        """Why this node, a manager, does not manage; empty: it does, or is none."""
        return self.link.error if self.link is not None else ""

    @property
    def troubles(self) -> list[str]:
        """What this node cannot do now though it runs, a sentence each."""
        trouble = ""
        if self.link is not None and not self.link.error:
            trouble = self.link.store.trouble
        return [each for each in (trouble, self._save_trouble) if each]

    def report(self, task_id: str, status: pb.TaskStatus) -> None:
        """The agent's word on a task, passed to the managers."""
        self.session.report(task_id, status)

    # ---- inside ----

    async def _lead(self, stack: AsyncExitStack, *, born: bool, unlock_key: bytes) -> None:
        link = ManagerLink(self._places.run_dir, self.identity, self._certified)
        stack.push_async_callback(ends.closed, link.close)
        task = self._spawn(link.run(), "link to meshnet-manager")
        stack.push_async_callback(ends.ended, task)
        try:
            manager_process.start(self._places.state_dir)
        except (ManagerProcessError, OSError) as error:
            raise ControlError(str(error), 500) from error
        if born:
            await link.started(unlock_key)
        self.link = link
        self._probe = HostProbe(GOSSIP_PORT, self._tell_hosts)
        stack.push_async_callback(ends.closed, self._probe.close)

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
            lasting=lambda: self._saved,
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
        if self.link is None or self._probe is None:
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
        self.link.hosts(
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
        if self.link is not None:
            self.link.certify(identity)

    def _certified(self, certs: Certificates) -> None:
        """meshnet-manager has issued this node, whose certificate had ended, another one."""
        self.session.identity = replace(self.identity, certs=certs)
        self._renewed(self.session.identity)

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
                    self._saved = self.identity.certs
                    self.session.describe()
                    break


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
