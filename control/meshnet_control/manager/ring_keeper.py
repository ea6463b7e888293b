"""Rotates the key of gossip, while this manager leads. Decided in ``cluster.gossip_ring``.

``look`` is called whenever the cluster, a node or what a node acknowledged has changed; what
follows is written with the version of the cluster that it was decided from.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Mapping
from typing import Final

from meshnet.model.ids import Rng
from meshnet_control.api import control_pb2 as pb
from meshnet_control.cluster import gossip_ring
from meshnet_control.cluster.assignments import Objects
from meshnet_control.cluster.gossip_ring import Ring, Turn
from meshnet_control.store.store import (
    RETRY,
    NotLeadingError,
    OutOfSequenceError,
    Put,
    Store,
    StoreClosedError,
    StoreError,
)

_log = logging.getLogger(__name__)

LONGEST_S: Final = 60.0
"""Between two looks, whatever the clock does."""


class RingKeeper:
    """Brings the cluster's ring to where it should be.

    Args:
        objects: the mirror's present objects.
        acknowledged: node -> the ring that it said it works with.
        clock: Unix seconds.
        rng: a cryptographic source of randomness.
    """

    def __init__(
        self,
        objects: Callable[[], Objects],
        acknowledged: Callable[[], Mapping[str, Ring]],
        clock: Callable[[], float],
        rng: Rng,
    ) -> None:
        self._objects, self._acknowledged = objects, acknowledged
        self._clock, self._rng = clock, rng
        self._woken = asyncio.Event()

    def look(self) -> None:
        """Something that a rotation rests on has changed."""
        self._woken.set()

    async def run(self, store: Store) -> None:
        """Until cancelled, or until the store closes or another manager leads.

        Args:
            store: written to only while this manager leads.
        """
        delays = RETRY.delays(random.random)
        while True:
            self._woken.clear()
            turn = self._turn()
            wait_s = LONGEST_S
            if turn.wake_at is not None:
                wait_s = min(max(0.0, turn.wake_at - self._clock()), LONGEST_S)
            try:
                if turn.cluster is not None:
                    await self._write(store, turn.cluster)
                delays = RETRY.delays(random.random)
            except (NotLeadingError, StoreClosedError):
                return
            except OutOfSequenceError:
                pass  # somebody else wrote it, and the mirror tells soon
            except StoreError as error:
                _log.warning("the key of gossip is not rotated, trying again: %s", error)
                wait_s = next(delays)
            try:
                async with asyncio.timeout(wait_s):
                    await self._woken.wait()
            except TimeoutError:
                pass

    def _turn(self) -> Turn:
        objects = self._objects()
        if not objects.cluster.gossip_keys:
            return Turn(None)
        return gossip_ring.turn(
            objects.cluster,
            objects.nodes.values(),
            self._acknowledged(),
            self._clock(),
            self._rng,
        )

    async def _write(self, store: Store, cluster: pb.Cluster) -> None:
        await store.commit([Put(cluster)], {(pb.Cluster, cluster.id): cluster.version.index})
        if cluster.gossip_rotation.next_key:
            _log.info("a new key of gossip goes to all nodes")
        elif len(cluster.gossip_keys) > 1:
            _log.info("all nodes seal gossip with the new key from now on")
        else:
            _log.info("the old key of gossip opens nothing any more")
