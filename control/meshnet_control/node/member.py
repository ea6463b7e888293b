"""A node while it is in a cluster: everything that runs, and how it is wired together.

```
 manager only:  Managing ── ManagerLink ──> meshnet-manager (store, orchestration, 2377)
 every node:    DispatcherClient ── assignments ──> DataPlane ──> reconcilers
                     ^    └──────────────────> Agent ──> engine
                     ├── statuses ────────────── ┘└── sandboxes, endpoints ──> DataPlane
                     ├── LogSource <── engine
                     └── Questions <── kernel
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
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from importlib.metadata import version
from ipaddress import IPv4Address
from pathlib import Path
from typing import Final

from meshnet import ends, happened
from meshnet.errors import ConfigError, ControlError
from meshnet.gossip.config import GossipConfig
from meshnet.gossip.engine import UNREACHED_KEY, GossipEngine
from meshnet.gossip.events import Changes
from meshnet.gossip.members import State
from meshnet.gossip.runner import GossipRunner
from meshnet.gossip.signing import SEED_BYTES, Signer
from meshnet.kernel.xfrm import can_encrypt
from meshnet.model.ids import NodeId
from meshnet.model.snapshot import Gwbridge, Snapshot
from meshnet.model.wellknown import GOSSIP_PORT
from meshnet_control.agent.agent import Agent, remove_task_containers
from meshnet_control.api import control_pb2 as pb
from meshnet_control.api import explain_pb2 as xpb
from meshnet_control.cluster import gossip_records, host_routes, privileges
from meshnet_control.cluster.hosts import manager_missed
from meshnet_control.cluster.node_state import NodeState
from meshnet_control.cluster.roles import MANAGER
from meshnet_control.dataplane.overlays import Known, Overlays
from meshnet_control.dataplane.reconcilers import NodeReconcilers, Spawn
from meshnet_control.engine.client import EngineClient
from meshnet_control.engine.gwbridge_keeper import MEMORY as GWBRIDGE_MEMORY
from meshnet_control.engine.gwbridge_keeper import GwbridgeKeeper
from meshnet_control.explain import changes
from meshnet_control.identity import ca
from meshnet_control.identity.identity import Certificates, Identity
from meshnet_control.link.manager_link import ManagerLink
from meshnet_control.node import describing, dispatcher_client, peers, underlay
from meshnet_control.node.answers import Answers
from meshnet_control.node.attach_link import AttachLink, together
from meshnet_control.node.cleanup import clean_up
from meshnet_control.node.goodbye import GOODBYE_S, say_goodbye
from meshnet_control.node.identity_keeper import IdentityKeeper
from meshnet_control.node.image_sink import ImageSink
from meshnet_control.node.log_source import LogSource
from meshnet_control.node.managing import STARTING, Managing
from meshnet_control.node.path_prober import PathProber
from meshnet_control.node.questions import Questions

_log = logging.getLogger(__name__)

TASKS_S: Final = 30.0
"""For all tasks of a node that leaves to stop; their grace periods run side by side."""
WITHDRAWS_S: Final = 3.0
"""For the others to choose nothing more of a host that goes off; they take a second."""
CLEAN_S: Final = 10.0
"""For what could not be removed in order to be removed once more."""
NO_WAY: Final = "alive, no way there from here"
"""Others reach the member; no packet passes between it and this node."""
_ANY: Final = "0.0.0.0"  # noqa: S104 - gossip comes in on every address, as in Swarm


@dataclass(frozen=True)
class Places:
    """Directories of this node."""

    run_dir: Path
    state_dir: Path


@dataclass(frozen=True)
class Begins:
    """A node that is not there yet: the first of a cluster, or one that joins."""

    description: pb.NodeDescription
    """What the engine says of this host."""
    answered: Callable[[], Awaitable[None]]
    """Returns when who asked for it has been answered."""
    hurry: Callable[[], None]
    """Somebody waits for a task: ``answered`` is to return."""
    within_s: float
    """For a manager to serve."""
    ready: bool = False
    """It was born as Ready: its session can wait for ``answered``, too."""
    unlock_key: bytes = b""
    """Of a cluster that is born locked; empty: it is not."""


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
        self._identity_keeper = IdentityKeeper(identity, places.state_dir, self._saved)
        self.managing = Managing(
            places.run_dir, places.state_dir, spawn, self._certified, self._tell_hosts
        )
        self._places, self._engine, self._hostname = places, engine, hostname
        self._spawn, self._on_removed = spawn, on_removed
        self._stack = AsyncExitStack()
        self._seeds: frozenset[str] = frozenset()
        self._leaving = False
        self._begins: Begins | None = None
        self._works = asyncio.Event()
        """It has docker_gwbridge, and looks after tasks."""
        self._gwbridge_error = ""
        self._manager_away = False
        self.assignments = NodeState.of(pb.Assignments())
        self._overlays = Known()
        self._description = pb.NodeDescription()
        self.hostnames: dict[str, str] = {}
        self._heard: peers.Heard = {}
        """Of every node that is known or still heard of; a removed one is heard of for a while."""
        self.gossip: GossipRunner
        self.kernel: NodeReconcilers
        self.session: dispatcher_client.DispatcherClient
        self.agent: Agent
        self.attaching: AttachLink
        self.questions: Questions
        self._seen = Snapshot(0, NodeId(identity.node_id))
        """The last one whose changes were told."""

    async def start(self, begins: Begins | None = None) -> None:
        """Start everything.

        Args:
            begins: a manager is to serve before anything else starts, and tasks are looked after
                when who asked has been answered. None: a node goes on, and what its
                meshnet-manager has to say comes later.

        Raises:
            ControlError: a port is taken, an address is gone, the engine or the store fails; one
                sentence. What was started is stopped again, but for meshnet-manager.
        """
        self._begins = begins
        async with AsyncExitStack() as stack:
            stack.push_async_callback(self.managing.close)
            if begins is not None and self.identity.role == MANAGER:
                await self.managing.begin(
                    self.identity, within_s=begins.within_s, unlock_key=begins.unlock_key
                )
            elif self.identity.role == MANAGER:
                self.managing.follow(self.identity)
            managing = self._spawn(self.managing.run(), "meshnet-manager as wanted")
            stack.push_async_callback(ends.ended, managing)
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
        if not self._gwbridge_error:
            await ends.within(TASKS_S, self._works.wait(), "what this node begins is left")
        await ends.within(GOODBYE_S, self.attaching.leave(), "addresses of containers are kept")
        await ends.ended(self.session_task)
        await say_goodbye(self.session.identity, dial=self.session.dial)
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
    def identity(self) -> Identity:
        """This node's in the cluster, the newest; it may not be on the disk yet."""
        return self._identity_keeper.identity

    @property
    def link(self) -> ManagerLink | None:
        """To meshnet-manager; None while this node is not a manager."""
        return self.managing.link

    @property
    def not_ready(self) -> str:
        """Why this node, a manager, does not manage; empty: it does, or is none."""
        if self.identity.role != MANAGER:
            return ""
        said = self.link.error if self.link is not None else STARTING
        return self.managing.error or said

    @property
    def troubles(self) -> list[str]:
        """What this node cannot do now though it runs, a sentence each."""
        trouble = ""
        if self.link is not None and not self.link.error:
            trouble = self.link.store.trouble
        kept = self.managing.error if self.identity.role != MANAGER else ""
        ours = [each for each in (trouble, self._identity_keeper.trouble, kept) if each]
        dataplane = self.kernel.dataplane
        networks = dataplane.snapshot.networks.values()
        subnets = [(each.name, subnet) for each in networks for subnet in each.every_subnet]
        ways = host_routes.crossing(
            subnets, (*self._description.routes, *self._description.routes6)
        )
        ours += [self._gwbridge_error] if self._gwbridge_error else []
        return [*ours, *dataplane.port_troubles, *ways]

    @property
    def allows_privileged(self) -> bool:
        """Services may ask for more of this host."""
        return privileges.NODE_LABEL in self._description.engine.labels

    @property
    def overlays(self) -> Overlays:
        """What this node knows of overlay networks."""
        return self._overlays.of(self.kernel.dataplane.snapshot, self.assignments)

    def report(self, task_id: str, status: pb.TaskStatus) -> None:
        """The agent's word on a task, passed to the managers."""
        self.session.report(task_id, status)

    # ---- inside ----

    async def _follow(self, stack: AsyncExitStack) -> None:
        node_id = NodeId(self.identity.node_id)
        vtep = IPv4Address(self.identity.data_path_addr)
        mtu = underlay.mtu(vtep)
        keeper = GwbridgeKeeper(self._engine, self._places.run_dir)
        begins = self._begins
        gwbridge = None if begins is not None else await keeper.start()
        if not self.identity.gossip_key:
            fresh = replace(self.identity, gossip_key=secrets.token_bytes(SEED_BYTES))
            self._identity_keeper.keep(fresh)
        signer = Signer(self.identity.gossip_key)
        self._description = await describing.described(
            begins.description if begins else await self._engine.describe(self._hostname),
            self._places.state_dir,
            mtu=mtu,
            gossip_key=signer.public,
        )
        loop = asyncio.get_running_loop()
        gossip_engine = GossipEngine(
            GossipConfig.lan().through(mtu),
            node_id,
            (str(vtep), GOSSIP_PORT),
            time.time_ns() // 1_000_000,
            secrets.SystemRandom(),
            loop.time(),
            signer,
            gossip_records.is_well_formed,
        )
        self.kernel = NodeReconcilers(node_id, self._places.run_dir, self._spawn)
        self.kernel.on_snapshot = self._changed
        self.gossip = GossipRunner(
            gossip_engine,
            _ANY,
            GOSSIP_PORT,
            self._gossip_changed,
            self.kernel.dataplane.acknowledged,
        )
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
        self.agent = Agent(
            self._engine,
            self.kernel.dataplane,
            self.report,
            node_id=node_id,
            hostname=self._hostname,
            run_dir=self._places.run_dir,
            state_dir=self._places.state_dir,
            allows_privileged=self.allows_privileged,
        )
        stack.push_async_callback(ends.closed, self.agent.close)
        self.attaching = AttachLink(self.agent.attachments, self.agent.networks)
        answers = Answers(
            lambda: self.kernel.dataplane.snapshot,
            self._places.run_dir,
            self._places.state_dir,
            self._told,
            lambda: self.identity.managers,
        )
        stack.push_async_callback(ends.closed, answers.close)
        self.questions = Questions(
            answers.answer,
            node_id,
            self._hostname,
            lambda: self.identity.role == MANAGER,
            answers.at,
        )
        self.session = dispatcher_client.DispatcherClient(
            self.identity,
            self._description,
            self._assigned,
            on_removed=self._on_removed,
            on_identity=self._renewed,
            addr=str(vtep),
            lasting=lambda: self._identity_keeper.saved.certs,
            alongside=lambda link: together(
                link,
                LogSource(self._engine).run,
                ImageSink(self._engine).run,
                self.attaching.run,
                self.questions.run,
            ),
        )
        saving = self._spawn(self._identity_keeper.run(), "keep identity")
        stack.push_async_callback(ends.ended, saving)
        self.agent_task = self._spawn(self._work(keeper, gwbridge, mtu), "agent")
        stack.push_async_callback(ends.ended, self.agent_task)
        routes = describing.follow_routes(self._description, self.session.describe)
        stack.push_async_callback(ends.ended, self._spawn(routes, "tell of routes"))
        engine = describing.follow_engine(
            self._description,
            lambda: self._engine.describe(self._hostname),
            self.session.describe,
            can_encrypt,
        )
        stack.push_async_callback(ends.ended, self._spawn(engine, "tell of the engine"))
        self.session_task = self._spawn(self._hold_session(), "session")
        stack.push_async_callback(ends.ended, self.session_task)

    async def _work(self, keeper: GwbridgeKeeper, gwbridge: Gwbridge | None, mtu: int) -> None:
        """Wire and run tasks until cancelled; of a node that begins, not before it is answered."""
        if self._begins is not None:
            await self._begins.answered()
        if gwbridge is None:
            gwbridge = await keeper.started(self._no_gwbridge)
        self.kernel.dataplane.attach(self.gossip, gwbridge, mtu)
        self.agent.attach(gwbridge)
        self._works.set()
        prober = PathProber(
            lambda: self.kernel.dataplane.snapshot,
            lambda narrow: self.gossip.set_record(
                gossip_records.NODE_KEY, gossip_records.encode_node(mtu, narrow)
            ),
        )
        async with asyncio.TaskGroup() as group:
            group.create_task(self.agent.run(), name="tasks")
            group.create_task(keeper.run(), name="keep docker_gwbridge")
            group.create_task(prober.run(), name="look at ways to other nodes")

    def _no_gwbridge(self, why: str) -> None:
        self._gwbridge_error = why

    async def _hold_session(self) -> None:
        """Until removed or cancelled."""
        if self._begins is not None and self._begins.ready:
            await self._begins.answered()
        await self.session.run()

    def _assigned(self, assignments: NodeState) -> None:
        if self._leaving:
            return
        before, self.assignments = self.assignments, assignments
        self.gossip.set_keys(list(assignments.settings.gossip_keys))
        if assignments.nodes is not before.nodes:
            self._nodes_assigned(assignments)
        self._tell_hosts()
        if self._begins is not None and assignments.tasks:
            self._begins.hurry()
        self.kernel.dataplane.assignments(assignments, self.session.named)
        self.agent.assign(assignments)

    def _nodes_assigned(self, assignments: NodeState) -> None:
        heard = {str(node) for node in self.gossip.members()}
        self.hostnames = {
            **{node: name for node, name in self.hostnames.items() if node in heard},
            **{node.id: node.hostname for node in assignments.nodes},
        }
        self.gossip.expect({NodeId(node.id): node.gossip_key for node in assignments.nodes})
        seeds = frozenset(
            node.addr
            for node in assignments.nodes
            if node.addr and not node.down and node.id != self.identity.node_id
        )
        if seeds != self._seeds:
            self._seeds = seeds
            self.gossip.join([(addr, GOSSIP_PORT) for addr in sorted(seeds)])

    def _gossip_changed(self, changes: Changes) -> None:
        news = {place: self.gossip.record(*place) for place in changes.records}
        self.kernel.dataplane.gossip_changed(news, members=bool(changes.members))
        if self._leaving:
            return
        if changes.members:
            self._members_changed()
        elif any(key == UNREACHED_KEY for _, key in changes.records):
            self._tell_hosts()

    def _members_changed(self) -> None:
        self._tell_hosts()
        before, self._heard = self._heard, peers.heard(self._heard, self.gossip.members())
        for sentence in peers.news(before, self._heard, self.identity.node_id, self.hostnames):
            happened.note(sentence)
        self._doubt_manager()

    def _doubt_manager(self) -> None:
        """Ask the manager for a word when gossip misses its host: it may be off."""
        managers = self.assignments.settings.managers
        if not managers:
            return
        away = manager_missed(self.session.remote, managers, self._states())
        if away and not self._manager_away:
            self.session.doubt()
        self._manager_away = away

    def _tell_hosts(self) -> None:
        """Tell the manager's liveness of hosts, and ask those whose daemons gossip misses."""
        link, probe = self.managing.link, self.managing.probe
        if link is None or probe is None:
            return
        states = self._states()
        probe.watch(peers.doubtful(self.assignments.nodes, states, self.identity.node_id))
        unreached = gossip_records.decode_unreached(self.gossip.told(UNREACHED_KEY))
        link.hosts(peers.hosts(states, probe.answering, unreached))

    def _states(self) -> dict[NodeId, State]:
        return {node: member.state for node, member in self.gossip.members().items()}

    def _changed(self, snapshot: Snapshot) -> None:
        before, self._seen = self._seen, snapshot
        if not before.complete or not before.revision:
            return  # a process that starts learns what was there before
        for who, what in changes.between(before, snapshot, self.kernel.dataplane.is_unknown):
            happened.journal.record("cluster", who, what)

    def _told(self) -> xpb.HostFacts:
        """What this node knows of itself and of others, for ``meshnet doctor``."""
        troubles = filter(None, (self.not_ready, self.session.error, *self.troubles))
        found = xpb.HostFacts(
            hostname=self._hostname,
            version=version("meshnet"),
            clock=time.time(),
            certificate_ends=ca.ends_at(self.identity.certs.certificate),
            troubles=troubles,
        )
        for member in self.gossip.members().values():
            state = member.state.value if member.direct else NO_WAY
            name = self.hostnames.get(member.id, "")
            found.members.add(node_id=member.id, hostname=name, state=state)
        for status in self.kernel.statuses:
            found.reconcilers.add(
                name=status.name, error=status.error, last_round=status.last_round
            )
        return found

    def _renewed(self, identity: Identity) -> None:
        self._identity_keeper.keep(identity)
        if self.link is not None and identity.role == MANAGER:
            self.link.certify(identity)

    def _certified(self, certs: Certificates) -> None:
        """meshnet-manager has issued this node, whose certificate had ended, another one."""
        self.session.identity = replace(self.identity, certs=certs)
        self._renewed(self.session.identity)

    def _saved(self, identity: Identity) -> None:
        """The disk has it: what its role wants may follow, and the managers may be told."""
        self.session.describe()
        self.managing.follow(identity)
        self._tell_hosts()
