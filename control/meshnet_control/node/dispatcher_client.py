"""A node's side of the dispatcher: one stream to one manager, for as long as the node lives.

```
 run():  manager ── stream ── broken, or another one leads ──> the next one (``turns``)
 stream: description and statuses, heartbeats ──>     <── full assignments, then differences
```

Statuses survive a broken stream: the newest status of every task the managers still name is sent
again on the next one; managers ignore what they know already.

Be aware: nothing is forgotten when the stream breaks. The last assignments hold until a manager
says otherwise; only ``removed`` ends a node, and only a manager of this cluster can say it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Final, TypeAlias

import grpc.aio

from meshnet import ends
from meshnet.errors import ControlError, WireError
from meshnet_control.api import control_pb2 as pb
from meshnet_control.api import control_pb2_grpc
from meshnet_control.cluster.named import Named, named
from meshnet_control.cluster.node_state import NodeState, merge
from meshnet_control.identity import ca
from meshnet_control.identity.channel import CallEndedError, call_ends, channel
from meshnet_control.identity.identity import Certificates, Identity, remotes
from meshnet_control.identity.join import join
from meshnet_control.node.turns import Turns

__all__ = ["DispatcherClient", "join", "leave", "renew"]

_log = logging.getLogger(__name__)

HEARTBEAT_S: Final = 1.0
"""Until the manager has said its period."""
SILENT_PERIODS: Final = 3
ANSWER_S: Final = 5.0
"""A manager that has not answered a new stream by then is not there."""
DOUBT_S: Final = 1.0
"""For an answer of a manager whose host seems to be gone."""
LEAVE_S: Final = 3.0
TEXT: Final = 4096
"""Characters of a status's texts that managers take; an engine's error may be longer."""
STATUSES: Final = 256
"""Of one message; a manager bounds what it takes at once."""
AnyCall: TypeAlias = grpc.aio.StreamStreamCall[pb.SessionRequest, pb.SessionReply]
Dial: TypeAlias = Callable[[str, Certificates], grpc.aio.Channel]
"""``identity.channel``, or what stands for it: a channel to a manager at ``host:port``."""


class DispatcherClient:
    """Keeps a session with one of the managers.

    Args:
        identity: of this node; its managers are where to begin.
        description: what the node says of itself.
        on_assignments: called with the whole merged state after each message.
        on_removed: called once when the cluster no longer knows this node; ``run`` then returns.
        on_identity: called with a changed identity (renewed certificate, other managers), to keep.
        addr: what other nodes reach this one at; empty: managers take what they see.
        lasting: the certificates that outlive a restart; managers are told of those alone, for who
            comes back with one of a root that they have dropped is lost. None: all do at once.
        alongside: other work on each connection, for as long as it lasts; must not end by itself.
        dial: how a manager is reached.

    Attributes:
        named: what the last message was of (``cluster.named``).
    """

    def __init__(
        self,
        identity: Identity,
        description: pb.NodeDescription,
        on_assignments: Callable[[NodeState], None],
        *,
        on_removed: Callable[[], None] = lambda: None,
        on_identity: Callable[[Identity], None] = lambda _: None,
        addr: str = "",
        lasting: Callable[[], Certificates] | None = None,
        alongside: Callable[[grpc.aio.Channel], Awaitable[None]] | None = None,
        dial: Dial = channel,
    ) -> None:
        self.identity = identity
        self.connected = False
        """A manager has answered on the present stream."""
        self.error = ""
        """Why there is no stream; empty while there is one."""
        self.remote = ""
        """``host:port`` of the manager that is asked now."""
        self._description = description
        self._on_assignments, self._on_removed = on_assignments, on_removed
        self._on_identity = on_identity
        self._addr, self._lasting, self._alongside = addr, lasting, alongside
        self.dial = dial
        self._state: NodeState | None = None
        self.named: Named | None = None
        self._statuses: dict[str, pb.TaskStatus] = {}
        self._unsent: set[str] = set()
        self._describe_again = False
        self._wake = asyncio.Event()
        self._doubt, self._heard = asyncio.Event(), asyncio.Event()
        self._told = False
        """On the present stream, what this node is to do."""
        self._renew_after = 0.0

    def report(self, task_id: str, status: pb.TaskStatus) -> None:
        """Tell the managers a task's status; kept until the task is no longer ours."""
        kept = pb.TaskStatus()
        kept.CopyFrom(status)
        kept.message, kept.err = status.message[:TEXT], status.err[:TEXT]
        self._statuses[task_id] = kept
        self._unsent.add(task_id)
        self._wake.set()

    def describe(self) -> None:
        """Tell the managers what this node is: ``lasting`` has changed."""
        self._describe_again = True
        self._wake.set()

    def doubt(self) -> None:
        """The host of the manager may be gone: it answers a question, or another one is asked."""
        self._doubt.set()

    async def run(self) -> None:
        """Until the node is removed from the cluster, or cancelled."""
        turns, clock = Turns(random.random), asyncio.get_running_loop().time
        while True:
            self.remote, wait = turns.next(self.identity.managers, clock())
            await asyncio.sleep(wait)
            ended: Exception | None = None
            removed = False
            try:
                removed = await self._stream(self.remote, turns.reach_s(self.remote))
            except (CallEndedError, WireError, TimeoutError, ControlError) as error:
                ended, self.error = error, f"manager {self.remote}: {_reason(error)}"
                _log.info("%s", self.error)
            if removed:
                self._on_removed()
                return
            if self.connected:
                self.connected = False
                turns.served(self.remote, self.identity.managers)
            if ended is None:
                turns.repeat(self.remote)
            elif isinstance(ended, CallEndedError) and ended.leader is not None:
                turns.referred(self.remote, ended.leader, clock())
            else:
                turns.silent(self.remote, clock())

    async def _stream(self, remote: str, reach_s: float) -> bool:
        """One stream until it ends; True: this node was removed."""
        if not remote:
            raise ControlError("no manager is known")
        self._told = False
        self._doubt.clear()
        async with self.dial(self.identity.way_to(remote), self.identity.certs) as link:
            call = control_pb2_grpc.DispatcherStub(link).Session()
            jobs: set[asyncio.Task[bool]] = set()
            try:
                async with asyncio.timeout(reach_s):
                    with call_ends():
                        await call.wait_for_connection()
                jobs = {
                    asyncio.ensure_future(self._receive(call)),
                    asyncio.ensure_future(self._send(call)),
                    asyncio.ensure_future(self._ask(remote)),
                    asyncio.ensure_future(self._keep_certificate(link)),
                }
                if self._alongside is not None:
                    jobs.add(asyncio.ensure_future(_never_over(self._alongside(link))))
                done, _ = await asyncio.wait(jobs, return_when=asyncio.FIRST_COMPLETED)
                return await self._outcome(call, done)
            finally:
                call.cancel()
                await ends.ended(*jobs)

    async def _outcome(self, call: AnyCall, done: set[asyncio.Task[bool]]) -> bool:
        """Of jobs that are over. Whichever noticed it first, the manager's own word comes first."""
        try:
            return any([_result(job) for job in done])  # noqa: C419 - every error is to be seen
        except (CallEndedError, TimeoutError):
            if call.done():
                with call_ends():
                    await call.read()
            raise

    async def _send(self, call: AnyCall) -> bool:
        self._unsent.update(self._statuses)
        self._describe_again = True
        while True:
            self._wake.clear()
            told = self._state if self._told else None  # versions are of one stream
            request = pb.SessionRequest(acked=told.version if told is not None else 0)
            if self._describe_again:
                self._describe_again = False
                request.description.CopyFrom(self._description)
                certs = self._lasting() if self._lasting is not None else self.identity.certs
                request.description.tls_info.CopyFrom(ca.tls_info_of(certs.certificate, certs.root))
                request.addr = self._addr
                request.advertised = self.identity.advertise_addr.rpartition(":")[0]
            for task_id in sorted(self._unsent)[:STATUSES]:
                request.statuses.add(task_id=task_id, status=self._statuses[task_id])
                self._unsent.discard(task_id)
            with call_ends():
                await call.write(request)
            if self._unsent:
                continue
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), self._period)

    async def _receive(self, call: AnyCall) -> bool:
        state, limit = None, ANSWER_S
        while True:
            with call_ends():
                reply = await asyncio.wait_for(call.read(), limit)
            if not isinstance(reply, pb.SessionReply):
                raise WireError(peer="manager", why=f"stream ended: {await _last_word(call)}")
            if reply.removed:
                return True
            self.connected, self.error = True, ""
            self._heard.set()
            if reply.HasField("assignments"):
                state = merge(state, reply.assignments)
                self.named = named(reply.assignments)
                self._accept(state)
            limit = max(self._period * SILENT_PERIODS, ANSWER_S)

    def _accept(self, state: NodeState) -> None:
        self._state, self._told = state, True
        ours = {task.id for task in state.tasks}
        for task_id in self._statuses.keys() - ours:
            del self._statuses[task_id]
            self._unsent.discard(task_id)
        managers = remotes(state.settings.managers)
        if managers and managers != self.identity.managers:
            self._change(replace(self.identity, managers=managers))
        self._on_assignments(state)
        self._wake.set()  # acknowledge

    async def _ask(self, remote: str) -> bool:
        """Whether the manager is there, whenever that is in doubt. Ends the stream if not."""
        while True:
            await self._doubt.wait()
            self._doubt.clear()
            self._heard.clear()
            self._wake.set()
            try:
                await asyncio.wait_for(self._heard.wait(), DOUBT_S)
            except TimeoutError:
                raise WireError(peer=remote, why="it and its host do not answer") from None

    async def _keep_certificate(self, link: grpc.aio.Channel) -> bool:
        """Renew in time, or when role or root changed; trust the new root then. Ends the stream."""
        while True:
            told = trusting(self.identity, self._state)
            if told is not None:
                self._change(told)
                return False
            if time.time() >= max(self._renewal_due(), self._renew_after):
                try:
                    self._change(await renew(self.identity, link))
                except (CallEndedError, ControlError) as error:
                    _log.warning("certificate not renewed: %s", _reason(error))
                    self._renew_after = time.time() + 60
                else:
                    return False
            await asyncio.sleep(self._period)

    def _renewal_due(self) -> float:
        """When this node needs another certificate, Unix seconds."""
        if self._state is not None and self._told:  # what was said before may be old
            own = self._state.nodes.get(self.identity.node_id)
            certs = self.identity.certs
            issuer = ca.tls_info_of(certs.certificate, certs.root).cert_issuer_public_key
            if own is not None and own.role not in {"", self.identity.role}:
                return 0.0
            if self._state.settings.issuer_key not in {b"", issuer}:
                return 0.0
        return ca.renew_at(self.identity.certs.certificate, self.identity.node_id)

    def _change(self, identity: Identity) -> None:
        self.identity = identity
        self._on_identity(identity)

    @property
    def _period(self) -> float:
        said = self._state.heartbeat_period / 1e9 if self._state else 0.0
        return said or HEARTBEAT_S


