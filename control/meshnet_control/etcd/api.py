"""What the store and leadership ask of etcd: ``EtcdClient``, or ``FakeEtcd`` in this process."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable, Sequence
from typing import Protocol

from meshnet_control.api import etcd_pb2 as pb


class Etcd(Protocol):
    """One member; see ``EtcdClient`` for what each call does and raises."""

    async def range(
        self,
        key: bytes,
        range_end: bytes = b"",
        *,
        revision: int = 0,
        limit: int = 0,
        timeout_s: float = ...,
    ) -> pb.RangeResponse:
        """Keys and values."""
        ...

    async def txn(
        self,
        compare: Iterable[pb.Compare],
        success: Iterable[pb.RequestOp],
        failure: Iterable[pb.RequestOp] = (),
        timeout_s: float = ...,
    ) -> pb.TxnResponse:
        """All of ``success`` when every compare holds, else all of ``failure``."""
        ...

    def watch(
        self, key: bytes, range_end: bytes = b"", start_revision: int = 0
    ) -> AsyncGenerator[Sequence[pb.Event], None]:
        """What happens to keys from a revision on."""
        ...

    async def lease_grant(self, ttl_s: int, timeout_s: float = ...) -> tuple[int, int]:
        """A new lease."""
        ...

    async def lease_keep_alive(self, lease: int, timeout_s: float = ...) -> int:
        """Keep a lease alive."""
        ...

    async def lease_revoke(self, lease: int, timeout_s: float = ...) -> None:
        """End a lease."""
        ...

    async def status(self, timeout_s: float = ...) -> pb.StatusResponse:
        """This member, by its own word."""
        ...


class MemberEtcd(Etcd, Protocol):
    """The same, with what changes who its members are."""

    async def members(self, timeout_s: float = ...) -> list[pb.Member]:
        """The members, as this one knows them."""
        ...

    async def member_add(
        self, peer_urls: Sequence[str], *, learner: bool = ..., timeout_s: float = ...
    ) -> tuple[pb.Member, list[pb.Member]]:
        """Let another member in."""
        ...

    async def member_promote(self, member: int, timeout_s: float = ...) -> None:
        """Give a learner its vote."""
        ...

    async def member_remove(self, member: int, timeout_s: float = ...) -> None:
        """Put a member out."""
        ...

    async def move_leader(self, member: int, timeout_s: float = ...) -> None:
        """Hand etcd's own leadership over."""
        ...
