"""What a node tells the managers of its host, and what changes of it while the node runs."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Final

from meshnet.errors import MeshnetError
from meshnet_control.api import control_pb2 as pb
from meshnet_control.cluster import host_routes, privileges
from meshnet_control.host.paths import PRIVILEGED_MARK
from meshnet_control.node import underlay

_log = logging.getLogger(__name__)

_ROUTES_S: Final = 5.0
"""How long the managers may not know of a new route of this host."""


async def described(
    engine: pb.NodeDescription, state_dir: Path, *, mtu: int, gossip_key: bytes
) -> pb.NodeDescription:
    """What the engine says of the host, and what it does not know.

    Args:
        engine: what it says; changed.
        state_dir: of this node.
        mtu: of the underlay, bytes.
        gossip_key: the public one that others know this node's words by.

    Raises:
        MeshnetError: the host's routes cannot be read.
    """
    engine.underlay_mtu = mtu
    engine.gossip_key = gossip_key
    engine.routes.extend(host_routes.told(await asyncio.to_thread(underlay.routes)))
    engine.engine.labels.pop(privileges.NODE_LABEL, "")  # it is not the engine's to say
    if (state_dir / PRIVILEGED_MARK).exists():
        engine.engine.labels[privileges.NODE_LABEL] = "true"
    return engine


async def follow_routes(said: pb.NodeDescription, describe: Callable[[], None]) -> None:
    """Tell of this host's routes when they are others, until cancelled.

    Args:
        said: what the managers were told last; changed.
        describe: tells them.
    """
    while True:
        await asyncio.sleep(_ROUTES_S)
        try:
            routes = host_routes.told(await asyncio.to_thread(underlay.routes))
        except MeshnetError as error:
            _log.warning("routes of this host: %s", error)
            continue
        if routes != list(said.routes):
            del said.routes[:]
            said.routes.extend(routes)
            describe()
