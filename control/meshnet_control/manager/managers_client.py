"""Asking other managers to be one of them. Touches gRPC channels to port 2377.

Whoever is asked and does not lead says who does (``referral``); it is asked then.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import grpc
import grpc.aio

from meshnet.errors import ControlError
from meshnet_control.api import control_pb2 as pb
from meshnet_control.api import control_pb2_grpc
from meshnet_control.identity.channel import channel
from meshnet_control.identity.identity import Certificates
from meshnet_control.manager.referral import leader_of
from meshnet_control.store.keyring import NO_LOCK

JOIN_S: Final = 60.0
"""For one answer: the store may have to move first."""
_MOST: Final = 2
"""Managers asked for each that is known: it, and who leads by its word."""


@dataclass(frozen=True)
class Admission:
    """What a manager gets that is let in."""

    peers: Mapping[str, str]
    """Name to ``host:port`` of etcd's members, itself among them."""
    keys: tuple[bytes, ...] = field(repr=False)
    """What the store is sealed with, the newest first."""
    lock: bytes = field(default=NO_LOCK, repr=False)
    """The unlock key; NO_LOCK: none."""


async def ask_to_join(remotes: Sequence[str], certs: Certificates, peer: str) -> Admission:
    """Ask managers in turn until one lets this node in.

    Args:
        remotes: ``host:port`` each.
        certs: of this node, a manager.
        peer: ``host:port`` its etcd will be at.

    Raises:
        ControlError: none does; the last one's reason.
    """
    why = "no other manager is known"
    for known in remotes:
        remote = known
        for _ in range(_MOST):
            try:
                return await _ask(remote, certs, peer)
            except grpc.aio.AioRpcError as error:
                why = f"manager {remote}: {error.details() or error.code().name}"
                leader = leader_of(error)
                if leader in {"", remote}:
                    break
                remote = leader
    raise ControlError(f"cannot join the other managers: {why}", 503)


async def _ask(remote: str, certs: Certificates, peer: str) -> Admission:
    async with channel(remote, certs) as link:
        stub = control_pb2_grpc.ManagersStub(link)
        reply = await stub.Join(pb.ManagerJoinRequest(peer_addr=peer), timeout=JOIN_S)
    return Admission(dict(reply.peers), tuple(reply.store_keys), reply.lock)
