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
import logging
import os
import shutil
import socket
import time
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeAlias

from meshnet import ends
from meshnet.errors import MeshnetError
from meshnet.model.wellknown import PEER_PORT
from meshnet_control.api import control_pb2 as pb
from meshnet_control.etcd.arguments import Member, PeerTls
from meshnet_control.etcd.client import EtcdClient
from meshnet_control.etcd.errors import EtcdError
from meshnet_control.etcd.process import EtcdProcess, EtcdProcessError
from meshnet_control.identity import ca, rotation
from meshnet_control.identity.identity import Identity
from meshnet_control.manager.leadership import EtcdLeadership, MovingLeadership, Sole
from meshnet_control.manager.managers_client import Admission, ask_to_join
from meshnet_control.manager.members import EtcdMembers, Members, OneMember
from meshnet_control.manager.membership import Move, Picture
from meshnet_control.manager.presence import Presence
from meshnet_control.store import files, keyring
from meshnet_control.store.etcd import EtcdStore
from meshnet_control.store.files import ETCD, ETCD_TLS, MOVED, STORE, STORE_KEY
from meshnet_control.store.keyring import NO_LOCK, Keyring
from meshnet_control.store.migrate import everything, in_etcd, migrate
from meshnet_control.store.moving import MovingStore
from meshnet_control.store.sqlite import SqliteStore, write_database
from meshnet_control.store.store import StoreClosedError, StoreError

_log = logging.getLogger(__name__)

Spawn: TypeAlias = "Callable[[Coroutine[Any, Any, None], str], asyncio.Task[None]]"
"""Runs in the background; its failure ends the process."""
VOTE_S: Final = 20.0
"""For etcd to answer with a leader and a vote; who begins again waits on, etcd runs meanwhile."""
LOOK_S: Final = 0.1
TURN_S: Final = 5.0
"""Between the new starts of two managers' etcds."""
_PEM: Final = "peer.pem"
_ROOTS: Final = "roots.pem"


class LetOutError(MeshnetError):
    """The others have let this manager out: what it holds is old, and thrown away."""


