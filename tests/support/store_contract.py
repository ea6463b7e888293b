"""What every backend of the store promises: a class of tests, inherited by who has a backend."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TypeAlias

import pytest

from meshnet_control.api.control_pb2 import TASK_STATE_RUNNING, Node, Secret, Service, Task
from meshnet_control.store.memory import HISTORY
from meshnet_control.store.store import (
    KINDS,
    CompactedError,
    Delete,
    Expect,
    OutOfSequenceError,
    Put,
    Store,
    StoreError,
    Where,
)

NOW = 1_795_000_000.5
Opener: TypeAlias = Callable[[], Awaitable[Store]]


class Clock:
    """A second later each time."""

    def __init__(self) -> None:
        self._now = NOW

    def __call__(self) -> float:
        self._now += 1
        return self._now


class StoreContract:
    """Needs a fixture ``reopen``: opens the same store of a backend, again and again."""

    @pytest.fixture
    async def store(self, reopen: Opener) -> AsyncIterator[Store]:
        """Name: store. Scope: function. Depends: reopen. An empty store of a backend."""
        opened = await reopen()
        yield opened
        await opened.close()

    async def test_put_get_list_delete(self, store: Store) -> None:
        assert (store.revision, await store.get(Task, "a"), await store.list(Task)) == (0, None, [])
        assert await store.commit([Put(Task(id="a")), Put(Task(id="b")), Put(Service(id="a"))]) == 1
        assert {t.id for t in await store.list(Task)} == {"a", "b"}
        assert [s.id for s in await store.list(Service)] == ["a"]
        assert await store.commit([Delete(Task, "a")]) == 2
        assert await store.get(Task, "a") is None
        assert await store.get(Service, "a") is not None

    async def test_objects_are_found_by_what_is_asked(self, store: Store) -> None:
        tasks = [
            Task(id="aa", service_id="web", node_id="n1", name="web.1.aa"),
            Task(id="ab", service_id="web", node_id="n2"),
            Task(id="b", service_id="db", node_id="n1"),
        ]
        tasks[0].spec.container_spec.image = "web:1"
        tasks[0].status.state = TASK_STATE_RUNNING
        for at, network in enumerate(["net", "other", "net"]):
            tasks[0].networks_attachments.add(addresses=[f"10.0.{at}.2/24"]).network.id = network
        await store.commit([Put(task) for task in tasks])

        async def found(where: Where) -> list[str]:
            return sorted(task.id for task in await store.list(Task, where))

        web, first = frozenset({"web"}), frozenset({"n1"})
        assert await found(Where(services=web)) == ["aa", "ab"]
        assert await found(Where(services=web, nodes=first)) == ["aa"]
        assert await found(Where(nodes=first)) == ["aa", "b"]
        assert await found(Where(services=frozenset({"none"}))) == []
        assert await found(Where(meant="web.1.aa")) == ["aa"]
        assert await found(Where(meant="a")) == ["aa", "ab"]
        assert await found(Where()) == ["aa", "ab", "b"]
        (short,) = await store.list(Task, Where(meant="aa", brief=True))
        assert (short.node_id, short.status.state) == ("n1", TASK_STATE_RUNNING)
        assert not short.HasField("spec")
        there = Where(networks=frozenset({"net", "third"}), brief=True)
        (short,) = await store.list(Task, there)
        held = [address for each in short.networks_attachments for address in each.addresses]
        assert (short.id, held) == ("aa", ["10.0.0.2/24", "10.0.2.2/24"])
        assert await found(Where(networks=there.networks, nodes=frozenset({"n2"}))) == []
        await store.commit([Put(Task(id="aa", service_id="db")), Delete(Task, "ab")])
        assert await found(Where(services=web)) == []
        assert await found(there) == []
        assert await found(Where(services=frozenset({"db"}))) == ["aa", "b"]

    async def test_every_kind(self, store: Store) -> None:
        await store.commit([Put(kind(id="x")) for kind in KINDS])
        for kind in KINDS:
            found = await store.get(kind, "x")
            assert isinstance(found, kind)
            assert found.version.index == 1

    async def test_stamps(self, store: Store) -> None:
        await store.commit([Put(Task(id="a"))])
        first = await store.get(Task, "a")
        assert first is not None
        assert first.created_at.ToNanoseconds() == int((NOW + 1) * 1e9)
        assert (first.updated_at, first.version.index) == (first.created_at, 1)
        await store.commit([Put(Task(id="a", slot=1))])
        second = await store.get(Task, "a")
        assert second is not None
        assert (second.created_at, second.version.index) == (first.created_at, 2)
        assert second.updated_at.ToNanoseconds() == int((NOW + 2) * 1e9)

    async def test_what_goes_in_and_out_is_a_copy(self, store: Store) -> None:
        task = Task(id="a", slot=1)
        watch = store.watch(0)
        await store.commit([Put(task)])
        task.slot = 2
        for found in (await store.get(Task, "a"), *await store.list(Task)):
            assert found is not None
            found.slot = 3
        batch = await anext(watch)
        assert isinstance(batch[0].message, Task)
        batch[0].message.slot = 4
        again = await store.get(Task, "a")
        assert again is not None
        assert again.slot == 1

    @pytest.mark.parametrize("expect", [{(Task, "a"): 0}, {(Task, "a"): 2}, {(Task, "b"): 1}])
    async def test_expectations_that_do_not_hold_write_nothing(
        self, store: Store, expect: Expect
    ) -> None:
        await store.commit([Put(Task(id="a"))])
        with pytest.raises(OutOfSequenceError, match=r"^update out of sequence$"):
            await store.commit([Put(Task(id="c")), Put(Task(id="a"))], expect=expect)
        assert store.revision == 1
        assert await store.get(Task, "c") is None

    async def test_expectations_that_hold(self, store: Store) -> None:
        await store.commit([Put(Task(id="a"))], expect={(Task, "a"): 0})
        await store.commit([Delete(Task, "a")], expect={(Task, "a"): 1, (Service, "s"): 0})
        assert store.revision == 2

    async def test_one_of_many_writers_wins(self, store: Store) -> None:
        await store.commit([Put(Task(id="a"))])

        async def write(slot: int) -> bool:
            try:
                await store.commit([Put(Task(id="a", slot=slot))], expect={(Task, "a"): 1})
            except OutOfSequenceError:
                return False
            return True

        assert sum(await asyncio.gather(*(write(n) for n in range(10)))) == 1
        assert store.revision == 2

    async def test_nothing_to_write_is_no_commit(self, store: Store) -> None:
        await store.commit([Put(Task(id="a"))])
        watch = store.watch(1)
        assert await store.commit([]) == 1
        assert await store.commit([Delete(Task, "zz")]) == 1
        assert await store.commit([Put(Task(id="b"))]) == 2
        assert [c.id for c in await anext(watch)] == ["b"]

    async def test_of_several_writes_the_last_counts(self, store: Store) -> None:
        await store.commit(
            [Put(Task(id="a", slot=1)), Put(Task(id="b")), Put(Task(id="a", slot=2))]
        )
        found = await store.get(Task, "a")
        assert found is not None
        assert found.slot == 2
        await store.commit([Put(Task(id="b", slot=5)), Delete(Task, "b")])
        assert await store.get(Task, "b") is None

    async def test_an_object_without_an_id_is_refused(self, store: Store) -> None:
        with pytest.raises(ValueError, match="Task without an id"):
            await store.commit([Put(Task())])

    async def test_watch_gives_one_batch_a_commit_and_ends_with_the_store(
        self, store: Store
    ) -> None:
        fast, late = store.watch(0), store.watch(0)
        await store.commit([Put(Task(id="a")), Put(Node(id="n"))])
        seen = [await anext(fast)]
        await store.commit([Delete(Task, "a")])
        await store.commit([Put(Task(id="b"))])
        middle = store.watch(2)
        await store.close()
        seen += [batch async for batch in fast]
        assert [[(c.kind, c.id, c.revision, c.message is None) for c in b] for b in seen] == [
            [(Task, "a", 1, False), (Node, "n", 1, False)],
            [(Task, "a", 2, True)],
            [(Task, "b", 3, False)],
        ]
        assert [batch async for batch in late] == seen
        assert [batch[0].revision async for batch in middle] == [3]

    async def test_a_waiting_watch_wakes(self, store: Store) -> None:
        waiting = asyncio.ensure_future(anext(store.watch(0)))
        await asyncio.sleep(0)
        await store.commit([Put(Task(id="a"))])
        assert (await waiting)[0].id == "a"

    async def test_a_slow_watch_misses_nothing_a_late_one_is_told(self, store: Store) -> None:
        slow = store.watch(0)
        for n in range(HISTORY + 1):
            await store.commit([Put(Task(id="a", slot=n))])
        with pytest.raises(CompactedError):
            await anext(store.watch(0))
        await store.close()
        assert [b[0].revision async for b in slow] == list(range(1, HISTORY + 2))

    async def test_a_cancelled_writer_leaves_a_whole_commit(self, store: Store) -> None:
        writing = asyncio.ensure_future(store.commit([Put(Task(id="a")), Put(Task(id="b"))]))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        writing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await writing
        assert await store.commit([Put(Task(id="c"))]) == 2
        assert len(await store.list(Task)) == 3

    async def test_it_is_all_there_after_a_restart(self, reopen: Opener) -> None:
        first = await reopen()
        await first.commit([Put(kind(id="x")) for kind in KINDS])
        await first.commit([Put(Secret(id="s", spec={"data": b"\x00\xff"})), Delete(Task, "x")])
        before = {kind: await first.list(kind) for kind in KINDS}
        await first.close()
        second = await reopen()
        assert second.revision == 2
        by_id = lambda o: o.id  # noqa: E731
        for kind in KINDS:
            assert sorted(await second.list(kind), key=by_id) == sorted(before[kind], key=by_id)
        with pytest.raises(CompactedError):
            await anext(second.watch(1))
        watch = second.watch(2)
        await second.commit([Delete(Secret, "s")], expect={(Secret, "s"): 2})
        assert (await anext(watch))[0].revision == 3
        await second.close()

    async def test_closed(self, store: Store) -> None:
        await store.close()
        await store.close()
        with pytest.raises(StoreError, match="is closed"):
            await store.commit([Put(Task(id="a"))])
