"""What a node tells the managers of its host, and what changes of it while the node runs."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

from meshnet.errors import MeshnetError
from meshnet.kernel.xfrm import can_encrypt
from meshnet_control.api import control_pb2 as pb
from meshnet_control.cluster import host_routes, privileges
from meshnet_control.engine.errors import EngineError
from meshnet_control.host.paths import PRIVILEGED_MARK
from meshnet_control.node import underlay

_log = logging.getLogger(__name__)

_ROUTES_S: Final = 5.0
"""How long the managers may not know of a new route of this host."""
_ENGINE_S: Final = 20.0
"""How long they may not know that the engine says otherwise (swarmkit agent: nodeUpdatePeriod)."""


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
    host_routes.tell(engine, await asyncio.to_thread(underlay.routes))
    engine.esp = await asyncio.to_thread(can_encrypt)
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
            routes = await asyncio.to_thread(underlay.routes)
        except MeshnetError as error:
            _log.warning("routes of this host: %s", error)
            continue
        if host_routes.tell(said, routes):
            describe()


def taken(said: pb.NodeDescription, engine: pb.NodeDescription) -> bool:
    """Put what the engine says now into a description; whether that makes it another.

    Args:
        said: what the managers were told last; changed.
        engine: what the engine says; changed.
    """
    engine.engine.labels.pop(privileges.NODE_LABEL, "")
    if privileges.NODE_LABEL in said.engine.labels:
        engine.engine.labels[privileges.NODE_LABEL] = said.engine.labels[privileges.NODE_LABEL]
    changed = False
    for part in ("platform", "resources", "engine"):
        if getattr(said, part) != getattr(engine, part):
            getattr(said, part).CopyFrom(getattr(engine, part))
            changed = True
    return changed


async def follow_engine(
    said: pb.NodeDescription,
    ask: Callable[[], Awaitable[pb.NodeDescription]],
    describe: Callable[[], None],
    encrypts: Callable[[], bool] = lambda: False,
) -> None:
    """Tell what the engine says of itself and of the host when it is otherwise, until cancelled.

    It was started anew with other labels or resources, perhaps, or upgraded.

    Args:
        said: what the managers were told last; changed.
        ask: the engine.
        describe: tells them.
        encrypts: whether the kernel can by now, as its module may come later; blocking.
    """
    while True:
        await asyncio.sleep(_ENGINE_S)
        try:
            engine = await ask()
        except EngineError as error:
            _log.info("what the engine says of this host: %s", error)
            continue
        changed = taken(said, engine)
        if not said.esp and await asyncio.to_thread(encrypts):
            said.esp = changed = True
        if changed:
            describe()
