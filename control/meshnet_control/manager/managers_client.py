"""Asking other managers to be one of them. Touches gRPC channels to port 2377.

Whoever is asked and does not lead says who does (``referral``); it is asked then.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import grpc
import grpc.aio

from meshnet import ends
from meshnet.errors import ControlError
from meshnet_control.api import control_pb2 as pb
from meshnet_control.api import control_pb2_grpc
from meshnet_control.identity.channel import channel
from meshnet_control.identity.identity import Certificates
from meshnet_control.identity.referral import leader_of
from meshnet_control.store.keyring import NO_LOCK

JOIN_S: Final = 60.0
"""For one answer: the store may have to move first."""
ELECTION_S: Final = 10.0
"""For managers to agree on who leads."""
AGAIN_S: Final = 0.5
STANDING_S: Final = 1.0
"""For managers to say whether this one is one of them; a host that is away answers nothing."""
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
    generation: int = 0
    """How often these managers went on without others."""


async def ask_to_join(remotes: Sequence[str], certs: Certificates, peer: str) -> Admission:
    """Ask managers in turn until one lets this node in.

    Args:
        remotes: ``host:port`` each.
        certs: of this node, a manager.
        peer: ``host:port`` its etcd will be at.

    Raises:
        ControlError: none does; the last one's reason.
    """
    loop = asyncio.get_running_loop()
    until = loop.time() + ELECTION_S
    while True:
        why, electing = "no other manager is known", False
        for known in remotes:
            remote = known
            for _ in range(_MOST):
                try:
                    return await _ask(remote, certs, peer)
                except grpc.aio.AioRpcError as error:
                    why = f"manager {remote}: {error.details() or error.code().name}"
                    leader = leader_of(error)
                    electing |= leader is not None
                    if leader in {None, "", remote}:
                        break
                    remote = leader or remote
        if not electing or loop.time() >= until:
            raise ControlError(f"cannot join the other managers: {why}", 503)
        await asyncio.sleep(AGAIN_S)


async def still_member(remotes: Sequence[str], certs: Certificates, generation: int) -> bool:
    """Whether no manager has gone on without this one; all are asked at once.

    Only who leads knows, so nobody's answer is no answer: then this one goes on.

    Args:
        remotes: ``host:port`` each.
        certs: of this node, a manager.
        generation: of the managers that this one belongs to; whoever has a higher one counts.
    """
    asked = [asyncio.create_task(_standing(each, certs), name="standing") for each in remotes]
    try:
        if asked:
            await asyncio.wait(asked, timeout=STANDING_S)
        said = [each.result() for each in asked if each.done()]
    finally:
        await ends.ended(*asked)
    return all(s is None or s.member or s.generation <= generation for s in said)


async def _standing(remote: str, certs: Certificates) -> pb.ManagerStandingReply | None:
    try:
        async with channel(remote, certs) as link:
            stub = control_pb2_grpc.ManagersStub(link)
            return await stub.Standing(pb.ManagerStandingRequest(), timeout=STANDING_S)
    except grpc.aio.AioRpcError:
        return None  # it is away, or does not lead


async def _ask(remote: str, certs: Certificates, peer: str) -> Admission:
    async with channel(remote, certs) as link:
        stub = control_pb2_grpc.ManagersStub(link)
        reply = await stub.Join(pb.ManagerJoinRequest(peer_addr=peer), timeout=JOIN_S)
    return Admission(dict(reply.peers), tuple(reply.store_keys), reply.lock, reply.generation)
