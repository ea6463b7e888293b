"""Feeds the reconcilers: assignments, gossip and local sandboxes become Snapshots.

```
 Assignments ─┐                      ┌─> overlay   ─┐
 gossip ──────┼─> snapshot.build() ─┼─> gwbridge   ├─ kernel thread
 host probe ──┤     Snapshot n       ├─> lb (nft)  ─┘
 sandboxes ───┘                      └─> resolver ─── resolver thread
                                             │ after each round: who waits looks again
        gossip <── epochs that are applied ──┘
```

One asyncio loop owns the inputs; whatever changes, the next Snapshot is made once, at the end of
the loop's turn. Withdrawals are acknowledged: every node gossips the epoch of each peer's endpoints
that it chooses from, so ``drained`` knows when the last node stopped sending.

Be aware: an epoch begins at the time of the process's start, so that what others acknowledged to an
earlier process is never taken for an answer to this one.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import replace
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any, Protocol

import msgpack

from meshnet.gossip.members import Member
from meshnet.kernel.netns import NETNS_DIR
from meshnet.model.ids import NodeId, TaskId
from meshnet.model.snapshot import Endpoint, Gwbridge, Sandbox, Snapshot
from meshnet.reconcile import Reconciler
from meshnet_control.api import control_pb2 as pb
from meshnet_control.cluster import gossip_records
from meshnet_control.dataplane import claims, concerns, known_records, liveness, snapshot

_log = logging.getLogger(__name__)


class Gossip(Protocol):
    """What the data plane needs of gossip (meshnet.gossip.runner.GossipRunner)."""

    def members(self) -> Mapping[NodeId, Member]:
        """Every member known."""
        ...

    def records(self) -> Mapping[tuple[NodeId, str], bytes]:
        """Records of the members that take part."""
        ...

    def all_records(self) -> Mapping[tuple[NodeId, str], bytes]:
        """Records of every member known: what each last said."""
        ...

    def set_record(self, key: str, value: bytes | None) -> None:
        """Changes one of our records."""
        ...


class Probe(Protocol):
    """What the data plane needs to know of hosts (meshnet.kernel.host_probe.HostProbe)."""

    @property
    def answering(self) -> Mapping[NodeId, bool]:
        """Node -> whether its host answers; a node that is not in it is not known (yet)."""
        ...

    def watch(self, hosts: Mapping[NodeId, IPv4Address]) -> None:
        """Ask exactly these from now on."""
        ...

    async def close(self) -> None:
        """Stop asking."""
        ...


class DataPlane:
    """The inputs of one node and the reconcilers that realise them.

    Args:
        self_id: this node.
        reconcilers: all of them get every Snapshot.
        probe: makes what asks the hosts of silent daemons; gets what to call with its news.
        on_snapshot: called with each new Snapshot (watchers follow the namespaces in it).
        netns_dir: where the networks' namespaces are named.
        wall: Unix time in seconds; the first epoch.
    """

    def __init__(
        self,
        self_id: NodeId,
        reconcilers: Sequence[Reconciler[Any, Any, Any]],
        probe: Callable[[Callable[[], None]], Probe],
        on_snapshot: Callable[[Snapshot], None] = lambda _: None,
        *,
        netns_dir: Path = NETNS_DIR,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._self_id = self_id
        self._reconcilers = tuple(reconcilers)
        self._probe = probe(self.changed)
        self._on_snapshot = on_snapshot
        self._netns_dir = netns_dir
        self._gossip: Gossip | None = None
        self._assignments: pb.Assignments | None = None
        self._known: gossip_records.Records = {}
        self._sandboxes: dict[TaskId, Sandbox] = {}
        self._endpoints: dict[TaskId, Endpoint] = {}
        self._gwbridge: Gwbridge | None = None
        self._epoch = int(wall() * 1000)
        self._adopted = False
        self._withdrawn = False
        self._impatient: asyncio.TimerHandle | None = None
        self._patient = True
        self._scheduled = False
        self._closed = False
        self._changed = asyncio.Event()
        self._acknowledged: dict[NodeId, int] = {}
        self._lost: dict[TaskId, frozenset[claims.Place]] = {}
        self.snapshot = Snapshot(revision=0, self_id=self_id, complete=False)
        for reconciler in self._reconcilers:
            reconciler.on_round = self._round_made

    # ---- inputs ----

    def attach(self, gossip: Gossip, gwbridge: Gwbridge, underlay_mtu: int) -> None:
        """Gives the data plane its gossip and the local engine's bridge; call once."""
        self._gossip, self._gwbridge = gossip, gwbridge
        gossip.set_record(gossip_records.NODE_KEY, gossip_records.encode_node(underlay_mtu))

    def assignments(self, assignments: pb.Assignments) -> None:
        """Everything the managers said so far, merged."""
        self._assignments = assignments
        self.changed()

    def gossip_changed(self) -> None:
        """Members or records are new."""
        self.changed()

    def changed(self) -> None:
        """Something that a Snapshot is made of is new: make the next one soon."""
        if not (self._scheduled or self._closed):
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._rebuild)

    def nothing_ran(self) -> None:
        """No container survived: the others choose none of ours until we say so again.

        What is in the kernel waits for ``adopted`` all the same.
        """
        if not self._closed:
            self._tell_epoch()

    def adopted(self) -> None:
        """The agent has found every container that survived a restart of this process."""
        if self._adopted or self._closed:
            return
        self._adopted = True
        loop = asyncio.get_running_loop()
        self._impatient = loop.call_later(liveness.PATIENCE_S, self._lose_patience)
        self._tell_epoch()
        self.changed()

    def sandbox_added(self, sandbox: Sandbox) -> None:
        """A container of ours has a network namespace."""
        self._sandboxes[sandbox.task] = sandbox
        self.changed()

    def sandbox_removed(self, task: TaskId) -> None:
        """A container of ours is gone."""
        if self._sandboxes.pop(task, None) is not None:
            self.changed()

    def endpoint(self, task: TaskId, endpoint: Endpoint | None) -> None:
        """What this node says of one of its endpoints; None: it is gone."""
        if endpoint is not None and self._withdrawn:
            endpoint = replace(endpoint, ready=False)
        if self._endpoints.get(task) == endpoint or self._gossip is None or self._closed:
            return
        if endpoint is None:
            del self._endpoints[task]
        else:
            self._endpoints[task] = endpoint
        value = gossip_records.encode_endpoint(endpoint) if endpoint is not None else None
        self._gossip.set_record(gossip_records.endpoint_key(task), value)
        self._epoch += 1
        if self._adopted:
            self._tell_epoch()
        self.changed()

    # ---- waiting ----

    async def ready(self, task: TaskId) -> None:
        """Returns when the kernel holds everything the task's sandbox needs."""
        while not self._is_ready(task):
            await self._next_change()

    def trouble(self, task: TaskId) -> str:
        """Why the task's sandbox is not ready, one sentence for each reason; empty: nothing failed.

        It may be that nothing failed and it is not ready yet.
        """
        sandbox = self._sandboxes.get(task)
        if sandbox is None:
            return ""
        needs = concerns.of_sandbox(sandbox, self._netns_dir)
        errors = [error for r in self._reconcilers for error in r.troubles(needs)]
        lost = _not_ours(self._lost.get(task, frozenset()))
        return "; ".join(dict.fromkeys([*map(str, errors), *lost]))

    async def drained(self, task: TaskId, within_s: float) -> None:
        """Returns when no node chooses what we withdrew any more.

        Args:
            task: whose endpoint was withdrawn, for the log.
            within_s: longest wait, seconds: how long the task may take to stop.
        """
        names = await self._chosen_by(within_s)
        if names:
            _log.warning("task %s stops although it may still be chosen by %s", task, names)

    async def withdraw(self, within_s: float) -> None:
        """Nothing of this node is to be chosen any more, whatever the agent says from now on.

        Returns when no node chooses of it, or after ``within_s`` seconds.
        """
        self._withdrawn = True
        for task, endpoint in list(self._endpoints.items()):
            self.endpoint(task, endpoint)
        names = await self._chosen_by(within_s)
        if names:
            _log.warning("this node ends although %s may still choose what runs here", names)

    def unaware(self, epoch: int) -> list[NodeId]:
        """Nodes that may still choose what we withdrew with ``epoch``, ascending."""
        if self._gossip is None:
            return []
        told = self._gossip.records()
        gone = self._gone()
        return sorted(
            node
            for node in self.snapshot.nodes
            if node not in gone and known_records.applied(told, node, self._self_id) < epoch
        )

    async def settled(self) -> None:
        """Returns when the newest Snapshot is in the kernel."""
        await asyncio.gather(*(r.applied(self.snapshot.revision) for r in self._reconcilers))

    # ---- ending ----

    async def empty(self) -> None:
        """Takes everything of ours from this host; no Snapshot follows.

        Returns when it is done; bound the wait.
        """
        self._stop()
        revision = self.snapshot.revision + 1
        self.snapshot = Snapshot(revision=revision, self_id=self._self_id, complete=True)
        for reconciler in self._reconcilers:
            reconciler.submit(self.snapshot)
        await self.settled()

    async def close(self) -> None:
        """No Snapshot follows; the kernel is left as it is."""
        self._stop()
        await self._probe.close()

    # ---- inside ----

    async def _chosen_by(self, within_s: float) -> str:
        """Names of the nodes that may still choose what was withdrawn, after that time."""
        epoch = self._epoch
        try:
            async with asyncio.timeout(within_s):
                while self.unaware(epoch):
                    await self._next_change()
        except TimeoutError:
            return ", ".join(self._hostname(node) for node in self.unaware(epoch))
        return ""

    def _stop(self) -> None:
        self._closed = True
        if self._impatient is not None:
            self._impatient.cancel()

    def _lose_patience(self) -> None:
        self._patient = False
        self.changed()

    def _rebuild(self) -> None:
        self._scheduled = False
        if self._assignments is None or self._gossip is None or self._closed:
            return
        members = self._gossip.members()
        nodes = {NodeId(node.id): node.addr for node in self._assignments.nodes if node.addr}
        down = {NodeId(node.id) for node in self._assignments.nodes if node.down}
        others = nodes.keys() - {self._self_id}
        self._known = known_records.remembered(self._known, self._gossip.all_records(), nodes)
        self._probe.watch(
            {node: IPv4Address(nodes[node]) for node in liveness.doubtful(others - down, members)}
        )
        fresh = snapshot.build(
            revision=self.snapshot.revision,
            self_id=self._self_id,
            assignments=self._assignments,
            gone=(self._gone() | liveness.cut(self._self_id, members, self._known)) & others,
            records=self._known,
            sandboxes=self._sandboxes,
            gwbridge=self._gwbridge,
            complete=self.snapshot.complete or self._is_complete(others - down, members),
            before=self.snapshot.networks,
        )
        self._tell_lost(claims.lost(self._endpoints, fresh.endpoints))
        if fresh != self.snapshot:
            before = self.snapshot
            self.snapshot = snapshot.numbered(fresh, before.revision + 1)
            self._on_snapshot(self.snapshot)
            for reconciler in self._in_order(before):
                reconciler.submit(self.snapshot)
        self._notify()

    def _in_order(self, before: Snapshot) -> Sequence[Reconciler[Any, Any, Any]]:
        """How a member is reached comes before it is chosen; a withdrawal need not wait for that.

        They share a thread, and to read hundreds of namespaces takes seconds.
        """
        if not snapshot.only_withdraws(before, self.snapshot):
            return self._reconcilers
        return sorted(self._reconcilers, key=lambda each: not each.operations.chooses)

    def _tell_lost(self, lost: dict[TaskId, frozenset[claims.Place]]) -> None:
        for task, places in sorted(lost.items()):
            for why in _not_ours(places - self._lost.get(task, frozenset())):
                _log.warning("task %s: %s", task, why)
        self._lost = lost

    def _is_complete(self, others: Set[NodeId], members: Mapping[NodeId, Member]) -> bool:
        """Whether we know as much as the process before us did."""
        spoke = known_records.epochs(self._known).keys()
        all_spoke = liveness.all_spoke(others, members, self._probe.answering, spoke)
        return self._adopted and (all_spoke or not self._patient)

    def _gone(self) -> frozenset[NodeId]:
        """Nodes of which nothing serves or sends any more, by the managers' word or by gossip's."""
        if self._assignments is None or self._gossip is None:
            return frozenset()
        members, answering = self._gossip.members(), self._probe.answering
        nodes = {NodeId(node.id): node.down for node in self._assignments.nodes}
        return frozenset(
            n
            for n, down in nodes.items()
            if down or liveness.is_gone(members.get(n), answering=answering.get(n))
        )

    def _is_ready(self, task: TaskId) -> bool:
        sandbox = self._sandboxes.get(task)
        if sandbox is None:
            return False
        needs = concerns.of_sandbox(sandbox, self._netns_dir)
        return all(
            r.tried is not None and r.tried.sandboxes.get(task) == sandbox and r.holds(needs)
            for r in self._reconcilers
        )

    def _round_made(self) -> None:
        """A reconciler has news for whoever waits, here or on another node."""
        self._acknowledge()
        self._notify()

    def _acknowledge(self) -> None:
        """Say which epochs of our peers' endpoints we choose from."""
        if self._gossip is None or self._closed:
            return
        choosing = [r for r in self._reconcilers if r.operations.chooses]
        tried = [r.tried for r in choosing if r.tried is not None and r.tried.complete]
        if len(tried) < len(choosing) or not tried:
            return
        fresh = {
            peer: epoch
            for peer, epoch in min(tried, key=lambda each: each.revision).epochs.items()
            if all(
                not r.failures or r.holds(concerns.of_peer(peer, each))
                for r, each in zip(choosing, tried, strict=True)
            )
        }
        all_said = sorted({**self._acknowledged, **fresh}.items())
        said = {peer: epoch for peer, epoch in all_said if peer in self.snapshot.nodes}
        if said != self._acknowledged:
            before = gossip_records.encode_applied(self._acknowledged)
            now = gossip_records.encode_applied(said)
            self._acknowledged = said
            for key in sorted(before.keys() | now.keys()):
                if before.get(key) != now.get(key):
                    self._gossip.set_record(key, now.get(key))

    def _tell_epoch(self) -> None:
        if self._gossip is not None:
            self._gossip.set_record(gossip_records.EPOCH_KEY, msgpack.packb(self._epoch))

    def _hostname(self, node: NodeId) -> str:
        known = self.snapshot.nodes.get(node)
        return known.hostname if known is not None else node

    def _notify(self) -> None:
        # Whoever waits holds the old event; a check and the next wait never miss a change between.
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    async def _next_change(self) -> None:
        await self._changed.wait()


def _not_ours(places: Set[claims.Place]) -> list[str]:
    return [
        f"{address} on network {network} is not this task's any more: the managers gave it to "
        "another one since, which gets what is sent there"
        for network, address in sorted(places)
    ]
