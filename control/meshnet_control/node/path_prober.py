"""Asks other nodes how large packets come to them uncut, and says what it found by gossip.

What is asked and believed is decided by ``dataplane/path_mtu.py``; the MTU of overlays follows from
the record ``node`` of every node (``meshnet.model.paths``).

Be aware: an answer is as large as what was asked, though it may be cut on its way back: where
fragments are lost, a way that is narrow in one direction is found to be narrow in both.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping
from itertools import islice
from typing import Final

from meshnet import happened
from meshnet.errors import KernelError
from meshnet.kernel import echo
from meshnet.model.ids import NodeId
from meshnet.model.snapshot import Snapshot
from meshnet_control.dataplane.path_mtu import Paths, Search, peers_of

_log = logging.getLogger(__name__)

LOOK_S: Final = 1.0
"""How long a peer that came waits to be looked at."""
WITHIN_S: Final = 1.0
"""For the answers of one round."""
_AT_ONCE: Final = 32
"""Peers: what a round takes of the way and of a socket's buffer is bounded."""


def asked(searches: Mapping[str, Search]) -> None:
    """One round of searches; blocks for a second where packets do not pass.

    Args:
        searches: address -> its search; those that are not over are brought on.

    Raises:
        KernelError: no right to ask.
    """
    going = {address: search for address, search in searches.items() if not search.over}
    probes = [(at, size) for at, search in going.items() for size in search.sizes() * search.copies]
    heard = echo.heard(probes, WITHIN_S)
    for address, search in going.items():
        search.heard({size for size in search.sizes() if heard[address, size]})


class PathProber:
    """Looks at the ways to all other nodes while it runs.

    Args:
        snapshot: of this moment.
        say: told the narrow ways whenever they are others: node -> bytes.
        ask: one round of searches by address; runs in a thread.
    """

    def __init__(
        self,
        snapshot: Callable[[], Snapshot],
        say: Callable[[dict[NodeId, int]], None],
        ask: Callable[[Mapping[str, Search]], None] = asked,
    ) -> None:
        self._snapshot, self._say, self._ask = snapshot, say, ask
        self._paths = Paths()
        self._said: dict[NodeId, int] = {}

    async def run(self) -> None:
        """Until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            try:
                await self.look(loop.time)
            except KernelError as error:
                _log.warning("ways to other nodes: %s", error)
            await asyncio.sleep(LOOK_S)

    async def look(self, clock: Callable[[], float]) -> None:
        """Search for those whose turn it is, and say what is new.

        Raises:
            KernelError: no right to ask.
        """
        snapshot = self._snapshot()
        peers = peers_of(snapshot)
        self._paths.follow(peers, clock())
        due = dict(islice(self._paths.due(clock()).items(), _AT_ONCE))
        searches = {str(snapshot.nodes[peer].vtep): search for peer, search in due.items()}
        while not all(search.over for search in searches.values()):
            await asyncio.to_thread(self._ask, searches)
        for peer, search in due.items():
            self._paths.took(peer, search.found, clock())
        narrow = self._paths.narrow()
        if narrow != self._said:
            for sentence in _news(self._said, narrow, peers, snapshot):
                _log.warning("way to another node: %s", sentence)
                happened.note(sentence)
            self._said = narrow
            self._say(narrow)


def _news(
    before: Mapping[NodeId, int],
    now: Mapping[NodeId, int],
    peers: Mapping[NodeId, int],
    snapshot: Snapshot,
) -> Iterable[str]:
    """What is to be told of ways to nodes that are there."""
    for peer in sorted(peers.keys() & (before.keys() | now.keys())):
        size, name = now.get(peer, peers[peer]), snapshot.nodes[peer].hostname
        if before.get(peer) != size:
            yield f"packets of up to {size} bytes come to {name} uncut"