@dataclass
class _Etcd:
    """A member that runs beside this manager."""

    process: EtcdProcess
    client: EtcdClient
    ring: Keyring
    trusted: bytes
    """The roots that its process has read, PEM."""
    tasks: list[asyncio.Task[None]] = field(default_factory=list)
    leadership: EtcdLeadership | None = None


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
        self._identity, self._state_dir, self._run_dir = identity, state_dir, run_dir
        self._spawn = spawn
        self._store: MovingStore | None = None
        self._leadership: MovingLeadership | None = None
        self._sole: Sole | None = None
        self._etcd: _Etcd | None = None
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

    async def open(self, unlock_key: bytes = NO_LOCK) -> None:
        """Have a store, and leadership to go with it.

        Raises:
            StoreSealedError: its keys are locked, and not with ``unlock_key``.
            StoreError: it cannot be had now.
            ControlError: the other managers do not let this one in.
        """
        data = self._state_dir / ETCD
        if in_etcd(self._state_dir / STORE, data):
            (self._state_dir / MOVED).unlink(missing_ok=True)
            ring = keyring.load(self._state_dir / STORE_KEY, unlock_key)
            await self._enter(ring, {self._identity().node_id: self._peer})
            return
        others = self._others()
        if others and not (self._state_dir / STORE).exists():
            admission = await ask_to_join(others, self._identity().certs, self._peer)
            shutil.rmtree(data, ignore_errors=True)
            ring = Keyring(admission.keys, frozenset({admission.lock}))
            self._state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
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
        if store is not None:
            await store.close()

    async def stop(self) -> None:
        """Close, and end etcd. Twice is fine."""
        await self.close()
        await self._leave_process()

    def certify(self, cluster: pb.Cluster | None = None) -> None:
        """Write what etcd shows its peers and whom it trusts; it reads the first at each handshake.

        Args:
            cluster: with the roots that are trusted; None: as before, or this node's root.
        """
        who = self._identity()
        folder = self._state_dir / ETCD_TLS
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        _write(folder / _PEM, who.certs.certificate + who.certs.key)
        if cluster is not None:
            _write(folder / _ROOTS, rotation.trusted(cluster))
        elif not (folder / _ROOTS).exists():
            _write(folder / _ROOTS, who.certs.root)

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
        return Admission(peers, etcd.ring.keys, cluster.unlock_key)

    async def look(self, nodes: Mapping[str, pb.Node]) -> tuple[Picture, Mapping[str, str]]:
        """See ``Members.look``."""
        return await self._members.look(nodes)

    async def act(self, move: Move) -> None:
        """See ``Members.act``."""
        await self._members.act(move)

    # ---- inside ----

    @property
    def _peer(self) -> str:
        return f"{self._identity().advertise_addr.rpartition(':')[0]}:{PEER_PORT}"

    def _roots(self) -> bytes:
        return (self._state_dir / ETCD_TLS / _ROOTS).read_bytes()

    def _others(self) -> list[str]:
        who = self._identity()
        return [addr for addr in who.managers if addr != who.advertise_addr]

    def _running(self) -> _Etcd:
        if self._etcd is None:
            raise StoreError("this manager has no etcd")
        return self._etcd

    def _member(self, peers: Mapping[str, str], *, joins: bool) -> Member:
        who, folder = self._identity(), self._state_dir / ETCD_TLS
        pem = folder / _PEM
        return Member(
            name=who.node_id,
            data_dir=self._state_dir / ETCD,
            run_dir=self._run_dir / ETCD,
            listen=_listening(self._peer, who.listen_addr.rpartition(":")[0]),
            advertise=self._peer,
            peers=peers,
            joins=joins,
            cluster=who.cluster_id,
            tls=PeerTls(pem, pem, folder / _ROOTS, ca.MANAGER_NAME),
        )

    async def _enter(self, ring: Keyring, peers: Mapping[str, str]) -> None:
        """Have etcd run and be one of those who vote; then open the store in it."""
        try:
            if self._etcd is None:
                self.certify()
                process = EtcdProcess(self._member(peers, joins=True))
                await process.start()
                self._etcd = _Etcd(process, EtcdClient(process.member.target), ring, self._roots())
            etcd = self._etcd
            await self._votes(etcd)
            store = await EtcdStore.open(etcd.client, ring.sealer)
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

    async def _votes(self, etcd: _Etcd) -> None:
        """Wait until etcd answers and this member has its vote.

        Raises:
            LetOutError: the others have let it out.
            StoreError: it does not come to that.
        """
        loop = asyncio.get_running_loop()
        until = loop.time() + VOTE_S
        while True:
            if etcd.process.let_out:
                raise LetOutError("the other managers have let this one out: it comes anew")
            try:
                status = await etcd.client.status(timeout_s=1.0)
            except EtcdError as error:
                said = str(error)
            else:
                if status.leader and not status.isLearner:
                    return
                said = "it is not in sync with the others yet" if status.leader else "no leader"
            if loop.time() > until:
                raise StoreError(f"etcd: {etcd.process.last_words or said}")
            await asyncio.sleep(LOOK_S)

    async def _migrate(self) -> None:
        """From this manager's file into an etcd of its own, while everybody goes on."""
        source, sole = self.file, self._sole
        if source is None or sole is None:
            raise StoreError("the store is not open")
        (cluster,) = await source.list(pb.Cluster)
        ring = keyring.load(self._state_dir / STORE_KEY, cluster.unlock_key)
        self.certify(cluster)
        who = self._identity()
        process = EtcdProcess(self._member({who.node_id: self._peer}, joins=False))
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
        self._etcd = _Etcd(process, client, ring, self._roots())
        self._lead_through(self._etcd)
        sole.end()

    def _lead_through(self, etcd: _Etcd) -> None:
        """Campaign, show that this manager is there, and follow what concerns etcd and its keys."""
        who = self._identity()
        etcd.leadership = EtcdLeadership(etcd.client, self.store, who.node_id)
        presence = Presence(etcd.client, who.node_id, who.advertise_addr)
        etcd.tasks = [
            self._spawn(etcd.leadership.run(), "leadership"),
            self._spawn(presence.run(), "presence"),
            self._spawn(self._follow(etcd), "cluster"),
            self._spawn(self._stay(etcd), "membership"),
        ]
        self._members = EtcdMembers(etcd.client, time.monotonic)
        if self._leadership is None:
            self._leadership = MovingLeadership(etcd.leadership)
        else:
            self._leadership.move(etcd.leadership)

    async def _follow(self, etcd: _Etcd) -> None:
        """What the cluster says of locks and roots, on this host as well, now and from now on."""
        store = self.store
        revision = store.revision
        for cluster in await store.list(pb.Cluster):
            await self._take_over(etcd, cluster)
        async for changes in store.watch(revision):
            for change in changes:
                if isinstance(change.message, pb.Cluster):
                    await self._take_over(etcd, change.message)

    async def _take_over(self, etcd: _Etcd, cluster: pb.Cluster) -> None:
        try:
            if etcd.ring.locks != {cluster.unlock_key}:
                ring = etcd.ring.settled(cluster.unlock_key)
                keyring.save(self._state_dir / STORE_KEY, ring)
                etcd.ring = ring
            trusted = rotation.trusted(cluster)
            if trusted != etcd.trusted:
                self.certify(cluster)
                etcd.trusted = trusted
                await self._trust_anew(etcd)
        except OSError as error:
            _log.warning("what the cluster says cannot be kept here: %s", error)

    async def _trust_anew(self, etcd: _Etcd) -> None:
        """Start etcd anew: it reads whom it trusts when it starts. One manager after the other."""
        try:
            names = sorted(m.name for m in await etcd.client.members() if not m.isLearner)
        except EtcdError:
            names = []
        own = self._identity().node_id
        turn = names.index(own) if own in names else len(names)
        await asyncio.sleep(turn * TURN_S)
        _log.info("etcd starts anew: the cluster's roots have changed")
        etcd.process.begin_again()

    async def _stay(self, etcd: _Etcd) -> None:
        """Until the others let this manager out.

        Raises:
            LetOutError: they have; the process ends, and begins as what this node is by then.
        """
        await etcd.process.until_let_out()
        await etcd.process.stop()
        files.erase(self._state_dir)  # whoever is no manager has neither the store nor its keys
        raise LetOutError("the other managers have let this one out")

    async def _leave_process(self) -> None:
        etcd, self._etcd = self._etcd, None
        if etcd is not None:
            await etcd.client.close()
            await etcd.process.stop()


def _listening(peer: str, otherwise: str) -> str:
    """``host:port`` for etcd to listen on: where its peers reach it, if that is this host's.

    Not on every address: Debian's own etcd has the same port of 127.0.0.1.
    """
    host, _, port = peer.rpartition(":")
    try:
        with socket.socket() as tried:
            tried.bind((host, 0))
    except OSError:
        return f"{otherwise}:{port}"
    return peer


def _write(path: Path, data: bytes) -> None:
    """Whole or not at all, for root alone."""
    fresh = path.with_name(f".{path.name}.new")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
    fresh.replace(path)
