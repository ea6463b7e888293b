"""A manager's side of the agents' streams, and who is Ready or Down.

```
 agent ── description, statuses, heartbeats ──> read ──> store (Ready, task statuses)
 agent <── assignments, heartbeat replies ───── write <── wake: the mirror changed
```

Per node the last state sent is kept; a change of the store becomes the difference to it.

Only who leads has streams, judges nodes and writes what they say (``lead``): one writer, and no
node that is judged by a manager it does not speak to. Whoever else is asked says who leads.

Be aware: one stream per node. A newer one ends the older, whose end then says nothing about the
node. All writes of a stream are made by one task, as gRPC wants it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Callable, Mapping
from collections.abc import Set as AbstractSet
from typing import Final

import grpc

from meshnet import drops, ends
from meshnet_control.api import control_pb2 as pb
from meshnet_control.api import control_pb2_grpc
from meshnet_control.cluster import assignments
from meshnet_control.cluster.gossip_ring import Ring
from meshnet_control.cluster.hosts import Hosts
from meshnet_control.cluster.roles import MANAGER
from meshnet_control.identity.channel import CallEndedError, call_ends
from meshnet_control.identity.identity import Identity
from meshnet_control.identity.referral import refer
from meshnet_control.manager import validation
from meshnet_control.manager.agent_stream import AgentStream, Since
from meshnet_control.manager.authority import AnyContext, Authority
from meshnet_control.manager.liveness import Liveness
from meshnet_control.manager.node_writer import STATE, WAY, NodeChange, NodeWriter
from meshnet_control.manager.status_writer import StatusWriter
from meshnet_control.store import store as st

_log = logging.getLogger(__name__)

CHECK_S: Final = 0.25
FAILED: Final = "heartbeat failure"
AWAY: Final = "heartbeat failure: the host answers, its meshnetd does not"
NO_WAY: Final = "no packet passes between this node and"
LEFT: Final = "node left the swarm"
IN_KERNEL_S: Final = 5.0
"""Between a node's word that it has other keys and the moment when its kernel surely has them."""
WRITTEN_S: Final = 2.0
"""Wait for the store before a node that leaves is let go."""


