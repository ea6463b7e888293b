"""Records by owner, and what a peer lacks of them (Scuttlebutt reconciliation).

Every node owns its records, one share for all and one for each network (``shares.py``). The owner
numbers each change of a share with a version that only grows; a restart starts a new, greater
generation. A peer's knowledge of a share is one number, so a digest is ``{share: (generation,
version)}`` and a delta holds exactly the records above that number, in ascending order, and the
owner's proof.

```
 piece ── proof follows ──> staged, by share and sender ──┐
 piece with the proof ─────────────────────────> what it makes of what is known: as signed?
                                                          ├── yes: known
                                                          └── no: forgotten
```

A share counts while its owner says that it is on the network, and this node says so, too
(``audiences.py``). One that does not is neither shown nor passed on, and soon dropped.

Be aware: deletions are tombstones, which take no room from what lives. When they are reaped,
``floor`` remembers the version; a peer below the floor gets the share whole (base 0).
Source: van Renesse et al., Efficient Reconciliation and Flow Control for Anti-Entropy, 2008.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping
from typing import Final

from meshnet.errors import CapacityError, MeshnetError
from meshnet.gossip import audiences
from meshnet.gossip.audiences import Audiences
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
    Room,
    cut,
    head,
    weight,
)
from meshnet.gossip.shares import TO_ALL, Share, key_of, parts, placed, share_of
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
"""(owner, key) of a record; the key of one in a network names that, too."""
Digest = Mapping[Share, Mark]
"""Share -> (generation, highest version known)."""
STAGED: Final = 32
"""Most deltas of which the proof is still to come."""


NOBODY: Final = NodeId("")


class ForgedError(MeshnetError):
    """A delta that is not what its owner signed."""


class Table:
    """Everything known, by owner and network.

    Args:
        signer: signs what is put here.
        self_id: this node; nobody: what goes to all is known alone.
    """

    def __init__(self, signer: Signer, self_id: NodeId = NOBODY) -> None:
        self._signer = signer
        self._self_id = self_id
        self._shares: dict[Share, Owned] = {}
        self._networks: dict[NodeId, set[str]] = {}
        self._staged: OrderedDict[tuple[Share, Address], Owned] = OrderedDict()
        self._changed: set[Place] = set()
        self._idle: frozenset[Share] = frozenset()
        self._sums: dict[str, Sums] = {TO_ALL: Sums()}
        self.audiences = Audiences(self_id)
        """Who takes part in which network."""

    # ---- what the owner itself says ----

    def put(
        self, owner: NodeId, generation: int, key: str, value: bytes | None, now: float
    ) -> bool:
        """The owner itself changes a record; returns whether anything changed.

        Raises:
            CapacityError: more than any peer would take; nothing changed.
        """
        network, name = placed(key)
        share = share_of(owner, network)
        owned = self._begun(share, generation)
        current = owned.records.get(name)
        if (current.value if current else None) == value:
            return False
        if value is not None and (
            not 0 < len(name) <= KEY_LENGTH
            or len(value) > VALUE_BYTES
            or not owned.has_room(name, value, self._beside(share))
        ):
            raise CapacityError(f"record {key} is more than one node may gossip")
        owned.version += 1
        owned.keep(name, Record.of(name, owned.version, value, now))
        owned.proof = None
        self._moved(share, {name})
        return True

    def begin(self, owner: NodeId, generation: int) -> None:
        """The owner itself begins ``generation`` with the records it has, if any."""
        self._begun(owner, generation)
        for network in self._networks[owner]:
            share = share_of(owner, network)
            owned = self._shares[share]
            owned.generation = generation
            owned.proof = None
            self._moved(share)

    # ---- views ----

    def version_of(self, share: Share) -> Mark:
        """(generation, highest version known) of one share; (0, 0) when nothing is known."""
        owned = self._shares.get(share)
        return (owned.generation, owned.version) if owned is not None else (0, 0)

    def versions(self, shares: Iterable[Share]) -> dict[Share, Mark]:
        """What we know of each of ``shares``: a digest."""
        return {share: self.version_of(share) for share in shares}

    def shares_of(self, owner: NodeId) -> list[Share]:
        """What is known of an owner, whether it counts or not."""
        return [share_of(owner, network) for network in self._networks.get(owner, ())]

    def values(self, owner: NodeId) -> dict[str, bytes]:
        """Live records of ``owner``, of all shares that count."""
        return {
            key_of(parts(share)[1], name): value
            for share in self.shares_of(owner)
            for name, value in self._shown(share).items()
        }

    def value(self, owner: NodeId, key: str) -> bytes | None:
        """One live record of ``owner``."""
        network, name = placed(key)
        owned = self._shares.get(share_of(owner, network))
        record = owned.records.get(name) if owned is not None and owned.counts else None
        return record.value if record is not None else None

    def summed(self, networks: Iterable[str] = ()) -> Sums:
        """Fingerprints of what is known, of what goes to all and of these networks together.

        Of whom nothing is known is no difference from whom one never heard of.
        """
        found = [self._sums[network] for network in networks if network in self._sums]
        return self._sums[TO_ALL].plus(found) if found else self._sums[TO_ALL]

    def sums_of(self, networks: Iterable[str]) -> Sums:
        """Those of these networks alone."""
        return Sums().plus(self._sums[each] for each in networks if each in self._sums)

    def take_changed(self) -> frozenset[Place]:
        """Where values are others than when this was asked last."""
        changed = frozenset(self._changed)
        self._changed.clear()
        return changed

    # ---- deltas ----

    def lacking(self, peer: Digest) -> Iterable[Delta]:
        """What a peer lacks of the shares that its digest names, one delta per share.

        Be aware: what is not named is not spoken of; a digest is seldom of everything.
        """
        for share, (generation, version) in peer.items():
            owned = self._shares.get(share)
            if owned is None or not owned.counts:
                continue
            if (generation, version) < (owned.generation, owned.version):
                yield self.above(share, version if generation == owned.generation else 0)

    def above(self, share: Share, base: int) -> Delta:
        """The delta of ``share`` from version ``base``; whole, when it is below the floor."""
        owned = self._shares[share]
        base = base if base >= owned.floor else 0
        entries = sorted(
            ((key, r.version, r.value) for key, r in owned.records.items() if r.version > base),
            key=lambda entry: entry[1],
        )
        return Delta(
            share,
            owned.generation,
            base,
            owned.version,
            owned.floor,
            tuple(entries),
            self._proof(share, owned),
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
        share = delta.share
        place = (share, source)
        owned = self._shares.get(share)
        known = self.version_of(share)
        if delta.generation < known[0] or self._tells_nothing(delta, known):
            return False
        tops = self._below(delta, owned, self._staged.pop(place, None))
        beside = self._beside(share)
        for top in tops:
            top.take(delta, now)
            # what goes may come after
            if not top.room.plus(beside).fits(2 if delta.proof is None else 1):
                raise CapacityError(f"records of {share} are more than one node may gossip")
        if delta.proof is None:
            for top in tops[:1]:
                self._stage(place, top)
            return False if tops else None
        if (delta.generation, delta.upto) <= known:
            return False
        as_said = [top for top in tops if top.digest() == delta.proof.digest]
        if not as_said and tops:
            raise ForgedError(f"records of {share}")
        if not as_said:
            return None
        if not delta.proof.holds(public, share, delta.generation, delta.upto):
            raise ForgedError(f"records of {share}")
        return self._accept(delta, as_said[0], owned)

    # ---- forgetting ----

    def forget(self, owner: NodeId) -> None:
        """Drops an owner and all of its records."""
        for share in sorted(self.shares_of(owner), reverse=True):  # what it takes part in, last
            self._drop(share)
        for place in [place for place in self._staged if parts(place[0])[0] == owner]:
            del self._staged[place]

    def reap(self, before: float) -> None:
        """Drops tombstones older than ``before``, and shares that have not counted since then.

        Be aware: our own are kept, as a version never comes twice.
        """
        for owned in self._shares.values():
            for key, record in list(owned.records.items()):
                if record.value is None and record.since < before:
                    owned.bury(key)
        idle = {share for share, owned in self._shares.items() if not owned.counts}
        for share in self._idle & idle:
            if parts(share)[0] != self._self_id:
                self._drop(share)
        self._idle = frozenset(idle)

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

    def _begun(self, share: Share, generation: int) -> Owned:
        owned = self._shares.get(share)
        if owned is None:
            owned = self._keep(share, Owned(generation))
            self._moved(share)
        return owned

    def _keep(self, share: Share, owned: Owned) -> Owned:
        owner, network = parts(share)
        self._networks.setdefault(owner, set()).add(network)
        self._shares[share] = owned
        return owned

    def _drop(self, share: Share) -> None:
        owned = self._shares[share]
        names = set(owned.values())
        owned.records.clear()
        self._moved(share, names)
        owner, network = parts(share)
        del self._shares[share]
        self._sum(share, None)
        self._networks[owner].discard(network)
        if not self._networks[owner]:
            del self._networks[owner]

    def _shown(self, share: Share) -> dict[str, bytes]:
        owned = self._shares[share]
        return owned.values() if owned.counts else {}

    def _beside(self, share: Share) -> Room:
        """What the owner's other shares take."""
        taken = Room()
        for other in self.shares_of(parts(share)[0]):
            if other != share:
                taken = taken.plus(self._shares[other].room)
        return taken

    def _stage(self, place: tuple[Share, Address], top: Owned) -> None:
        self._staged[place] = top
        if len(self._staged) > STAGED:
            self._staged.popitem(last=False)

    def _accept(self, delta: Delta, fresh: Owned, before: Owned | None) -> bool:
        old, new = before.values() if before is not None else {}, fresh.values()
        names = {name for name in {**old, **new} if old.get(name) != new.get(name)}
        fresh.proof, fresh.floor = delta.proof, min(fresh.floor, delta.upto)
        fresh.counts = before is not None and before.counts
        self._keep(delta.share, fresh)
        self._moved(delta.share, names)
        return delta.upto > 0 or (before is not None and bool(before.records))

    def _proof(self, share: Share, owned: Owned) -> Proof:
        if owned.proof is None:  # our own: what is of others has its owner's
            digest = owned.digest()
            said = head(share, owned.generation, owned.version, digest)
            owned.proof = Proof(digest, self._signer.sign(said))
        return owned.proof

    def _moved(self, share: Share, names: Iterable[str] = ()) -> None:
        """A share has another version, and these records another value."""
        owner, network = parts(share)
        owned = self._shares[share]
        counted, owned.counts = owned.counts, self.audiences.counts(share)
        told = names if counted == owned.counts else {*names, *owned.values()}
        if counted or owned.counts:
            self._changed |= {(owner, key_of(network, name)) for name in told}
        self._sum(share, owned if owned.counts else None)
        if network == TO_ALL:
            for name in names:
                said = owned.records.get(name)
                if (other := audiences.network_of(name)) is not None:
                    self._says(owner, other, said is not None and said.value is not None)

    def _says(self, owner: NodeId, network: str, takes_part: bool) -> None:  # noqa: FBT001
        """What counts is otherwise: the owner's share, or all of the network when it is us."""
        self.audiences.said(owner, network, takes_part=takes_part)
        if owner != self._self_id:
            touched = [share_of(owner, network)]
        elif network == audiences.EVERY:
            touched = list(self._shares)
        else:
            touched = [share_of(each, network) for each in self.audiences.members(network)]
            touched.append(share_of(owner, network))
        for share in touched:
            if parts(share)[1] != TO_ALL and share in self._shares:
                self._moved(share)

    def _sum(self, share: Share, owned: Owned | None) -> None:
        owner, network = parts(share)
        if owned is not None:
            entry = f"{owned.generation} {owned.version}"
            self._sums.setdefault(network, Sums()).set(owner, entry)
        elif network in self._sums:
            self._sums[network].set(owner, None)
