"""The one loop: desired(snapshot), observe(), plan(), apply(), for every kind of state.

```
 submit(snapshot) ─┐
 poke(reason) ─────┼─> one round in the executor's thread: desired, observe, plan, apply ─> applied
 resync timer ─────┘        └─ a MeshnetError: again after 0.1 s, doubling to 60 s
```
A round always starts from the newest Snapshot and from what is there, so rounds may be skipped,
repeated and interrupted at will. What a round without failures left is known to be there until
somebody may have changed it: a Snapshot's round reads what it wants otherwise, and what a poke
named. Everything is read by the first round, after a failure, for a poke that names nothing, and
by the first round that ends a resync time after it was read last, however many were made between.

One object that cannot be had (a namespace that is not read, a route of the host's in the way) fails
by itself: its error says what it happened to, the rest is applied, and ``holds`` tells for any part
of the state whether it is as a Snapshot wants it.

Be aware: a programming error (anything but a MeshnetError) ends ``run`` and with it the process;
supervision starts it again and the first round repairs what was left.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, fields, is_dataclass
from typing import Final, Generic, Protocol, TypeAlias, TypeVar

from meshnet import happened, measures
from meshnet.backoff import Backoff
from meshnet.errors import KernelObject, MeshnetError, single
from meshnet.model.since import Since
from meshnet.model.snapshot import Snapshot

_log = logging.getLogger(__name__)

RETRY: Final = Backoff(0.1, 60.0)
POKE_DELAY_S: Final = 0.05
"""A flush of many objects is many events: look once, when they have passed."""
_MOST_WORDS: Final = 3
_SHORT: Final = 40

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
        """What should be: whatever came before, the same for the same Snapshot.

        What did not change since the last time is the same object; when nothing did, all of it.
        """
        ...

    def observe(self, desired: D, since: Since[D] | None = None) -> O:
        """What is. Blocking; reads, never changes.

        Args:
            desired: what should be.
            since: what need not be read again; None: everything is read.

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
        first: the same thread, before what others submitted; for rounds that only take away from
            what was realised, or look whether it is still there. None: ``executor``.
        resync_s: everything is read at least this often, seconds, for what no event tells.
        wall: Unix time, for the status.
        chance: from 0 to 1, for the delay after a round that failed.
    """

    def __init__(
        self,
        operations: Operations[D, O, C],
        executor: Executor,
        *,
        first: Executor | None = None,
        resync_s: float = 30.0,
        wall: Callable[[], float] = time.time,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self.operations = operations
        self._executor = executor
        self._first = first or executor
        self._resync_s = resync_s
        self._wall, self._chance = wall, chance
        self._snapshot: Snapshot | None = None
        self._less = False
        self._wake = asyncio.Event()
        self._realised: D | None = None
        self._blind = False
        self._disturbed: set[str | None] = set()
        self._poked: asyncio.TimerHandle | None = None
        self._noticed: float | None = None
        """When somebody was seen to change our state, by ``wall``; None: nobody since a round."""
        self._looked = -POKE_DELAY_S
        self._waiting: list[tuple[int, asyncio.Future[None]]] = []
        self.tried: Snapshot | None = None
        """The Snapshot of the last round, whatever came of it."""
        self.failures: tuple[MeshnetError, ...] = ()
        """What failed in it."""
        self.on_round: Callable[[], None] = lambda: None
        """Called in the event loop after each round."""
        self.status = ReconcilerStatus(operations.name, 0, 0.0, 0, 0, "")

    def submit(self, snapshot: Snapshot, *, less: bool = False) -> None:
        """The newest Snapshot; older ones that were not applied yet are skipped.

        Args:
            snapshot: what should be.
            less: nothing is chosen in it that was not in ``tried``: it needs to wait for nobody.
        """
        self._snapshot, self._less = snapshot, less
        self._wake.set()

    def poke(
        self, reason: str, *, netns: Iterable[str | None] | None = None, at_once: bool = False
    ) -> None:
        """Somebody may have changed our state: look soon.

        Args:
            reason: for the log.
            netns: in which network namespaces (None: the host's); None: wherever.
            at_once: what was changed was changed whole; wait only when one was just looked for.
        """
        if netns is None:
            self._realised, self._blind = None, True
        else:
            self._disturbed.update(netns)
        self._noticed = self._wall() if self._noticed is None else self._noticed
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
        delays = RETRY.delays(self._chance)
        pause: float | None = None
        stale_at = loop.time()
        while True:
            await self._sleep(pause)
            if loop.time() >= stale_at:  # who is woken all the time never sleeps for so long
                self._realised = None
            snapshot = self._snapshot
            if snapshot is None:
                continue
            at_once = self._less or snapshot is self.tried
            executor = self._first if at_once else self._executor
            noticed, self._noticed = self._noticed, None
            since = self._since()
            desired, failures, changes = await loop.run_in_executor(
                executor, self._timed_round, snapshot, since
            )
            # A poke that named nothing meanwhile has to be looked after still.
            known = desired if not failures and snapshot.complete else None
            self._realised = None if self._blind else known
            self._note(snapshot, changes, failures, noticed)
            if not failures:
                delays = RETRY.delays(self._chance)
                stale_at = stale_at if since is not None else loop.time() + self._resync_s
                pause = max(0.0, stale_at - loop.time())
            else:
                pause = next(delays)

    def _look(self) -> None:
        self._poked = None
        self._looked = asyncio.get_running_loop().time()
        self._wake.set()

    async def _sleep(self, pause: float | None) -> None:
        """Wait, until somebody wakes us at the latest."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(pause):
                await self._wake.wait()
        self._wake.clear()

    def _since(self) -> Since[D] | None:
        """What the next round need not read; what was disturbed is looked after by it."""
        disturbed = frozenset(self._disturbed)
        self._disturbed.clear()
        self._blind = False
        return Since(self._realised, disturbed) if self._realised is not None else None

    def _timed_round(
        self, snapshot: Snapshot, since: Since[D] | None
    ) -> tuple[D | None, tuple[MeshnetError, ...], Sequence[C]]:
        with measures.round_seconds.labels(self.operations.name).time():
            return self._round(snapshot, since)

    def _round(
        self, snapshot: Snapshot, since: Since[D] | None
    ) -> tuple[D | None, tuple[MeshnetError, ...], Sequence[C]]:
        """One round, in the executor's thread: (what should be, what failed, what was changed)."""
        failed: tuple[MeshnetError, ...] = ()
        changes: list[C] = []
        desired: D | None = None
        operations = self.operations
        try:
            desired = operations.desired(snapshot)
            if since is not None and desired is since.realised and not since.disturbed:
                return desired, (), ()
            observed = operations.observe(desired, since)
            changes = operations.plan(desired, observed, prune=snapshot.complete)
            if changes:
                operations.apply(changes)
        except* MeshnetError as group:
            failed = tuple(single(group))
        return desired, failed, changes

    def _note(
        self,
        snapshot: Snapshot,
        changed: Sequence[C],
        failures: tuple[MeshnetError, ...],
        noticed: float | None,
    ) -> None:
        changes = len(changed)
        failed = "; ".join(dict.fromkeys(map(str, failures)))
        if failed and failed != self.status.error:
            _log.warning("%s: %s", self.operations.name, failed)
        repair = self.tried is snapshot and not self.failures
        self._count(changed, failed=bool(failures), repair=repair)
        if changes and repair:
            happened.note(f"{self.operations.name}: was changed by others, and put right")
            _log.info("%s: others changed it: %s", self.operations.name, _words(changed))
        if changes:
            now = self._wall()
            at = now if noticed is None else noticed
            happened.journal.record(
                self.operations.name,
                "others" if repair else "meshnet",
                _words(changed),
                at=at if repair else now,
                repaired_s=now - at if repair and not failures else -1.0,
            )
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

    def _count(self, changed: Sequence[C], *, failed: bool, repair: bool) -> None:
        name = self.operations.name
        measures.changes.labels(name).inc(len(changed))
        measures.errors.labels(name).inc(int(failed))
        for change in changed if repair else ():
            measures.repairs.labels(name, type(change).__name__).inc()


def _words(changes: Sequence[object]) -> str:
    """The first changes as a person reads them: ``AddFdb mn-abc vx0 02:42:… 192.0.2.2``. Pure."""
    said = [_word(change) for change in changes[:_MOST_WORDS]]
    more = len(changes) - len(said)
    return "; ".join(said) + (f"; and {more} more" if more else "")


def _word(change: object) -> str:
    """Its kind and what is short in it; of nftables' transactions which tables."""
    found = [type(change).__name__]
    for part in fields(change) if is_dataclass(change) else ():
        value = getattr(change, part.name)
        tables = part.name == "tables"
        for one in [" ".join(table.table) for table in value] if tables else [value]:
            plain = isinstance(one, str) or not isinstance(one, Collection)
            text = str(one) if plain and one is not None else ""
            text = text.rpartition("/")[2] if text.startswith("/") else text
            if text and len(text) <= _SHORT and "(" not in text:
                found.append(text)
    return " ".join(found)
