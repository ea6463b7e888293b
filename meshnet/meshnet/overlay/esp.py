"""Which associations encrypted overlays need, Snapshot after Snapshot. Pure.

With every node that has told the salt of its life, not only with those that share an encrypted
network with this one: an association that went and came again within a life would count from 1 with
a key that was used. Two for each such node, one more while a key is rotated.
"""

from __future__ import annotations

from collections.abc import Collection

from meshnet.model import esp
from meshnet.model.snapshot import Network, Snapshot
from meshnet.netstate.esp import Association, Esp


class Encryption:
    """What should be, Snapshot after Snapshot; one node that changes costs its own keys.

    Law: whatever came before, ``of`` a Snapshot is what it is as the first one.
    """

    def __init__(self) -> None:
        self._of: tuple[object, ...] = ()
        self._pairs: dict[object, tuple[Association, ...]] = {}

    def of(self, snapshot: Snapshot, networks: Collection[Network], paths: set[str]) -> Esp | None:
        """What should be.

        Args:
            snapshot: of this moment.
            networks: those that are on this host.
            paths: of the namespaces of those of them that are encrypted.
        """
        itself = snapshot.nodes.get(snapshot.self_id)
        if itself is None or not any(network.encrypted for network in networks):
            self._pairs = {}
            return None
        port = esp.port_of(snapshot.vxlan_port)
        others = [node for node in snapshot.nodes.values() if node.id != itself.id]
        ring = snapshot.esp_keys
        common = (ring, itself.salt, itself.vtep, port)
        if self._of != common:
            self._of, self._pairs = common, {}
        pairs: dict[object, tuple[Association, ...]] = {}
        for node in others:
            if node.salt and itself.salt and node.vtep != itself.vtep:
                key = (node.id, node.salt, node.vtep)
                pairs[key] = self._pairs.get(key) or tuple(
                    Association(source, destination, spi, secret, port)
                    for source, destination, spi, secret in esp.directions(ring, itself, node)
                )
        self._pairs = pairs
        return Esp(
            vtep=itself.vtep,
            port=port,
            salt=itself.salt,
            associations=frozenset(each for some in pairs.values() for each in some),
            nodes=frozenset(node.vtep for node in snapshot.nodes.values()),
            namespaces=frozenset(paths),
        )
