"""A manager's part in its cluster: the store, port 2377, the orchestration. All of it or nothing.

```
 begin ── store ─ ControlServer ─ Manager ──> served, until stop
       └─ cannot: ``error`` says why; begin again
       └─ locked: unlock, which brings the key
```
"""

from __future__ import annotations

import asyncio
import logging
import random
import secrets
import time
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from meshnet import ends
from meshnet.backoff import Backoff
from meshnet.errors import ControlError
from meshnet_control.api import control_pb2 as pb
from meshnet_control.cluster.hosts import Hosts
from meshnet_control.identity import ca
from meshnet_control.identity.identity import Certificates, Identity
from meshnet_control.link.locked import LOCKED
from meshnet_control.manager import archive
from meshnet_control.manager.authority import own_certificate
from meshnet_control.manager.backing import Backing
from meshnet_control.manager.leader import Manager
from meshnet_control.manager.server import ControlServer
from meshnet_control.manager.snapshots import Snapshots, listed
from meshnet_control.store.files import STORE_KEY
from meshnet_control.store.keyring import NO_LOCK, StoreSealedError
from meshnet_control.store.store import NO_LEADER, Store, StoreError, StoreNoLeaderError

_log = logging.getLogger(__name__)
LOOK_S: Final = 5.0
"""Seconds between two looks at what others may take away: the clock may be set past a certificate's
end, the file of the store's keys may be removed."""
_AGAIN: Final = Backoff(1.0, 30.0)
"""Between two attempts to begin."""

Spawn = Callable[[Coroutine[Any, Any, None], str], "asyncio.Task[None]"]
"""Runs in the background; its failure ends the process."""


