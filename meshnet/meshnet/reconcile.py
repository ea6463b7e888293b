"""The one loop: desired(snapshot), observe(), plan(), apply(), for every kind of state.

```
 submit(snapshot) ─┐
 poke(reason) ─────┼─> one round in the executor's thread: desired, observe, plan, apply ─> applied
 resync timer ─────┘        └─ a MeshnetError: again after 0.1 s, doubling to 60 s
```
A round always starts from the newest Snapshot and from what is really there, so rounds may be
skipped, repeated and interrupted at will.

One object that cannot be had (a namespace that is not read, a route of the host's in the way) fails
by itself: its error says what it happened to, the rest is applied, and ``holds`` tells for any part
of the state whether it is as a Snapshot wants it.

Be aware: a programming error (anything but a MeshnetError) ends ``run`` and with it the process;
supervision starts it again and the first round repairs what was left.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Final, Generic, Protocol, TypeAlias, TypeVar

from meshnet.errors import KernelObject, MeshnetError, single
from meshnet.model.snapshot import Snapshot

_log = logging.getLogger(__name__)

FIRST_RETRY_S: Final = 0.1
LONGEST_RETRY_S: Final = 60.0
POKE_DELAY_S: Final = 0.05
"""A flush of many objects is many events: look once, when they have passed."""

D = TypeVar("D")
O = TypeVar("O")  # noqa: E741  (observed: the letter the field uses in desired/observed/change)
C = TypeVar("C")


Concerns: TypeAlias = Callable[[KernelObject], bool]
"""Whether an object belongs to what somebody waits for."""


def everything(_: KernelObject) -> bool:
    """Concerned by any failure."""
    return True


class Operations(Protocol[D, O, C]):
    """One kind of state: what it should be, what it is, and how to get from one to the other."""

    @property
    def name(self) -> str:
        """Short name, shown by ``meshnet status``."""
        ...

    @property
    def chooses(self) -> bool:
        """Whether it decides where new connections go; False: how a destination is reached."""
        ...

    def desired(self, snapshot: Snapshot) -> D:
        """What should be. Pure."""
        ...

    def observe(self, desired: D) -> O:
        """What is. Blocking; reads, never changes.

        Raises:
            MeshnetError: nothing can be read now; a single object that cannot be is an error of
                ``apply``, so that the others are looked after.
        """
        ...

    def plan(self, desired: D, observed: O, *, prune: bool) -> list[C]:
        """Changes from ``observed`` to ``desired``, in order; ``[]`` when equal. Pure.

        Nothing is deleted unless ``prune``.
        """
        ...

    def apply(self, changes: Sequence[C]) -> None:
        """Make the changes. Blocking and idempotent; what is gone already is no error.

        Raises:
            ExceptionGroup: of the MeshnetErrors of those that failed; the others are made.
        """
        ...

    def close(self) -> None:
        """Give back sockets; the state itself stays as it is."""
        ...


@dataclass(frozen=True, slots=True)
class ReconcilerStatus:
    """What a reconciler last did."""

    name: str
    revision: int
    """Newest Snapshot that is applied without error; 0: none yet."""
    last_round: float
    """Unix time of the last round's end, seconds; 0: none yet."""
    changes: int
    """Changes that the last round made."""
    rounds: int
    error: str
    """Why the last round failed, or empty."""


