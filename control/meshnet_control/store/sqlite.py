"""The store of a single manager: one SQLite file in WAL mode, and everything parsed in memory.

Touches the database, its key file, and one worker thread of its own.

    get, list ──> memory (parsed messages)
    commit ─────> check and stamp ──> thread: one SQLite transaction ──> memory ──> watchers

Every object is sealed (``sealer.py``) before SQLite gets it, with a key of its own file
(``keyring.py``): a copy of database, write-ahead log and free pages betrays nothing, whenever it
was made. Kind, id and revision are authenticated with the text: a row cannot be moved or replayed.

Be aware: ``synchronous=FULL``: a commit that was answered survives a power cut
(https://www.sqlite.org/pragma.html#pragma_synchronous). While commits fail the store goes on
reading, and tries by itself, every few seconds, whether it can write again. One process only: the
file is locked while it is open.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import sqlite3
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, TypeVar

from meshnet import ends
from meshnet.process.durable import sync_directory
from meshnet_control.api.control_pb2 import Cluster
from meshnet_control.store import first_format, keyring
from meshnet_control.store.keyring import NO_LOCK, Keyring
from meshnet_control.store.memory import Memory
from meshnet_control.store.sealer import Sealer, SealError, key_id, sealed_by
from meshnet_control.store.store import (
    KINDS,
    Change,
    Delete,
    Expect,
    Object,
    Put,
    StoreClosedError,
    StoreError,
    StoreFullError,
    StoreIoError,
    StoreLockedError,
    Where,
)

_M = TypeVar("_M", bound=Object)

SCHEMA_VERSION: Final = 3
"""1: partly sealed. 2: sealed anew from that, and what lay open is not swept away yet."""
TRY_S: Final = 2.0
"""Between two attempts to write again after a commit failed."""
_PRIMARY: Final = 0xFF
"""The primary part of SQLite's extended result codes."""
_ERRORS: Final[dict[int, type[StoreError]]] = {
    sqlite3.SQLITE_FULL: StoreFullError,
    sqlite3.SQLITE_IOERR: StoreIoError,
    sqlite3.SQLITE_READONLY: StoreIoError,
    sqlite3.SQLITE_CANTOPEN: StoreIoError,
    sqlite3.SQLITE_BUSY: StoreLockedError,
    sqlite3.SQLITE_LOCKED: StoreLockedError,
}

_SCHEMA = """
CREATE TABLE IF NOT EXISTS object (
    kind TEXT NOT NULL, id TEXT NOT NULL, revision INTEGER NOT NULL, body BLOB NOT NULL,
    PRIMARY KEY (kind, id)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS store (
    one INTEGER PRIMARY KEY CHECK (one = 1), revision INTEGER NOT NULL
);
INSERT OR IGNORE INTO store VALUES (1, 0);
"""
_NEW: Final = f"BEGIN IMMEDIATE; {_SCHEMA} PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;"
"""One transaction: each of its own would wait for the disk."""


