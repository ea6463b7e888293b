"""Feeds the reconcilers: assignments, gossip and local sandboxes become Snapshots.

```
 Assignments ─┐                      ┌─> overlay   ─┐
 gossip ──────┼─> snapshot.build() ─┼─> gwbridge   ├─ kernel thread
 sandboxes ───┘     Snapshot n       ├─> lb (nft)  ─┘
                                     └─> resolver ─── resolver thread
```

One asyncio loop owns the inputs; whatever changes, the next Snapshot is made once, at the end of
the loop's turn. Withdrawals are acknowledged: every node gossips the epoch of each peer's endpoints
that its kernel has applied, so ``drained`` knows when the last node stopped sending.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Protocol

import msgpack

from meshnet.gossip.members import Member
from meshnet.model.ids import NodeId, TaskId
from meshnet.model.snapshot import Endpoint, Gwbridge, Sandbox, Snapshot
from meshnet.reconcile import Reconciler
from meshnet_control.api import control_pb2 as pb
from meshnet_control.cluster import gossip_records
from meshnet_control.dataplane import snapshot

_log = logging.getLogger(__name__)

EPOCH_KEY: Final = "epoch"
"""Gossip record: how often this node's endpoints changed."""
APPLIED_KEY: Final = "applied"
"""Gossip record: epoch of each node's endpoints that our kernel holds."""
DRAIN_S: Final = 3.0
"""Longest wait for acknowledgements; a node that is stuck must not keep a task from stopping."""


class Gossip(Protocol):
    """What the data plane needs of gossip (meshnet.gossip.runner.GossipRunner)."""

    def members(self) -> Mapping[NodeId, Member]:
        """Every member known."""
        ...

    def records(self) -> Mapping[tuple[NodeId, str], bytes]:
        """Records of the members that take part."""
        ...

    def set_record(self, key: str, value: bytes | None) -> None:
        """Changes one of our records."""
        ...

    @property
    def synced(self) -> bool:
        """Has exchanged state with a peer."""
        ...


