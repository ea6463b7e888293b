"""On which networks this node is: it says so to all, and has what was said there brought at once.

```
 wanted ──> in/<network> to all ──> a stream to one who is on it: all that was said, in one exchange
 wanted no more ──> linger ──> in/<network> withdrawn: the others say nothing more of it to us
```
Of whom nothing is known on a network of ours, a stream is opened to some each second.
"""

from __future__ import annotations

from collections.abc import Collection

from meshnet.gossip.anti_entropy import AntiEntropy
from meshnet.gossip.audiences import EVERY, takes_part_key
from meshnet.gossip.config import GossipConfig
from meshnet.gossip.members import Address
from meshnet.gossip.membership import Membership
from meshnet.gossip.shares import share_of
from meshnet.model.ids import NodeId, Rng


class Participation:
    """The networks of this node.

    Args:
        config: how long one lingers.
        membership: who can be talked to.
        entropy: everybody's records.
        rng: picks whom to ask.
        streams: addresses to exchange everything with.
    """

    def __init__(
        self,
        config: GossipConfig,
        membership: Membership,
        entropy: AntiEntropy,
        rng: Rng,
        streams: list[Address],
    ) -> None:
        self._config = config
        self._membership = membership
        self._entropy = entropy
        self._audiences = entropy.table.audiences
        self._rng = rng
        self._streams = streams
        self._wanted: frozenset[str] = frozenset()
        self._left: dict[str, float] = {}

    def choose(self, networks: Collection[str], now: float) -> None:
        """From now on this node is on exactly these networks; ``EVERY``: it hears of all.

        Raises:
            CapacityError: they are more than any peer would take.
        """
        before, self._wanted = self._wanted, frozenset(networks)
        self._left |= dict.fromkeys(before - self._wanted, now + self._config.linger_s)
        for network in sorted(self._wanted):
            self._left.pop(network, None)
            self._entropy.put(takes_part_key(network), b"\xc0", now)
        for network in sorted(self._wanted - before):
            self._fetch(self._unheard(network))

    def due(self, now: float) -> None:
        """Leaves what nobody wanted for long enough, and asks for what is missing."""
        for network in [network for network, until in self._left.items() if until <= now]:
            del self._left[network]
            self._entropy.put(takes_part_key(network), None, now)
        self._fetch(self._unheard(EVERY))

    def _unheard(self, network: str) -> set[NodeId]:
        """Who is on a network, or on any of ours, and has told us nothing there."""
        me = self._membership.me.id
        if network == EVERY:
            return {id_ for each in self._audiences.heard(me) for id_ in self._unheard(each)}
        return {
            id_
            for id_ in self._audiences.members(network)
            if id_ != me and self._entropy.table.version_of(share_of(id_, network)) == (0, 0)
        }

    def _fetch(self, members: Collection[NodeId]) -> None:
        """From one of these, who has what the others said, too."""
        self._streams.extend(each.address for each in self._membership.sample(1, members))
