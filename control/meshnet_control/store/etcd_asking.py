"""One question to etcd until it is answered, or nobody can answer it any more.

Touches etcd through a client. What is asked here may be asked twice.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from meshnet_control.api import etcd_pb2 as pb
from meshnet_control.etcd.api import Etcd
from meshnet_control.etcd.arguments import QUOTA_BYTES
from meshnet_control.etcd.errors import (
    EtcdError,
    EtcdFullError,
    EtcdNoLeaseError,
    EtcdTooLargeError,
    EtcdUnavailableError,
)
from meshnet_control.store.etcd_layout import HEAD
from meshnet_control.store.quorum import Quorum
from meshnet_control.store.store import (
    StoreError,
    StoreFullError,
    StoreNoLeaderError,
    StoreTooLargeError,
    StoreUnavailableError,
)

_log = logging.getLogger(__name__)

TRY_S: Final = 1.0
"""For one answer, before the same is asked again."""
COMMIT_S: Final = 10.0
"""For a commit while there is a leader."""
LOOK_S: Final = 1.0
"""Between two looks at who leads."""
PAUSE_S: Final = 0.05
"""Between two tries."""
_ROOM: Final = "room"
_MIB: Final = 1024**2
MORE: Final = "give it more with MESHNET_ETCD_QUOTA_MIB"

_R = TypeVar("_R")


class Asking:
    """Asks one member, and knows from its answers whether anybody leads.

    Args:
        etcd: the local member.
        quorum: what the answers say of it.
        quota_bytes: what its database may grow to.
        ails: why the member itself does not run; empty: it does.
    """

    def __init__(
        self,
        etcd: Etcd,
        quorum: Quorum,
        quota_bytes: int = QUOTA_BYTES,
        ails: Callable[[], str] = str,
    ) -> None:
        self.etcd, self.quorum = etcd, quorum
        self._quota, self._ails = quota_bytes, ails
        self._loop = asyncio.get_running_loop()
        self.short = ""
        """Why nothing new is written, though what is there may be changed and removed: etcd itself,
        once it is full, would not even take removals."""

    def until(self) -> float:
        """When a commit or a read that begins now is given up."""
        return self._loop.time() + COMMIT_S

    @property
    def lost(self) -> bool:
        """Nobody leads, and nobody waits for it any more."""
        return self.quorum.lost(self._loop.time())

    @property
    def trouble(self) -> str:
        """Why commits fail now, and since when; empty: they do not."""
        ails = self._ails()  # then nobody is reached from here, however many are well
        return f"store: {ails}" if ails else self.quorum.trouble(self._loop.time())

    async def tried(self, call: Callable[[], Awaitable[_R]], until: float) -> _R:
        """The answer to what may be asked twice.

        Raises:
            StoreError: there is none, see ``bounded``, or etcd refuses.
            EtcdNoLeaseError: the lease that it is about is over.
        """
        while True:
            try:
                answer = await call()
            except EtcdUnavailableError as error:
                await self.unanswered(error, until)
                continue
            except EtcdNoLeaseError:
                raise
            except EtcdError as error:
                raise self.typed(error) from None
            self.quorum.answered()
            return answer

    async def unanswered(self, error: EtcdError, until: float, *, uncertain: bool = False) -> None:
        """Note it, and wait a little before the next try; see ``bounded``."""
        _log.debug("%s", error)
        self.quorum.unanswered(self._loop.time())
        self.bounded(until, uncertain=uncertain)
        await asyncio.sleep(PAUSE_S)

    def bounded(self, until: float, *, uncertain: bool) -> None:
        """Go on asking?

        Raises:
            StoreNoLeaderError: nobody leads.
            StoreUnavailableError: it has taken too long.
        """
        if self.lost:
            raise StoreNoLeaderError(uncertain=uncertain)
        if self._loop.time() >= until:
            raise StoreUnavailableError("the store in etcd does not answer", uncertain=uncertain)

    def typed(self, error: EtcdError) -> StoreError:
        """What etcd refuses, as the store's error."""
        if isinstance(error, EtcdFullError):
            self.quorum.refused(_ROOM, self._full)
            return StoreFullError(f"cannot write to the store: {self._full}")
        if isinstance(error, EtcdTooLargeError):
            return StoreTooLargeError(f"cannot write to the store in etcd: {error.details}")
        return StoreError(f"cannot write to the store in etcd: {error.details}")

    async def look(self) -> None:
        """See that nobody leads, or that somebody does again, though nobody asks for anything."""
        while True:
            await asyncio.sleep(LOOK_S)
            try:
                if self.quorum.doubtful:
                    await self.etcd.range(HEAD, timeout_s=TRY_S)
                    self.quorum.answered()
                    continue
                status = await self.etcd.status(timeout_s=TRY_S)
                if not status.leader:
                    self.quorum.unanswered(self._loop.time())
                self._room(status)
            except EtcdError as error:
                _log.debug("%s", error)
                self.quorum.unanswered(self._loop.time())

    def wrote(self) -> None:
        """Something was written: there is room for it."""
        self.quorum.refused(_ROOM, self.short)

    # ---- inside ----

    @property
    def _full(self) -> str:
        return (
            f"etcd's database has reached its {self._quota // _MIB} MiB and is being compacted:"
            f" try again, or {MORE}"
        )

    def _room(self, status: pb.StatusResponse) -> None:
        full = any("NOSPACE" in said for said in status.errors)
        used, quota = status.dbSizeInUse, self._quota
        self.short = (
            f"{used // _MIB} of the {quota // _MIB} MiB of etcd's database are taken:"
            f" remove what is not needed, or {MORE}"
            if used * 4 >= quota * 3
            else ""
        )
        self.quorum.refused(_ROOM, self._full if full else self.short)
