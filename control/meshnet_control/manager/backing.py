"""Which store a manager has and what is under it: a file of its own, or the etcd of all managers.

Touches the state directory, etcd's process, and other managers by ``Managers.Join``.

```
 store.db ───────────────> SQLite, this manager leads             (one manager)
    │ the first other manager joins: migrate
    v
 etcd/member/wal ────────> etcd, who leads is a key in it         (several; also one again)
    ^
    │ Join: the members, the store's keys; a learner that is promoted when it is in sync
 neither, and others are known
```

Be aware: the process of etcd outlives a failed ``open``: a member that waits for a quorum must go
on waiting, or two that wait for each other would never meet.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import shutil
import time
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, TypeAlias

from meshnet import ends
from meshnet_control.api import control_pb2 as pb
from meshnet_control.etcd.client import EtcdClient
from meshnet_control.etcd.errors import EtcdError
from meshnet_control.etcd.process import EtcdProcess, EtcdProcessError
from meshnet_control.etcd.upkeep import Upkeep
from meshnet_control.identity import rotation
from meshnet_control.identity.identity import Identity
from meshnet_control.manager.etcd_place import EtcdPlace
from meshnet_control.manager.leadership import EtcdLeadership, MovingLeadership, Sole
from meshnet_control.manager.managers_client import Admission, ask_to_join, still_member
from meshnet_control.manager.members import EtcdMembers, Members, OneMember
from meshnet_control.manager.membership import Move, Picture
from meshnet_control.manager.presence import Presence
from meshnet_control.manager.running_etcd import LET_OUT, LetOutError, RunningEtcd
from meshnet_control.store import files, keyring
from meshnet_control.store.etcd import EtcdStore
from meshnet_control.store.files import MOVED, STORE, STORE_KEY
from meshnet_control.store.keyring import NO_LOCK, Keyring
from meshnet_control.store.migrate import everything, in_etcd, migrate
from meshnet_control.store.moving import MovingStore
from meshnet_control.store.salvage import salvage
from meshnet_control.store.sqlite import SqliteStore, write_database
from meshnet_control.store.store import StoreClosedError, StoreError

_log = logging.getLogger(__name__)

Spawn: TypeAlias = "Callable[[Coroutine[Any, Any, None], str], asyncio.Task[None]]"
"""Runs in the background; its failure ends the process."""
COUNTS_S: Final = 5.0
"""Between two questions to the other managers whether this one is still one of them."""


class Backing:
    """The store of one manager. ``Members``, too, whatever is under it.

    Args:
        identity: of this manager, as it is now.
        state_dir: the store.
        run_dir: etcd's socket.
        spawn: starts a task whose failure ends the process.
    """

    def __init__(
        self, identity: Callable[[], Identity], state_dir: Path, run_dir: Path, spawn: Spawn
    ) -> None:
        self._identity, self._state_dir = identity, state_dir
        self._spawn = spawn
        self._place = EtcdPlace(identity, state_dir, run_dir)
        self._store: MovingStore | None = None
        self._leadership: MovingLeadership | None = None
        self._sole: Sole | None = None
        self._etcd: RunningEtcd | None = None
        self._members: Members = OneMember("", "")
        self._moving = asyncio.Lock()

    @property
    def store(self) -> MovingStore:
        """Open; what is behind it may become another one."""
        if self._store is None:
            raise StoreClosedError("the store is not open")
        return self._store

    @property
    def leadership(self) -> MovingLeadership:
        """Of the cluster's orchestration."""
        if self._leadership is None:
            raise StoreClosedError("the store is not open")
        return self._leadership

    @property
    def leader(self) -> str:
        """Id of the node that leads; empty: nobody, or unknown."""
        return self._leadership.leader if self._leadership is not None else ""

    @property
    def file(self) -> SqliteStore | None:
        """The store, while it is a file of this manager's."""
        behind = self._store.behind if self._store is not None else None
        return behind if isinstance(behind, SqliteStore) else None

    @property
    def key_name(self) -> str:
        """See ``archive.Copied``."""
        file = self.file
        return file.key_name if file is not None else self._running().ring.sealer.key_name

    @property
    def revision(self) -> int:
        """See ``archive.Copied``."""
        return self.store.revision

    async def copy_to(self, path: Path) -> bytes:
        """See ``archive.Copied``."""
        file = self.file
        if file is not None:
            return await file.copy_to(path)
        store, sealer = self.store, self._running().ring.sealer
        while True:
            revision = store.revision
            objects = await everything(store)
            if store.revision == revision:
                break
        await asyncio.to_thread(write_database, path, objects, revision, sealer)
        try:
            return (self._state_dir / STORE_KEY).read_bytes()
        except OSError as error:
            raise StoreError(f"cannot read {STORE_KEY}: {error}") from None

    async def keep_key(self) -> bool:
        """Write the file of the store's keys again if it is gone or damaged; whether it was.

        Raises:
            StoreError: it cannot be written.
        """
        file = self.file
        if file is not None:
            return await file.keep_key()
        if self._etcd is None or not self._place.data.exists():
            return False
        try:  # in the loop, as all that writes it here
            return keyring.keep(self._state_dir / STORE_KEY, self._etcd.ring)
        except OSError as error:
            raise StoreError(f"{STORE_KEY} is gone and cannot be written again: {error}") from None

    async def open(self, unlock_key: bytes = NO_LOCK) -> None:
        """Have a store, and leadership to go with it.

        Raises:
            StoreSealedError: its keys are locked, and not with ``unlock_key``.
            StoreError: it cannot be had now.
            ControlError: the other managers do not let this one in.
        """
        others = self._others()
        if in_etcd(self._state_dir / STORE, self._place.data):
            (self._state_dir / MOVED).unlink(missing_ok=True)
            ring = keyring.load(self._state_dir / STORE_KEY, unlock_key)
            # Before it votes: those that come back with it may be most of what was.
            if self._etcd is None and not await self._counts():
                files.erase(self._state_dir)
                raise StoreError(LET_OUT)
            await self._enter(ring, {self._identity().node_id: self._place.peer})
            return
        if others and not (self._state_dir / STORE).exists():
            admission = await ask_to_join(others, self._identity().certs, self._place.peer)
            shutil.rmtree(self._place.data, ignore_errors=True)
            ring = Keyring(admission.keys, frozenset({admission.lock}))
            self._state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
            files.set_generation(self._state_dir, admission.generation)
            keyring.save(self._state_dir / STORE_KEY, ring)
            await self._leave_process()
            await self._enter(ring, admission.peers)
            return
        who = self._identity()
        file = await files.opened(self._state_dir, who.cluster_id, unlock_key)
        self._store = MovingStore(file)
        self._sole = Sole(self._store, who.node_id)
        self._leadership = MovingLeadership(self._sole)
        self._members = OneMember(who.node_id, who.advertise_addr)

    async def close(self) -> None:
        """Let go of the store; etcd goes on, see ``stop``. Twice is fine."""
        store, self._store = self._store, None
        self._leadership = self._sole = None
        if self._etcd is not None:
            tasks, self._etcd.tasks = self._etcd.tasks, []
            await ends.ended(*tasks)
            if self._etcd.leadership is not None:
                await self._etcd.leadership.resign()
            if self._etcd.presence is not None:
                await self._etcd.presence.resign()
        if store is not None:
            await store.close()

    async def stop(self) -> None:
        """Close, and end etcd. Twice is fine."""
        await self.close()
        await self._leave_process()

    async def go_alone(self, unlock_key: bytes = NO_LOCK) -> None:
        """Have the next ``open`` find a store of this manager's own, with all that it holds.

        To be called when it is stopped. Whoever was a manager beside it is none any more, and
        finds that out when it meets this one. A single manager has such a store already.

        Raises:
            StoreSealedError: its keys are locked, and not with ``unlock_key``.
            StoreError: it does not come to that; nothing has changed.
            OSError: likewise.
        """
        file = self._state_dir / STORE
        if not in_etcd(file, self._place.data):
            return
        ring = keyring.load(self._state_dir / STORE_KEY, unlock_key)
        self._place.certify()
        before = files.generation(self._state_dir)
        files.set_generation(self._state_dir, max(before + 1, time.time_ns()))
        try:
            member = self._place.member({self._identity().node_id: self._place.peer}, joins=True)
            revision = await salvage(member, ring.sealer, file)
        except BaseException:
            files.set_generation(self._state_dir, before)
            raise
        shutil.rmtree(self._place.data, ignore_errors=True)
        _log.warning("this manager goes on alone, from revision %d: the others are out", revision)

    def certify(self) -> None:
        """This manager has another certificate, or one of another address: etcd's peers see it."""
        self._place.certify()

    # ---- other managers ----

    async def admit(self, node_id: str, peer: str) -> Admission:
        """Let another manager in. Only who leads may.

        Args:
            node_id: of it.
            peer: ``host:port`` of its etcd.

        Raises:
            MembersUnavailableError: not now.
            StoreError: the store cannot move into etcd, or is locked.
        """
        async with self._moving:
            if self._etcd is None:
                await self._migrate()
        etcd = self._running()
        members = EtcdMembers(etcd.client, time.monotonic)
        peers = await members.admit(node_id, peer, etcd.process.member.url(peer))
        (cluster,) = await self.store.list(pb.Cluster)
        return Admission(peers, etcd.ring.keys, cluster.unlock_key, self.generation)

    @property
    def generation(self) -> int:
        """See ``files.generation``."""
        return files.generation(self._state_dir)

    async def etcd_status(self) -> pb.EtcdStatus | None:
        """How this manager's etcd is; None: it has none."""
        return await self._etcd.status() if self._etcd is not None else None

    async def is_member(self, node_id: str) -> bool:
        """Whether a manager is one of etcd's members, as this one knows them.

        Raises:
            EtcdError: etcd does not answer.
        """
        if self._etcd is None:
            return node_id == self._identity().node_id
        return node_id in {member.name for member in await self._etcd.client.members()}

    async def look(self, nodes: Mapping[str, pb.Node]) -> tuple[Picture, Mapping[str, str]]:
        """See ``Members.look``."""
        return await self._members.look(nodes)

    async def act(self, move: Move) -> None:
        """See ``Members.act``."""
        await self._members.act(move)

    # ---- inside ----

    def _others(self) -> list[str]:
        who = self._identity()
        return [addr for addr in who.managers if addr != who.advertise_addr]

    def _running(self) -> RunningEtcd:
        if self._etcd is None:
            raise StoreError("this manager has no etcd")
        return self._etcd

    async def _enter(self, ring: Keyring, peers: Mapping[str, str]) -> None:
        """Have etcd run and be one of those who vote; then open the store in it."""
        try:
            if self._etcd is None:
                self._place.certify()
                process = EtcdProcess(self._place.member(peers, joins=True))
                await process.start()
                client, trusted = EtcdClient(process.member.target), self._place.roots
                self._etcd = RunningEtcd(process, client, ring, trusted)
            etcd = self._etcd
            await etcd.votes(others=bool(self._others()))
            store = await EtcdStore.open(
                etcd.client,
                ring.sealer,
                quota_bytes=etcd.process.member.quota_bytes,
                ails=lambda: etcd.process.trouble,
            )
        except LetOutError as error:
            await self._leave_process()
            files.erase(self._state_dir)
            raise StoreError(str(error)) from None
        except (EtcdProcessError, EtcdError) as error:
            raise StoreError(str(error)) from None
        self._store = MovingStore(store)
        clusters = await self._store.list(pb.Cluster)
        if [cluster.id for cluster in clusters] != [self._identity().cluster_id]:
            await self.close()
            raise StoreError("etcd holds another cluster than this node's")
        self._lead_through(etcd)

    async def _migrate(self) -> None:
        """From this manager's file into an etcd of its own, while everybody goes on."""
        source, sole = self.file, self._sole
        if source is None or sole is None:
            raise StoreError("the store is not open")
        (cluster,) = await source.list(pb.Cluster)
        ring = keyring.load(self._state_dir / STORE_KEY, cluster.unlock_key)
        self._place.certify(cluster)
        who = self._identity()
        member = self._place.member({who.node_id: self._place.peer}, joins=False)
        # A name of its own: etcd makes ids of it, and those of an earlier life here may come back.
        member = replace(member, cluster=f"{who.cluster_id}-{secrets.token_hex(8)}")
        process = EtcdProcess(member)
        client = EtcdClient(process.member.target)
        aside = self._state_dir / MOVED
        try:
            await migrate(self.store, source, process, client, ring.sealer, aside)
        except EtcdProcessError as error:
            await client.close()
            raise StoreError(f"a second manager needs etcd: {error}") from None
        except BaseException:
            await client.close()
            raise
        aside.unlink(missing_ok=True)
        self._etcd = RunningEtcd(process, client, ring, self._place.roots)
        self._lead_through(self._etcd)
        sole.end()

    def _lead_through(self, etcd: RunningEtcd) -> None:
        """Campaign, show that this manager is there, and follow what concerns etcd and its keys."""
        who = self._identity()
        etcd.leadership = EtcdLeadership(etcd.client, self.store, who.node_id)
        etcd.presence = Presence(etcd.client, who.node_id, who.advertise_addr)
        etcd.tasks = [
            self._spawn(etcd.leadership.run(), "leadership"),
            self._spawn(etcd.presence.run(), "presence"),
            self._spawn(self._follow(etcd), "cluster"),
            self._spawn(self._stay(etcd), "membership"),
            self._spawn(Upkeep(etcd.client, etcd.process.member.quota_bytes).run(), "upkeep"),
        ]
        self._members = EtcdMembers(etcd.client, time.monotonic)
        if self._leadership is None:
            self._leadership = MovingLeadership(etcd.leadership)
        else:
            self._leadership.move(etcd.leadership)

    async def _follow(self, etcd: RunningEtcd) -> None:
        """What the cluster says of locks and roots, on this host as well, now and from now on."""
        store = self.store
        revision = store.revision
        for cluster in await store.list(pb.Cluster):
            await self._take_over(etcd, cluster)
        async for changes in store.watch(revision):
            for change in changes:
                if isinstance(change.message, pb.Cluster):
                    await self._take_over(etcd, change.message)

    async def _take_over(self, etcd: RunningEtcd, cluster: pb.Cluster) -> None:
        try:
            if etcd.ring.locks != {cluster.unlock_key}:
                ring = etcd.ring.settled(cluster.unlock_key)
                keyring.save(self._state_dir / STORE_KEY, ring)
                etcd.ring = ring
            trusted = rotation.trusted(cluster)
            if trusted != etcd.trusted:
                self._place.certify(cluster)
                etcd.trusted = trusted
                await etcd.trust_anew(self._identity().node_id)
        except OSError as error:
            _log.warning("what the cluster says cannot be kept here: %s", error)

    async def _counts(self) -> bool:
        """Whether no manager says that it went on without this one."""
        others = set(self._others())
        if self._store is not None:
            nodes = await self._store.list(pb.Node)
            others |= {n.manager_status.addr for n in nodes if n.manager_status.addr}
        others.discard(self._identity().advertise_addr)
        return await still_member(sorted(others), self._identity().certs, self.generation)

    async def _stay(self, etcd: RunningEtcd) -> None:
        """Until the others let this manager out, or one went on without all of them.

        Raises:
            LetOutError: they have; the process ends, and begins as what this node is by then.
            StoreError: what etcd held is gone; the same, and the others let it in anew.
        """
        process = etcd.process
        while not (process.let_out or process.lost) and await self._counts():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(process.until_useless(), COUNTS_S)
        await process.stop()
        if process.lost and not process.let_out:
            raise StoreError(process.trouble)
        files.erase(self._state_dir)  # whoever is no manager has neither the store nor its keys
        raise LetOutError("the other managers have let this one out")

    async def _leave_process(self) -> None:
        etcd, self._etcd = self._etcd, None
        if etcd is not None:
            await etcd.stop()
