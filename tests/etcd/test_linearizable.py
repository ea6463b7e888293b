"""Clients of three managers, and etcds that are killed and frozen: is the store one store?

What every client called and was answered is recorded and checked afterwards (support/linearizable).
"""

from __future__ import annotations

import asyncio
import random
import signal

import pytest
from etcd_cluster import EtcdCluster
from registers import Recorder

from meshnet_control.store.etcd import EtcdStore
from meshnet_control.store.sealer import Sealer

pytestmark = [pytest.mark.etcd, pytest.mark.timeout(150)]

DEEDS = [
    (signal.SIGKILL, "leader", 0.0),
    (signal.SIGKILL, "leader and another", 0.0),
    (signal.SIGSTOP, "leader", 1.8),
    (signal.SIGSTOP, "other", 0.5),
    (signal.SIGSTOP, "both others", 4.5),
]
"""What happens to whom; what is frozen stays so for some seconds."""
CLIENTS = 2
"""Of each manager."""


async def trouble(chance: random.Random, cluster: EtcdCluster) -> None:
    """Members are killed (and started again by their supervisors) and frozen, also most."""
    deeds = DEEDS * 2
    chance.shuffle(deeds)
    for what, victims, seconds in deeds:
        await asyncio.sleep(chance.uniform(0.3, 1.0))
        leader = cluster.members[await cluster.leader()]
        others = [each for each in cluster.members if each is not leader]
        chosen = {
            "leader": [leader],
            "other": chance.sample(others, 1),
            "both others": others,
            "leader and another": [leader, *chance.sample(others, 1)],
        }[victims]
        for each in chosen:
            cluster.signal(each, what)
        if what is signal.SIGSTOP:
            await asyncio.sleep(seconds)
            for each in chosen:
                cluster.signal(each, signal.SIGCONT)


async def test_one_store(three: EtcdCluster, record_property):
    seed = random.SystemRandom().randrange(2**32)
    print(f"seed {seed}")  # noqa: T201 - shown when it fails
    recorder = Recorder(seed)
    stores = [await EtcdStore.open(client, Sealer([bytes(32)])) for client in three.clients]
    clients = [
        asyncio.create_task(recorder.client(store)) for store in stores for _ in range(CLIENTS)
    ]
    try:
        await trouble(recorder.random, three)
    finally:
        recorder.over.set()
        await asyncio.gather(*clients)
    await recorder.judge(stores)
    assert len(recorder.commits) > 40
    assert recorder.refused  # there was no quorum for a while
    record_property("operations", sum(map(len, recorder.histories.values())))
    record_property("unknown", recorder.unknown)
    print(len(recorder.commits), recorder.unknown, recorder.refused)  # noqa: T201
    for store in stores:
        await store.close()