class SqliteStore:
    """A ``Store`` in one file. Made by ``open``."""

    def __init__(
        self,
        database: sqlite3.Connection,
        ring: Keyring,
        memory: Memory,
        path: Path,
        key_path: Path,
        clock: Callable[[], float],
    ) -> None:
        self._database = database
        self._ring, self._ring_unsaved = ring, False
        self._sealer = ring.sealer
        self._memory = memory
        self._path, self._key_path = path, key_path
        self._clock = clock
        self._writing = asyncio.Lock()
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="store")
        self._closed = False
        self._trouble = ""
        self._healing: asyncio.Task[None] | None = None

    @classmethod
    def open(
        cls,
        path: Path,
        key_path: Path,
        clock: Callable[[], float] = time.time,
        unlock_key: bytes = NO_LOCK,
    ) -> SqliteStore:
        """Open a store, making the file and its key when they are not there. Blocks shortly.

        Args:
            path: the database; its folder must exist. Kept at 0600, as are ``-wal`` and ``-shm``.
            key_path: the file of its keys.
            clock: seconds since 1970, for ``created_at`` and ``updated_at``.
            unlock_key: opens the file of keys when it is locked.

        Raises:
            StoreSealedError: the file of keys is locked, and not with ``unlock_key``.
            StoreError: a file cannot be used, is damaged, is in use, or the key does not fit.
        """
        try:
            if not path.exists():
                if not key_path.exists():
                    keyring.save(key_path, keyring.new(), first=True)
                path.touch(mode=0o600)
            ring = keyring.load(key_path, unlock_key)
            database = sqlite3.connect(
                path, isolation_level=None, check_same_thread=False, timeout=1.0
            )
        except (OSError, sqlite3.Error) as error:
            raise _typed(error)(f"cannot open the store {path}: {error}") from None
        try:
            memory = _load(database, ring)
            ring = _settle(database, ring, memory, key_path)
        except (sqlite3.Error, OSError, LookupError, ValueError) as error:
            database.close()
            raise _typed(error)(f"cannot read the store {path}: {error}") from None
        except SealError:
            database.close()
            raise StoreError(
                f"cannot read the store {path}: {key_path} is not the key it was sealed with"
            ) from None
        return cls(database, ring, memory, path, key_path, clock)

    @property
    def revision(self) -> int:
        """Of the last commit; 0: nothing was ever written."""
        return self._memory.revision

    @property
    def trouble(self) -> str:
        """Why commits fail now, and since when; empty: they do not."""
        return self._trouble

    async def get(self, kind: type[_M], id: str) -> _M | None:  # noqa: A002 - the field's name
        """An object by its exact id; None when there is none."""
        return self._memory.get(kind, id)

    async def list(self, kind: type[_M], where: Where | None = None) -> list[_M]:
        """The objects of a kind that meet the conditions, in no promised order."""
        return self._memory.all(kind, where)

    async def commit(self, writes: Sequence[Put | Delete], expect: Expect | None = None) -> int:
        """Write all or nothing; see ``Store.commit``.

        A caller that is cancelled meanwhile does not stop a commit that has begun.

        Raises:
            OutOfSequenceError: an expectation does not hold; nothing is written.
            StoreError: the file cannot be written, or the store is closed; nothing is written.
        """
        return await ends.finishing(self._commit(writes, expect or {}))

    def watch(self, from_revision: int) -> AsyncIterator[Sequence[Change]]:
        """The commits after a revision; see ``Store.watch``.

        Raises:
            CompactedError: more than 1024 commits ago, or before this process opened the store.
        """
        return self._memory.watch(from_revision)

    async def put_aside(self, path: Path) -> None:
        """Give the file another name, whole, for good; from then on it is not the store.

        Raises:
            StoreError: it cannot be; it still is the store.
        """
        async with self._writing:
            loop = asyncio.get_running_loop()
            try:
                await loop.run_in_executor(self._thread, self._move, path)
            except (sqlite3.Error, OSError) as error:
                raise _typed(error)(f"cannot put the store {self._path} aside: {error}") from None

    def _move(self, path: Path) -> None:
        self._database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        self._path.rename(path)
        sync_directory(path.parent)

    @property
    def key_name(self) -> str:
        """Names the key that everything is sealed with now, without telling it."""
        return key_id(self._ring.keys[0]).hex()

    async def copy_to(self, path: Path) -> bytes:
        """A consistent copy of the database, sealed as it is, in a file that is not there yet.

        Returns:
            What the key file held meanwhile: it opens the copy, whatever changes later.

        Raises:
            StoreError: it cannot be read or written, or the store is closed.
        """
        async with self._writing:
            if self._closed:
                raise StoreClosedError(f"the store {self._path} is closed")
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(
                self._thread, _copy, self._database, self._key_path, path
            )

    async def keep_key(self) -> bool:
        """See ``keyring.keep``; of a store that was erased nothing is written.

        Raises:
            StoreError: it cannot be written.
        """
        async with self._writing:
            if self._closed:
                return False
            loop = asyncio.get_running_loop()
            try:
                return await loop.run_in_executor(self._thread, self._keep_key)
            except OSError as error:
                said = f"{self._key_path} is gone and cannot be written again: {error}"
                raise _typed(error)(said) from None

    def _keep_key(self) -> bool:
        return self._path.exists() and keyring.keep(self._key_path, self._ring)

    async def close(self) -> None:
        """Finish the running commit, end the watches, let go of the file. Twice is fine."""
        async with self._writing:
            if self._closed:
                return
            self._closed = True
            if self._healing is not None:
                self._healing.cancel()
            self._memory.close()
            await asyncio.get_running_loop().run_in_executor(self._thread, self._database.close)
            self._thread.shutdown(wait=False)

    async def _commit(self, writes: Sequence[Put | Delete], expect: Expect) -> int:
        async with self._writing:
            if self._closed:
                raise StoreClosedError(f"the store {self._path} is closed")
            changes = self._memory.prepare(writes, expect, int(self._clock() * 1e9))
            if changes:
                loop = asyncio.get_running_loop()
                try:
                    await loop.run_in_executor(self._thread, self._write_locked, changes)
                except (sqlite3.Error, OSError) as error:
                    self._failed(error)
                    raise _typed(error)(
                        f"cannot write to the store {self._path}: {error}"
                    ) from None
                self._trouble = ""
                self._memory.apply(changes)
                if self._ring_unsaved:
                    try:
                        await loop.run_in_executor(self._thread, self._save_ring)
                    except OSError as error:  # it is written; the old unlock key opens it, too
                        self._failed(error)
            return self._memory.revision

    def _failed(self, error: sqlite3.Error | OSError) -> None:
        """Keep why commits fail, and see to it that it is forgotten when they do not any more."""
        if not self._trouble:
            since = datetime.fromtimestamp(self._clock(), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
            self._trouble = f"store: {error} (since {since})"
        if self._healing is None or self._healing.done():
            self._healing = asyncio.get_running_loop().create_task(self._heal(), name="store")

    async def _heal(self) -> None:
        loop = asyncio.get_running_loop()
        while self._trouble:
            await asyncio.sleep(TRY_S)
            async with self._writing:
                if self._closed:
                    return
                with contextlib.suppress(sqlite3.Error, OSError):
                    await loop.run_in_executor(self._thread, self._try)
                    self._trouble = ""

    def _write_locked(self, changes: Sequence[Change]) -> None:
        """One commit; seals everything anew when it changes the cluster's unlock key.

        Runs in the worker thread, as does ``_write``.
        """
        lock = _lock_of(change.message for change in changes)
        if lock is None or self._ring.locks == {lock}:
            self._write(changes)
            return
        self._save_ring()
        before, after = self._ring, self._ring.changing(lock)
        keyring.save(self._key_path, after)
        self._sealer = after.sealer
        written = {(change.kind, change.id) for change in changes}
        kept = [
            Change(type(each), each.id, each, each.version.index)
            for each in self._memory.everything()
            if (type(each), each.id) not in written
        ]
        try:
            self._write([*changes, *kept])
        except BaseException:
            self._sealer = before.sealer  # the file opens with either; nothing else has changed
            raise
        self._ring, self._ring_unsaved = after.settled(lock), True

    def _save_ring(self) -> None:
        if self._ring_unsaved:
            keyring.save(self._key_path, self._ring)
            self._ring_unsaved = False

    def _try(self) -> None:
        """Whether the disk takes anything; runs in the worker thread."""
        self._write(())
        self._save_ring()

    def _write(self, changes: Sequence[Change]) -> None:
        """One transaction."""
        puts = [
            (c.kind.__name__, c.id, c.revision, self._sealer.sealed(c.message))
            for c in changes
            if c.message is not None
        ]
        gone = [(c.kind.__name__, c.id) for c in changes if c.message is None]
        database = self._database
        with _transaction(database):
            database.executemany("INSERT OR REPLACE INTO object VALUES (?, ?, ?, ?)", puts)
            database.executemany("DELETE FROM object WHERE kind = ? AND id = ?", gone)
            revision = changes[0].revision if changes else self._memory.revision
            database.execute("UPDATE store SET revision = ?", (revision,))


@contextlib.contextmanager
def _transaction(database: sqlite3.Connection) -> Iterator[None]:
    database.execute("BEGIN IMMEDIATE")
    try:
        yield
        database.execute("COMMIT")
    except BaseException:
        if database.in_transaction:
            database.execute("ROLLBACK")
        raise


def copy_database(source: Path, key_path: Path, path: Path) -> bytes:
    """``SqliteStore.copy_to`` for a store that no process has open; needs no key.

    Raises:
        StoreError: it cannot be read or written, or a process has it open.
    """
    where = f"{source.absolute().as_uri()}?mode=rw"
    try:
        with contextlib.closing(
            sqlite3.connect(where, uri=True, isolation_level=None, timeout=1.0)
        ) as database:
            database.execute("BEGIN")
            database.execute("SELECT revision FROM store").fetchone()  # backup() waits for ever
            return _copy(database, key_path, path)
    except sqlite3.Error as error:
        raise _typed(error)(f"cannot open the store {source}: {error}") from None


def write_database(path: Path, objects: Iterable[Object], revision: int, sealer: Sealer) -> None:
    """What ``SqliteStore.copy_to`` makes, of another backend's objects. Blocks shortly.

    Args:
        path: of the file; must not be there yet.
        objects: as they are, with their versions.
        revision: of the store.
        sealer: of its keys.

    Raises:
        StoreError: it cannot be written.
    """
    rows = [(type(o).__name__, o.id, o.version.index, sealer.sealed(o)) for o in objects]
    try:
        path.touch(mode=0o600, exist_ok=False)
        with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as database:
            database.executescript(_NEW)
            with _transaction(database):
                database.executemany("INSERT INTO object VALUES (?, ?, ?, ?)", rows)
                database.execute("UPDATE store SET revision = ?", (revision,))
    except (OSError, sqlite3.Error) as error:
        path.unlink(missing_ok=True)
        raise _typed(error)(f"cannot copy the store to {path}: {error}") from None


def _copy(database: sqlite3.Connection, key_path: Path, path: Path) -> bytes:
    try:
        keys = key_path.read_bytes()
        path.touch(mode=0o600, exist_ok=False)
        with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as target:
            database.backup(target)
            target.execute("PRAGMA journal_mode = DELETE")  # one file, without a log beside it
    except (OSError, sqlite3.Error) as error:
        path.unlink(missing_ok=True)
        raise _typed(error)(f"cannot copy the store to {path}: {error}") from None
    else:
        return keys


def _typed(error: Exception) -> type[StoreError]:
    code = getattr(error, "sqlite_errorcode", 0)
    if isinstance(error, OSError) and error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return StoreFullError
    return _ERRORS.get(code & _PRIMARY, StoreError)


def _load(database: sqlite3.Connection, ring: Keyring) -> Memory:
    """Prepare the file and parse what it holds."""
    database.execute("PRAGMA locking_mode = EXCLUSIVE")
    database.execute("PRAGMA journal_mode = WAL")
    database.execute("PRAGMA synchronous = FULL")
    (version,) = database.execute("PRAGMA user_version").fetchone()
    if version not in range(SCHEMA_VERSION + 1):
        raise ValueError(f"it has format {version}, this version knows {SCHEMA_VERSION}")
    if version == 0:
        database.executescript(_NEW)
    if version == 1:
        _seal_all(database, ring)
    if version in {1, 2}:
        database.execute("VACUUM")  # the pages that plaintext lay in
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        database.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
    kinds = {kind.__name__: kind for kind in KINDS}
    sealer, objects = ring.sealer, list[Object]()
    for name, identifier, revision, body in _rows(database):
        message = sealer.opened(kinds[name], identifier, body)
        if message.version.index != revision:
            raise SealError(f"{name} {identifier} is of another revision")
        objects.append(message)
    (revision,) = database.execute("SELECT revision FROM store").fetchone()
    return Memory(revision, objects)


def _seal_all(database: sqlite3.Connection, ring: Keyring) -> None:
    """From format 1: most kinds lay open there."""
    sealer = ring.sealer
    kinds = {kind.__name__: kind for kind in KINDS}
    database.execute("PRAGMA secure_delete = ON")
    with _transaction(database):
        puts = []
        for name, identifier, revision, body in _rows(database):
            found = first_format.decoded(ring.keys[0], kinds[name], identifier, revision, body)
            puts.append((sealer.sealed(found), name, identifier))
        database.executemany("UPDATE object SET body = ? WHERE kind = ? AND id = ?", puts)
        database.execute("PRAGMA user_version = 2")


def _settle(database: sqlite3.Connection, ring: Keyring, memory: Memory, key_path: Path) -> Keyring:
    """Finish a change of keys that a crash cut short: keep what the store uses, forget the rest."""
    lock = _lock_of(memory.everything()) or NO_LOCK
    if len(ring.keys) == 1 and ring.locks == {lock}:
        return ring
    sealed_with = {sealed_by(body) for *_, body in _rows(database)}
    settled = ring.settled(lock, [key for key in ring.keys if key_id(key) in sealed_with])
    keyring.save(key_path, settled)
    return settled


def _rows(database: sqlite3.Connection) -> list[tuple[str, str, int, bytes]]:
    return database.execute("SELECT kind, id, revision, body FROM object").fetchall()


def _lock_of(messages: Iterable[Object | None]) -> bytes | None:
    """The unlock key of the cluster among these; None: there is no cluster among them."""
    return next((each.unlock_key for each in messages if isinstance(each, Cluster)), None)