async def _never_over(work: Awaitable[None]) -> bool:
    await work
    return False


def _result(job: asyncio.Task[bool]) -> bool:
    if job.cancelled():  # by nobody here: its call was, because the other half of it failed
        raise CallEndedError("the stream was cancelled")
    return job.result()


async def _last_word(call: AnyCall) -> str:
    """Why a stream ended; it has not when what came was no message of ours."""
    try:
        async with asyncio.timeout(ANSWER_S):
            with call_ends():
                return str(await call.details())
    except (TimeoutError, CallEndedError) as error:
        return str(error) or "not a message of a manager"


async def renew(identity: Identity, link: grpc.aio.Channel) -> Identity:
    """A new key and certificate for a node, from a manager it is connected to.

    Raises:
        CallEndedError: refused or unreachable.
        ControlError: the certificate received is not this node's.
    """
    key, csr = ca.new_csr()
    with call_ends():
        stub = control_pb2_grpc.CAStub(link)
        addr = identity.advertise_addr.partition(":")[0]
        request = pb.IssueRequest(csr=csr, manager_addr=addr)
        reply = await stub.Issue(request, timeout=ANSWER_S)
    try:
        who = ca.peer(reply.certificate, identity.certs.root, {}, identity.cluster_id)
    except ValueError:  # not a certificate
        who = None
    if who is None or who.node_id != identity.node_id:
        raise ControlError("a manager sent a certificate that is not this node's")
    certs = Certificates(key=key, certificate=reply.certificate, root=identity.certs.root)
    return replace(identity, certs=certs, role=who.role)


