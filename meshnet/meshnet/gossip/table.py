"""Records by owner, and what a peer lacks of them (Scuttlebutt reconciliation).

Every node owns its records. The owner numbers each change with a version that only grows; a
restart starts a new, greater generation. A peer's knowledge of an owner is one number, so a digest
is ``{owner: (generation, version)}`` and a delta holds exactly the records above that number, in
ascending order, and the owner's proof.

```
 piece ── proof follows ──> staged, by owner and sender ──┐
 piece with the proof ─────────────────────────> what it makes of what is known: as signed?
                                                          ├── yes: known
                                                          └── no: forgotten
```

Be aware: deletions are tombstones, which take no room from what lives. When they are reaped,
``floor`` remembers the version; a peer below the floor gets the owner's records whole (base 0).
Source: van Renesse et al., Efficient Reconciliation and Flow Control for Anti-Entropy, 2008.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping
from typing import Final

from meshnet.errors import CapacityError, MeshnetError
from meshnet.gossip.members import Address
from meshnet.gossip.records import (
    ENTRY_BYTES,
    KEY_LENGTH,
    OWNER_BYTES,
    RECORDS,
    TOMBSTONES,
    VALUE_BYTES,
    Delta,
    Owned,
    Proof,
    Record,
    cut,
    head,
    weight,
)
from meshnet.gossip.signing import Signer
from meshnet.gossip.sums import Sums
from meshnet.model.ids import NodeId

__all__ = [
    "ENTRY_BYTES",
    "KEY_LENGTH",
    "OWNER_BYTES",
    "RECORDS",
    "TOMBSTONES",
    "VALUE_BYTES",
    "Delta",
    "Digest",
    "ForgedError",
    "Mark",
    "Place",
    "Table",
    "cut",
    "weight",
]

Mark = tuple[int, int]
"""(generation of an owner's process, number of its change)."""
Place = tuple[NodeId, str]
"""(owner, key) of a record."""
Digest = Mapping[NodeId, Mark]
"""Owner -> (generation, highest version known)."""
STAGED: Final = 32
"""Most deltas of which the proof is still to come."""


class ForgedError(MeshnetError):
    """A delta that is not what its owner signed."""


class Table:
    """Everything known, by owner.

    Args:
        signer: signs what is put here.
    """

    def __init__(self, signer: Signer) -> None:
        self._signer = signer
        self._owners: dict[NodeId, Owned] = {}
        self._staged: OrderedDict[tuple[NodeId, Address], Owned] = OrderedDict()
        self._changed: set[Place] = set()
        self.sums = Sums()
        """Fingerprints of what is known; of whom nothing is known is no difference from whom one
        never heard of."""

    # ---- what the owner itself says ----

    def put(
        self, owner: NodeId, generation: int, key: str, value: bytes | None, now: float
    ) -> bool:
        """The owner itself changes a record; returns whether anything changed.

        Raises:
            CapacityError: more than any peer would take; nothing changed.
        """
        owned = self._owners.setdefault(owner, Owned(generation))
        current = owned.records.get(key)
        if (current.value if current else None) == value:
            return False
        if value is not None and (
            not 0 < len(key) <= KEY_LENGTH
            or len(value) > VALUE_BYTES
            or not owned.has_room(key, value)
        ):
            raise CapacityError(f"record {key} is more than one node may gossip")
        owned.version += 1
        owned.keep(key, Record.of(key, owned.version, value, now))
        owned.proof = None
        self._changed.add((owner, key))
        self._moved(owner)
        return True

    def begin(self, owner: NodeId, generation: int) -> None:
        """The owner itself begins ``generation`` with the records it has, if any."""
        owned = self._owners.setdefault(owner, Owned(generation))
        owned.generation = generation
        owned.proof = None
        self._moved(owner)

    # ---- views ----

    def version_of(self, owner: NodeId) -> tuple[int, int]:
        """(generation, highest version known) of one owner; (0, 0) when nothing is known."""
        owned = self._owners.get(owner)
        return (owned.generation, owned.version) if owned is not None else (0, 0)

    def versions(self, owners: Iterable[NodeId]) -> dict[NodeId, tuple[int, int]]:
        """What we know of each of ``owners``: a digest."""
        return {owner: self.version_of(owner) for owner in owners}

    def values(self, owner: NodeId) -> dict[str, bytes]:
        """Live records of ``owner``."""
        owned = self._owners.get(owner)
        return owned.values() if owned is not None else {}

    def value(self, owner: NodeId, key: str) -> bytes | None:
        """One live record of ``owner``."""
        owned = self._owners.get(owner)
        record = owned.records.get(key) if owned is not None else None
        return record.value if record is not None else None

    def take_changed(self) -> frozenset[Place]:
        """Where values are others than when this was asked last."""
        changed = frozenset(self._changed)
        self._changed.clear()
        return changed

    # ---- deltas ----

    def lacking(self, peer: Digest) -> Iterable[Delta]:
        """What a peer lacks of the owners that its digest names, one delta per owner.

        Be aware: who is not named is not spoken of; a digest is seldom of everybody.
        """
        for owner, (generation, version) in peer.items():
            owned = self._owners.get(owner)
            if owned is None or (generation, version) >= (owned.generation, owned.version):
                continue
            yield self.above(owner, version if generation == owned.generation else 0)

    def above(self, owner: NodeId, base: int) -> Delta:
        """The delta of ``owner`` from version ``base``; whole, when it is below the floor."""
        owned = self._owners[owner]
        base = base if base >= owned.floor else 0
        entries = sorted(
            ((key, r.version, r.value) for key, r in owned.records.items() if r.version > base),
            key=lambda entry: entry[1],
        )
        return Delta(
            owner,
            owned.generation,
            base,
            owned.version,
            owned.floor,
            tuple(entries),
            self._proof(owner, owned),
        )

    def merge(self, delta: Delta, now: float, public: bytes, source: Address) -> bool | None:
        """Takes a delta in.

        Args:
            delta: whole, or a piece of one.
            now: the caller's clock.
            public: the owner's key.
            source: who sent it; pieces of several senders are not put together.

        Returns:
            True: something new is known; False: nothing is (yet); None: a gap, ask again.

        Raises:
            ForgedError: it is not what its owner signed; nothing is known of it.
            CapacityError: it is more than one member may hold; the same.
        """
        place = (delta.owner, source)
        owned = self._owners.get(delta.owner)
        known = self.version_of(delta.owner)
        if delta.generation < known[0] or self._tells_nothing(delta, known):
            return False
        tops = self._below(delta, owned, self._staged.pop(place, None))
        for top in tops:
            top.take(delta, now)
            if not top.fits(2 if delta.proof is None else 1):  # what goes may come after
                raise CapacityError(f"records of {delta.owner} are more than one node may gossip")
        if delta.proof is None:
            for top in tops[:1]:
                self._stage(place, top)
            return False if tops else None
        if (delta.generation, delta.upto) <= known:
            return False
        as_said = [top for top in tops if top.digest() == delta.proof.digest]
        if not as_said and tops:
            raise ForgedError(f"records of {delta.owner}")
        if not as_said:
            return None
        if not delta.proof.holds(public, delta.owner, delta.generation, delta.upto):
            raise ForgedError(f"records of {delta.owner}")
        return self._accept(delta, as_said[0], owned)

    # ---- forgetting ----

    def forget(self, owner: NodeId) -> None:
        """Drops an owner and all of its records."""
        self._changed |= {(owner, key) for key in self.values(owner)}
        self._owners.pop(owner, None)
        for place in [place for place in self._staged if place[0] == owner]:
            del self._staged[place]
        self._moved(owner)

    def reap(self, before: float) -> None:
        """Drops tombstones older than ``before``."""
        for owned in self._owners.values():
            for key, record in list(owned.records.items()):
                if record.value is None and record.since < before:
                    owned.bury(key)

    # ---- inside ----

    @staticmethod
    def _tells_nothing(delta: Delta, known: Mark) -> bool:
        """Whether it only has what is known; one below our floor's must be gone through whole."""
        old = (delta.generation, delta.upto) <= known
        return old and (delta.proof is not None or delta.floor <= known[1])

    @staticmethod
    def _below(delta: Delta, owned: Owned | None, staged: Owned | None) -> list[Owned]:
        """What a delta may go on top of, copied, the likelier first; nothing: there is a gap."""
        if delta.base == 0:
            return [Owned(delta.generation)]
        there = [
            each
            for each in (staged, owned)
            if each is not None
            and each.generation == delta.generation
            and delta.base <= each.version <= delta.upto
        ]
        return [each.copy() for each in there]

    def _stage(self, place: tuple[NodeId, Address], top: Owned) -> None:
        self._staged[place] = top
        if len(self._staged) > STAGED:
            self._staged.popitem(last=False)

    def _accept(self, delta: Delta, fresh: Owned, before: Owned | None) -> bool:
        old, new = self.values(delta.owner), fresh.values()
        keys = [key for key in {**old, **new} if old.get(key) != new.get(key)]
        self._changed |= {(delta.owner, key) for key in keys}
        fresh.proof, fresh.floor = delta.proof, min(fresh.floor, delta.upto)
        self._owners[delta.owner] = fresh
        self._moved(delta.owner)
        return delta.upto > 0 or (before is not None and bool(before.records))

    def _proof(self, owner: NodeId, owned: Owned) -> Proof:
        if owned.proof is None:  # our own: what is of others has its owner's
            digest = owned.digest()
            said = head(owner, owned.generation, owned.version, digest)
            owned.proof = Proof(digest, self._signer.sign(said))
        return owned.proof

    def _moved(self, owner: NodeId) -> None:
        owned = self._owners.get(owner)
        self.sums.set(owner, f"{owned.generation} {owned.version}" if owned is not None else None)
