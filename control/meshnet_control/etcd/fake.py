"""etcd's keys, leases and watches in this process, on the event loop's clock, with faults at will.

Touches nothing. Held to the same contract as a real etcd (tests/support/etcd_contract.py).

Be aware: it has one state, as a cluster with a quorum has. A member of it can be frozen, cut off,
or lose the answers to what it carried out; elections are what a test says they are.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_left
from collections import deque
from collections.abc import AsyncGenerator, Iterable, Sequence
from dataclasses import dataclass, field
from operator import itemgetter
from typing import TypeAlias

from meshnet_control.api import etcd_pb2 as pb
from meshnet_control.etcd.errors import (
    NO_LEASE,
    EtcdCompactedError,
    EtcdError,
    EtcdNoLeaseError,
    EtcdUnavailableError,
)

SHORTEST_TTL_S = 2
_CALL_S = 3.0
UNHEALTHY_S = 5.0
PEER_EXISTS = "etcdserver: Peer URLs already exists"
TOO_MANY_LEARNERS = "etcdserver: too many learner members in cluster"
NOT_IN_SYNC = "etcdserver: can only promote a learner member which is in sync with leader"


Happened: TypeAlias = tuple[int, list[pb.Event], float]
"""One transaction: its revision, what it changed, and when."""


@dataclass
class _Lease:
    ttl_s: int
    until: float
    keys: set[bytes] = field(default_factory=set)


class FakeEtcd:
    """The state that members share."""

    def __init__(self) -> None:
        self.leader = 1
        """The member that leads; 0: none, nothing is written or read."""
        self.compacted = 0
        self.writes = 0
        """Transactions that wrote something."""
        self._revision = 1
        self._keys: dict[bytes, pb.KeyValue] = {}
        self._leases: dict[int, _Lease] = {}
        self._events: list[Happened] = []
        self._more = asyncio.Event()
        self._ids = 7000
        self.members: dict[int, pb.Member] = {}
        """Those that were added, and those a test put here, by their ids."""
        self.in_sync: set[int] = set()
        """Learners that can be promoted."""
        self.unhealthy_until = 0.0
        """Changes of members are refused until then, as for 5 s after one has joined."""

    def member(self, number: int) -> FakeMember:
        """One of its members; numbers begin with 1."""
        return FakeMember(self, number)

    def add(self, urls: Sequence[str], *, learner: bool) -> pb.Member:
        """Another member."""
        self._may_change("Cluster/MemberAdd")
        if any(set(urls) & set(each.peerURLs) for each in self.members.values()):
            raise EtcdError("Cluster/MemberAdd", "FAILED_PRECONDITION", PEER_EXISTS)
        if learner and any(each.isLearner for each in self.members.values()):
            raise EtcdError("Cluster/MemberAdd", "FAILED_PRECONDITION", TOO_MANY_LEARNERS)
        self._ids += 1
        member = pb.Member(ID=self._ids, peerURLs=urls, isLearner=learner)
        self.members[member.ID] = member
        return member

    def promote(self, member: int) -> None:
        """A learner votes from now on, and no member is changed for a while."""
        self._may_change("Cluster/MemberPromote")
        if member not in self.in_sync:
            raise EtcdError("Cluster/MemberPromote", "FAILED_PRECONDITION", NOT_IN_SYNC)
        self.members[member].isLearner = False
        self.unhealthy_until = _now() + UNHEALTHY_S

    def remove(self, member: int) -> None:
        """A member is none any more."""
        self._may_change("Cluster/MemberRemove")
        if self.members.pop(member, None) is None:
            raise EtcdError("Cluster/MemberRemove", "NOT_FOUND", "etcdserver: member not found")

    def _may_change(self, call: str) -> None:
        if _now() < self.unhealthy_until:
            raise EtcdUnavailableError(call, "UNAVAILABLE", "etcdserver: unhealthy cluster")

    def elect(self, member: int) -> None:
        """Have that member lead; 0: none."""
        self.leader = member
        self.wake()

    def compact(self) -> None:
        """Forget everything but the present."""
        self.compacted = self._revision

    # ---- for members ----

    def header(self, member: int) -> pb.ResponseHeader:
        """As of now."""
        return pb.ResponseHeader(member_id=member, revision=self._revision)

    def range(self, request: pb.RangeRequest, member: int) -> pb.RangeResponse:
        """Keys as of now; an older revision is read from what happened since."""
        self.expire()
        keys = self._keys if not request.revision else self._as_of(request.revision)
        found = sorted(key for key in keys if _meant(key, request.key, request.range_end))
        limit = request.limit or len(found)
        return pb.RangeResponse(
            header=self.header(member),
            kvs=[keys[key] for key in found[:limit]],
            more=len(found) > limit,
            count=len(found),
        )

    def txn(self, request: pb.TxnRequest, member: int) -> pb.TxnResponse:
        """All or nothing, one revision."""
        self.expire()
        holds = all(self._holds(compare) for compare in request.compare)
        operations = request.success if holds else request.failure
        for operation in operations:
            put = operation.request_put
            if operation.HasField("request_put"):
                if put.ignore_value and put.key not in self._keys:
                    raise EtcdError("KV/Txn", "INVALID_ARGUMENT", "etcdserver: key not found")
                if put.lease and put.lease not in self._leases:
                    raise EtcdNoLeaseError("KV/Txn", "NOT_FOUND", NO_LEASE)
        events: list[pb.Event] = []
        responses = [self._do(operation, events, member) for operation in operations]
        self._commit(events)
        self.writes += bool(events)
        return pb.TxnResponse(header=self.header(member), succeeded=holds, responses=responses)

    def grant(self, ttl_s: int) -> tuple[int, int]:
        """A new lease."""
        self._ids += 1
        ttl_s = max(ttl_s, SHORTEST_TTL_S)
        self._leases[self._ids] = _Lease(ttl_s, _now() + ttl_s)
        asyncio.get_running_loop().call_later(ttl_s, self.expire)
        return self._ids, ttl_s

    def keep_alive(self, lease: int) -> int:
        """Its seconds from now on; 0: it is gone."""
        self.expire()
        found = self._leases.get(lease)
        if found is None:
            return 0
        found.until = _now() + found.ttl_s
        asyncio.get_running_loop().call_later(found.ttl_s, self.expire)
        return found.ttl_s

    def revoke(self, lease: int) -> None:
        """End it, and its keys."""
        found = self._leases.pop(lease, None)
        if found is None:
            raise EtcdNoLeaseError("Lease/LeaseRevoke", "NOT_FOUND", NO_LEASE)
        events: list[pb.Event] = []
        for key in sorted(found.keys):
            self._delete(key, events)
        self._commit(events)

    def expire(self) -> None:
        """End the leases whose time is over."""
        for lease in [n for n, each in self._leases.items() if each.until <= _now()]:
            self.revoke(lease)

    def since(self, revision: int) -> tuple[asyncio.Event, list[Happened]]:
        """What happened from a revision on, and what is set when there is more."""
        first = bisect_left(self._events, revision, key=itemgetter(0))
        return self._more, self._events[first:]

    def wake(self) -> None:
        """Have watches look whether they still stand."""
        more, self._more = self._more, asyncio.Event()
        more.set()

    # ---- inside ----

    def _as_of(self, revision: int) -> dict[bytes, pb.KeyValue]:
        if revision < self.compacted:
            details = "etcdserver: mvcc: required revision has been compacted"
            raise EtcdCompactedError("KV/Range", details)
        keys: dict[bytes, pb.KeyValue] = {}
        for at, events, _ in self._events:
            if at > revision:
                break
            for event in events:
                if event.type == pb.Event.DELETE:
                    keys.pop(event.kv.key, None)
                else:
                    keys[event.kv.key] = event.kv
        return keys

    def _holds(self, compare: pb.Compare) -> bool:
        known = self._keys.get(compare.key, pb.KeyValue())
        if compare.target == pb.Compare.MOD:
            same = known.mod_revision == compare.mod_revision
        elif compare.target == pb.Compare.CREATE:
            same = known.create_revision == compare.create_revision
        else:
            raise NotImplementedError(compare)
        return same == (compare.result == pb.Compare.EQUAL)

    def _do(self, operation: pb.RequestOp, events: list[pb.Event], member: int) -> pb.ResponseOp:
        if operation.HasField("request_range"):
            return pb.ResponseOp(response_range=self.range(operation.request_range, member))
        if operation.HasField("request_put"):
            self._put(operation.request_put, events)
            return pb.ResponseOp(response_put=pb.PutResponse())
        request = operation.request_delete_range
        gone = [key for key in self._keys if _meant(key, request.key, request.range_end)]
        for key in sorted(gone):
            self._delete(key, events)
        return pb.ResponseOp(response_delete_range=pb.DeleteRangeResponse(deleted=len(gone)))

    def _put(self, request: pb.PutRequest, events: list[pb.Event]) -> None:
        known = self._keys.get(request.key)
        at = self._revision + 1
        kv = pb.KeyValue(
            key=request.key,
            value=known.value if request.ignore_value and known is not None else request.value,
            create_revision=known.create_revision if known is not None else at,
            mod_revision=at,
            version=known.version + 1 if known is not None else 1,
            lease=request.lease,
        )
        if known is not None and known.lease in self._leases:
            self._leases[known.lease].keys.discard(request.key)
        if request.lease:
            self._leases[request.lease].keys.add(request.key)
        self._keys[request.key] = kv
        events.append(pb.Event(type=pb.Event.PUT, kv=kv))

    def _delete(self, key: bytes, events: list[pb.Event]) -> None:
        if self._keys.pop(key, None) is not None:
            gone = pb.KeyValue(key=key, mod_revision=self._revision + 1)
            events.append(pb.Event(type=pb.Event.DELETE, kv=gone))

    def _commit(self, events: list[pb.Event]) -> None:
        if events:
            self._revision += 1
            self._events.append((self._revision, events, _now()))
            self.wake()


class FakeMember:
    """``Etcd``, as one member answers."""

    def __init__(self, cluster: FakeEtcd, number: int) -> None:
        self._cluster, self._number = cluster, number
        self._thawed = asyncio.Event()
        self._thawed.set()
        self.cut = False
        """It reaches no other: it knows no leader."""
        self.latency_s = 0.0
        """To it and back, each."""
        self.watch_latency_s = 0.0
        """Of what a watch tells."""
        self.lost: deque[bool] = deque()
        """Of the next transactions: whether the answer is lost after they were carried out."""
        self.asked = 0

    def freeze(self) -> None:
        """As SIGSTOP does to who asks: what is on its way arrives, no answer is read."""
        self._thawed.clear()

    def thaw(self) -> None:
        """Go on."""
        self._thawed.set()

    def cut_off(self) -> None:
        """From every other member."""
        self.cut = True
        self._cluster.wake()

    def join(self) -> None:
        """Reach the others again."""
        self.cut = False

    async def range(
        self,
        key: bytes,
        range_end: bytes = b"",
        *,
        revision: int = 0,
        limit: int = 0,
        timeout_s: float = _CALL_S,
    ) -> pb.RangeResponse:
        """See ``EtcdClient.range``."""
        request = pb.RangeRequest(key=key, range_end=range_end, revision=revision, limit=limit)
        await self._there("KV/Range", timeout_s)
        answer = self._cluster.range(request, self._number)
        await self._back()
        return answer

    async def txn(
        self,
        compare: Iterable[pb.Compare],
        success: Iterable[pb.RequestOp],
        failure: Iterable[pb.RequestOp] = (),
        timeout_s: float = _CALL_S,
    ) -> pb.TxnResponse:
        """See ``EtcdClient.txn``."""
        request = pb.TxnRequest(compare=compare, success=success, failure=failure)
        await self._there("KV/Txn", timeout_s)
        answer = self._cluster.txn(request, self._number)
        if self.lost and self.lost.popleft():
            await asyncio.sleep(timeout_s)
            raise EtcdUnavailableError("KV/Txn", "DEADLINE_EXCEEDED", "Deadline Exceeded")
        await self._back()
        return answer

    async def watch(
        self, key: bytes, range_end: bytes = b"", start_revision: int = 0
    ) -> AsyncGenerator[Sequence[pb.Event], None]:
        """See ``EtcdClient.watch``."""
        await self._there("Watch/Watch", _CALL_S)
        position = start_revision or self._cluster.header(0).revision + 1
        if start_revision and start_revision <= self._cluster.compacted:
            details = f"revision {start_revision} has been compacted"
            raise EtcdCompactedError("Watch/Watch", details, self._cluster.compacted)
        yield ()
        while True:
            more, happened = self._cluster.since(position)
            for revision, events, at in happened:
                position = revision + 1
                meant = [event for event in events if _meant(event.kv.key, key, range_end)]
                if meant:
                    latency_s = self.latency_s + self.watch_latency_s
                    await asyncio.sleep(at + latency_s - _now())  # many are on their way at once
                    await self._thawed.wait()
                    yield meant
            if self.cut or not self._cluster.leader:
                raise EtcdUnavailableError("Watch/Watch", "UNAVAILABLE", "etcdserver: no leader")
            await more.wait()

    async def lease_grant(self, ttl_s: int, timeout_s: float = _CALL_S) -> tuple[int, int]:
        """See ``EtcdClient.lease_grant``."""
        await self._there("Lease/LeaseGrant", timeout_s)
        answer = self._cluster.grant(ttl_s)
        await self._back()
        return answer

    async def lease_keep_alive(self, lease: int, timeout_s: float = _CALL_S) -> int:
        """See ``EtcdClient.lease_keep_alive``."""
        await self._there("Lease/LeaseKeepAlive", timeout_s)
        answer = self._cluster.keep_alive(lease)
        await self._back()
        return answer

    async def lease_revoke(self, lease: int, timeout_s: float = _CALL_S) -> None:
        """See ``EtcdClient.lease_revoke``."""
        await self._there("Lease/LeaseRevoke", timeout_s)
        self._cluster.revoke(lease)
        await self._back()

    async def status(self, timeout_s: float = _CALL_S) -> pb.StatusResponse:
        """See ``EtcdClient.status``."""
        del timeout_s
        await self._thawed.wait()
        leader = 0 if self.cut else self._cluster.leader
        return pb.StatusResponse(header=self._cluster.header(self._number), leader=leader)

    async def members(self, timeout_s: float = _CALL_S) -> list[pb.Member]:
        """See ``EtcdClient.members``."""
        await self._there("Cluster/MemberList", timeout_s)
        return list(self._cluster.members.values())

    async def member_add(
        self, peer_urls: Sequence[str], *, learner: bool = True, timeout_s: float = _CALL_S
    ) -> tuple[pb.Member, list[pb.Member]]:
        """See ``EtcdClient.member_add``."""
        await self._there("Cluster/MemberAdd", timeout_s)
        member = self._cluster.add(peer_urls, learner=learner)
        return member, list(self._cluster.members.values())

    async def member_promote(self, member: int, timeout_s: float = _CALL_S) -> None:
        """See ``EtcdClient.member_promote``."""
        await self._there("Cluster/MemberPromote", timeout_s)
        self._cluster.promote(member)

    async def member_remove(self, member: int, timeout_s: float = _CALL_S) -> None:
        """See ``EtcdClient.member_remove``."""
        await self._there("Cluster/MemberRemove", timeout_s)
        self._cluster.remove(member)

    async def move_leader(self, member: int, timeout_s: float = _CALL_S) -> None:
        """See ``EtcdClient.move_leader``."""
        await self._there("Maintenance/MoveLeader", timeout_s)
        self._cluster.elect(member)

    async def _there(self, call: str, timeout_s: float) -> None:
        del timeout_s
        self.asked += 1
        await self._thawed.wait()
        await asyncio.sleep(self.latency_s)
        if self.cut or not self._cluster.leader:
            raise EtcdUnavailableError(call, "UNAVAILABLE", "etcdserver: no leader")

    async def _back(self) -> None:
        await asyncio.sleep(self.latency_s)
        await self._thawed.wait()


def _meant(key: bytes, first: bytes, end: bytes) -> bool:
    return key == first if not end else first <= key < end


def _now() -> float:
    return asyncio.get_running_loop().time()
