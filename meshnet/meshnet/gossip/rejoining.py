"""Who must be a member and is not there is tried again and again, by few of many nodes."""

from __future__ import annotations

from collections.abc import Iterable

from meshnet.gossip.config import GossipConfig
from meshnet.gossip.members import Address
from meshnet.gossip.membership import Membership
from meshnet.gossip.parsing import parse_address
from meshnet.gossip.refusals import Refusals
from meshnet.model.ids import Rng


class Rejoining:
    """Seeds, and members that are gone and belong to the cluster.

    Args:
        config: how many at once.
        membership: who takes part.
        rng: picks them.
        streams: addresses to exchange everything with.
        refusals: counts what is no address.
    """

    def __init__(
        self,
        config: GossipConfig,
        membership: Membership,
        rng: Rng,
        streams: list[Address],
        refusals: Refusals,
    ) -> None:
        self._config = config
        self._membership = membership
        self._rng = rng
        self._streams = streams
        self._refusals = refusals
        self._seeds: frozenset[Address] = frozenset()

    def join(self, seeds: Iterable[Address]) -> None:
        """The addresses that must be members, from now on."""
        usable: set[Address] = set()
        for host, port in seeds:
            try:
                usable.add(parse_address(host, port))
            except ValueError:
                self._refusals.count("seed without an IPv4 address")
        self._seeds = frozenset(usable - {self._membership.me.address})
        self.due()

    def due(self) -> None:
        """Tries some of those that are missing: of many nodes not every one each time."""
        here = self._membership.peers()
        seeds = self._seeds - {member.address for member in here}
        missing = sorted(seeds | self._membership.gone())
        if self._rng.random() * len(here) < len(missing) + self._config.rejoins:
            chosen = sorted(missing, key=lambda _: self._rng.random())
            self._streams.extend(chosen[: self._config.rejoins])
