"""The loop: it retries, repairs what somebody broke, skips what is old, ends on a real error."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import pytest
from virtual_time import Inline, VirtualLoop

from meshnet.errors import CapacityError, KernelError, about
from meshnet.model.ids import NodeId
from meshnet.model.snapshot import Snapshot
from meshnet.reconcile import POKE_DELAY_S, Reconciler


class Numbers:
    """One number should be in the world: the revision of the Snapshot."""

    name = "numbers"
    chooses = False

    def __init__(self) -> None:
        self.world: set[int] = set()
        self.fails: list[Exception] = []
        self.rounds = 0

    def desired(self, snapshot: Snapshot) -> int:
        return snapshot.revision

    def observe(self, desired: int) -> set[int]:
        self.rounds += 1
        return set(self.world)

    def plan(self, desired: int, observed: set[int], *, prune: bool) -> list[int]:
        extra = sorted(-n for n in observed if n != desired) if prune else []
        return extra + ([desired] if desired not in observed else [])

    def apply(self, changes: Sequence[int]) -> None:
        if self.fails:
            raise self.fails.pop(0)
        for change in changes:
            (self.world.discard if change < 0 else self.world.add)(abs(change))

    def close(self) -> None:
        pass


def snapshot(revision: int, *, complete: bool = True) -> Snapshot:
    return Snapshot(revision, NodeId("n"), complete=complete)


def play(scene: Callable[[Numbers, Reconciler[Any, Any, Any]], Coroutine[Any, Any, None]]) -> float:
    """Run a scene on the virtual clock and return how long it took, in its seconds."""
    loop = VirtualLoop()

    async def whole() -> None:
        numbers = Numbers()
        reconciler: Reconciler[Any, Any, Any] = Reconciler(numbers, Inline(), wall=loop.time)
        running = asyncio.ensure_future(reconciler.run())
        acting = asyncio.ensure_future(scene(numbers, reconciler))
        try:
            await asyncio.wait({running, acting}, return_when=asyncio.FIRST_COMPLETED)
            for task in (acting, running):
                if task.done():
                    task.result()
        finally:
            for task in (acting, running):
                task.cancel()
            await asyncio.gather(acting, running, return_exceptions=True)

    try:
        loop.run_until_complete(whole())
        return loop.now
    finally:
        loop.close()


def test_the_newest_snapshot_wins_and_older_ones_are_skipped():
    async def scene(numbers: Numbers, reconciler: Reconciler[Any, Any, Any]) -> None:
        for revision in (1, 2, 3):
            reconciler.submit(snapshot(revision))
        await reconciler.applied(3)
        assert numbers.world == {3}
        assert numbers.rounds == 1
        assert reconciler.status.revision == 3

    assert play(scene) == 0


def test_what_somebody_broke_is_repaired_when_poked_and_at_the_latest_by_the_resync():
    async def scene(numbers: Numbers, reconciler: Reconciler[Any, Any, Any]) -> None:
        reconciler.submit(snapshot(1))
        await reconciler.applied(1)
        numbers.world.clear()
        for _ in range(100):
            reconciler.poke("an event")
        await asyncio.sleep(0.06)
        assert numbers.world == {1}
        assert numbers.rounds == 2, "many events, one look"
        numbers.world = {7}
        await asyncio.sleep(31)
        assert numbers.world == {1}

    play(scene)


def test_what_was_changed_whole_is_looked_at_at_once_and_a_flood_of_it_is_not():
    async def scene(numbers: Numbers, reconciler: Reconciler[Any, Any, Any]) -> None:
        reconciler.submit(snapshot(1))
        await reconciler.applied(1)
        numbers.world.clear()
        reconciler.poke("a flush", at_once=True)
        await asyncio.sleep(0.001)
        assert numbers.world == {1}
        for _ in range(100):
            reconciler.poke("a flood", at_once=True)
            await asyncio.sleep(0.001)
        assert numbers.rounds <= 2 + 0.1 / POKE_DELAY_S

    play(scene)


def test_expected_failures_are_retried_ever_more_slowly():
    async def scene(numbers: Numbers, reconciler: Reconciler[Any, Any, Any]) -> None:
        error = KernelError("add", "vx0", 16)
        numbers.fails = [error, ExceptionGroup("", [error, CapacityError("full")]), error]
        reconciler.submit(snapshot(1))
        await asyncio.sleep(0.01)
        assert "vx0" in reconciler.status.error
        await reconciler.applied(1)
        assert reconciler.status.error == ""
        assert asyncio.get_running_loop().time() == pytest.approx(0.1 + 0.2 + 0.4)

    play(scene)


def test_nothing_is_removed_for_an_incomplete_snapshot():
    async def scene(numbers: Numbers, reconciler: Reconciler[Any, Any, Any]) -> None:
        numbers.world = {7}
        reconciler.submit(snapshot(1, complete=False))
        await reconciler.applied(1)
        assert numbers.world == {1, 7}
        reconciler.submit(snapshot(2))
        await reconciler.applied(2)
        assert numbers.world == {2}

    play(scene)


def test_a_programming_error_ends_the_loop():
    async def scene(numbers: Numbers, reconciler: Reconciler[Any, Any, Any]) -> None:
        numbers.fails = [ZeroDivisionError("ours")]
        reconciler.submit(snapshot(1))
        await reconciler.applied(1)

    with pytest.raises(ZeroDivisionError):
        play(scene)


def test_one_object_that_fails_holds_up_only_what_it_concerns():
    async def scene(numbers: Numbers, reconciler: Reconciler[Any, Any, Any]) -> None:
        error = about(KernelError("add", "eth0", 16), ("/run/a", "eth0"))
        numbers.fails = [ExceptionGroup("", [error])]
        assert not reconciler.holds(lambda _: False), "no round yet"
        rounds = []
        reconciler.on_round = lambda: rounds.append(reconciler.holds())
        reconciler.submit(snapshot(1))
        await asyncio.sleep(0.01)
        assert reconciler.tried == snapshot(1)
        assert reconciler.status.revision == 0
        assert not reconciler.holds(lambda what: what[0] == "/run/a")
        assert reconciler.holds(lambda what: what[0] == "/run/b")
        await reconciler.applied(1)
        assert reconciler.holds()
        assert rounds == [False, True]

    play(scene)


def test_an_error_that_says_nothing_of_objects_concerns_all():
    async def scene(numbers: Numbers, reconciler: Reconciler[Any, Any, Any]) -> None:
        numbers.fails = [KernelError("dump", "host", 16)]
        reconciler.submit(snapshot(1))
        await asyncio.sleep(0.01)
        assert not reconciler.holds(lambda _: False)

    play(scene)


def test_who_knows_what_an_error_is_about_speaks_first():
    error = about(about(KernelError("add", "eth0", 16), (None, "eth0")), ("/run/a", ""))
    assert error.about == {(None, "eth0")}
    assert KernelError("add", "eth0", 16).about == frozenset()
