"""The whole store out of etcd, as of one revision. Touches etcd through a client."""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from meshnet_control.api import etcd_pb2 as pb
from meshnet_control.etcd import client as calls
from meshnet_control.etcd.api import Etcd
from meshnet_control.etcd.errors import EtcdCompactedError, EtcdError
from meshnet_control.store import etcd_layout as layout
from meshnet_control.store.etcd_layout import HEAD, NOTHING, PREFIX, STAGED, Head
from meshnet_control.store.sealer import Sealer
from meshnet_control.store.store import Object, StoreError, StoreNoLeaderError

_log = logging.getLogger(__name__)

PAGE: Final = 500
PAUSE_S: Final = 0.05
"""Between two tries."""


async def first(etcd: Etcd, sealer: Sealer, within_s: float) -> tuple[Head, list[Object]]:
    """Everything, once there is a leader; see ``load``.

    Raises:
        StoreNoLeaderError: there is none in time.
    """
    loop = asyncio.get_running_loop()
    until = loop.time() + within_s
    while True:
        try:
            return await load(etcd, sealer)
        except EtcdCompactedError:
            continue
        except EtcdError as error:
            if loop.time() > until:
                _log.warning("the store cannot be read: %s", error)
                raise StoreNoLeaderError from None
            await asyncio.sleep(PAUSE_S)


async def load(etcd: Etcd, sealer: Sealer) -> tuple[Head, list[Object]]:
    """Everything, as of one revision.

    Raises:
        EtcdError: no answer; or the revision was compacted meanwhile.
        SealError: it is sealed with another key.
        StoreError: it is not this version's.
    """
    head, revision, objects = NOTHING, 0, dict[bytes, Object]()
    key, end = PREFIX, calls.prefix_end(PREFIX)
    while True:
        page = await etcd.range(key, end, revision=revision, limit=PAGE)
        revision = revision or page.header.revision
        for kv in page.kvs:
            if kv.key == HEAD:
                head = layout.head_of(kv)
            else:
                objects[kv.key] = layout.object_of(kv, sealer)
        if not page.more:
            break
        key = page.kvs[-1].key + b"\x00"
    if head.parts:
        for change in layout.changes_of(await staged(etcd, head, revision), head.index, sealer):
            place = layout.key_of(change.kind, change.id)
            if change.message is None:
                objects.pop(place, None)
            else:
                objects[place] = change.message
    return head, list(objects.values())


async def staged(etcd: Etcd, head: Head, revision: int) -> list[pb.RequestOp]:
    """The operations of a large commit, as of a revision at which its parts were there."""
    operations: list[pb.RequestOp] = []
    for key in head.part_keys():
        found = await etcd.range(key, revision=revision)
        if not found.kvs:
            raise StoreError(f"a part of commit {head.index} in {STAGED.decode()} is gone")
        operations += layout.unpacked(found.kvs[0].value)
    return operations
