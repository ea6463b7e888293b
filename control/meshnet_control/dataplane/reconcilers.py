"""The reconcilers of a host, their threads and what wakes them: the kernel's side of a node.

```
 host probe ──> DataPlane
 DataPlane ── Snapshot ──> Reconciler overlay, gwbridge, lb    one kernel thread (setns is safe);
                      │                                        a withdrawal goes between namespaces
                      └──> Reconciler resolver                 a thread of its own: it may wait
 DataPlane <── conntrack                                       one more, while something drains
 Watchers ── an event ──> poke
```
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from meshnet import ends
from meshnet.gwbridge.operations import GwbridgeOperations
from meshnet.kernel import flow_reader
from meshnet.kernel.events import NFT_CHANGED, Watchers
from meshnet.kernel.file_events import REMOVED, WRITTEN, FileEvents
from meshnet.kernel.host_probe import HostProbe
from meshnet.kernel.netns import NETNS_DIR
from meshnet.kernel.nft import NftOperations
from meshnet.kernel.reserved_ports import ReservedPorts
from meshnet.kernel.rtnl import Watch, watch_nothing
from meshnet.kernel.thread import KernelThread
from meshnet.model.ids import NodeId
from meshnet.model.snapshot import Snapshot
from meshnet.model.wellknown import GOSSIP_PORT
from meshnet.nft.flows import Flow
from meshnet.overlay.desired import netns_name
from meshnet.overlay.operations import OverlayOperations
from meshnet.reconcile import Operations, Reconciler, ReconcilerStatus
from meshnet_control.dataplane.feed import DataPlane
from meshnet_dns import redirect
from meshnet_dns.operations import ResolverOperations
from meshnet_lb.rules import Rules

_LOOK_S: Final = 1.0
"""How long a namespace may have been replaced before it is noticed."""
_EMPTY_S: Final = 15.0
"""Longest wait for the kernel to be empty when a node leaves."""

Spawn = Callable[[Coroutine[Any, Any, None], str], asyncio.Task[None]]


def kernel_operations(
    give_way: Callable[[], None] = lambda: None,
    watch: Watch = watch_nothing,
    on_life: Callable[[bytes], None] = lambda _: None,
) -> tuple[Operations[Any, Any, Any], ...]:
    """Every kind of state that is in the kernel; the arguments are those of ``OverlayOperations``.

    ``on_life`` is called in the kernel thread.
    """
    return (
        OverlayOperations(give_way=give_way, watch=watch, on_life=on_life),
        GwbridgeOperations(give_way=give_way, watch=watch),
        NftOperations([Rules().rulesets, redirect.rulesets]),
    )


class NodeReconcilers:
    """What realises Snapshots on this host.

    Args:
        run_dir: where the resolver's socket is.
        spawn: starts a task whose failure ends the process.
        operations: of each kind of kernel state; None: ``kernel_operations``.
    """

    def __init__(
        self,
        node_id: NodeId,
        run_dir: Path,
        spawn: Spawn,
        operations: Sequence[Operations[Any, Any, Any]] | None = None,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._kernel = KernelThread()
        self._dns = ThreadPoolExecutor(max_workers=1, thread_name_prefix="resolver")
        self._counting = ThreadPoolExecutor(max_workers=1, thread_name_prefix="connections")
        self._watchers = Watchers(self._changed, self._disturbs)
        self._written = FileEvents(
            WRITTEN, lambda where: self._changed("a sysctl was written", where)
        )
        self._names = FileEvents(REMOVED, lambda _: self._watchers.look())
        every = operations
        if every is None:
            every = kernel_operations(self._kernel.give_way, self._written.watch, self._lived)
        self._in_kernel = [
            Reconciler(each, self._kernel, first=self._kernel.first if each.chooses else None)
            for each in every
        ]
        self._resolver = Reconciler(ResolverOperations(run_dir), self._dns)
        self._reconcilers = (*self._in_kernel, self._resolver)
        self._watching = asyncio.Event()
        self.on_snapshot: Callable[[Snapshot], None] = lambda _: None
        """Called with each new one."""
        self.idle = False
        """Closed, and nothing of ours works on the kernel any more."""
        self.dataplane = DataPlane(
            node_id,
            self._reconcilers,
            lambda news: HostProbe(GOSSIP_PORT, news),
            ReservedPorts(),
            self._flows,
            self._snapped,
        )
        self._tasks = [spawn(r.run(), r.operations.name) for r in self._reconcilers]
        self._tasks.append(spawn(self._watch(), "watch namespaces"))

    @property
    def statuses(self) -> list[ReconcilerStatus]:
        """Of every reconciler."""
        return [reconciler.status for reconciler in self._reconcilers]

    async def empty(self) -> bool:
        """Remove everything of ours from this host; False: not all of it could be in time."""
        try:
            async with asyncio.timeout(_EMPTY_S):
                await self.dataplane.empty()
        except TimeoutError:
            return False
        return True

    async def close(self, step_s: float = ends.STEP_S) -> None:
        """Stop; the kernel stays as it is. Each step takes ``step_s`` at most."""
        await ends.ended(*self._tasks, seconds=step_s)
        await ends.closed(self.dataplane.close, step_s)
        self._watchers.close()
        self._names.close()
        self._written.close()
        self.idle, *_ = await asyncio.gather(
            ends.executed(self._kernel, self._let_go, "the kernel does not answer", step_s),
            ends.executed(self._dns, lambda: None, "meshnet-resolver does not answer", step_s),
            ends.executed(self._counting, lambda: None, "conntrack does not answer", step_s),
        )

    async def _flows(self, netns: str) -> Sequence[Flow]:
        loop = asyncio.get_running_loop()
        found, errors = await loop.run_in_executor(self._counting, flow_reader.flows, [netns])
        if errors:
            raise errors[0]
        return found.get(netns, ())

    def _let_go(self) -> None:
        for reconciler in self._in_kernel:
            reconciler.operations.close()

    def _lived(self, salt: bytes) -> None:
        """The kernel's associations of encrypted overlays are another life's."""
        with suppress(RuntimeError):  # the loop is closed: nobody is left to tell
            self._loop.call_soon_threadsafe(self.dataplane.own.life, salt)

    def _snapped(self, snapshot: Snapshot) -> None:
        self._watching.set()
        self.on_snapshot(snapshot)

    async def _watch(self) -> None:
        """Watch the namespaces of the newest Snapshot, whether it is applied yet or cannot be.

        Whether paths still lead where they led is looked at every second: a reconciler may need the
        answer to succeed.
        """
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_S):
                    await self._watching.wait()
            if self._watching.is_set():
                self._watching.clear()
                snapshot = self.dataplane.snapshot
                overlays = (str(NETNS_DIR / netns_name(network)) for network in snapshot.networks)
                sandboxes = (sandbox.netns for sandbox in snapshot.sandboxes.values())
                wanted = [*overlays, *sandboxes]
                self._watchers.watch([None, *wanted])
                for directory in {Path(path).parent for path in wanted}:
                    self._names.watch(directory, None)
            self._watchers.look()
            self.dataplane.look()

    def _disturbs(self, where: str | None, row: bytes) -> bool:
        each = (reconciler.operations for reconciler in self._in_kernel)
        return any(of.is_disturbed(where, row) for of in each if isinstance(of, OverlayOperations))

    def _changed(self, reason: str, where: Collection[str | None] | None) -> None:
        """Whoever chooses goes first: without its table the host's own stack refuses."""
        for reconciler in sorted(self._in_kernel, key=lambda each: not each.operations.chooses):
            chooses = reconciler.operations.chooses
            at_once = chooses and reason == NFT_CHANGED
            reconciler.poke(reason, netns=where, at_once=at_once)
