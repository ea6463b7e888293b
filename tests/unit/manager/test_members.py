"""How members come and go, on an etcd in memory and a virtual clock."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack

import pytest
import virtual_run
from whole_cluster import VolatileStore

from meshnet import ends
from meshnet.errors import ControlError
from meshnet_control.api import control_pb2 as pb
from meshnet_control.api import etcd_pb2
from meshnet_control.etcd.fake import UNHEALTHY_S, FakeEtcd
from meshnet_control.manager.members import (
    ADMIT_S,
    EtcdMembers,
    Keeper,
    MembersUnavailableError,
    OneMember,
)
from meshnet_control.manager.membership import LEARNER_S
from meshnet_control.manager.presence import TTL_S, Presence, there
from meshnet_control.store.store import Put


class Bed:
    """A leader m1 beside member 1, nodes m1 to m4 that are to be managers."""

    def __init__(self) -> None:
        self.etcd = FakeEtcd()
        self.etcd.members[1] = etcd_pb2.Member(ID=1, name="m1", peerURLs=["https://10.0.0.1:2380"])
        nodes = [pb.Node(id=f"m{n}", spec={"role": "manager"}) for n in range(1, 5)]
        self.store = VolatileStore(nodes)
        clock = asyncio.get_running_loop().time
        self.members = EtcdMembers(self.etcd.member(1), clock)
        self.keeper = Keeper("m1", self.members, self._nodes, clock)
        self.stack = AsyncExitStack()

    def _nodes(self) -> dict[str, pb.Node]:
        return {node.id: node for node in self.store._memory.all(pb.Node)}

    def runs(self, name: str) -> asyncio.Task[None]:
        """A manager that is there from now on."""
        presence = Presence(self.etcd.member(1), name, f"{name}:2377")
        return self.spawned(presence.run())

    def spawned(self, work: Awaitable[None]) -> asyncio.Task[None]:
        task = asyncio.ensure_future(work)
        self.stack.push_async_callback(ends.ended, task)
        return task

    async def admit(self, number: int) -> dict[str, str]:
        peer = f"10.0.0.{number}:2380"
        return await self.members.admit(f"m{number}", peer, f"https://{peer}")

    def comes(self, number: int) -> None:
        """Its etcd starts and is in sync."""
        for member in self.etcd.members.values():
            if member.peerURLs[0] == f"https://10.0.0.{number}:2380":
                member.name = f"m{number}"
                self.etcd.in_sync.add(member.ID)

    def votes(self) -> set[str]:
        return {each.name for each in self.etcd.members.values() if not each.isLearner}

    async def status(self, name: str) -> pb.ManagerStatus | None:
        node = await self.store.get(pb.Node, name)
        return node.manager_status if node.HasField("manager_status") else None

    async def reachability(self, name: str) -> str:
        said = await self.status(name)
        return said.reachability if said is not None else ""

    async def set_role(self, name: str, role: str) -> None:
        node = await self.store.get(pb.Node, name)
        node.spec.role = role
        await self.store.commit([Put(node)])


def on_a_bed(story: Callable[[Bed], Awaitable[None]]) -> None:
    async def told() -> None:
        bed = Bed()
        async with bed.stack:
            await story(bed)

    virtual_run.run(told())


def test_a_manager_is_let_in_promoted_and_said_to_be_reachable() -> None:
    async def story(bed: Bed) -> None:
        bed.runs("m1")
        bed.spawned(bed.keeper.run(bed.store))
        peers = await bed.admit(2)
        assert peers == {"m1": "10.0.0.1:2380", "m2": "10.0.0.2:2380"}
        await asyncio.sleep(5)
        assert bed.votes() == {"m1"}
        assert await bed.status("m2") is None
        bed.comes(2)
        bed.runs("m2")
        await asyncio.sleep(2)
        assert bed.votes() == {"m1", "m2"}
        assert await bed.status("m2") == pb.ManagerStatus(reachability="reachable", addr="m2:2377")
        leads = pb.ManagerStatus(leader=True, reachability="reachable", addr="m1:2377")
        assert await bed.status("m1") == leads

    on_a_bed(story)


def test_who_asks_again_has_the_same_place() -> None:
    async def story(bed: Bed) -> None:
        first = await bed.admit(2)
        assert await bed.admit(2) == first
        assert len(bed.etcd.members) == 2

    on_a_bed(story)


def test_joins_wait_for_each_other() -> None:
    async def story(bed: Bed) -> None:
        bed.spawned(bed.keeper.run(bed.store))
        loop = asyncio.get_running_loop()

        async def joins(number: int) -> float:
            await bed.admit(number)
            bed.comes(number)
            return loop.time()

        at = sorted(await asyncio.gather(joins(2), joins(3), joins(4)))
        await asyncio.sleep(UNHEALTHY_S + 1)
        assert bed.votes() == {"m1", "m2", "m3", "m4"}
        assert UNHEALTHY_S <= at[1] - at[0] < UNHEALTHY_S + 2

    on_a_bed(story)


def test_a_manager_that_never_comes_is_in_the_way_for_a_minute() -> None:
    async def story(bed: Bed) -> None:
        bed.spawned(bed.keeper.run(bed.store))
        await bed.admit(2)
        with pytest.raises(MembersUnavailableError, match="too many learner"):
            await bed.admit(3)
        assert asyncio.get_running_loop().time() >= ADMIT_S
        await asyncio.sleep(LEARNER_S)
        assert bed.etcd.members.keys() == {1}
        await bed.admit(3)

    on_a_bed(story)


def test_a_manager_that_lost_its_disk_comes_anew() -> None:
    async def story(bed: Bed) -> None:
        url = "https://10.0.0.2:2380"
        bed.etcd.members[2] = etcd_pb2.Member(ID=2, name="m2", peerURLs=[url])
        await bed.admit(2)
        (member,) = (m for m in bed.etcd.members.values() if m.ID != 1)
        assert (member.name, member.isLearner, member.ID != 2) == ("", True, True)

    on_a_bed(story)


def test_nobody_takes_the_address_of_another_manager() -> None:
    async def story(bed: Bed) -> None:
        with pytest.raises(ControlError, match=r"another manager is at 10\.0\.0\.1:2380: m1"):
            await bed.members.admit("m2", "10.0.0.1:2380", "https://10.0.0.1:2380")
        assert bed.etcd.members.keys() == {1}

    on_a_bed(story)


def test_a_manager_that_falls_silent_is_unreachable_and_one_that_is_demoted_goes() -> None:
    async def story(bed: Bed) -> None:
        bed.spawned(bed.keeper.run(bed.store))
        for number in (2, 3):
            bed.etcd.members[number] = etcd_pb2.Member(
                ID=number, name=f"m{number}", peerURLs=[f"https://10.0.0.{number}:2380"]
            )
        for name in ("m1", "m3"):
            bed.runs(name)
        silent = bed.runs("m2")
        await asyncio.sleep(1)
        assert await bed.reachability("m2") == "reachable"
        await ends.ended(silent)
        await asyncio.sleep(TTL_S + 2)
        assert await bed.reachability("m2") == "unreachable"
        await bed.set_role("m2", "worker")
        await asyncio.sleep(1)
        assert bed.votes() == {"m1", "m3"}
        assert await bed.status("m2") is None

    on_a_bed(story)


def test_a_leader_that_is_demoted_hands_etcds_leadership_over() -> None:
    async def story(bed: Bed) -> None:
        bed.spawned(bed.keeper.run(bed.store))
        for number in (2, 3):
            bed.etcd.members[number] = etcd_pb2.Member(
                ID=number, name=f"m{number}", peerURLs=[f"https://10.0.0.{number}:2380"]
            )
        for name in ("m1", "m2", "m3"):
            bed.runs(name)
        await asyncio.sleep(1)
        assert bed.etcd.leader == 1
        await bed.set_role("m1", "worker")
        await asyncio.sleep(1)
        assert bed.etcd.leader == 2
        assert bed.votes() == {"m1", "m2", "m3"}  # whoever leads now lets it out

    on_a_bed(story)


def test_a_single_manager_says_that_it_leads() -> None:
    async def story(bed: Bed) -> None:
        one = OneMember("m1", "10.0.0.1:2377")
        clock = asyncio.get_running_loop().time
        bed.spawned(Keeper("m1", one, bed._nodes, clock).run(bed.store))
        await asyncio.sleep(1)
        said = await bed.status("m1")
        assert said == pb.ManagerStatus(leader=True, reachability="reachable", addr="10.0.0.1:2377")

    on_a_bed(story)


def test_a_manager_that_ends_is_not_there_at_once():
    async def play() -> None:
        etcd = FakeEtcd()
        presence = Presence(etcd.member(1), "m1", "m1:2377")
        running = asyncio.create_task(presence.run())
        await asyncio.sleep(1)  # virtual
        assert await there(etcd.member(1)) == {"m1": "m1:2377"}
        await ends.ended(running)
        began = asyncio.get_running_loop().time()
        await presence.resign()
        assert await there(etcd.member(1)) == {}
        assert asyncio.get_running_loop().time() - began < TTL_S / 2

    virtual_run.run(play())
