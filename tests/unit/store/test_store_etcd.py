"""The store in etcd when answers are lost, late, or do not come: on a clock of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from virtual_run import run

from meshnet_control.api.control_pb2 import Task
from meshnet_control.etcd import client as calls
from meshnet_control.etcd.fake import FakeEtcd, FakeMember
from meshnet_control.store import etcd_layout as layout
from meshnet_control.store.etcd import EtcdStore
from meshnet_control.store.etcd_commit import TURN_S
from meshnet_control.store.quorum import ELECTION_S
from meshnet_control.store.sealer import Sealer
from meshnet_control.store.store import (
    NO_LEADER,
    OutOfSequenceError,
    Put,
    StoreNoLeaderError,
    StoreUnavailableError,
)

Scene = Callable[[EtcdStore, FakeMember, FakeEtcd], Awaitable[None]]


def play(scene: Scene) -> None:
    async def whole() -> None:
        etcd = FakeEtcd()
        member = etcd.member(1)
        store = await opened(member)
        try:
            await scene(store, member, etcd)
        finally:
            await store.close()

    run(whole())


async def opened(member: FakeMember) -> EtcdStore:
    return await EtcdStore.open(member, Sealer([bytes(32)]))


def now() -> float:
    return asyncio.get_running_loop().time()


@pytest.mark.parametrize("watch_latency_s", [0.0, 5.0])
@pytest.mark.parametrize("lost", [1, 3])
def test_a_commit_whose_answer_is_lost_is_written_once(watch_latency_s: float, lost: int):
    async def scene(store: EtcdStore, member: FakeMember, etcd: FakeEtcd) -> None:
        member.watch_latency_s = watch_latency_s
        member.lost.extend([True] * lost)
        assert await store.commit([Put(Task(id="a"))], expect={(Task, "a"): 0}) == 1
        assert etcd.writes == 1
        assert await store.commit([Put(Task(id="a", slot=1))], expect={(Task, "a"): 1}) == 2

    play(scene)


def test_a_commit_whose_answer_is_lost_and_that_another_wrote_over():
    async def scene(store: EtcdStore, member: FakeMember, etcd: FakeEtcd) -> None:
        other = await opened(etcd.member(2))
        member.watch_latency_s = 3.0
        member.lost.append(True)
        writing = asyncio.ensure_future(store.commit([Put(Task(id="a"))]))
        await asyncio.sleep(0.5)
        assert await other.commit([Put(Task(id="a", slot=2))], expect={(Task, "a"): 1}) == 2
        assert await writing == 1
        found = await store.get(Task, "a")
        assert found is not None
        assert found.slot == 2
        await other.close()

    play(scene)


def test_a_commit_that_others_forestalled_is_decided_again():
    async def scene(store: EtcdStore, member: FakeMember, etcd: FakeEtcd) -> None:
        other = await opened(etcd.member(2))
        member.watch_latency_s = 1.0
        await other.commit([Put(Task(id="a"))])
        with pytest.raises(OutOfSequenceError):
            await store.commit([Put(Task(id="a"))], expect={(Task, "a"): 0})
        await other.commit([Put(Task(id="b"))])
        assert await store.commit([Put(Task(id="c"))]) == 3
        await other.close()

    play(scene)


def test_an_expectation_is_held_against_what_was_answered_elsewhere():
    async def scene(store: EtcdStore, member: FakeMember, etcd: FakeEtcd) -> None:
        other = await opened(etcd.member(2))
        member.watch_latency_s = 1.0
        await other.commit([Put(Task(id="a"))])
        await store.commit([Put(Task(id="a", slot=1))], expect={(Task, "a"): 1})  # not seen yet
        assert await store.get(Task, "a") is not None
        await other.close()

    play(scene)


def test_an_election_is_waited_for():
    async def scene(store: EtcdStore, member: FakeMember, etcd: FakeEtcd) -> None:
        etcd.elect(0)
        asyncio.get_running_loop().call_later(ELECTION_S - 0.5, etcd.elect, 2)
        began = now()
        reading = asyncio.ensure_future(store.list(Task))
        assert await store.commit([Put(Task(id="a"))]) == 1
        assert now() - began == pytest.approx(ELECTION_S - 0.5, abs=0.2)
        await reading
        assert store.trouble == ""

    play(scene)


def test_no_quorum():
    async def scene(store: EtcdStore, member: FakeMember, etcd: FakeEtcd) -> None:
        await store.commit([Put(Task(id="a"))])
        member.cut_off()
        began = now()
        with pytest.raises(StoreNoLeaderError, match=NO_LEADER) as refused:
            await store.commit([Put(Task(id="b"))])
        assert not refused.value.uncertain
        assert now() - began == pytest.approx(ELECTION_S, abs=0.2)
        assert NO_LEADER in store.trouble
        asked = member.asked
        for _ in range(50):
            with pytest.raises(StoreNoLeaderError):
                await store.commit([Put(Task(id="b"))])
            assert [task.id for task in await store.list(Task)] == ["a"]
        assert member.asked == asked  # and at once
        member.join()
        await asyncio.sleep(2.5)
        assert store.trouble == ""
        assert await store.commit([Put(Task(id="b"))]) == 2

    play(scene)


def test_no_quorum_is_noticed_though_nobody_asks():
    async def scene(store: EtcdStore, member: FakeMember, etcd: FakeEtcd) -> None:
        etcd.elect(0)
        await asyncio.sleep(ELECTION_S + 2.5)
        assert NO_LEADER in store.trouble
        etcd.elect(1)
        await asyncio.sleep(2.5)
        assert store.trouble == ""

    play(scene)


def test_whether_it_was_written_is_said_to_be_unknown():
    async def scene(store: EtcdStore, member: FakeMember, etcd: FakeEtcd) -> None:
        member.lost.append(True)
        member.watch_latency_s = 60.0
        writing = asyncio.ensure_future(store.commit([Put(Task(id="a"))]))
        await asyncio.sleep(0.5)
        member.cut_off()
        with pytest.raises(StoreUnavailableError) as refused:
            await writing
        assert refused.value.uncertain
        member.join()
        member.watch_latency_s = 0.0
        fresh = await opened(etcd.member(2))
        assert [task.id for task in await fresh.list(Task)] == ["a"]
        await fresh.close()

    play(scene)


def test_readers_share_their_question():
    async def scene(store: EtcdStore, member: FakeMember, etcd: FakeEtcd) -> None:
        await asyncio.sleep(0.1)  # its watch stands
        member.latency_s = 0.1
        asked = member.asked
        await asyncio.gather(*(store.get(Task, "a") for _ in range(100)))
        assert member.asked == asked + 1

    play(scene)


def test_a_reader_that_comes_later_asks_anew():
    async def scene(store: EtcdStore, member: FakeMember, etcd: FakeEtcd) -> None:
        other = await opened(etcd.member(2))
        member.latency_s = 0.1
        early = asyncio.ensure_future(store.get(Task, "a"))
        await asyncio.sleep(0.15)  # its answer is on the way back
        await other.commit([Put(Task(id="a"))])
        assert await store.get(Task, "a") is not None
        await early
        await other.close()

    play(scene)


def test_a_slow_manager_gets_its_turn_beside_quick_ones():
    async def scene(store: EtcdStore, member: FakeMember, etcd: FakeEtcd) -> None:
        quick = await opened(etcd.member(2))
        member.latency_s = 0.2

        async def busy() -> None:
            while True:
                await quick.commit([Put(Task(id="busy"))])
                await asyncio.sleep(0.01)

        writing = asyncio.ensure_future(busy())
        await store.commit([Put(Task(id="a"))])
        assert await quick.get(Task, "a") is not None
        await asyncio.sleep(1)
        now_at = quick.revision
        await asyncio.sleep(1)
        assert quick.revision > now_at + 10  # nobody waits any more
        assert not (await etcd.member(3).range(layout.TURN)).kvs
        writing.cancel()
        await quick.close()

    play(scene)


def test_a_manager_that_dies_while_it_has_the_turn_holds_nobody_up_for_long():
    async def scene(store: EtcdStore, member: FakeMember, etcd: FakeEtcd) -> None:
        dead = etcd.member(2)
        lease, _ = await dead.lease_grant(TURN_S)
        await dead.txn((), [calls.put(layout.TURN, b"", lease)])
        began = now()
        assert await store.commit([Put(Task(id="a"))]) == 1
        assert now() - began == pytest.approx(TURN_S, abs=0.2)

    play(scene)


def test_who_waits_for_the_turn_longer_than_it_lasts_gets_it():
    async def scene(store: EtcdStore, member: FakeMember, etcd: FakeEtcd) -> None:
        other = etcd.member(2)
        lease, _ = await other.lease_grant(60)
        await other.txn((), [calls.put(layout.TURN, b"", lease)])
        writing = asyncio.ensure_future(store.commit([Put(Task(id="a"))]))
        await asyncio.sleep(TURN_S + 2)
        await other.lease_revoke(lease)
        assert await writing == 1

    play(scene)


def test_a_turn_that_ran_out_is_no_turn():
    async def scene(store: EtcdStore, member: FakeMember, etcd: FakeEtcd) -> None:
        store._committer._turn = 99
        assert await store.commit([Put(Task(id="a"))]) == 1
        assert store._committer._turn == 0

    play(scene)


def test_what_ails_the_member_itself_is_told_first():
    async def scene(store: EtcdStore, member: FakeMember, etcd: FakeEtcd) -> None:
        words: list[str] = [""]
        told = await EtcdStore.open(member, Sealer([bytes(32)]), ails=lambda: words[0])
        member.cut_off()
        await asyncio.sleep(ELECTION_S + 2)
        assert NO_LEADER in told.trouble
        words[0] = "etcd ends again and again on this manager: no space left on device"
        assert told.trouble == f"store: {words[0]}"
        await told.close()

    play(scene)
