"""A manager's etcd while it runs: whether it has a vote, how it is, whom it trusts.

Touches etcd's process and its socket.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, field
from typing import Final

from meshnet.errors import MeshnetError
from meshnet_control.api import control_pb2 as pb
from meshnet_control.etcd.client import EtcdClient
from meshnet_control.etcd.errors import EtcdError
from meshnet_control.etcd.process import EtcdProcess, rss_bytes
from meshnet_control.manager.leadership import EtcdLeadership
from meshnet_control.manager.presence import Presence
from meshnet_control.store.keyring import Keyring
from meshnet_control.store.store import NO_LEADER, StoreError, StoreNoLeaderError

_log = logging.getLogger(__name__)

VOTE_S: Final = 20.0
"""For etcd to answer with a leader and a vote; who begins again waits on, etcd runs meanwhile."""
ALONE_S: Final = 2.0
"""For a leader of an etcd that runs; an election takes less. Then people are told."""
TRY_S: Final = 0.5
"""For one answer of etcd."""
LOOK_S: Final = 0.1
TURN_S: Final = 5.0
"""Between the new starts of two managers' etcds."""
LET_OUT: Final = "the other managers have let this one out: it comes anew"


class LetOutError(MeshnetError):
    """The others have let this manager out: what it holds is old, and thrown away."""


@dataclass
class RunningEtcd:
    """A member that runs beside this manager."""

    process: EtcdProcess
    client: EtcdClient
    ring: Keyring
    """What the store in it is sealed with."""
    trusted: bytes
    """The roots that its process has read, PEM."""
    tasks: list[asyncio.Task[None]] = field(default_factory=list)
    leadership: EtcdLeadership | None = None
    presence: Presence | None = None

    async def votes(self, *, others: bool) -> None:
        """Wait until etcd answers and this member has its vote.

        Args:
            others: other managers are known.

        Raises:
            LetOutError: the others have let it out.
            StoreError: it does not come to that.
        """
        loop = asyncio.get_running_loop()
        began, starts = loop.time(), self.process.starts
        while True:
            if self.process.let_out:
                raise LetOutError(LET_OUT)
            led = False
            try:
                status = await self.client.status(timeout_s=TRY_S)
            except EtcdError as error:  # one that starts without a quorum answers nobody
                said = str(error)
            else:
                if status.leader and not status.isLearner:
                    return
                led, said = bool(status.leader), "it is not in sync with the others yet"
            runs = self.process.pid != 0 and self.process.starts == starts
            waited_s, ails = loop.time() - began, self.process.trouble
            if waited_s > VOTE_S or (ails and waited_s > ALONE_S):
                raise StoreError(_ails(self.process, said, others=others))
            if runs and not led and waited_s > ALONE_S:
                raise StoreNoLeaderError
            await asyncio.sleep(LOOK_S)

    async def status(self) -> pb.EtcdStatus:
        """How it is."""
        said = pb.EtcdStatus(memory_bytes=rss_bytes(self.process.pid))
        try:
            status = await self.client.status(timeout_s=TRY_S)
            voters = [m for m in await self.client.members(timeout_s=TRY_S) if not m.isLearner]
        except EtcdError as error:
            said.error = NO_LEADER if self.process.pid else str(error)
            return said
        said.database_bytes, said.used_bytes = status.dbSize, status.dbSizeInUse
        said.voters = len(voters)
        if status.isLearner:
            said.part = "learner"
        elif status.leader:
            said.part = "leader" if status.leader == status.header.member_id else "follower"
        return said

    async def trust_anew(self, own: str) -> None:
        """Start etcd anew: it reads whom it trusts when it starts. One manager after the other.

        Args:
            own: this member's name.
        """
        try:
            names = sorted(m.name for m in await self.client.members() if not m.isLearner)
        except EtcdError:
            names = []
        turn = names.index(own) if own in names else len(names)
        await asyncio.sleep(turn * TURN_S)
        _log.info("etcd starts anew: the cluster's roots have changed")
        self.process.begin_again()

    async def stop(self) -> None:
        """End it."""
        await self.client.close()
        await self.process.stop()


def _ails(process: EtcdProcess, otherwise: str, *, others: bool) -> str:
    """Why etcd does not serve, and what to do when what it has on disk is the reason."""
    if not process.trouble:
        return f"etcd: {process.last_words or otherwise}"
    if not others:
        return process.trouble
    return (
        f"{process.trouble}; if its data are damaged, stop meshnet here, remove"
        f" {process.member.data_dir} and start it: the other managers let this one in anew"
    )