class Lead:
    """Made of an identity and directories.

    Args:
        identity: of this manager.
        run_dir: sockets.
        state_dir: the store.
        spawn: starts a task whose failure ends the process.
        wall: Unix seconds.
    """

    def __init__(
        self,
        identity: Identity,
        run_dir: Path,
        state_dir: Path,
        spawn: Spawn,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._identity, self._wall = identity, wall
        self._run_dir, self._state_dir, self._spawn = run_dir, state_dir, spawn
        self._stack = AsyncExitStack()
        self._store: Store | None = None
        self._backing = Backing(lambda: self._identity, state_dir, run_dir, spawn)
        self._snapshots: Snapshots | None = None
        self._key_trouble = ""
        self.issued: Certificates | None = None
        """What meshnetd is to take in the place of one that has ended; None: it has a good one."""
        self._hosts = Hosts().on(identity.node_id)
        self.server: ControlServer | None = None
        """None: it does not serve."""
        self.error = ""
        """Why not."""
        self.locked = False
        """Because the store waits for its key."""
        self._unlock_key = NO_LOCK
        self._beginning = asyncio.Lock()
        self.changed = asyncio.Event()
        """Replaced by another one as it is set: ``error`` or ``issued`` is another one."""

    @property
    def trouble(self) -> str:
        """Why there is no newer snapshot, or no key file; empty: nothing is wrong."""
        made = self._snapshots.trouble if self._snapshots is not None else ""
        return self._key_trouble or made

    @property
    def certs(self) -> Certificates:
        """Of this manager, as they are now."""
        return self._identity.certs

    @property
    def revision(self) -> int:
        """The store's; 0: there is none."""
        return self._store.revision if self._store is not None else 0

    @property
    def leads(self) -> bool:
        """Whether it is this manager that orchestrates."""
        return self.server is not None and self._backing.leader == self._identity.node_id

    def store(self) -> Store:
        """The cluster's store.

        Raises:
            StoreError: it does not serve.
        """
        if self._store is None:
            if self.error == NO_LEADER:
                raise StoreNoLeaderError
            raise StoreError(self.error or "the manager is not ready")
        return self._store

    async def begin(self) -> bool:
        """Serve; False: it cannot, ``error`` says why."""
        async with self._beginning:
            if self.server is not None:
                return True
            error, locked = "", False
            try:
                async with AsyncExitStack() as stack:
                    await self._begin(stack)
                    self._stack = stack.pop_all()
            except StoreSealedError:
                error, locked = LOCKED, True
            except (ControlError, StoreError, OSError) as cannot:
                error = str(cannot)
            if (error, locked) != (self.error, self.locked):
                self.error, self.locked = error, locked
                self._tell()
            return not error

    async def backup(self, path: Path) -> archive.Manifest:
        """All that this manager knows in a file; also while it does not serve.

        Raises:
            MeshnetError: it cannot be written.
        """
        store = self._backing if self._store is not None else None
        return await archive.backup(path, self._state_dir, store, self._wall())

    async def etcd_status(self) -> pb.EtcdStatus | None:
        """How this manager's etcd is; None: it has none."""
        return await self._backing.etcd_status()

    def snapshots(self) -> list[tuple[Path, float]]:
        """Snapshots of the store and when they were made, Unix seconds, the newest first."""
        return listed(self._state_dir)

    async def unlock(self, key: bytes) -> None:
        """Begin with the key that opens the store; ``locked`` and ``error`` say whether it did."""
        self._unlock_key = key
        await self.begin()

    async def begin_again(self) -> None:
        """Try until it serves; what is locked waits for its key."""
        delays = _AGAIN.delays(random.random)
        delay = next(delays)
        while True:
            await asyncio.sleep(delay)
            if self.server is not None or (not self.locked and await self.begin()):
                _log.info("manages")
                return
            if self.error != NO_LEADER:  # that ends when others come back: looked for each second
                delay = next(delays)

    async def force_new_cluster(self, advertise_addr: str, listen_addr: str) -> None:
        """Go on as the only manager, with all that is here.

        Args:
            advertise_addr: ``host:port`` that this manager is reached at from now on.
            listen_addr: that it listens on.

        Raises:
            StoreError: it does not come to that; this manager begins again as what it was.
            ControlError: it does, and cannot serve now; it tries on.
        """
        try:
            async with self._beginning:
                if self._store is not None:  # who is not locked now is not locked after it
                    (cluster,) = await self._store.list(pb.Cluster)
                    self._unlock_key = cluster.unlock_key
                await self.stop()
                await self._backing.go_alone(self._unlock_key)
                self._identity = replace(
                    self._identity, advertise_addr=advertise_addr, listen_addr=listen_addr
                )
            if not await self.begin():
                raise ControlError(self.error, 500)
        except OSError as error:
            raise StoreError(f"cannot go on alone: {error}") from None
        finally:
            if self.server is None:
                self._spawn(self.begin_again(), "begin again")

    async def stop(self) -> None:
        """Stop serving; twice is fine."""
        self.server = self._store = self._snapshots = None
        await self._stack.aclose()
        await self._backing.stop()

    def hear(self, certs: Certificates, hosts: Hosts) -> None:
        """What meshnetd knows now; a certificate that has ended is none."""
        self._hosts = hosts.on(self._identity.node_id)
        if self.server is not None:
            self.server.hosts(self._hosts)
        self._take(certs)

    def unattended(self) -> None:
        """Nobody tells of hosts now: meshnetd of this host is away."""
        self._hosts = self._hosts.unheard()
        if self.server is not None:
            self.server.hosts(self._hosts)

    def _take(self, certs: Certificates) -> None:
        """Use a certificate, or where it is not in force the one we have, or another one."""
        before, issued = self._identity, None
        if self._is_good(certs):
            self._identity = replace(before, certs=certs)
        else:
            if self.server is not None:
                self._identity = own_certificate(before, self.server.cluster, self._wall())
            if self._is_good(self._identity.certs):
                issued = self._identity.certs
        if issued != self.issued:  # said again later it would undo a renewal
            self.issued = issued
            self._tell()
        if self.server is not None and self._identity != before:
            self.server.certify(self._identity)
            self._backing.certify()

    async def _look(self) -> None:
        while True:
            await asyncio.sleep(LOOK_S)
            if not self._is_good(self._identity.certs):
                self._take(self._identity.certs)
                if self.issued is not None:
                    _log.warning("issued itself a certificate: the one before is not in force now")
            await self._keep_key()

    async def _keep_key(self) -> None:
        """Without its file the next start could not read the store, nor could a backup."""
        said = ""
        try:
            if await self._backing.keep_key():
                _log.warning("%s was gone or damaged: written again from memory", STORE_KEY)
        except StoreError as error:
            said = str(error)
            if said != self._key_trouble:
                _log.error("%s", said)
        self._key_trouble = said

    def _is_good(self, certs: Certificates) -> bool:
        """In force, and for the address that this manager is reached at."""
        addr = self._identity.advertise_addr.partition(":")[0]
        named = not addr or addr in ca.addresses(certs.certificate)
        return named and ca.in_force(certs.certificate, self._wall())

    def _tell(self) -> None:
        changed, self.changed = self.changed, asyncio.Event()
        changed.set()

    async def _begin(self, stack: AsyncExitStack) -> None:
        backing = self._backing
        stack.push_async_callback(ends.closed, backing.close)
        await backing.open(self._unlock_key)
        store = backing.store
        (cluster,) = await store.list(pb.Cluster)
        before, self._identity = (
            self._identity,
            own_certificate(self._identity, cluster, self._wall()),
        )
        if self._identity != before:
            self.issued = self._identity.certs
            backing.certify()
        server = ControlServer(
            store,
            self._identity,
            listen=self._identity.listen_addr,
            run_dir=self._run_dir,
            leadership=backing.leadership,
            managers=backing,
        )
        stack.push_async_callback(ends.closed, server.close)
        shown = self._identity
        await server.start()
        if self._identity != shown:  # heard of meanwhile
            server.certify(self._identity)
            backing.certify()
        server.hosts(self._hosts)
        manager = Manager(store, secrets.SystemRandom(), self._wall, backing.leadership)
        snapshots = Snapshots(backing, self._state_dir, self._wall)
        for work, name in (
            (manager.run(), "manager"),
            (server.wait(), "control server"),
            (snapshots.run(), "snapshots"),
            (self._look(), "look"),
        ):
            task = self._spawn(work, name)
            stack.push_async_callback(ends.ended, task)
        self._store, self.server, self._snapshots = store, server, snapshots