class Dispatcher(control_pb2_grpc.DispatcherServicer, control_pb2_grpc.MembershipServicer):
    """The streams of all agents.

    Args:
        store: the cluster.
        authority: tells who calls.
        identity: of this manager.
        objects: the mirror's present objects.
        leader: ``host:port`` of another manager that leads; empty: unknown.
        since: what the mirror saw change after some objects of its own.
        clock: monotonic seconds.
        on_ring: a node has acknowledged another ring of gossip.
    """

    def __init__(
        self,
        store: st.Store,
        authority: Authority,
        identity: Identity,
        objects: Callable[[], assignments.Objects],
        leader: Callable[[], str] = str,
        since: Since = lambda _: None,
        clock: Callable[[], float] = time.monotonic,
        on_ring: Callable[[], None] = lambda: None,
    ) -> None:
        self._on_ring = on_ring
        self._store, self._authority, self._objects = store, authority, objects
        self._clock, self._since = clock, since
        self.identity = identity
        self._sessions: dict[str, AgentStream] = {}
        self._known: Mapping[str, pb.Node] = {}
        self._liveness = Liveness()
        self._suspects = asyncio.Event()
        self._hosts = Hosts()
        self._unreached: Mapping[str, AbstractSet[str]] = {}
        self._leader = leader
        self.leading = False
        """It has streams."""
        self._statuses: StatusWriter | None = None
        self._nodes: NodeWriter | None = None
        self.goodbyes = NodeWriter(store)
        """Of nodes that leave; any manager takes them."""

    # ---- from the manager ----

    @property
    def sessions(self) -> int:
        """Streams that are open."""
        return len(self._sessions)

    def rings(self) -> dict[str, Ring]:
        """Node -> the ring of gossip that it works with, of the nodes that are connected."""
        return {node_id: session.gossip.ring for node_id, session in self._sessions.items()}

    def overlay_rings(self) -> dict[str, Ring]:
        """The same of the ring of encrypted overlays, once a node's kernel has it, too."""
        settled = self._clock() - IN_KERNEL_S
        return {
            node_id: session.overlays.ring
            for node_id, session in self._sessions.items()
            if session.overlays.since <= settled
        }

    async def lead(self, store: st.Store) -> None:
        """Have streams, judge nodes and write, until cancelled.

        Every node that was not Down before gets the usual time to come.

        Args:
            store: written to only while this manager leads.
        """
        self._liveness = Liveness()
        self._statuses = StatusWriter(store, self.identity.node_id)
        self._nodes = NodeWriter(store)
        self._expect_ready()
        self._unreached = {}
        self.leading = True
        self.hosts(self._hosts)
        for node in self._objects().nodes.values():
            if node.status.message.startswith(NO_WAY) and node.id not in self._unreached:
                self._set_way(node.id, frozenset())  # said by who led before
        try:
            async with asyncio.TaskGroup() as group:
                for work in (self._watch_liveness(), self._statuses.run(), self._nodes.run()):
                    group.create_task(work)
        finally:
            self.leading, self._statuses, self._nodes = False, None, None
            for session in self._sessions.values():
                session.referred = True
                session.wake.set()

    def follow(self, concerned: AbstractSet[str] | None) -> None:
        """The mirror changed: the streams of these nodes look for what is new; None: all do."""
        nodes = self._objects().nodes
        if nodes is not self._known:
            for node_id in self._known:
                if node_id not in nodes:
                    self._liveness.forget(node_id)
                    if node_id in self._sessions:
                        self._sessions[node_id].removed = True
            for node in nodes.values():
                if node.status.message == LEFT and node.id not in self._sessions:
                    self._liveness.forget(node.id)  # it has said goodbye to another manager
            self._known = nodes
        for node_id, session in self._sessions.items():
            if concerned is None or node_id in concerned:
                session.look = True
                session.wake.set()

    def _expect_ready(self) -> None:
        """Give every node that was not Down before us the usual time to come back."""
        for node in self._objects().nodes.values():
            if node.status.state == "ready" or node.status.message == AWAY:
                self._liveness.expect(node.id, self._clock())

    def hosts(self, hosts: Hosts) -> None:
        """What is known of hosts now."""
        self._hosts = hosts
        if self._nodes is None:
            return
        self._liveness.hosts(hosts)
        self._suspects.set()
        before, self._unreached = self._unreached, {n: u for n, u in hosts.unreached.items() if u}
        for node_id in sorted(before.keys() | self._unreached.keys()):
            there = self._unreached.get(node_id, frozenset())
            if before.get(node_id, frozenset()) != there:
                self._set_way(node_id, there)

    async def _watch_liveness(self) -> None:
        """Sets overdue nodes Unknown or Down, until cancelled."""
        looked = self._clock()
        while True:
            period = assignments.heartbeat_ns(self._objects().cluster) / 1e9
            now = self._clock()
            self._liveness.slept(now, max(0.0, now - looked - CHECK_S))
            looked = now
            for node_id, verdict in self._liveness.overdue(now, period):
                self._end(node_id)  # an agent that was only stuck begins anew, and is Ready then
                message = FAILED if verdict == "down" else AWAY
                _log.warning("node %s: %s", node_id, message)
                if verdict == "down":
                    self._liveness.forget(node_id)
                self._change(node_id, _state(verdict, message))
            self._suspects.clear()
            try:
                async with asyncio.timeout(CHECK_S):
                    await self._suspects.wait()
            except TimeoutError:
                pass

    # ---- from agents ----

    async def Session(  # noqa: N802 - the service's name
        self, requests: AsyncIterator[pb.SessionRequest], context: AnyContext
    ) -> None:
        """One agent's stream, until it breaks, a newer one comes or the node is removed."""
        node_id = await self._authority.node(context)
        known = await self._store.get(pb.Node, node_id) if self.leading else None
        if not self.leading:  # or no more: the store takes its time, also while another one comes
            await refer(context, self._leader())
        if known is None:
            with contextlib.suppress(CallEndedError), call_ends():
                await context.write(pb.SessionReply(removed=True))
            return
        self._end(node_id)
        session = self._sessions[node_id] = AgentStream()
        self._liveness.opened(node_id, self._clock())
        jobs = {
            asyncio.ensure_future(self._read(node_id, session, requests, context)),
            asyncio.ensure_future(self._write(node_id, session, context)),
        }
        try:
            done, _ = await asyncio.wait(jobs, return_when=asyncio.FIRST_COMPLETED)
            for job in done:
                if not job.cancelled():
                    job.result()
        except CallEndedError as error:
            _log.debug("session of node %s: %s", node_id, error)
        except validation.InvalidError as error:
            drops.count("manager: session of a node that cannot be")
            _log.warning("session of node %s: %s", node_id, error)
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
        finally:
            await ends.ended(*jobs)
            if self._sessions.get(node_id) is session:
                del self._sessions[node_id]
                self._liveness.closed(node_id, self._clock())
                self._suspects.set()
        if session.referred:
            await refer(context, self._leader())

    async def Leave(  # noqa: N802 - the service's name
        self, request: pb.LeaveRequest, context: AnyContext
    ) -> pb.LeaveReply:
        """The calling node is Down from now on, and no manager if it resigns, unless the last.

        Who resigns before it was ever Ready has not become a node: it is forgotten.
        """
        node_id = await self._authority.node(context)
        self._liveness.forget(node_id)
        self._end(node_id)
        if request.resigns and await self._forgotten(node_id):
            return pb.LeaveReply()
        gone = _state("down", LEFT)
        written = self.goodbyes.set(node_id, gone, resigns=request.resigns)
        await asyncio.wait({written}, timeout=WRITTEN_S)
        return pb.LeaveReply()

    async def _forgotten(self, node_id: str) -> bool:
        """Remove a node that was never Ready; False: it was, or it cannot be written now.

        A manager only while there are others, as they are when it is written; etcd's member of that
        name is put out by who leads (``membership``).
        """
        new = pb.NodeStatus(state="unknown")  # AWAY, which was Ready once, has a message
        while True:
            node = await self._store.get(pb.Node, node_id)
            if node is None or _said(node) != new:
                return False
            expect: st.Expect = {(pb.Node, node_id): node.version.index}
            if node.spec.role == MANAGER:
                every = await self._store.list(pb.Node)
                others = [n for n in every if n.id != node_id and n.spec.role == MANAGER]
                if not others:
                    return False
                expect = {**expect, **{(pb.Node, n.id): n.version.index for n in others}}
            try:
                await self._store.commit([st.Delete(pb.Node, node_id)], expect=expect)
            except st.OutOfSequenceError:
                continue  # it was given an address, say: read again
            except st.StoreError:
                return False
            return True

    async def _read(
        self,
        node_id: str,
        session: AgentStream,
        requests: AsyncIterator[pb.SessionRequest],
        context: AnyContext,
    ) -> None:
        coming = aiter(requests)
        while not session.over:
            with call_ends():
                request = await anext(coming, None)
            if request is None or session.over:
                return
            self._liveness.heard(node_id, self._clock())
            if session.acknowledged(request.acked, self._clock()):
                self._on_ring()
            if request.HasField("description"):
                self._described(node_id, request, context)
            for update in request.statuses:
                self._reported(node_id, update)
            session.beat = True
            session.wake.set()

    def _described(self, node_id: str, request: pb.SessionRequest, context: AnyContext) -> None:
        """Ready, as it says of itself.

        Raises:
            InvalidError: what it says cannot be.
        """
        addr = validation.address(request.addr or self._authority.address(context))
        told = validation.address(request.advertised or addr)
        validation.description(request.description)
        self._set_ready(node_id, request.description, told, addr)
        if node_id in self._unreached:  # it said what it is, not whom it reaches
            self._set_way(node_id, self._unreached[node_id])

    def _reported(self, node_id: str, update: pb.TaskStatusUpdate) -> None:
        """Take a status unless it cannot be, or is of another node's task.

        What waits to be written is never more than one status of each task, and none of a task that
        is there is dropped: one that we do not know (yet) is looked for in the store.
        """
        task = self._objects().tasks.get(update.task_id)
        try:
            if task is not None:
                validation.owner(task, node_id)
            validation.status(update.status)
        except validation.InvalidError as error:
            drops.count("manager: status of a task that cannot be")
            _log.warning("node %s, task %.32r: %s", node_id, update.task_id, error)
            return
        if self._statuses is not None:
            self._statuses.add(node_id, update, known=task is not None)

    async def _write(self, node_id: str, session: AgentStream, context: AnyContext) -> None:
        while not session.over:
            await session.wake.wait()
            session.wake.clear()
            if session.over:
                return
            reply = session.due(self._objects(), node_id, self._since)
            if reply is not None:
                with call_ends():
                    await context.write(reply)

    def _end(self, node_id: str) -> None:
        session = self._sessions.pop(node_id, None)
        if session is not None:
            session.closed = True
            session.wake.set()

    # ---- the node in the store ----

    def _set_ready(
        self, node_id: str, description: pb.NodeDescription, told: str, addr: str
    ) -> None:
        def change(node: pb.Node) -> None:
            kept = pb.TLSInfo()
            kept.CopyFrom(node.description.tls_info)
            node.description.CopyFrom(description)
            if not description.HasField("tls_info"):  # a node of the version before
                node.description.tls_info.CopyFrom(kept)
            node.status.CopyFrom(pb.NodeStatus(state="ready", addr=told, data_path_addr=addr))

        self._change(node_id, change)

    def _set_way(self, node_id: str, unreached: AbstractSet[str]) -> None:
        """Say in a node's status whom it does not reach though others do; nobody: nothing."""
        known = self._objects().nodes
        nodes = (known.get(n, pb.Node(id=n)) for n in unreached)
        names = sorted(node.description.hostname or node.id for node in nodes)
        message = f"{NO_WAY} {', '.join(names)}" if names else ""

        def change(node: pb.Node) -> None:
            if node.status.state == "ready":
                node.status.message = message

        self._change(node_id, change, WAY)

    def _change(self, node_id: str, change: NodeChange, about: str = STATE) -> None:
        if self._nodes is not None:
            self._nodes.set(node_id, change, about=about)


def _said(node: pb.Node) -> pb.NodeStatus:
    return pb.NodeStatus(state=node.status.state, message=node.status.message)


def _state(state: str, message: str) -> NodeChange:
    def change(node: pb.Node) -> None:
        node.status.state = state
        node.status.message = message

    return change
