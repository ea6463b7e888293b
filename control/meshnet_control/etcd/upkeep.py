"""Keeps the database of a member below its quota, so that etcd never refuses to write.

Touches one member through a client; what to do is decided by ``due``. Each manager looks after the
member beside it, and who is beside etcd's leader compacts for all.

```
 old revisions ── compact ──> free pages ── defragment ──> the file is small again
 NOSPACE (the file reached the quota) ── both ──> disarm: writes go on
```

etcd's own compaction counts revisions, and one revision can be a mebibyte. Its quota counts the
file with its free pages, which only defragmenting gives back (etcd v3.4 etcdserver/quota.go).

Be aware: who follows from a revision that was compacted reads everything again.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final, Protocol

from meshnet_control.api import etcd_pb2 as pb
from meshnet_control.etcd import client as calls
from meshnet_control.etcd.arguments import QUOTA_BYTES
from meshnet_control.etcd.errors import EtcdCompactedError, EtcdError

_log = logging.getLogger(__name__)

LOOK_S: Final = 5.0
"""Between two looks; and for one member's turn to defragment."""
KEPT: Final = 100
"""Revisions that are kept when room gets short."""
CALL_S: Final = 3.0
AGAIN_S: Final = 10.0
"""Between two defragmentations of one member: etcd compacts in the background, some time after it
has said so."""
NUDGES: Final = 3
"""Writes after a compaction: bbolt counts pages as free only once something is written."""
NUDGE: Final = b"/meshnet/upkeep"


class KeptEtcd(Protocol):
    """What of a member is needed; see ``EtcdClient``."""

    async def status(self, timeout_s: float = ...) -> pb.StatusResponse:
        """Its sizes, and who leads."""
        ...

    async def members(self, timeout_s: float = ...) -> list[pb.Member]:
        """All of them."""
        ...

    async def alarms(self) -> list[pb.AlarmMember]:
        """Those that are on, of all members."""
        ...

    async def txn(
        self,
        compare: Iterable[pb.Compare],
        success: Iterable[pb.RequestOp],
        failure: Iterable[pb.RequestOp] = (),
        timeout_s: float = ...,
    ) -> pb.TxnResponse:
        """Write."""
        ...

    async def compact(self, revision: int) -> None:
        """Forget what was before a revision."""
        ...

    async def defragment(self) -> None:
        """Give free pages back."""
        ...

    async def disarm(self, alarm: pb.AlarmMember) -> None:
        """Take an alarm away."""
        ...


@dataclass(frozen=True)
class Database:
    """What a member's takes, and what is kept from it."""

    file_bytes: int
    used_bytes: int
    """The rest of the file is free pages."""
    quota_bytes: int
    leads: bool
    alarmed: bool
    """Some member has reached its quota: nobody writes."""


class Deed(Enum):
    """What makes room, in the order in which it does."""

    COMPACT = auto()
    COMPACT_ALL = auto()
    DEFRAGMENT = auto()


def due(database: Database) -> list[Deed]:
    """What to do now; PURE.

    Compacted is from a quarter of the quota on, and from a half on to the present. Defragmented is
    what is half free by then, what is free by an eighth once little is left, and whatever reached
    its quota: what is free by then is not known before something is written again.
    """
    file, used, quota = database.file_bytes, database.used_bytes, database.quota_bytes
    deeds = []
    if database.leads and (database.alarmed or used * 2 >= quota):
        deeds.append(Deed.COMPACT_ALL)
    elif database.leads and used * 4 >= quota:
        deeds.append(Deed.COMPACT)
    free = file - used
    half = file * 4 >= quota and free * 2 >= file
    short = file * 4 >= quota * 3 and free * 8 >= file
    if half or short or (database.alarmed and not has_room(file, quota)):
        deeds.append(Deed.DEFRAGMENT)
    return deeds


def has_room(file_bytes: int, quota_bytes: int) -> bool:
    """Whether a member that had reached its quota is far enough below it to write again; PURE."""
    return file_bytes * 8 <= quota_bytes * 7


class Upkeep:
    """Looks after one member.

    Args:
        etcd: the member.
        quota_bytes: that it was started with.
        look_s: between two looks.
        wall: seconds since 1970, for whose turn it is.
    """

    def __init__(
        self,
        etcd: KeptEtcd,
        quota_bytes: int = QUOTA_BYTES,
        look_s: float = LOOK_S,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._etcd, self._quota, self._look_s, self._wall = etcd, quota_bytes, look_s, wall
        self._compacted = 0
        """Up to this revision, as far as this manager knows."""
        self._nudges = 0
        self._defragmented = -AGAIN_S

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            try:
                await self.look()
            except EtcdError as error:
                _log.debug("%s", error)
            await asyncio.sleep(self._look_s)

    async def look(self) -> None:
        """Do what is due.

        Raises:
            EtcdError: no answer, or not now.
        """
        status = await self._etcd.status(CALL_S)
        own, leads = status.header.member_id, status.leader == status.header.member_id
        alarmed = any("NOSPACE" in each for each in status.errors)
        sizes = (status.dbSize, status.dbSizeInUse, self._quota)
        deeds = due(Database(*sizes, leads=leads, alarmed=alarmed))
        now = status.header.revision
        if Deed.COMPACT_ALL in deeds:
            await self._compact(now, 0 if alarmed else KEPT // 10)
        elif Deed.COMPACT in deeds:
            await self._compact(now - KEPT, KEPT)
        if self._nudges and not alarmed:
            await self._etcd.txn((), [calls.put(NUDGE, b"")], timeout_s=CALL_S)
            self._nudges -= 1
        if not alarmed and not deeds:
            return
        members = sorted(each.ID for each in await self._etcd.members())
        if alarmed or self._turn(members, own):
            status = await self._etcd.status(CALL_S)
            sizes = (status.dbSize, status.dbSizeInUse, self._quota)
            if Deed.DEFRAGMENT in due(Database(*sizes, leads=leads, alarmed=alarmed)):
                await self._defragment(status)
        if alarmed:
            await self._disarm(members, own, leads=leads)

    # ---- inside ----

    def _turn(self, members: Sequence[int], own: int) -> bool:
        """Whether it is this one's: a member that defragments answers nothing meanwhile."""
        return own in members and int(self._wall() / LOOK_S) % len(members) == members.index(own)

    async def _compact(self, revision: int, worth: int) -> None:
        """Forget what was before a revision, if that are so many more than last time."""
        if revision <= max(1, self._compacted + worth):
            return
        try:
            await self._etcd.compact(revision)
        except EtcdCompactedError as error:  # another that led did
            _log.debug("%s", error)
        else:
            _log.info("etcd forgets what was before its revision %s", revision)
        self._compacted, self._nudges = revision, NUDGES

    async def _defragment(self, before: pb.StatusResponse) -> None:
        now = asyncio.get_running_loop().time()
        if now - self._defragmented < AGAIN_S:
            return
        self._defragmented = now
        await self._etcd.defragment()
        after = await self._etcd.status(CALL_S)
        _log.info("etcd's database is defragmented: %s -> %s bytes", before.dbSize, after.dbSize)

    async def _disarm(self, members: Sequence[int], own: int, *, leads: bool) -> None:
        """Take this member's alarm away once there is room, and those of who is no member."""
        room = has_room((await self._etcd.status(CALL_S)).dbSize, self._quota)
        for alarm in await self._etcd.alarms():
            gone = leads and alarm.memberID not in members
            if alarm.alarm == pb.NOSPACE and ((alarm.memberID == own and room) or gone):
                await self._etcd.disarm(alarm)
                _log.warning("etcd has room again and writes")
