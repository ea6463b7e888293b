"""A thin client of etcd 3.4: one method a call, typed errors, no retries of its own.

Touches one gRPC channel. Every request says ``hasleader``: a member that knows no leader answers at
once instead of letting the caller wait (etcd v3.4 etcdserver/api/v3rpc/interceptor.go).

Be aware: an ``EtcdUnavailableError`` that is ``uncertain`` may have been carried out. Repeat a
write only with the same compare, so that it can succeed once.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
from collections.abc import AsyncGenerator, Iterable, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

import grpc
import grpc.aio
from google.protobuf.message import Message

from meshnet_control.api import etcd_pb2 as pb
from meshnet_control.etcd.errors import EtcdCompactedError, EtcdError, typed

CALL_S: Final = 3.0
"""For one call, unless told otherwise."""
SNAPSHOT_S: Final = 120.0
DEFRAGMENT_S: Final = 60.0
_DIGEST_BYTES: Final = 32
"""A snapshot ends with the SHA-256 of what is before (etcd v3.4 v3rpc/maintenance.go)."""
_LEADER: Final = (("hasleader", "true"),)
_OPTIONS: Final = (
    ("grpc.max_receive_message_length", -1),  # a page of our own objects, from our own process
    ("grpc.max_send_message_length", -1),
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.min_reconnect_backoff_ms", 1000),  # for one attempt: a busy host takes its time
    ("grpc.max_reconnect_backoff_ms", 500),
)

_R = TypeVar("_R", bound=Message)


class EtcdClient:
    """One member of etcd, on its local socket.

    Args:
        target: as gRPC names it, e.g. ``unix:/run/meshnet/etcd/etcd:0``.
    """

    def __init__(self, target: str) -> None:
        self._channel = grpc.aio.insecure_channel(target, options=_OPTIONS)

    async def close(self) -> None:
        """End the channel and what runs on it. Twice is fine."""
        await self._channel.close(None)

    # ---- keys ----

    async def range(
        self,
        key: bytes,
        range_end: bytes = b"",
        *,
        revision: int = 0,
        limit: int = 0,
        serializable: bool = False,
        keys_only: bool = False,
        timeout_s: float = CALL_S,
    ) -> pb.RangeResponse:
        """Keys and values.

        Args:
            key: the first key, or the only one when ``range_end`` is empty.
            range_end: the first key that is not meant (``prefix_end``).
            revision: as of then; 0: now.
            limit: at most so many; 0: all.
            serializable: answered by this member alone, which may be behind.
            keys_only: without values.
            timeout_s: for the answer.

        Raises:
            EtcdCompactedError: that revision is not kept any more.
            EtcdError: no answer.
        """
        request = pb.RangeRequest(
            key=key,
            range_end=range_end,
            revision=revision,
            limit=limit,
            serializable=serializable,
            keys_only=keys_only,
        )
        metadata = () if serializable else _LEADER
        return await self._call("KV/Range", request, pb.RangeResponse, timeout_s, metadata)

    async def txn(
        self,
        compare: Iterable[pb.Compare],
        success: Iterable[pb.RequestOp],
        failure: Iterable[pb.RequestOp] = (),
        timeout_s: float = CALL_S,
    ) -> pb.TxnResponse:
        """All of ``success`` when every compare holds, else all of ``failure``; one revision.

        Raises:
            EtcdTooLargeError: too many operations or bytes; nothing is written.
            EtcdFullError: no room; nothing is written.
            EtcdUnavailableError: no answer, see ``uncertain``.
        """
        request = pb.TxnRequest(compare=compare, success=success, failure=failure)
        return await self._call("KV/Txn", request, pb.TxnResponse, timeout_s)

    async def compact(self, revision: int) -> None:
        """Forget what was before a revision.

        Raises:
            EtcdError: no answer, or it is forgotten already.
        """
        request = pb.CompactionRequest(revision=revision, physical=True)
        await self._call("KV/Compact", request, pb.CompactionResponse, DEFRAGMENT_S)

    async def watch(
        self, key: bytes, range_end: bytes = b"", start_revision: int = 0
    ) -> AsyncGenerator[Sequence[pb.Event], None]:
        """What happens to keys from a revision on, in order, none missed; without end.

        Args:
            key: the first key, or the only one.
            range_end: the first key that is not meant.
            start_revision: the first revision that is told; 0: what comes after now.

        Yields:
            Whole revisions, each in one piece. Nothing at all: the watch stands, and every ten
            minutes that it still does.

        Raises:
            EtcdCompactedError: the first revision is not kept any more.
            EtcdError: the stream ended; watch again from the last event's revision, plus one.
        """
        create = pb.WatchCreateRequest(
            key=key,
            range_end=range_end,
            start_revision=start_revision,
            progress_notify=True,
            fragment=True,
        )
        call = self._stream("Watch/Watch", pb.WatchResponse)
        parts: list[pb.Event] = []
        try:
            with _answers("Watch/Watch"):
                await call.write(pb.WatchRequest(create_request=create))
            while True:
                with _answers("Watch/Watch"):
                    reply = await call.read()
                if not isinstance(reply, pb.WatchResponse):
                    with _answers("Watch/Watch"):
                        raise typed("Watch/Watch", (await call.code()).name, await call.details())
                if reply.compact_revision:
                    text = f"revision {start_revision} has been compacted"
                    raise EtcdCompactedError("Watch/Watch", text, reply.compact_revision)
                if reply.canceled:
                    raise typed("Watch/Watch", "UNAVAILABLE", reply.cancel_reason)
                parts.extend(reply.events)
                if not reply.fragment:
                    told, parts = parts, []
                    yield told
        finally:
            call.cancel()

    # ---- leases ----

    async def lease_grant(self, ttl_s: int, timeout_s: float = CALL_S) -> tuple[int, int]:
        """A new lease: its id, and the seconds it lives without being kept alive.

        Raises:
            EtcdError: no answer.
        """
        request = pb.LeaseGrantRequest(TTL=ttl_s)
        reply = await self._call("Lease/LeaseGrant", request, pb.LeaseGrantResponse, timeout_s)
        return reply.ID, reply.TTL

    async def lease_keep_alive(self, lease: int, timeout_s: float = CALL_S) -> int:
        """Keep a lease alive; the seconds it lives from now on, 0: it is gone.

        Raises:
            EtcdError: no answer.
        """
        call = self._stream("Lease/LeaseKeepAlive", pb.LeaseKeepAliveResponse, timeout_s)
        try:
            with _answers("Lease/LeaseKeepAlive"):
                await call.write(pb.LeaseKeepAliveRequest(ID=lease))
                reply = await call.read()
                if not isinstance(reply, pb.LeaseKeepAliveResponse):
                    code, details = (await call.code()).name, await call.details()
                    raise typed("Lease/LeaseKeepAlive", code, details)
            return reply.TTL
        finally:
            call.cancel()

    async def lease_revoke(self, lease: int, timeout_s: float = CALL_S) -> None:
        """End a lease; its keys go with it.

        Raises:
            EtcdError: no answer, or there is no such lease (NOT_FOUND).
        """
        request = pb.LeaseRevokeRequest(ID=lease)
        await self._call("Lease/LeaseRevoke", request, pb.LeaseRevokeResponse, timeout_s)

    # ---- members ----

    async def members(self, timeout_s: float = CALL_S) -> list[pb.Member]:
        """The members, learners among them, as this one knows them.

        Raises:
            EtcdError: no answer.
        """
        request = pb.MemberListRequest()
        reply = await self._call(
            "Cluster/MemberList", request, pb.MemberListResponse, timeout_s, metadata=()
        )
        return list(reply.members)

    async def member_add(
        self, peer_urls: Sequence[str], *, learner: bool = True, timeout_s: float = CALL_S
    ) -> tuple[pb.Member, list[pb.Member]]:
        """Let another member in; itself, and all of them.

        Raises:
            EtcdUnavailableError: "unhealthy cluster": for 5 s after a promotion; ask again.
            EtcdError: no answer, there is a learner already, or the URLs are a member's.
        """
        request = pb.MemberAddRequest(peerURLs=peer_urls, isLearner=learner)
        reply = await self._call("Cluster/MemberAdd", request, pb.MemberAddResponse, timeout_s)
        return reply.member, list(reply.members)

    async def member_promote(self, member: int, timeout_s: float = CALL_S) -> None:
        """Give a learner its vote.

        Raises:
            EtcdError: FAILED_PRECONDITION: it is not in sync yet; ask again.
        """
        request = pb.MemberPromoteRequest(ID=member)
        await self._call("Cluster/MemberPromote", request, pb.MemberPromoteResponse, timeout_s)

    async def member_remove(self, member: int, timeout_s: float = CALL_S) -> None:
        """Put a member out; its process ends by itself.

        Raises:
            EtcdError: no answer, no such member, or the rest would be no quorum.
        """
        request = pb.MemberRemoveRequest(ID=member)
        await self._call("Cluster/MemberRemove", request, pb.MemberRemoveResponse, timeout_s)

    # ---- upkeep ----

    async def status(self, timeout_s: float = CALL_S) -> pb.StatusResponse:
        """This member, by its own word: who leads (0: nobody), sizes, terms.

        Raises:
            EtcdError: no answer.
        """
        request = pb.StatusRequest()
        return await self._call(
            "Maintenance/Status", request, pb.StatusResponse, timeout_s, metadata=()
        )

    async def move_leader(self, member: int, timeout_s: float = CALL_S) -> None:
        """Hand etcd's own leadership over. Only the leader can.

        Raises:
            EtcdError: no answer, this one does not lead, or the other has no vote.
        """
        request = pb.MoveLeaderRequest(targetID=member)
        await self._call("Maintenance/MoveLeader", request, pb.MoveLeaderResponse, timeout_s)

    async def alarms(self) -> list[pb.AlarmMember]:
        """The alarms that are on, of all members.

        Raises:
            EtcdError: no answer.
        """
        request = pb.AlarmRequest(action=pb.AlarmRequest.GET)
        return list(
            (await self._call("Maintenance/Alarm", request, pb.AlarmResponse, CALL_S)).alarms
        )

    async def disarm(self, alarm: pb.AlarmMember) -> None:
        """Take an alarm away: after NOSPACE, once there is room.

        Raises:
            EtcdError: no answer.
        """
        request = pb.AlarmRequest(
            action=pb.AlarmRequest.DEACTIVATE, memberID=alarm.memberID, alarm=alarm.alarm
        )
        await self._call("Maintenance/Alarm", request, pb.AlarmResponse, CALL_S)

    async def defragment(self) -> None:
        """Give this member's free pages back to the disk; it answers nothing meanwhile.

        Raises:
            EtcdError: no answer.
        """
        request = pb.DefragmentRequest()
        await self._call(
            "Maintenance/Defragment", request, pb.DefragmentResponse, DEFRAGMENT_S, metadata=()
        )

    async def snapshot(self, path: Path) -> int:
        """Write the whole database to a file (0600), checked, whole or not at all; its bytes.

        The file is what ``etcdctl snapshot restore`` takes.

        Raises:
            EtcdError: no answer, or what came is damaged.
            OSError: the file cannot be written.
        """
        draft = path.with_name(f".{path.name}.part")
        call = self._channel.unary_stream(
            "/etcdserverpb.Maintenance/Snapshot",
            request_serializer=pb.SnapshotRequest.SerializeToString,
            response_deserializer=pb.SnapshotResponse.FromString,
        )(pb.SnapshotRequest(), timeout=SNAPSHOT_S)
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as file:
                whole = await _copied(call, file)
                file.flush()
                await asyncio.to_thread(os.fsync, file.fileno())
            draft.replace(path)
        finally:
            call.cancel()
            draft.unlink(missing_ok=True)
        return whole

    # ---- inside ----

    async def _call(
        self,
        path: str,
        request: Message,
        reply: type[_R],
        timeout_s: float,
        metadata: tuple[tuple[str, str], ...] = _LEADER,
    ) -> _R:
        method = self._channel.unary_unary(
            f"/etcdserverpb.{path}",
            request_serializer=_bytes,
            response_deserializer=reply.FromString,
        )
        with _answers(path):
            answer = await method(request, timeout=timeout_s, metadata=metadata)
        if not isinstance(answer, reply):
            raise EtcdError(path, "INTERNAL", "an answer of another kind")
        return answer

    def _stream(self, path: str, reply: type[_R], timeout_s: float | None = None) -> Any:  # noqa: ANN401
        method = self._channel.stream_stream(
            f"/etcdserverpb.{path}",
            request_serializer=_bytes,
            response_deserializer=reply.FromString,
        )
        with _answers(path):
            return method(None, timeout=timeout_s, metadata=_LEADER)


def _bytes(message: Message) -> bytes:
    return message.SerializeToString()


@contextlib.contextmanager
def _answers(path: str) -> Any:  # noqa: ANN401
    """GRPC's errors as ours."""
    try:
        yield
    except grpc.aio.AioRpcError as error:
        raise typed(path, error.code().name, error.details() or "") from None
    except grpc.aio.UsageError as error:  # the channel was closed meanwhile
        raise typed(path, "UNAVAILABLE", f"failed to connect to all addresses: {error}") from None


