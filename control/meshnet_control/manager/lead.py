"""A manager's part in its cluster: the store, port 2377, the orchestration. All of it or nothing.

```
 begin ── store ─ ControlServer ─ Manager ──> served, until stop
       └─ cannot: ``error`` says why; begin again
       └─ locked: unlock, which brings the key
```
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

from meshnet import ends
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
from meshnet_control.store.keyring import NO_LOCK, StoreSealedError
from meshnet_control.store.store import Store, StoreError

Spawn = Callable[[Coroutine[Any, Any, None], str], "asyncio.Task[None]"]
"""Runs in the background; its failure ends the process."""


class Lead:
    """Made of an identity and directories.

    Args:
        identity: of this manager.
        run_dir: sockets.
        state_dir: the store.
        spawn: starts a task whose failure ends the process.
    """

    def __init__(self, identity: Identity, run_dir: Path, state_dir: Path, spawn: Spawn) -> None:
        self._identity = identity
        self._run_dir, self._state_dir, self._spawn = run_dir, state_dir, spawn
        self._stack = AsyncExitStack()
        self._store: Store | None = None
        self._backing = Backing(lambda: self._identity, state_dir, run_dir, spawn)
        self._snapshots: Snapshots | None = None
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
        """Why there is no newer snapshot; empty: nothing is wrong."""
        return self._snapshots.trouble if self._snapshots is not None else ""

    @property
    def certs(self) -> Certificates:
        """Of this manager, as they are now."""
        return self._identity.certs

    @property
    def revision(self) -> int:
        """The store's; 0: there is none."""
        return self._store.revision if self._store is not None else 0

    def store(self) -> Store:
        """The cluster's store.

        Raises:
            StoreError: it does not serve.
        """
        if self._store is None:
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
        return await archive.backup(path, self._state_dir, store, time.time())

    def snapshots(self) -> list[tuple[Path, float]]:
        """Snapshots of the store and when they were made, Unix seconds, the newest first."""
        return listed(self._state_dir)

    async def unlock(self, key: bytes) -> None:
        """Begin with the key that opens the store; ``locked`` and ``error`` say whether it did."""
        self._unlock_key = key
        await self.begin()

    async def stop(self) -> None:
        """Stop serving; twice is fine."""
        self.server = self._store = self._snapshots = None
        await self._stack.aclose()
        await self._backing.stop()

    def hear(self, certs: Certificates, hosts: Hosts) -> None:
        """What meshnetd knows now; a certificate that has ended is none."""
        self._hosts = hosts.on(self._identity.node_id)
        issued = None
        if _ended(certs):
            certs = self._identity.certs
            issued = None if _ended(certs) else certs
        if issued != self.issued:  # said again later it would undo a renewal
            self.issued = issued
            self._tell()
        renewed = certs != self._identity.certs
        self._identity = replace(self._identity, certs=certs)
        if self.server is not None:
            self.server.hosts(self._hosts)
            if renewed:
                self.server.certify(self._identity)
                self._backing.certify()

    def unattended(self) -> None:
        """Nobody tells of hosts now: meshnetd of this host is away."""
        self._hosts = self._hosts.unheard()
        if self.server is not None:
            self.server.hosts(self._hosts)

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
            own_certificate(self._identity, cluster, time.time()),
        )
        if self._identity != before:
            self.issued = self._identity.certs
        server = ControlServer(
            store,
            self._identity,
            listen=self._identity.listen_addr,
            run_dir=self._run_dir,
            leadership=backing.leadership,
            managers=backing,
        )
        stack.push_async_callback(ends.closed, server.close)
        await server.start()
        server.hosts(self._hosts)
        manager = Manager(store, secrets.SystemRandom(), time.time, backing.leadership)
        snapshots = Snapshots(backing, self._state_dir, time.time)
        for work, name in (
            (manager.run(), "manager"),
            (server.wait(), "control server"),
            (snapshots.run(), "snapshots"),
        ):
            task = self._spawn(work, name)
            stack.push_async_callback(ends.ended, task)
        self._store, self.server, self._snapshots = store, server, snapshots


def _ended(certs: Certificates) -> bool:
    return ca.ends_at(certs.certificate) <= time.time()
