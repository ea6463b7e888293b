"""The managers among themselves, as who leads keeps them: etcd's members, and what is said of them.

Touches etcd's members through a client and ``manager_status`` in the store. Decided in
``membership``.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import Final, Protocol

from meshnet.errors import ControlError
from meshnet_control.api import control_pb2 as pb
from meshnet_control.api import etcd_pb2
from meshnet_control.etcd.api import MemberEtcd
from meshnet_control.etcd.errors import EtcdError, EtcdUnavailableError
from meshnet_control.manager import presence
from meshnet_control.manager.membership import (
    HandOver,
    Member,
    Move,
    Picture,
    Promote,
    Remove,
    learning,
    next_move,
    statuses,
)
from meshnet_control.store.store import (
    Expect,
    NotLeadingError,
    OutOfSequenceError,
    Put,
    Store,
    StoreClosedError,
    StoreError,
)

_log = logging.getLogger(__name__)

LOOK_S: Final = 0.25
"""Between two looks."""
REFUSED_S: Final = 0.5
"""After etcd said no: not in sync yet, or it is not 5 s since it last let one in."""
ADMIT_S: Final = 20.0
"""For a place among the members; etcd lets one in at a time, and none for 5 s after one."""
CHANGE_S: Final = 5.0
"""For etcd's answer to a change of its members."""
_NOT_YET: Final = ("too many learner members", "unhealthy cluster", "not enough started members")


class MembersUnavailableError(ControlError):
    """A manager cannot be let in now; later it may."""

    def __init__(self, message: str) -> None:
        super().__init__(message, 503)


class Members(Protocol):
    """Who is a manager, as etcd knows it."""

    async def look(self, nodes: Mapping[str, pb.Node]) -> tuple[Picture, Mapping[str, str]]:
        """What there is, and where managers are reached.

        Raises:
            EtcdError: no answer.
        """
        ...

    async def act(self, move: Move) -> None:
        """Do what was decided; what cannot be done now is decided again.

        Raises:
            EtcdError: no answer, or not now.
        """
        ...


class OneMember:
    """A single manager, whose store is its own.

    Args:
        node_id: of this node.
        addr: ``host:port`` of its port 2377.
    """

    def __init__(self, node_id: str, addr: str) -> None:
        self._node_id, self._addr = node_id, addr

    async def look(self, nodes: Mapping[str, pb.Node]) -> tuple[Picture, Mapping[str, str]]:
        """Itself."""
        members = [Member(0, self._node_id, "", learner=False)]
        picture = Picture(nodes, members, {self._node_id}, own=0, learning={})
        return picture, {self._node_id: self._addr}

    async def act(self, move: Move) -> None:
        """Nothing: it stays."""


