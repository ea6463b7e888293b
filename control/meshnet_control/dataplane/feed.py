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
the loop's turn. Epochs of our endpoints are acknowledged: ``drained`` asks every node that hears of
them from which one it chooses, so it knows when the last node stopped sending; ``ready`` asks those
that a container shares a network with, so that they answer its first packet. What is said on a
network has an epoch of its own, as not everybody hears of it (``taking_part``).

Be aware: an epoch is of one process, so what others acknowledged to an earlier one is never taken
for an answer to this one.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from meshnet.gossip.acknowledgements import reaches
from meshnet.gossip.members import Member
from meshnet.gossip.shares import TO_ALL, Share, parts, share_of
from meshnet.kernel.netns import NETNS_DIR
from meshnet.model.ids import NetworkId, NodeId, TaskId
from meshnet.model.snapshot import Endpoint, Gwbridge, Sandbox, Snapshot
from meshnet.reconcile import Reconciler
from meshnet_control.api import control_pb2 as pb
from meshnet_control.cluster import gossip_records
from meshnet_control.cluster.gossip_records import Epoch
from meshnet_control.dataplane import aware, claims, concerns, liveness, snapshot, taking_part
from meshnet_control.dataplane.builder import Builder
from meshnet_control.dataplane.host_ports import OthersPorts, PublishedPorts, Sockets
from meshnet_control.dataplane.judge import Judge
from meshnet_control.dataplane.known_records import News
from meshnet_control.dataplane.sayings import Sayings
from meshnet_control.dataplane.sources import Gossip, Probe
from meshnet_control.dataplane.taking_part import Following

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
        on_snapshot: called with each new Snapshot (watchers follow the namespaces in it).
        netns_dir: where the networks' namespaces are named.
        wall: Unix time in seconds; the generation of our epochs.
    """

    def __init__(
        self,
        self_id: NodeId,
        reconcilers: Sequence[Reconciler[Any, Any, Any]],
        probe: Callable[[Callable[[], None]], Probe],
        sockets: Sockets,
        on_snapshot: Callable[[Snapshot], None] = lambda _: None,
        *,
        netns_dir: Path = NETNS_DIR,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._self_id = self_id
        self._reconcilers = tuple(reconcilers)
        self._probe = probe(self.changed)
        self._judge = Judge(self_id, self._probe)
        self._ports = PublishedPorts(sockets)
        self._on_snapshot = on_snapshot
        self._netns_dir = netns_dir
        self._gossip: Gossip | None = None
        self._assignments: pb.Assignments | None = None
        self._builder = Builder(self_id)
        self._heard: dict[tuple[NodeId, str], bytes | None] | None = None
        self._sandboxes: Mapping[TaskId, Sandbox] = {}
        self._endpoints: dict[TaskId, Endpoint] = {}
        self._gwbridge: Gwbridge | None = None
        self._sayings = Sayings(int(wall() * 1000))
        self._following = Following()
        self._everywhere: frozenset[NetworkId] = frozenset()
        self._waiting: list[tuple[Mapping[str, Epoch], Set[NodeId] | None]] = []
        self._placed: dict[TaskId, Mapping[str, Epoch]] = {}
        """With which epochs each task of ours got the addresses that it has, by network."""
        self._withdrawn = False
        self._impatient: asyncio.TimerHandle | None = None
        self._patient = True
        self._scheduled = False
        self._closed = False
        self._changed = asyncio.Event()
        self._applied: dict[Share, Epoch] = {}
        self._lost: dict[TaskId, frozenset[claims.Place]] = {}
        self.snapshot = Snapshot(revision=0, self_id=self_id, complete=False)
        for reconciler in self._reconcilers:
            reconciler.on_round = self._round_made

    # ---- inputs ----

    def attach(self, gossip: Gossip, gwbridge: Gwbridge, underlay_mtu: int) -> None:
        """Gives the data plane its gossip and the local engine's bridge; call once."""
        self._gossip, self._gwbridge = gossip, gwbridge
        gossip.set_record(gossip_records.NODE_KEY, gossip_records.encode_node(underlay_mtu))
        self._take_part()

    def assignments(self, assignments: pb.Assignments) -> None:
        """Everything the managers said so far, merged."""
        self._assignments = assignments
        self._judge.assigned(assignments)
        self._everywhere |= taking_part.everywhere(assignments)
        self._take_part()
        self.changed()

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
            asyncio.get_running_loop().call_soon(self._rebuild)

    def nothing_ran(self) -> None:
        """No container survived: the others choose none of ours until we say so again.

        What is in the kernel waits for ``adopted`` all the same.
        """
        if self._gossip is not None and not self._closed:
            self._sayings.tell_epochs(self._gossip)

    def adopted(self) -> None:
        """The agent has found every container that survived a restart of this process."""
        if self._sayings.adopted or self._closed:
            return
        self._sayings.adopted = True
        loop = asyncio.get_running_loop()
        self._impatient = loop.call_later(liveness.PATIENCE_S, self._lose_patience)
        if self._gossip is not None:
            self._sayings.tell_epochs(self._gossip)
        self.changed()

    def sandbox_added(self, sandbox: Sandbox) -> None:
        """A container of ours has a network namespace."""
        self._sandboxes = {**self._sandboxes, sandbox.task: sandbox}
        self._everywhere |= sandbox.mesh
        self._take_part()
        self._schedule()

    def sandbox_removed(self, task: TaskId) -> None:
        """A container of ours is gone."""
        if task in self._sandboxes:
            self._sandboxes = {t: box for t, box in self._sandboxes.items() if t != task}
            self._take_part()
            self._schedule()

    def endpoint(self, task: TaskId, endpoint: Endpoint | None) -> None:
        """What this node says of one of its endpoints; None: it is gone."""
        if endpoint is not None and self._withdrawn:
            endpoint = replace(endpoint, ready=False)
        if self._endpoints.get(task) == endpoint or self._gossip is None or self._closed:
            return
        before = self._endpoints.pop(task, None)
        if endpoint is not None:
            self._endpoints[task] = endpoint
        self._sayings.say(self._gossip, task, endpoint, self._everywhere)
        if endpoint is None:
            self._placed.pop(task, None)
        elif before is None or before.addresses != endpoint.addresses:
            epochs = self._sayings.epochs(task)
            self._placed[task] = {net: epoch for net, epoch in epochs.items() if net != TO_ALL}
        self._schedule()

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
        if self._gossip is None or network in self._everywhere:
            return False
        if network in self._following.networks:
            since = self._following.since([network])
            return since is None or since >= self.snapshot.revision
        return not self._gossip.audiences.hears(self._self_id, network)

    @property
    def port_troubles(self) -> list[str]:
        """What is published and does not lead to its service on this node, a sentence each."""
        return self._ports.troubles()

    # ---- waiting ----

    async def news(self) -> None:
        """Returns when there is another Snapshot, or may be."""
        await self._changed.wait()

    async def ready(self, task: TaskId) -> None:
        """Returns when the kernel holds everything the task's sandbox needs.

        And when the nodes that it shares a network with know the way to it, or after ``KNOWN_S``.
        """
        while not self._is_ready(task):
            await self.news()
        epochs = self._placed.get(task)
        if epochs and self._sayings.adopted and self._gossip is not None:
            sharing = aware.sharing(task, self.snapshot, self._gossip.members())
            if unaware := await self._unaware_after(epochs, KNOWN_S, sharing):
                names = ", ".join(map(self._hostname, unaware))
                _log.info("task %s begins although %s may not know the way to it", task, names)

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
        names = await self._chosen_by(self._sayings.epochs(task), within_s)
        if names:
            _log.warning("task %s stops although it may still be chosen by %s", task, names)

    async def withdraw(self, within_s: float) -> None:
        """Nothing of this node is to be chosen any more, whatever the agent says from now on.

        Returns when no node chooses of it, or after ``within_s`` seconds.
        """
        self._withdrawn = True
        for task, endpoint in list(self._endpoints.items()):
            self.endpoint(task, endpoint)
        names = await self._chosen_by(self._sayings.epochs(), within_s)
        if names:
            _log.warning("this node ends although %s may still choose what runs here", names)

    def unaware(self, epochs: Mapping[str, Epoch], of: Set[NodeId] | None = None) -> list[NodeId]:
        """Nodes that may still choose what we withdrew, ascending.

        Args:
            epochs: network, or to all -> with which it was.
            of: these nodes alone; None: all.
        """
        if self._gossip is not None and self._assignments is not None:
            self._judge.look(self._gossip.members(), self._builder.unreached)
        some = self.snapshot.nodes if of is None else of
        return sorted(node for node in some if self._may_choose(node, epochs))

    def acknowledged(self) -> None:
        """Some node chooses from a newer epoch of ours."""
        self._notify()

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

    async def _chosen_by(self, epochs: Mapping[str, Epoch], within_s: float) -> str:
        """Names of the nodes that may still choose what was withdrawn, after that time."""
        return ", ".join(map(self._hostname, await self._unaware_after(epochs, within_s)))

    async def _unaware_after(
        self, epochs: Mapping[str, Epoch], within_s: float, of: Set[NodeId] | None = None
    ) -> list[NodeId]:
        """Nodes, of these or all, that have not acknowledged the epochs after that time."""
        waiting = (epochs, of)
        self._waiting.append(waiting)
        try:
            async with asyncio.timeout(within_s):
                while unaware := self.unaware(epochs, of):
                    self._ask()
                    while self._may_choose(unaware[0], epochs):  # one answers for all that wait
                        await self.news()
        except TimeoutError:
            return self.unaware(epochs, of)
        finally:
            self._waiting.remove(waiting)
            self._ask()
        return []

    def _may_choose(self, node: NodeId, epochs: Mapping[str, Epoch]) -> bool:
        """Whether a node is there and chooses from an older epoch of ours."""
        there = node in self.snapshot.nodes and node not in self._judge.gone
        return there and bool(self._unanswered(node, epochs))

    def _unanswered(self, node: NodeId, epochs: Mapping[str, Epoch]) -> list[str]:
        """On which of these networks a node hears of us and has not applied our epoch."""
        if self._gossip is None:
            return []
        here = node == self._self_id
        told = self._applied if here else self._gossip.acknowledged()
        hears = self._gossip.audiences.hears
        return [
            network
            for network, epoch in epochs.items()
            if hears(node, network) and not reaches(told.get(share_of(node, network)), epoch)
        ]

    def _ask(self) -> None:
        """Of the epochs that are waited for the newest: who chooses from it has the others."""
        if self._gossip is None or self._closed:
            return
        newest: dict[str, Epoch] = {}
        some: set[NodeId] = set()
        for epochs, of in self._waiting:
            newest |= {n: max(epoch, newest.get(n, epoch)) for n, epoch in epochs.items()}
            some |= self.snapshot.nodes.keys() if of is None else of
        self._gossip.ask(
            {
                share_of(node, network): newest[network]
                for node in (self.unaware(newest, some) if newest else [])
                if node != self._self_id
                for network in self._unanswered(node, newest)
            }
        )

    def _stop(self) -> None:
        self._closed = True
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
        members = self._gossip.members()
        self._judge.look(members, self._builder.unreached)
        before = self.snapshot
        heard = self._following.heard(
            self._self_id, self._gossip.audiences, self._judge.gone, self._builder.epochs
        )
        built = self._builder.build(
            before,
            assignments=self._assignments,
            gone=self._judge.not_chosen,
            doubted=self._judge.doubted,
            sandboxes=self._sandboxes,
            gwbridge=self._gwbridge,
            complete=before.complete or self._is_complete(members, heard),
        )
        fresh = self._ports.keep(before, built)
        self._following.note(heard, fresh.revision)
        self._tell_lost(claims.lost(self._endpoints, fresh.endpoints))
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
        if not self._sayings.adopted:
            return False
        spoke = self._judge.all_spoke(members, set(map(NodeId, self._builder.epochs)))
        return (spoke and self._following.whole_with(heard)) or not self._patient

    def _is_ready(self, task: TaskId) -> bool:
        sandbox = self._sandboxes.get(task)
        if sandbox is None:
            return False
        needs = concerns.of_sandbox(sandbox, self._netns_dir)
        whole = self._following.since(network for network, _ in sandbox.networks)
        return whole is not None and all(
            r.tried is not None
            and r.tried.revision >= whole
            and r.tried.sandboxes.get(task) == sandbox
            and r.holds(needs)
            for r in self._reconcilers
        )

    def _take_part(self) -> None:
        """Be on the networks of what runs or is to run here."""
        if self._gossip is None or self._closed:
            return
        networks = taking_part.networks_of(
            self._assignments, self._self_id, self._sandboxes.values(), self._everywhere
        )
        if networks == self._following.networks:
            return
        new = self._following.follow(networks)
        self._gossip.take_part(networks)
        self._sayings.begin(self._gossip, new)
        asyncio.get_running_loop().call_later(taking_part.PATIENCE_S, self._hurry, new)
        self._schedule()

    def _hurry(self, networks: Set[str]) -> None:
        """Who has said nothing on these by now is not waited for."""
        if self._following.hurry(networks):
            self._schedule()

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
        oldest = min(tried, key=lambda each: each.revision)
        unreached = self._not_reached(oldest)
        new = {
            share: epoch
            for share, epoch in oldest.epochs.items()
            if self._applied.get(share) != epoch and share not in unreached
        }
        failing = [
            (r, each, concerns.networks_of_peers(each))
            for r, each in zip(choosing, tried, strict=True)
            if new and r.failures
        ]
        fresh = {
            share: epoch
            for share, epoch in new.items()
            if all(
                r.holds(concerns.of_networks(_networks_in(share, on), each))
                for r, each, on in failing
            )
        }
        all_said = {**self._applied, **fresh}
        hears = self._gossip.audiences.hears
        said = {
            share: epoch
            for share, epoch in all_said.items()
            if parts(share)[0] in self.snapshot.nodes and hears(self._self_id, parts(share)[1])
        }
        if said != self._applied:
            self._applied = said
            self._gossip.applied(said)

    def _not_reached(self, chosen_of: Snapshot) -> Set[Share]:
        """Nodes, on networks, with tasks that the kernel may have no way to yet."""
        made = [r.tried for r in self._reconcilers if not r.operations.chooses]
        found = (aware.not_reached(chosen_of, each) for each in made if each is not None)
        return frozenset[Share]().union(*found)

    def _hostname(self, node: NodeId) -> str:
        known = self.snapshot.nodes.get(node)
        return known.hostname if known is not None else node

    def _notify(self) -> None:
        # Whoever waits holds the old event; a check and the next wait never miss a change between.
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()


def _networks_in(share: Share, on: Mapping[NodeId, Set[NetworkId]]) -> Set[NetworkId]:
    """What endpoints of a share are on, of what all of its owner's are on."""
    owner, network = parts(share)
    return frozenset({NetworkId(network)}) if network else on.get(owner, frozenset())


def _not_ours(places: Set[claims.Place]) -> list[str]:
    return [
        f"{address} on network {network} is not this task's any more: the managers gave it to "
        "another one since, which gets what is sent there"
        for network, address in sorted(places)
    ]
