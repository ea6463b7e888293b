"""Rotates the keys of a ring, while this manager leads. Decided in ``cluster.gossip_ring``.

``look`` is called whenever the cluster, a node or what a node acknowledged has changed; what
follows is written with the version of the cluster that it was decided from.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Iterable, Mapping
from typing import Final

from meshnet.model.ids import Rng
from meshnet_control.api import control_pb2 as pb
from meshnet_control.cluster import gossip_ring
from meshnet_control.cluster.assignments import Objects, needs_of
from meshnet_control.cluster.gossip_ring import GOSSIP, OVERLAYS, Kind, Ring, Turn
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
AGAIN_S: Final = 2.0
"""Between two looks at who has not acknowledged a ring, or not for long enough."""


class RingKeeper:
    """Brings the cluster's ring to where it should be.

    Args:
        objects: the mirror's present objects.
        acknowledged: node -> the ring that it said it works with.
        clock: Unix seconds.
        rng: a cryptographic source of randomness.
        kind: of ring.
    """

    def __init__(
        self,
        objects: Callable[[], Objects],
        acknowledged: Callable[[], Mapping[str, Ring]],
        clock: Callable[[], float],
        rng: Rng,
        kind: Kind = GOSSIP,
    ) -> None:
        self._kind = kind
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
            if turn.waits_for:
                wait_s = min(wait_s, AGAIN_S)
            try:
                if turn.cluster is not None:
                    await self._write(store, turn.cluster)
                delays = RETRY.delays(random.random)
            except (NotLeadingError, StoreClosedError):
                return
            except OutOfSequenceError:
                pass  # somebody else wrote it, and the mirror tells soon
            except StoreError as error:
                _log.warning("the key of %s is not rotated, trying again: %s", self._kind.of, error)
                wait_s = next(delays)
            try:
                async with asyncio.timeout(wait_s):
                    await self._woken.wait()
            except TimeoutError:
                pass

    def _turn(self) -> Turn:
        objects, kind = self._objects(), self._kind
        if not kind.of_cluster(objects.cluster):
            return Turn(None)
        nodes: Iterable[pb.Node] = objects.nodes.values()
        if kind is OVERLAYS:
            nodes = (each for each in nodes if needs_of(objects, each.id).encrypts)
        return gossip_ring.turn(
            objects.cluster, nodes, self._acknowledged(), self._clock(), self._rng, kind
        )

    async def _write(self, store: Store, cluster: pb.Cluster) -> None:
        await store.commit([Put(cluster)], {(pb.Cluster, cluster.id): cluster.version.index})
        of = self._kind.of
        if self._kind.rotation_of(cluster).next_key:
            _log.info("a new key of %s goes to all nodes that have the old one", of)
        elif len(self._kind.of_cluster(cluster)) > 1:
            _log.info("all nodes seal %s with the new key from now on", of)
        else:
            _log.info("the old key of %s opens nothing any more", of)
