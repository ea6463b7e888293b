"""The client against a real etcd: every call, and what is said when it cannot be."""

from __future__ import annotations

import asyncio
import hashlib
import signal
import stat

import etcd_contract
import pytest
from etcd_cluster import EtcdCluster, free_ports, member_of, until

from meshnet_control.api import etcd_pb2 as pb
from meshnet_control.etcd import client as calls
from meshnet_control.etcd.client import EtcdClient
from meshnet_control.etcd.errors import (
    EtcdCompactedError,
    EtcdError,
    EtcdTooLargeError,
    EtcdUnavailableError,
)
from meshnet_control.etcd.process import EtcdProcess

pytestmark = pytest.mark.etcd


async def write(client: EtcdClient, key: bytes, value: bytes) -> int:
    return (await client.txn((), [calls.put(key, value)])).header.revision


async def test_read_compare_write(one: EtcdCluster):
    client = one.clients[0]
    made = await client.txn([calls.is_at(b"a", 0)], [calls.put(b"a", b"1")])
    assert made.succeeded
    again = await client.txn([calls.is_at(b"a", 0)], [calls.put(b"a", b"2")], [calls.get(b"a")])
    assert not again.succeeded
    (kept,) = again.responses[0].response_range.kvs
    assert (kept.value, kept.mod_revision) == (b"1", made.header.revision)
    await write(client, b"b", b"x")
    found = await client.range(b"a", calls.prefix_end(b"b"), limit=1)
    assert ([kv.key for kv in found.kvs], found.more) == ([b"a"], True)
    await client.txn((), [calls.delete(b"a")])
    assert not (await client.range(b"a", serializable=True)).kvs
    old = await client.range(b"a", revision=made.header.revision, keys_only=True)
    assert (old.kvs[0].key, old.kvs[0].value) == (b"a", b"")


async def test_a_prefix_ends_where_the_next_begins():
    assert calls.prefix_end(b"/a/") == b"/a0"
    assert calls.prefix_end(b"a\xff\xff") == b"b"


async def test_a_watch_tells_whole_revisions_in_order(one: EtcdCluster):
    client = one.clients[0]
    first = await write(client, b"/x/0", b"0")
    big = bytes(300_000)  # six of them are more than one message of a watch takes
    await client.txn((), [calls.put(b"/x/%d" % n, big) for n in range(6)])
    await client.txn((), [calls.delete(b"/x/", calls.prefix_end(b"/x/"))])
    told: list[tuple[int, int]] = []
    async for batch in client.watch(b"/x/", calls.prefix_end(b"/x/"), first):
        by_revision: dict[int, int] = {}
        for event in batch:
            at = event.kv.mod_revision
            by_revision[at] = by_revision.get(at, 0) + 1
        told += by_revision.items()
        if told and told[-1][0] == first + 2:
            break
    assert told == [(first, 1), (first + 1, 6), (first + 2, 6)]


async def test_what_was_compacted_is_told(one: EtcdCluster):
    client = one.clients[0]
    last = [await write(client, b"a", b"%d" % n) for n in range(5)][-1]
    await client.compact(last - 1)
    with pytest.raises(EtcdCompactedError) as watching:
        async for _ in client.watch(b"a", start_revision=2):
            pass
    assert watching.value.revision == last - 1
    with pytest.raises(EtcdCompactedError):
        await client.range(b"a", revision=2)


async def test_leases(one: EtcdCluster):
    client = one.clients[0]
    lease, ttl_s = await client.lease_grant(1)
    assert ttl_s == 2  # the shortest there is, by the election timeout
    await client.txn((), [calls.put(b"k", b"v", lease)])
    assert await client.lease_keep_alive(lease) == 2
    await client.lease_revoke(lease)
    assert not (await client.range(b"k")).kvs
    assert await client.lease_keep_alive(lease) == 0
    with pytest.raises(EtcdError, match="requested lease not found"):
        await client.lease_revoke(lease)


async def test_a_transaction_of_many_operations_and_one_too_large(one: EtcdCluster):
    client = one.clients[0]
    done = await client.txn((), [calls.put(b"%d" % n, b"x") for n in range(8192)])
    assert done.succeeded
    with pytest.raises(EtcdTooLargeError, match="too many operations"):
        await client.txn((), [calls.put(b"%d" % n, b"x") for n in range(8193)])
    with pytest.raises(EtcdTooLargeError, match="request is too large"):
        await write(client, b"a", bytes(2_200_000))
    with pytest.raises(EtcdTooLargeError, match="message larger than max"):
        await write(client, b"a", bytes(3_000_000))


