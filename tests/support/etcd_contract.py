"""What etcd does for the store and for leadership, whichever it is: the fake is held to it, too."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from typing import Any

import pytest

from meshnet_control.api import etcd_pb2 as pb
from meshnet_control.etcd import client as calls
from meshnet_control.etcd.api import Etcd
from meshnet_control.etcd.errors import EtcdCompactedError, EtcdError

Compact = Callable[[int], Awaitable[object]]


async def holds(etcd: Etcd, compact: Compact) -> None:
    """Every promise, on an etcd that is empty. ``compact``: forget what is before a revision."""
    await _compares(etcd)
    await _ranges(etcd)
    await _watches(etcd)
    await _leases(etcd)
    await _keeps(etcd)
    await _compacted(etcd, compact)


async def _compares(etcd: Etcd) -> None:
    made = await etcd.txn([calls.is_at(b"a", 0)], [calls.put(b"a", b"1")])
    assert made.succeeded
    at = made.header.revision
    failed = await etcd.txn(
        [calls.is_at(b"a", 0)], [calls.put(b"a", b"2")], [calls.get(b"a"), calls.get(b"none")]
    )
    assert not failed.succeeded
    assert failed.header.revision == at
    found, none = (each.response_range.kvs for each in failed.responses)
    assert [(kv.value, kv.mod_revision, kv.version) for kv in found] == [(b"1", at, 1)]
    assert not none
    both = [calls.is_at(b"a", at), calls.exists(b"none")]
    assert not (await etcd.txn(both, [calls.delete(b"a")])).succeeded
    both = [calls.is_at(b"a", at), calls.exists(b"a")]
    assert (await etcd.txn(both, [calls.put(b"a", b"3")])).header.revision == at + 1
    (kv,) = (await etcd.range(b"a")).kvs
    assert (kv.create_revision, kv.mod_revision, kv.version) == (at, at + 1, 2)


async def _ranges(etcd: Etcd) -> None:
    await etcd.txn((), [calls.put(b"/r/%d" % n, b"x") for n in range(4)])
    end = calls.prefix_end(b"/r/")
    page = await etcd.range(b"/r/", end, limit=3)
    assert ([kv.key for kv in page.kvs], page.more) == ([b"/r/0", b"/r/1", b"/r/2"], True)
    await etcd.txn((), [calls.delete(b"/r/", end)])
    then = await etcd.range(b"/r/2\0", end, revision=page.header.revision)
    assert ([kv.key for kv in then.kvs], then.more) == ([b"/r/3"], False)
    assert not (await etcd.range(b"/r/", end)).kvs


async def _watches(etcd: Etcd) -> None:
    first = (await etcd.txn((), [calls.put(b"/w/1", b"x"), calls.put(b"v", b"x")])).header.revision
    async with _watching(etcd, b"/w/", first) as told:
        assert await anext(told) == [(first, b"/w/1", False)]
        waiting = asyncio.ensure_future(anext(told))
        await etcd.txn((), [calls.put(b"v", b"y")])  # not meant
        await etcd.txn((), [calls.put(b"/w/2", b"x"), calls.delete(b"/w/1")])
        await etcd.txn((), [calls.delete(b"/w/3")])  # nothing is there
        at = first + 2
        assert await waiting == [(at, b"/w/2", False), (at, b"/w/1", True)]
        await etcd.txn((), [calls.put(b"/w/1", b"z")])
        assert await anext(told) == [(at + 1, b"/w/1", False)]


class _watching:  # noqa: N801 - used as a function
    """The events of a watch, a batch each, without the empty ones."""

    def __init__(self, etcd: Etcd, prefix: bytes, start: int) -> None:
        self._watch = etcd.watch(prefix, calls.prefix_end(prefix), start)

    async def __aenter__(self) -> AsyncGenerator[list[Any], None]:
        self._told = self._batches(self._watch)
        return self._told

    async def __aexit__(self, *_: object) -> None:
        await self._told.aclose()
        await self._watch.aclose()

    @staticmethod
    async def _batches(
        watch: AsyncGenerator[Sequence[pb.Event], None],
    ) -> AsyncGenerator[list[Any], None]:
        async for events in watch:
            if events:
                yield [(e.kv.mod_revision, e.kv.key, e.type == pb.Event.DELETE) for e in events]


async def _leases(etcd: Etcd) -> None:
    lease, ttl_s = await etcd.lease_grant(1)
    assert ttl_s == 2
    assert await etcd.lease_keep_alive(lease) == 2
    first = await etcd.txn((), [calls.put(b"/l/1", b"x", lease), calls.put(b"/l/2", b"y", lease)])
    assert [kv.lease for kv in (await etcd.range(b"/l/1")).kvs] == [lease]
    async with _watching(etcd, b"/l/", first.header.revision + 1) as told:
        gone = await asyncio.wait_for(anext(told), 20)  # nobody keeps it alive
    assert {(key, deleted) for _, key, deleted in gone} == {(b"/l/1", True), (b"/l/2", True)}
    assert await etcd.lease_keep_alive(lease) == 0
    for refused in (etcd.lease_revoke(lease), etcd.txn((), [calls.put(b"l", b"x", lease)])):
        with pytest.raises(EtcdError, match="requested lease not found"):
            await refused


async def _keeps(etcd: Etcd) -> None:
    lease, _ = await etcd.lease_grant(5)
    await etcd.txn((), [calls.put(b"k", b"value", lease), calls.put(b"gone", b"", lease)])
    await etcd.txn((), [calls.keep(b"k")])
    with pytest.raises(EtcdError, match="key not found"):
        await etcd.txn((), [calls.put(b"z", b"z"), calls.keep(b"none")])
    await etcd.lease_revoke(lease)
    assert [(kv.value, kv.lease) for kv in (await etcd.range(b"k")).kvs] == [(b"value", 0)]
    assert not (await etcd.range(b"gone")).kvs
    assert not (await etcd.range(b"z")).kvs


async def _compacted(etcd: Etcd, compact: Compact) -> None:
    old = (await etcd.txn((), [calls.put(b"c", b"1")])).header.revision
    now = (await etcd.txn((), [calls.put(b"c", b"2")])).header.revision
    await compact(now)
    with pytest.raises(EtcdCompactedError):
        await etcd.range(b"c", revision=old)
    watch = etcd.watch(b"c", b"", old)
    with pytest.raises(EtcdCompactedError) as told:
        async for _ in watch:
            pass
    assert told.value.revision == now
    assert (await etcd.range(b"c")).kvs[0].value == b"2"
