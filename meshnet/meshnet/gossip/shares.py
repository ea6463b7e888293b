"""What a node says to all, and what to those alone that take part in a network: their names. Pure.

An owner's records are one *share* to all and one for each network; each has versions, a head and
sums of its own. An owner names its records by keys: ``name`` is said to all, ``network name`` to
those that take part in that network. Neither has a space in itself.
"""

from __future__ import annotations

from typing import TypeAlias

from meshnet.model.ids import NodeId

Share: TypeAlias = str
"""``owner``: what it says to all; ``owner network``: to those that take part in the network."""
TO_ALL = ""
"""In place of a network: everybody."""


def share_of(owner: NodeId, network: str) -> Share:
    """The share of an owner in a network, or to all."""
    return f"{owner} {network}" if network else owner


def parts(share: Share) -> tuple[NodeId, str]:
    """(owner, network)."""
    owner, _, network = share.partition(" ")
    return NodeId(owner), network


def key_of(network: str, name: str) -> str:
    """The key of a record in a share of this network, or to all."""
    return f"{network} {name}" if network else name


def placed(key: str) -> tuple[str, str]:
    """(network, name) of a key."""
    network, _, name = key.rpartition(" ")
    return network, name