class Reconciler(Generic[D, O, C]):
    """Keeps one kind of state as the newest Snapshot wants it.

    Args:
        operations: the kind of state.
        executor: where its blocking calls run; one thread, shared by all kernel state.
        resync_s: a round is made at least this often, seconds, for what no event tells.
        wall: Unix time, for the status.
    """

    def __init__(
        self,
        operations: Operations[D, O, C],
        executor: Executor,
        *,
        resync_s: float = 30.0,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self.operations = operations
        self._executor = executor
        self._resync_s = resync_s
        self._wall = wall
        self._snapshot: Snapshot | None = None
        self._wake = asyncio.Event()
        self._poked: asyncio.TimerHandle | None = None
        self._looked = -POKE_DELAY_S
        self._waiting: list[tuple[int, asyncio.Future[None]]] = []
        self.tried: Snapshot | None = None
        """The Snapshot of the last round, whatever came of it."""
        self.failures: tuple[MeshnetError, ...] = ()
        """What failed in it."""
        self.on_round: Callable[[], None] = lambda: None
        """Called in the event loop after each round."""
        self.status = ReconcilerStatus(operations.name, 0, 0.0, 0, 0, "")

    def submit(self, snapshot: Snapshot) -> None:
        """The newest Snapshot; older ones that were not applied yet are skipped."""
        self._snapshot = snapshot
        self._wake.set()

    def poke(self, reason: str, *, at_once: bool = False) -> None:
        """Somebody may have changed our state: look soon.

        Args:
            reason: for the log.
            at_once: what was changed was changed whole; wait only when one was just looked for.
        """
        if self._poked is None:
            _log.debug("%s: look again: %s", self.operations.name, reason)
            loop = asyncio.get_running_loop()
            rested = loop.time() - self._looked >= POKE_DELAY_S
            self._poked = loop.call_later(0 if at_once and rested else POKE_DELAY_S, self._look)

    async def applied(self, revision: int) -> None:
        """Returns when a Snapshot of at least ``revision`` is applied without error."""
        if self.status.revision < revision:
            done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.append((revision, done))
            await done

    def holds(self, concerns: Concerns = everything) -> bool:
        """Whether what ``concerns`` somebody is as ``tried`` wants it."""
        return self.tried is not None and not self.troubles(concerns)

    def troubles(self, concerns: Concerns) -> list[MeshnetError]:
        """What failed in the last round of what ``concerns`` somebody."""
        return [
            error
            for error in self.failures
            if not error.about or any(concerns(each) for each in error.about)
        ]

    async def run(self) -> None:
        """Make rounds until cancelled.

        Raises:
            Exception: a programming error in the operations; never a MeshnetError.
        """
        loop = asyncio.get_running_loop()
        retry_s = FIRST_RETRY_S
        pause: float | None = None
        while True:
            await self._sleep(pause)
            snapshot = self._snapshot
            if snapshot is None:
                continue
            failures, changes = await loop.run_in_executor(self._executor, self._round, snapshot)
            self._note(snapshot, changes, failures)
            if not failures:
                retry_s = FIRST_RETRY_S
                pause = self._resync_s
            else:
                pause = retry_s
                retry_s = min(retry_s * 2, LONGEST_RETRY_S)

    def _look(self) -> None:
        self._poked = None
        self._looked = asyncio.get_running_loop().time()
        self._wake.set()

    async def _sleep(self, pause: float | None) -> None:
        try:
            async with asyncio.timeout(pause):
                await self._wake.wait()
        except TimeoutError:
            pass
        self._wake.clear()

    def _round(self, snapshot: Snapshot) -> tuple[tuple[MeshnetError, ...], int]:
        """One round, in the executor's thread: (what failed, number of changes)."""
        failed: tuple[MeshnetError, ...] = ()
        changes: list[C] = []
        operations = self.operations
        try:
            desired = operations.desired(snapshot)
            observed = operations.observe(desired)
            changes = operations.plan(desired, observed, prune=snapshot.complete)
            if changes:
                operations.apply(changes)
        except* MeshnetError as group:
            failed = tuple(single(group))
        return failed, len(changes)

    def _note(self, snapshot: Snapshot, changes: int, failures: tuple[MeshnetError, ...]) -> None:
        failed = "; ".join(dict.fromkeys(map(str, failures)))
        if failed and failed != self.status.error:
            _log.warning("%s: %s", self.operations.name, failed)
        self.tried, self.failures = snapshot, failures
        revision = self.status.revision if failures else snapshot.revision
        self.status = ReconcilerStatus(
            name=self.operations.name,
            revision=revision,
            last_round=self._wall(),
            changes=changes,
            rounds=self.status.rounds + 1,
            error=failed,
        )
        waiting, self._waiting = self._waiting, []
        for wanted, done in waiting:
            if wanted > revision:
                self._waiting.append((wanted, done))
            elif not done.done():
                done.set_result(None)
        self.on_round()