class EtcdMembers:
    """The members of an etcd.

    Args:
        etcd: the local member.
        clock: monotonic seconds.
    """

    def __init__(self, etcd: MemberEtcd, clock: Callable[[], float]) -> None:
        self._etcd, self._clock = etcd, clock
        self._learning: dict[int, float] = {}

    async def look(self, nodes: Mapping[str, pb.Node]) -> tuple[Picture, Mapping[str, str]]:
        """See ``Members.look``."""
        status = await self._etcd.status(presence.TRY_S)
        members = [_member(each) for each in await self._etcd.members()]
        there = await presence.there(self._etcd)
        self._learning = learning(members, self._learning, self._clock())
        own = status.header.member_id
        return Picture(nodes, members, there.keys(), own, self._learning), there

    async def act(self, move: Move) -> None:
        """See ``Members.act``."""
        if isinstance(move, Promote):
            await self._etcd.member_promote(move.member.id, CHANGE_S)
            _log.info("manager %s is in sync and votes from now on", move.member.name)
        elif isinstance(move, Remove):
            await self._etcd.member_remove(move.member.id, CHANGE_S)
            who = move.member.name or move.member.peer
            _log.info("manager %s is let out: %s", who, move.why)
        elif isinstance(move, HandOver):
            _log.info("this manager is to go: %s leads from now on", move.to.name)
            await self._etcd.move_leader(move.to.id, CHANGE_S)

    async def admit(self, node_id: str, peer: str, url: str) -> dict[str, str]:
        """Let a manager in, as a learner; asked again it is the same place.

        It comes without data: a member that it was before is put out, for its log is gone.

        Args:
            node_id: of the manager.
            peer: ``host:port`` of its etcd.
            url: the same as etcd says it.

        Returns:
            Name to ``host:port`` of every member, itself among them.

        Raises:
            MembersUnavailableError: not within ``ADMIT_S``.
            ControlError: another manager is at that address.
        """
        until = self._clock() + ADMIT_S
        while True:
            try:
                return await self._admitted(node_id, peer, url)
            except EtcdError as error:
                if not _later(error) or self._clock() >= until:
                    raise MembersUnavailableError(
                        f"manager {node_id} cannot be let in now: {error}"
                    ) from None
            await asyncio.sleep(REFUSED_S)

    async def _admitted(self, node_id: str, peer: str, url: str) -> dict[str, str]:
        members = await self._etcd.members()
        for member in members:
            here = url in member.peerURLs
            if here and member.name not in {"", node_id}:
                raise ControlError(f"another manager is at {peer}: {member.name}")
            if member.name == node_id or (here and not member.isLearner):
                await self._etcd.member_remove(member.ID, CHANGE_S)
                _log.info("manager %s comes anew: what it was before is let out", node_id)
                members.remove(member)
        if not any(url in member.peerURLs for member in members):
            _, members = await self._etcd.member_add([url], timeout_s=CHANGE_S)
            _log.info("manager %s is let in at %s", node_id, peer)
        named = {m.name or f"member-{m.ID:x}": m for m in members if url not in m.peerURLs}
        return {name: _member(m).peer for name, m in named.items()} | {node_id: peer}


class Keeper:
    """Keeps members and ``manager_status`` as they should be, while this manager leads.

    Args:
        node_id: of this node.
        members: of etcd.
        nodes: of the cluster, as they are now.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        node_id: str,
        members: Members,
        nodes: Callable[[], Mapping[str, pb.Node]],
        clock: Callable[[], float],
    ) -> None:
        self._node_id, self._members, self._nodes, self._clock = node_id, members, nodes, clock

    async def run(self, store: Store) -> None:
        """Until cancelled, or until the store closes or another manager leads.

        Args:
            store: written to only while this manager leads.
        """
        while True:
            wait_s = LOOK_S
            try:
                await self._round(store)
            except EtcdError as error:
                _log.debug("%s", error)
                wait_s = REFUSED_S
            except (NotLeadingError, StoreClosedError):
                return
            except OutOfSequenceError:
                continue  # somebody else wrote a node: look again
            except StoreError as error:
                _log.debug("%s", error)
            await asyncio.sleep(wait_s)

    async def _round(self, store: Store) -> None:
        picture, addresses = await self._members.look(self._nodes())
        await self._say(store, statuses(picture, self._node_id, addresses))
        move = next_move(picture, self._clock())
        if move is not None:
            await self._members.act(move)

    async def _say(self, store: Store, said: Mapping[str, pb.ManagerStatus | None]) -> None:
        writes: list[Put] = []
        expect: Expect = {}
        for node_id, status in said.items():
            node = await store.get(pb.Node, node_id)
            if node is None:
                continue
            fresh = pb.Node()
            fresh.CopyFrom(node)
            if status is None:
                fresh.ClearField("manager_status")
            else:
                fresh.manager_status.CopyFrom(status)
            if fresh != node:
                writes.append(Put(fresh))
                expect = {**expect, (pb.Node, node_id): node.version.index}
        if writes:
            await store.commit(writes, expect)


def _member(member: etcd_pb2.Member) -> Member:
    peer = member.peerURLs[0].partition("://")[2] if member.peerURLs else ""
    return Member(member.ID, member.name, peer, learner=member.isLearner)


def _later(error: EtcdError) -> bool:
    """Whether the same may be answered otherwise soon."""
    return isinstance(error, EtcdUnavailableError) or any(w in error.details for w in _NOT_YET)
