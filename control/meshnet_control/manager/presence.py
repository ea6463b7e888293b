"""Which managers are there: each keeps a key of its own in etcd, under a lease.

Touches one key through a client. Who leads reads all of them (``there``) and says so in the store.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import Mapping
from typing import Final

from meshnet_control.etcd import client as calls
from meshnet_control.etcd.api import Etcd
from meshnet_control.etcd.errors import EtcdError

_log = logging.getLogger(__name__)

PREFIX: Final = b"/meshnet/managers/"
TTL_S: Final = 4
"""A manager is unreachable after so long a silence, and what etcd needs to see it."""
BEAT_S: Final = 1.0
TRY_S: Final = 1.0
RESIGN_S: Final = 0.5
"""Without a quorum it is in vain, and an end waits for it."""


class Presence:
    """This manager's key.

    Args:
        etcd: the local member.
        node_id: of this node.
        addr: ``host:port`` of its port 2377.
    """

    def __init__(self, etcd: Etcd, node_id: str, addr: str) -> None:
        self._etcd, self._key = etcd, PREFIX + node_id.encode()
        self._value = json.dumps({"addr": addr}).encode()
        self._lease = 0

    async def run(self) -> None:
        """Keep it until cancelled; then its lease runs out, or ``resign`` ends it."""
        while True:
            try:
                if not self._lease or not await self._etcd.lease_keep_alive(self._lease, TRY_S):
                    self._lease = 0
                    lease, _ = await self._etcd.lease_grant(TTL_S, TRY_S)
                    await self._etcd.txn((), [calls.put(self._key, self._value, lease)])
                    self._lease = lease
            except EtcdError as error:
                _log.debug("%s", error)
            await asyncio.sleep(BEAT_S)

    async def resign(self) -> None:
        """Give the key up at once; to be called when ``run`` has ended. Fails silently."""
        lease, self._lease = self._lease, 0
        if lease:
            with contextlib.suppress(EtcdError):
                await self._etcd.lease_revoke(lease, RESIGN_S)


async def there(etcd: Etcd) -> Mapping[str, str]:
    """The managers whose keys are there: node id to ``host:port`` of 2377.

    Raises:
        EtcdError: no answer.
    """
    found = await etcd.range(PREFIX, calls.prefix_end(PREFIX), timeout_s=TRY_S)
    return {kv.key.removeprefix(PREFIX).decode(): _addr(kv.value) for kv in found.kvs}


def _addr(value: bytes) -> str:
    try:
        said = json.loads(value)
        return str(said["addr"])
    except (ValueError, LookupError, TypeError):
        return ""