async def _copied(call: Any, file: Any) -> int:  # noqa: ANN401
    """A snapshot's bytes to a file, compared with the digest at its end."""
    digest, tail, written = hashlib.sha256(), b"", 0
    with _answers("Maintenance/Snapshot"):
        async for part in call:
            content = tail + part.blob
            content, tail = content[:-_DIGEST_BYTES], content[-_DIGEST_BYTES:]
            digest.update(content)
            file.write(content)
            written += len(content)
    if tail != digest.digest():
        raise EtcdError("Maintenance/Snapshot", "DATA_LOSS", "the snapshot came damaged")
    file.write(tail)
    return written + len(tail)


def prefix_end(prefix: bytes) -> bytes:
    """The first key behind all that begin with a prefix (which is not all 0xff)."""
    head = prefix.rstrip(b"\xff")
    return head[:-1] + bytes([head[-1] + 1])


def is_at(key: bytes, mod_revision: int) -> pb.Compare:
    """A compare: the key was last written at this revision; 0: it does not exist."""
    return pb.Compare(
        result=pb.Compare.EQUAL, target=pb.Compare.MOD, key=key, mod_revision=mod_revision
    )


def exists(key: bytes) -> pb.Compare:
    """A compare: there is such a key."""
    return pb.Compare(
        result=pb.Compare.NOT_EQUAL, target=pb.Compare.CREATE, key=key, create_revision=0
    )


def put(key: bytes, value: bytes, lease: int = 0) -> pb.RequestOp:
    """An operation: write a key."""
    return pb.RequestOp(request_put=pb.PutRequest(key=key, value=value, lease=lease))


def keep(key: bytes) -> pb.RequestOp:
    """An operation: take a key out of its lease; its value stays."""
    return pb.RequestOp(request_put=pb.PutRequest(key=key, ignore_value=True))


def delete(key: bytes, range_end: bytes = b"") -> pb.RequestOp:
    """An operation: remove a key, or a range of them."""
    return pb.RequestOp(request_delete_range=pb.DeleteRangeRequest(key=key, range_end=range_end))


def get(key: bytes) -> pb.RequestOp:
    """An operation: read a key."""
    return pb.RequestOp(request_range=pb.RangeRequest(key=key))
