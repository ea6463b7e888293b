"""A node's last word to its cluster, of its own will or because it has not become a part of it."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Final

from meshnet import ends
from meshnet_control.cluster.roles import MANAGER
from meshnet_control.identity.channel import channel
from meshnet_control.identity.identity import Identity
from meshnet_control.node import dispatcher_client
from meshnet_control.store import files

GOODBYE_S: Final = 5.0
"""For a manager to hear it."""
LET_OUT_S: Final = 15.0
"""For the others to let a manager out that could not become one."""
_LOOK_S: Final = 0.1


async def say_goodbye(
    identity: Identity, *, resigns: bool = False, dial: dispatcher_client.Dial = channel
) -> None:
    """Tell a manager that this node leaves; a cluster of this node alone has nobody to be told.

    Args:
        identity: of this node.
        resigns: and that it is not to be a manager, which it could not become.
        dial: how a manager is reached.
    """
    others = tuple(addr for addr in identity.managers if addr != identity.advertise_addr)
    if identity.role == MANAGER and not others:
        return
    told = replace(identity, managers=others)
    goodbye = dispatcher_client.leave(told, resigns=resigns, dial=dial)
    await ends.within(GOODBYE_S, goodbye, "no manager heard that this node leaves")


async def undo_join(identity: Identity, state_dir: Path) -> None:
    """Leave a cluster that this node has not become a part of.

    A manager may have a vote by then: it stays until the others have let it out, for a vote of
    one that is gone would be missed.

    Args:
        identity: that it got there.
        state_dir: where meshnet-manager has its store.
    """
    await say_goodbye(identity, resigns=True)
    data = state_dir / files.ETCD
    with suppress(TimeoutError):
        async with asyncio.timeout(LET_OUT_S):
            while data.exists():  # noqa: ASYNC110 - meshnet-manager erases it when it is let out
                await asyncio.sleep(_LOOK_S)
