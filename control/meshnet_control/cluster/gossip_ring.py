"""Key rings, and how one key takes the place of another without a packet lost. Pure.

There are two: that of gossip, and that of encrypted overlays, which nodes on one of these have.

```
        due, or asked for        all have it         all seal with it
 ring   A ───────────────> A, B ───────────> B, A ──────────────────> B
 seals  A                  A                 B                        B
```
The first key of a ring seals, every key of it opens. Who has which ring is what nodes acknowledged
of what they were told; a ring changes only when every node that can be talked to has the one before
it. A node that is Down is not waited for: it gets the ring with its next session, before it can say
anything. One of which the managers know nothing else (its daemon or the way to it is gone, and its
host may answer) is waited for, but not for ever: ``PATIENCE_S``.

Be aware: a node that is removed had every key of the ring. So a removal asks for a new one
(``want``, in the same commit), also while a rotation is on its way: that one's key is known, too.
Source: swarmkit manager/keymanager (every 12 h); differs: a key is withdrawn when nobody seals with
it, not when two newer ones exist.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, MutableSequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from meshnet.model.ids import Rng
from meshnet_control.api import control_pb2 as pb

PERIOD_S: Final = 12 * 3600.0
"""The age at which a key is replaced."""
HOLD_S: Final = 5.0
"""Between the last node's word that it seals with another key and the end of the one before it:
what is on its way, and streams that are open, are still opened."""
PATIENCE_S: Final = 3600.0
"""Wait for a node that is neither Ready nor Down when a key is only old."""
HASTE_S: Final = 60.0
"""The same when somebody asked for another one: the old key may be in wrong hands."""
_KEY_BITS: Final = 128

Ring: TypeAlias = tuple[bytes, ...]
"""Keys of 16 bytes; the first seals."""


@dataclass(frozen=True)
class Kind:
    """A ring of the cluster, by the names of its fields.

    Attributes:
        keys, rotation: fields of the cluster.
        of: what its keys are for.
    """

    keys: str
    rotation: str
    of: str

    def of_cluster(self, cluster: pb.Cluster) -> MutableSequence[bytes]:
        """The keys that seal, or did."""
        found: MutableSequence[bytes] = getattr(cluster, self.keys)
        return found

    def rotation_of(self, cluster: pb.Cluster) -> pb.GossipRotation:
        """How far a rotation is."""
        found: pb.GossipRotation = getattr(cluster, self.rotation)
        return found


GOSSIP: Final = Kind("gossip_keys", "gossip_rotation", "gossip")
OVERLAYS: Final = Kind("esp_keys", "esp_rotation", "encrypted overlays")


@dataclass(frozen=True)
class Turn:
    """What follows."""

    cluster: pb.Cluster | None
    """To be written; None: nothing is to be changed now."""
    wake_at: float | None = None
    """Unix seconds at which time alone changes the answer."""
    waits_for: tuple[str, ...] = ()
    """Nodes that have not acknowledged the ring yet, ascending."""


def new_key(rng: Rng) -> bytes:
    """A key; ``rng`` must be a cryptographic source of randomness."""
    return rng.getrandbits(_KEY_BITS).to_bytes(_KEY_BITS // 8, "big")


def ring(cluster: pb.Cluster, kind: Kind = GOSSIP) -> Ring:
    """The ring as nodes are told it."""
    coming = kind.rotation_of(cluster).next_key
    return (*kind.of_cluster(cluster), *([coming] if coming else ()))


def begin(cluster: pb.Cluster, kind: Kind, now: float, rng: Rng) -> None:
    """Make its first key; in place.

    Args:
        cluster: without one.
        kind: of ring.
        now: Unix seconds.
        rng: a cryptographic source of randomness.
    """
    kind.of_cluster(cluster)[:] = [new_key(rng)]
    rotation = kind.rotation_of(cluster)
    rotation.begun = rotation.moved = int(now * 1e9)


def want(cluster: pb.Cluster) -> None:
    """Ask for keys that nobody has yet, of each ring that there is; in place."""
    for kind in (GOSSIP, OVERLAYS):
        if kind.of_cluster(cluster):
            kind.rotation_of(cluster).wanted += 1


def is_rotating(cluster: pb.Cluster, kind: Kind = GOSSIP) -> bool:
    """Whether a key that was asked for is not the only one yet."""
    return len(ring(cluster, kind)) > 1 or _is_asked(cluster, kind)


def turn(
    cluster: pb.Cluster,
    nodes: Iterable[pb.Node],
    acknowledged: Mapping[str, Ring],
    now: float,
    rng: Rng,
    kind: Kind = GOSSIP,
) -> Turn:
    """The next step of a rotation.

    Args:
        cluster: as it is in the store.
        nodes: of the cluster, that are told the ring.
        acknowledged: node -> the ring that it works with, of the nodes that can be talked to.
        now: Unix seconds.
        rng: a cryptographic source of randomness.
        kind: of ring; there is one.
    """
    rotation, present = kind.rotation_of(cluster), ring(cluster, kind)
    begun = (rotation.begun or cluster.created_at.ToNanoseconds()) / 1e9
    moved = rotation.moved / 1e9
    if len(present) == 1:
        if _is_asked(cluster, kind) or not 0 <= now - begun < PERIOD_S:  # or the clock went back
            return Turn(_begun(cluster, kind, now, rng))
        return Turn(None, begun + PERIOD_S)
    hasty = rotation.in_haste or _is_asked(cluster, kind)
    limit = moved + (HASTE_S if hasty else PATIENCE_S)
    waits_for = _waited_for(nodes, present, acknowledged, patient=moved <= now < limit)
    if waits_for:
        return Turn(None, limit if now < limit else None, waits_for)
    after = _changed(cluster, kind, now)
    keys, changing = kind.of_cluster(after), kind.rotation_of(after)
    if rotation.next_key:
        keys[:] = (rotation.next_key, *keys)
        changing.next_key = b""
        return Turn(after)
    if 0 <= now - moved < HOLD_S:
        return Turn(None, moved + HOLD_S)
    keys[:] = keys[:1]
    changing.in_haste = False
    return Turn(after)


def _is_asked(cluster: pb.Cluster, kind: Kind) -> bool:
    rotation = kind.rotation_of(cluster)
    return rotation.wanted != rotation.made


def _begun(cluster: pb.Cluster, kind: Kind, now: float, rng: Rng) -> pb.Cluster:
    after = _changed(cluster, kind, now)
    rotation = kind.rotation_of(after)
    rotation.begun = rotation.moved
    rotation.in_haste = _is_asked(cluster, kind)
    rotation.made = rotation.wanted
    rotation.next_key = new_key(rng)
    return after


def _changed(cluster: pb.Cluster, kind: Kind, now: float) -> pb.Cluster:
    after = pb.Cluster()
    after.CopyFrom(cluster)
    kind.rotation_of(after).moved = int(now * 1e9)
    return after


def _waited_for(
    nodes: Iterable[pb.Node], wanted: Ring, acknowledged: Mapping[str, Ring], *, patient: bool
) -> tuple[str, ...]:
    counting = {"ready", "unknown", ""} if patient else {"ready"}
    return tuple(
        sorted(
            node.id
            for node in nodes
            if node.status.state in counting and acknowledged.get(node.id) != wanted
        )
    )
