"""The loop: it retries, repairs what somebody broke, skips what is old, ends on a real error."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from ipaddress import IPv4Address
from typing import Any

import pytest
from virtual_time import Inline, VirtualLoop

from meshnet import happened, measures
from meshnet.errors import CapacityError, KernelError, about
from meshnet.kernel.nft import NftChange
from meshnet.model.ids import MacAddress, NodeId
from meshnet.model.since import Since
from meshnet.model.snapshot import Snapshot
from meshnet.netstate.changes import AddFdb
from meshnet.nft.ruleset_plan import TableChange
from meshnet.reconcile import POKE_DELAY_S, Reconciler, _words


class Numbers:
    """One number should be in the world: the revision of the Snapshot."""

    name = "numbers"
    chooses = False

    def __init__(self) -> None:
        self.world: set[int] = set()
        self.fails: list[Exception] = []
        self.rounds = 0
        self.since: list[Since[int] | None] = []

    def desired(self, snapshot: Snapshot) -> int:
        return snapshot.revision

    def observe(self, desired: int, since: Since[int] | None = None) -> set[int]:
        self.rounds += 1
        self.since.append(since)
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


def test_changes_are_told_with_who_made_them_and_how_long_a_repair_took():
    async def scene(numbers: Numbers, reconciler: Reconciler[Any, Any, Any]) -> None:
        begun = max([each.number for each in happened.journal.after(0)], default=0)
        reconciler.submit(snapshot(1))
        await reconciler.applied(1)
        numbers.world.clear()
        reconciler.poke("an event")
        await asyncio.sleep(2 * POKE_DELAY_S)
        ours, theirs = (each for each in happened.journal.after(begun) if each.part == "numbers")
        assert (ours.who, ours.repaired_s) == ("meshnet", -1.0)
        assert theirs.who == "others"
        assert theirs.repaired_s == pytest.approx(POKE_DELAY_S)
        assert theirs.at == pytest.approx(ours.at)

    play(scene)


def test_a_change_is_told_in_its_kind_and_what_is_short_in_it():
    fdb = AddFdb("/run/netns/mn-abc", "vx0", MacAddress("02:42:0a:00:01:03"), IPv4Address(1))
    table = TableChange(("ip", "meshnet"), ("add table ip meshnet " * 20,), None)
    nft = NftChange(None, (4, 1), (table,))
    assert _words([fdb]) == "AddFdb mn-abc vx0 02:42:0a:00:01:03 0.0.0.1"
    assert _words([nft]) == "NftChange ip meshnet"
    assert _words([fdb] * 5).endswith("; and 2 more")
    assert _words([]) == ""


def test_what_others_changed_is_remembered_and_what_we_change_ourselves_is_not():
    def put_right() -> int:
        ours = (event for event in happened.recent() if event.what.startswith("numbers: "))
        return sum(event.times for event in ours)

    async def scene(numbers: Numbers, reconciler: Reconciler[Any, Any, Any]) -> None:
        before = put_right()
        numbers.fails = [CapacityError("busy")]
        for revision in (1, 2):
            reconciler.submit(snapshot(revision))
            await reconciler.applied(revision)
        assert put_right() == before
        numbers.world.clear()
        reconciler.poke("an event")
        await asyncio.sleep(0.06)
        assert put_right() == before + 1

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
        assert 0.35 <= asyncio.get_running_loop().time() <= 0.1 + 0.2 + 0.4 + 1e-6

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


def test_what_a_round_left_is_known_until_somebody_may_have_changed_it():
    async def scene(numbers: Numbers, reconciler: Reconciler[Any, Any, Any]) -> None:
        async def one(revision: int) -> Since[int] | None:
            reconciler.submit(snapshot(revision))
            await reconciler.applied(revision)
            return numbers.since[-1]

        assert await one(1) is None
        assert await one(2) == Since(1)
        reconciler.poke("an event", netns=["/run/a"])
        reconciler.poke("an event", netns=[None])
        assert await one(3) == Since(2, frozenset({"/run/a", None}))
        await asyncio.sleep(POKE_DELAY_S * 2)
        assert await one(4) == Since(3)
        reconciler.poke("wherever")
        assert await one(5) is None
        numbers.fails = [CapacityError("busy")]
        assert await one(6) is None, "what failed is not there"
        rounds = numbers.rounds
        await asyncio.sleep(31)
        assert numbers.rounds == rounds + 1
        assert numbers.since[-1] is None, "what no event tells is found by the resync"

    play(scene)


@pytest.mark.parametrize("changes", [True, False])
def test_everything_is_read_every_resync_also_where_something_changes_all_the_time(
    changes: bool,  # noqa: FBT001 - a parameter
):
    async def scene(numbers: Numbers, reconciler: Reconciler[Any, Any, Any]) -> None:
        for second in range(1, 95):
            reconciler.submit(snapshot(second if changes else 1))
            await asyncio.sleep(1)
        whole = [since for since in numbers.since if since is None]
        assert len(whole) == 4, "at the start, and every 30 seconds"

    play(scene)


def test_nothing_is_read_when_nothing_is_wanted_otherwise():
    async def scene(numbers: Numbers, reconciler: Reconciler[Any, Any, Any]) -> None:
        reconciler.submit(snapshot(1))
        await reconciler.applied(1)
        looked = asyncio.Event()
        reconciler.on_round = looked.set
        again = snapshot(1)
        reconciler.submit(again)
        await looked.wait()
        assert reconciler.tried is again
        assert numbers.rounds == 1
        assert reconciler.holds()

    play(scene)


def test_what_is_incomplete_is_not_known_to_be_there():
    async def scene(numbers: Numbers, reconciler: Reconciler[Any, Any, Any]) -> None:
        for revision, complete in ((1, False), (2, True), (3, True)):
            reconciler.submit(snapshot(revision, complete=complete))
            await reconciler.applied(revision)
        assert numbers.since == [None, None, Since(2)]

    play(scene)


def test_rounds_changes_errors_and_repairs_are_counted_where_they_happen():
    def counted(name: str, **labels: str) -> float:
        found = measures.NODE.get_sample_value(name, {"reconciler": "numbers", **labels})
        return found or 0.0

    def all_counted() -> list[float]:
        return [
            counted("meshnet_reconciler_round_seconds_count"),
            counted("meshnet_reconciler_changes_total"),
            counted("meshnet_reconciler_errors_total"),
            counted("meshnet_repairs_total", kind="int"),
        ]

    async def scene(numbers: Numbers, reconciler: Reconciler[Any, Any, Any]) -> None:
        before = all_counted()
        reconciler.submit(snapshot(1))
        await reconciler.applied(1)
        numbers.world.clear()
        reconciler.poke("an event")
        await asyncio.sleep(2 * POKE_DELAY_S)
        numbers.fails = [KernelError("add", "vx0", 16)]
        reconciler.submit(snapshot(2))
        await reconciler.applied(2)
        grown = [now - then for now, then in zip(all_counted(), before, strict=True)]
        # Made: 1; again 1, a repair; 2 in place of 1, which fails; the same once more.
        assert grown == [4, 6, 1, 1]

    play(scene)