class DataPlane:
    """The inputs of one node and the reconcilers that realise them.

    Args:
        self_id: this node.
        reconcilers: all of them get every Snapshot.
        on_snapshot: called with each new Snapshot (watchers follow the namespaces in it).
    """

    def __init__(
        self,
        self_id: NodeId,
        reconcilers: Sequence[Reconciler[Any, Any, Any]],
        on_snapshot: Callable[[Snapshot], None] = lambda _: None,
    ) -> None:
        self._self_id = self_id
        self._reconcilers = tuple(reconcilers)
        self._on_snapshot = on_snapshot
        self._gossip: Gossip | None = None
        self._assignments: pb.Assignments | None = None
        self._sandboxes: dict[TaskId, Sandbox] = {}
        self._endpoints: dict[TaskId, Endpoint] = {}
        self._gwbridge: Gwbridge | None = None
        self._epoch = 0
        self._adopted = False
        self._scheduled = False
        self._changed = asyncio.Event()
        self._acks: set[asyncio.Task[None]] = set()
        self.snapshot = Snapshot(revision=0, self_id=self_id, complete=False)

    # ---- inputs ----

    def attach(self, gossip: Gossip, gwbridge: Gwbridge, underlay_mtu: int) -> None:
        """Gives the data plane its gossip and the local engine's bridge; call once."""
        self._gossip, self._gwbridge = gossip, gwbridge
        gossip.set_record(gossip_records.NODE_KEY, gossip_records.encode_node(underlay_mtu))
        gossip.set_record(EPOCH_KEY, msgpack.packb(self._epoch))

    def assignments(self, assignments: pb.Assignments) -> None:
        """Everything the managers said so far, merged."""
        self._assignments = assignments
        self._schedule()

    def gossip_changed(self) -> None:
        """Members or records are new."""
        self._schedule()

    def adopted(self) -> None:
        """The agent has found every container that survived a restart of this process."""
        self._adopted = True
        self._schedule()

    def sandbox_added(self, sandbox: Sandbox) -> None:
        """A container of ours has a network namespace."""
        self._sandboxes[sandbox.task] = sandbox
        self._schedule()

    def sandbox_removed(self, task: TaskId) -> None:
        """A container of ours is gone."""
        if self._sandboxes.pop(task, None) is not None:
            self._schedule()

    def endpoint(self, task: TaskId, endpoint: Endpoint | None) -> None:
        """What this node says of one of its endpoints; None: it is gone."""
        if self._endpoints.get(task) == endpoint or self._gossip is None:
            return
        if endpoint is None:
            del self._endpoints[task]
        else:
            self._endpoints[task] = endpoint
        value = gossip_records.encode_endpoint(endpoint) if endpoint is not None else None
        self._gossip.set_record(gossip_records.endpoint_key(task), value)
        self._epoch += 1
        self._gossip.set_record(EPOCH_KEY, msgpack.packb(self._epoch))
        self._schedule()

    # ---- waiting ----

    async def ready(self, task: TaskId) -> None:
        """Returns when the kernel holds everything the task's sandbox needs."""
        while task not in self.snapshot.sandboxes:
            await self._next_change()
        revision = self.snapshot.revision
        await asyncio.gather(*(r.applied(revision) for r in self._reconcilers))

    async def drained(self, _task: TaskId) -> None:
        """Returns when every live node has applied what we last said of our endpoints.

        Waits no longer than DRAIN_S.
        """
        epoch = self._epoch
        try:
            async with asyncio.timeout(DRAIN_S):
                while not self._acknowledged(epoch):
                    await self._next_change()
        except TimeoutError:
            _log.warning("not every node acknowledged that task %s is withdrawn", _task)

    async def settled(self) -> None:
        """Returns when the newest Snapshot is in the kernel."""
        await asyncio.gather(*(r.applied(self.snapshot.revision) for r in self._reconcilers))

    async def close(self) -> None:
        """Stops waiting for acknowledgements; the kernel is left as it is."""
        for task in list(self._acks):
            task.cancel()
        await asyncio.gather(*self._acks, return_exceptions=True)

    # ---- inside ----

    def _schedule(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._rebuild)

    def _rebuild(self) -> None:
        self._scheduled = False
        if self._assignments is None or self._gossip is None:
            return
        members, known = self._gossip.members(), self._gossip.records()
        alone = all(node.id == self._self_id for node in self._assignments.nodes)
        fresh = snapshot.build(
            revision=self.snapshot.revision,
            self_id=self._self_id,
            assignments=self._assignments,
            members=members,
            records=known,
            sandboxes=self._sandboxes,
            gwbridge=self._gwbridge,
            complete=self._adopted and (self._gossip.synced or alone),
            before=self.snapshot.networks,
        )
        if fresh != self.snapshot:
            self.snapshot = snapshot.numbered(fresh, self.snapshot.revision + 1)
            self._on_snapshot(self.snapshot)
            for reconciler in self._reconcilers:
                reconciler.submit(self.snapshot)
        self._acknowledge(known)
        self._notify()

    def _acknowledge(self, known: Mapping[tuple[NodeId, str], bytes]) -> None:
        """Once the kernel holds this Snapshot, say which epochs it came from."""
        epochs = {owner: _number(v) for (owner, key), v in known.items() if key == EPOCH_KEY}
        revision = self.snapshot.revision

        async def say() -> None:
            await asyncio.gather(*(r.applied(revision) for r in self._reconcilers))
            if self._gossip is not None:
                value = msgpack.packb(dict(sorted(epochs.items())))
                self._gossip.set_record(APPLIED_KEY, value)
                self._notify()

        task = asyncio.get_running_loop().create_task(say())
        self._acks.add(task)
        task.add_done_callback(self._acks.discard)

    def _acknowledged(self, epoch: int) -> bool:
        if self._gossip is None:
            return True
        known = self._gossip.records()
        return all(
            _applied(known.get((node, APPLIED_KEY), b"")).get(self._self_id, 0) >= epoch
            for node in self.snapshot.nodes
        )

    def _notify(self) -> None:
        # Whoever waits holds the old event; a check and the next wait never miss a change between.
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    async def _next_change(self) -> None:
        await self._changed.wait()


def _number(value: bytes) -> int:
    try:
        number = msgpack.unpackb(value)
    except (ValueError, msgpack.UnpackException):
        return 0
    return number if isinstance(number, int) else 0


def _applied(value: bytes) -> dict[NodeId, int]:
    try:
        applied = msgpack.unpackb(value)
    except (ValueError, msgpack.UnpackException):
        return {}
    return applied if isinstance(applied, dict) else {}