def trusting(identity: Identity, state: NodeState | None) -> Identity | None:
    """The same node with the root that managers tell it to trust; PURE.

    Returns:
        None when nothing changes: it is trusted already, or has not signed this node's own
        certificate, without which no manager would know it under that root.
    """
    root = state.settings.trust_root if state is not None else b""
    if root in {b"", identity.certs.root}:
        return None
    try:
        who = ca.peer(identity.certs.certificate, root, {}, identity.cluster_id)
    except ValueError:  # not a certificate
        return None
    return replace(identity, certs=replace(identity.certs, root=root)) if who is not None else None


async def leave(identity: Identity, *, resigns: bool = False, dial: Dial = channel) -> bool:
    """Say goodbye to a manager.

    Args:
        identity: of this node.
        resigns: it could not become the node that it was to be.
        dial: how a manager is reached.

    Returns:
        Whether one of them heard it; a node may leave without.
    """
    for remote in identity.managers:
        async with dial(remote, identity.certs) as link:
            try:
                stub = control_pb2_grpc.MembershipStub(link)
                with call_ends():
                    await stub.Leave(pb.LeaveRequest(resigns=resigns), timeout=LEAVE_S)
            except CallEndedError as error:
                _log.info("leave: manager %s: %s", remote, _reason(error))
            else:
                return True
    return False


def _reason(error: Exception) -> str:
    return str(error) or "no answer"
