"""The fake keeps the contract that a real etcd is held to."""

from __future__ import annotations

import etcd_contract
from virtual_run import run

from meshnet_control.etcd.fake import FakeEtcd


async def _held() -> None:
    etcd = FakeEtcd()

    async def compact(_: int) -> None:
        etcd.compact()

    await etcd_contract.holds(etcd.member(1), compact)


def test_the_contract():
    run(_held())