async def test_a_snapshot_is_whole_and_private(one: EtcdCluster, tmp_path):
    client = one.clients[0]
    await write(client, b"a", b"in the snapshot")
    size = await client.snapshot(tmp_path / "snap")
    content = (tmp_path / "snap").read_bytes()
    assert len(content) == size
    assert hashlib.sha256(content[:-32]).digest() == content[-32:]
    assert b"in the snapshot" in content
    assert stat.S_IMODE((tmp_path / "snap").stat().st_mode) == 0o600


async def test_upkeep(one: EtcdCluster):
    client = one.clients[0]
    status = await client.status()
    assert status.version.startswith("3.4")
    assert status.leader == status.header.member_id
    assert await client.alarms() == []
    await client.disarm(pb.AlarmMember(alarm=pb.NOSPACE))
    await client.defragment()


async def test_members_join_as_learners_and_leadership_moves(one: EtcdCluster, tmp_path):
    client = one.clients[0]
    await write(client, b"a", b"before")
    here, own = one.members[0].member, (await client.status()).header.member_id
    peers = {**here.peers, "new": f"127.0.0.1:{free_ports(1)[0]}"}
    added, everyone = await client.member_add([f"http://{peers['new']}"])
    assert len(everyone) == 2
    with pytest.raises(EtcdError, match="can only promote a learner member which is in sync"):
        await client.member_promote(added.ID)
    await write(client, b"b", b"while the learner is not there")
    second = EtcdProcess(member_of(tmp_path, "new", peers, joins=True))
    other = EtcdClient(second.member.target)
    try:
        await second.start()
        await second.answers()
        assert (await other.status()).isLearner
        await until(lambda: promoted(client, added.ID))
        await client.move_leader(added.ID)
        await until(lambda: leads(other, added.ID))
        assert (await other.range(b"a")).kvs[0].value == b"before"
        await other.move_leader(own)
        await until(lambda: leads(other, own))
        await until(lambda: removed(client, added.ID), 20)  # etcd refuses for 5 s after a join
        assert [m.ID for m in await client.members()] == [own]
        await write(client, b"c", b"alone again")
    finally:
        await other.close()
        await second.stop()


async def promoted(client: EtcdClient, member: int) -> bool:
    try:
        await client.member_promote(member)
    except EtcdError as error:
        if "in sync" not in error.details:
            raise
        return False
    return True


async def removed(client: EtcdClient, member: int) -> bool:
    try:
        await client.member_remove(member)
    except EtcdUnavailableError as error:
        if "unhealthy cluster" not in error.details:
            raise
        return False
    return True


async def leads(client: EtcdClient, member: int) -> bool:
    return (await client.status()).leader == member


async def test_no_quorum_is_said_at_once_and_old_data_is_still_read(three: EtcdCluster):
    leader = await three.leader()
    client = three.clients[leader]
    await write(client, b"a", b"1")
    for n, each in enumerate(three.members):
        if n != leader:
            three.signal(each, signal.SIGSTOP)

    async def leaderless() -> bool:
        return (await client.status()).leader == 0

    await until(leaderless)
    with pytest.raises(EtcdUnavailableError) as refused:
        await write(client, b"a", b"2")
    assert (refused.value.uncertain, refused.value.leaderless) == (False, True)
    assert (await client.range(b"a", serializable=True)).kvs[0].value == b"1"
    for each in three.members:
        three.signal(each, signal.SIGCONT)
    await until(lambda: writes(client))


async def writes(client: EtcdClient) -> bool:
    try:
        await write(client, b"a", b"3")
    except EtcdUnavailableError:
        return False
    return True


async def test_an_etcd_that_is_away_is_told_at_once(tmp_path):
    client = EtcdClient(f"unix:{tmp_path}/nobody")
    with pytest.raises(EtcdUnavailableError) as refused:
        await asyncio.wait_for(client.range(b"a"), 5)
    assert not refused.value.uncertain
    await client.close()


async def test_the_contract_that_the_fake_is_held_to(one: EtcdCluster):
    await etcd_contract.holds(one.clients[0], one.clients[0].compact)
