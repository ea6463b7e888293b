"""Feeds the reconcilers: assignments, gossip and local sandboxes become Snapshots.

```
 Assignments ─┐                      ┌─> overlay   ─┐
 gossip ──────┼─> builder.build() ──┼─> gwbridge   ├─ kernel thread
 host probe ──┤     Snapshot n       ├─> lb (nft)  ─┘
 sandboxes ───┘                      └─> resolver ─── resolver thread
                                             │ after each round: who waits looks again
        gossip <── epochs that are applied ──┘  told to whoever asks
```

One asyncio loop owns the inputs; whatever changes, the next Snapshot is made once, at the end of
the loop's turn. Epochs of our endpoints (``own``) are acknowledged (``applied``): ``drained`` asks
every node that hears of them from which one it chooses (``awaited``), so it knows when the last
node stopped sending; ``ready`` asks those that a container shares a network with, so that they
answer its first packet.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence, Set
from pathlib import Path
from typing import Any, Final

from meshnet.gossip.members import Member
from meshnet.kernel.netns import NETNS_DIR
from meshnet.model.ids import NodeId, TaskId
from meshnet.model.snapshot import Endpoint, Gwbridge, Sandbox, Snapshot
from meshnet.reconcile import Reconciler
from meshnet_control.cluster.named import Named
from meshnet_control.cluster.node_state import NodeState
from meshnet_control.dataplane import aware, claims, concerns, connections, liveness, snapshot
from meshnet_control.dataplane.applied import Applied
from meshnet_control.dataplane.awaited import Awaited
from meshnet_control.dataplane.builder import Builder
from meshnet_control.dataplane.host_ports import OthersPorts, PublishedPorts, Sockets
from meshnet_control.dataplane.judge import Judge
from meshnet_control.dataplane.known_records import News
from meshnet_control.dataplane.own import Own
from meshnet_control.dataplane.sources import Flows, Gossip, Probe

_log = logging.getLogger(__name__)

KNOWN_S: Final = 1.0
"""Longest wait of a program that could begin for those who shall answer it, seconds."""


class DataPlane:
    """The inputs of one node and the reconcilers that realise them.

    Args:
        self_id: this node.
        reconcilers: all of them get every Snapshot.
        probe: makes what asks the hosts of silent daemons; gets what to call with its news.
        sockets: hold what is published on this host.
        flows: read what conntrack knows in a namespace.
        on_snapshot: called with each new Snapshot (watchers follow the namespaces in it).
        netns_dir: where the networks' namespaces are named.
        wall: Unix time in seconds; the generation of our epochs.
        pause_s: how long after something is new a Snapshot is made, of all that is by then.

    Attributes:
        own: what is on this node, and said of it.
        snapshot: the newest.
    """

    def __init__(
        self,
        self_id: NodeId,
        reconcilers: Sequence[Reconciler[Any, Any, Any]],
        probe: Callable[[Callable[[], None]], Probe],
        sockets: Sockets,
        flows: Flows,
        on_snapshot: Callable[[Snapshot], None] = lambda _: None,
        *,
        netns_dir: Path = NETNS_DIR,
        wall: Callable[[], float] = time.time,
        pause_s: float = 0.0,
    ) -> None:
        self._self_id = self_id
        self._reconcilers = tuple(reconcilers)
        self._probe = probe(self.changed)
        self._judge = Judge(self_id, self._probe)
        self._ports = PublishedPorts(sockets)
        self._flows = flows
        self._on_snapshot = on_snapshot
        self._netns_dir = netns_dir
        self._pause_s = pause_s
        self._gossip: Gossip | None = None
        self._assignments: NodeState | None = None
        self._named: Named | None = None
        self._builder = Builder(self_id)
        self._heard: dict[tuple[NodeId, str], bytes | None] | None = None
        self._gwbridge: Gwbridge | None = None
        self.own = Own(self_id, int(wall() * 1000), self._schedule)
        self._applied = Applied(self_id, self._reconcilers)
        self._awaited = Awaited(
            self_id, self._applied, self._judge, self._look, lambda: self.snapshot.nodes
        )
        self._impatient: asyncio.TimerHandle | None = None
        self._patient = True
        self._scheduled = False
        self._closed = False
        self._lost: dict[TaskId, frozenset[claims.Place]] = {}
        self.snapshot = Snapshot(revision=0, self_id=self_id, complete=False)
        for reconciler in self._reconcilers:
            reconciler.on_round = self._round_made

    # ---- inputs ----

    def attach(self, gossip: Gossip, gwbridge: Gwbridge, underlay_mtu: int) -> None:
        """Gives the data plane its gossip and the local engine's bridge; call once."""
        self._gossip, self._gwbridge = gossip, gwbridge
        self.own.attach(gossip, underlay_mtu)
        self._awaited.attach(gossip)

    def assignments(self, assignments: NodeState, named: Named | None = None) -> None:
        """The managers said something.

        Args:
            assignments: everything that they said so far, merged.
            named: what in it may be other than in what this was called with last; None: anything.
        """
        self._assignments = assignments
        if self._named is not None:
            self._named = None if named is None else self._named | named
        self._judge.assigned(assignments)
        self.own.assigned(assignments)
        self._schedule()

    def gossip_changed(self, news: News | None = None, *, members: bool = True) -> None:
        """Members or records are new.

        Args:
            news: the records that are new, of any member, our own among them; None: look at all.
            members: whether any member's state is.
        """
        if news is None:
            self._heard = None
        elif self._heard is not None:
            self._heard.update(news)
        if members:
            self._judge.doubt()
        self._schedule()

    def changed(self) -> None:
        """Something that a Snapshot is made of is new: make the next one soon."""
        self._judge.doubt()
        self._schedule()

    def _schedule(self) -> None:
        if not (self._scheduled or self._closed):
            self._scheduled = True
            loop = asyncio.get_running_loop()
            if self._pause_s:
                loop.call_later(self._pause_s, self._rebuild)
            else:
                loop.call_soon(self._rebuild)

    def nothing_ran(self) -> None:
        """No container survived: the others choose none of ours until we say so again.

        What is in the kernel waits for ``adopted`` all the same.
        """
        self.own.tell_epochs()

    def adopted(self) -> None:
        """The agent has found every container that survived a restart of this process."""
        if self.own.is_adopted or self._closed:
            return
        loop = asyncio.get_running_loop()
        self._impatient = loop.call_later(liveness.PATIENCE_S, self._lose_patience)
        self.own.adopted()
        self.changed()

    def sandbox_added(self, sandbox: Sandbox) -> None:
        """A container of ours has a network namespace."""
        self.own.sandbox_added(sandbox)

    def sandbox_removed(self, task: TaskId) -> None:
        """A container of ours is gone."""
        self.own.sandbox_removed(task)

    def endpoint(self, task: TaskId, endpoint: Endpoint | None) -> None:
        """What this node says of one of its endpoints; None: it is gone."""
        self.own.endpoint(task, endpoint)

    def look(self) -> None:
        """Look for what nobody tells of: whether a port that was taken is free."""
        if not self._closed and self._ports.look():
            self._schedule()

    # ---- asked ----

    def ports_of_others(self, task: TaskId) -> OthersPorts:
        """Ports of this host that a task's container cannot have when it starts."""
        return self._ports.of_others(self.snapshot, task)

    def is_unknown(self, network: str) -> bool:
        """Whether this node does not hear of a network, or did not before this Snapshot."""
        return self.own.is_unknown(network, self.snapshot.revision)

    def is_ready(self, task: TaskId) -> bool:
        """Whether the kernel holds everything that the task's sandbox needs."""
        sandbox = self.own.sandboxes.get(task)
        if sandbox is None:
            return False
        needs = concerns.of_sandbox(sandbox, self._netns_dir)
        whole = self.own.following.since(network for network, _ in sandbox.networks)
        return whole is not None and all(
            r.tried is not None
            and r.tried.revision >= whole
            and r.tried.sandboxes.get(task) == sandbox
            and r.holds(needs)
            for r in self._reconcilers
        )

    @property
    def port_troubles(self) -> list[str]:
        """What is published and does not lead to its service on this node, a sentence each."""
        return self._ports.troubles()

    # ---- waiting ----

    async def news(self) -> None:
        """Returns when there is another Snapshot, or may be."""
        await self._awaited.news()

    async def ready(self, task: TaskId) -> None:
        """Returns when the kernel holds everything the task's sandbox needs.

        And when the nodes that it shares a network with know the way to it, or after ``KNOWN_S``.
        """
        while not self.is_ready(task):
            await self.news()
        epochs = self.own.placed(task)
        if epochs and self.own.is_adopted and self._gossip is not None:
            sharing = aware.sharing(task, self.snapshot, self._gossip.members())
            if names := await self._awaited.unaware_after(epochs, KNOWN_S, sharing):
                _log.info("task %s begins although %s may not know the way to it", task, names)

    def trouble(self, task: TaskId) -> str:
        """Why the task's sandbox is not ready, one sentence for each reason; empty: nothing failed.

        It may be that nothing failed and it is not ready yet.
        """
        sandbox = self.own.sandboxes.get(task)
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
        names = await self._awaited.unaware_after(self.own.epochs(task), within_s)
        if names:
            _log.warning("task %s stops although it may still be chosen by %s", task, names)

    def others_serve(self, task: TaskId) -> bool:
        """Another task of the service of one of ours takes new connections."""
        return connections.others_serve(self.snapshot, task)

    async def connections(self, task: TaskId) -> int:
        """How many TCP connections others have open to a task of ours.

        Raises:
            MeshnetError: the kernel does not say.
        """
        sandbox = self.own.sandboxes.get(task)
        if sandbox is None:
            return 0
        return connections.open_to(sandbox, await self._flows(sandbox.netns))

    async def withdraw(self, within_s: float) -> None:
        """Nothing of this node is to be chosen any more, whatever the agent says from now on.

        Returns when no node chooses of it, or after ``within_s`` seconds.
        """
        self.own.withdraw()
        names = await self._awaited.unaware_after(self.own.epochs(), within_s)
        if names:
            _log.warning("this node ends although %s may still choose what runs here", names)

    def acknowledged(self) -> None:
        """Some node chooses from a newer epoch of ours."""
        self._awaited.notify()

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

    def _stop(self) -> None:
        self._closed = True
        self.own.close()
        self._awaited.close()
        self._ports.close()
        if self._impatient is not None:
            self._impatient.cancel()

    def _lose_patience(self) -> None:
        self._patient = False
        self.changed()

    def _rebuild(self) -> None:
        self._scheduled = False
        if self._assignments is None or self._gossip is None or self._closed:
            return
        self._listen(self._gossip)
        self._look()
        before = self.snapshot
        heard = self.own.following.heard(
            self._self_id, self._gossip.audiences, self._judge.gone, self._builder.epochs
        )
        built = self._builder.build(
            before,
            assignments=self._assignments,
            named=self._named,
            gone=self._judge.not_chosen,
            doubted=self._judge.doubted,
            sandboxes=self.own.sandboxes,
            gwbridge=self._gwbridge,
            complete=before.complete or self._is_complete(self._gossip.members(), heard),
        )
        self._named = Named()
        fresh = self._ports.keep(before, built)
        self.own.following.note(heard, fresh.revision)
        self._tell_lost(claims.lost(self.own.endpoints, fresh.endpoints))
        if fresh is not before:
            self.snapshot = fresh
            self._on_snapshot(fresh)
            for reconciler in self._in_order(before):
                tried = reconciler.tried
                less = (
                    reconciler.operations.chooses
                    and tried is not None
                    and snapshot.only_withdraws(tried, fresh)
                )
                reconciler.submit(fresh, less=less)
        self._awaited.notify()

    def _look(self) -> None:
        """Judge who is there, if anything that says so is new."""
        if self._gossip is not None and self._assignments is not None:
            self._judge.look(self._gossip.members(), self._builder.unreached)

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

    def _listen(self, gossip: Gossip) -> None:
        """Take what nodes said since the last Snapshot."""
        if self._heard is None:
            self._builder.records.tell_all(gossip.all_records())
        else:
            self._builder.records.tell(self._heard)
        self._heard = {}
        unreached = self._builder.unreached
        self._builder.follow(self._judge.nodes, gossip.audiences.heard(self._self_id))
        if self._builder.unreached is not unreached:
            self._judge.doubt()

    def _is_complete(self, members: Mapping[NodeId, Member], heard: Set[str]) -> bool:
        """Whether we know as much as the process before us did."""
        if not self.own.is_adopted:
            return False
        spoke = self._judge.all_spoke(members, set(map(NodeId, self._builder.epochs)))
        return (spoke and self.own.following.whole_with(heard)) or not self._patient

    def _round_made(self) -> None:
        """A reconciler has news for whoever waits, here or on another node."""
        if self._gossip is not None and not self._closed:
            self._applied.say(self._gossip, self.snapshot)
        self._awaited.notify()


def _not_ours(places: Set[claims.Place]) -> list[str]:
    return [
        f"{address} on network {network} is not this task's any more: the managers gave it to "
        "another one since, which gets what is sent there"
        for network, address in sorted(places)
    ]
