"""The store of a single manager: one SQLite file in WAL mode, and everything parsed in memory.

Touches the database, its key file, and one worker thread of its own.

    get, list ──> memory (parsed messages)
    commit ─────> check and stamp ──> thread: one SQLite transaction ──> memory ──> watchers

Secrets (their data) and the cluster (the CA's key, join tokens, gossip keys) are sealed with
AES-256-GCM under a key of its own file (0600): a copied database alone betrays nothing. Kind, id
and revision are authenticated with the text, so a row cannot be moved or replayed.

Be aware: ``synchronous=FULL``: a commit that was answered survives a power cut
(https://www.sqlite.org/pragma.html#pragma_synchronous). While commits fail the store goes on
reading, and tries by itself, every few seconds, whether it can write again. One process only: the
file is locked while it is open.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import secrets
import sqlite3
import time
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, TypeVar

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from google.protobuf.message import DecodeError

from meshnet_control.api.control_pb2 import Cluster, Secret
from meshnet_control.store.memory import Memory
from meshnet_control.store.store import (
    KINDS,
    Change,
    Delete,
    Expect,
    Kind,
    Object,
    Put,
    StoreClosedError,
    StoreError,
    StoreFullError,
    StoreIoError,
    StoreLockedError,
)

_M = TypeVar("_M", bound=Object)

SEALED: frozenset[Kind] = frozenset({Cluster, Secret})
KEY_BYTES = 32
NONCE_BYTES = 12
SCHEMA_VERSION = 1
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


class SqliteStore:
    """A ``Store`` in one file. Made by ``open``."""

    def __init__(
        self,
        database: sqlite3.Connection,
        sealer: AESGCM,
        memory: Memory,
        path: Path,
        clock: Callable[[], float],
    ) -> None:
        self._database = database
        self._sealer = sealer
        self._memory = memory
        self._path = path
        self._clock = clock
        self._writing = asyncio.Lock()
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="store")
        self._closed = False
        self._trouble = ""
        self._healing: asyncio.Task[None] | None = None

    @classmethod
    def open(
        cls, path: Path, key_path: Path, clock: Callable[[], float] = time.time
    ) -> SqliteStore:
        """Open a store, making the file and its key when they are not there. Blocks shortly.

        Args:
            path: the database; its folder must exist. Kept at 0600, as are ``-wal`` and ``-shm``.
            key_path: the key of the sealed kinds.
            clock: seconds since 1970, for ``created_at`` and ``updated_at``.

        Raises:
            StoreError: a file cannot be used, is damaged, is in use, or the key does not fit.
        """
        try:
            fresh = not path.exists()
            sealer = AESGCM(_key_of(key_path, fresh=fresh))
            if fresh:
                path.touch(mode=0o600)
            database = sqlite3.connect(
                path, isolation_level=None, check_same_thread=False, timeout=1.0
            )
        except (OSError, sqlite3.Error) as error:
            raise _typed(error)(f"cannot open the store {path}: {error}") from None
        try:
            memory = _load(database, sealer)
        except (sqlite3.Error, DecodeError, LookupError, ValueError) as error:
            database.close()
            raise _typed(error)(f"cannot read the store {path}: {error}") from None
        except InvalidTag:
            database.close()
            raise StoreError(
                f"cannot read the store {path}: {key_path} is not the key it was sealed with"
            ) from None
        return cls(database, sealer, memory, path, clock)

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

    async def list(self, kind: type[_M]) -> list[_M]:
        """Every object of a kind, in no promised order."""
        return self._memory.all(kind)

    async def commit(self, writes: Sequence[Put | Delete], expect: Expect | None = None) -> int:
        """Write all or nothing; see ``Store.commit``.

        A caller that is cancelled meanwhile does not stop a commit that has begun.

        Raises:
            OutOfSequenceError: an expectation does not hold; nothing is written.
            StoreError: the file cannot be written, or the store is closed; nothing is written.
        """
        return await asyncio.shield(asyncio.ensure_future(self._commit(writes, expect or {})))

    def watch(self, from_revision: int) -> AsyncIterator[Sequence[Change]]:
        """The commits after a revision; see ``Store.watch``.

        Raises:
            CompactedError: more than 1024 commits ago, or before this process opened the store.
        """
        return self._memory.watch(from_revision)

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
                    await loop.run_in_executor(self._thread, self._write, changes)
                except sqlite3.Error as error:
                    self._failed(error)
                    raise _typed(error)(
                        f"cannot write to the store {self._path}: {error}"
                    ) from None
                self._trouble = ""
                self._memory.apply(changes)
            return self._memory.revision

    def _failed(self, error: sqlite3.Error) -> None:
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
                with contextlib.suppress(sqlite3.Error):
                    await loop.run_in_executor(self._thread, self._write, ())
                    self._trouble = ""

    def _write(self, changes: Sequence[Change]) -> None:
        """One transaction; runs in the worker thread."""
        puts = [
            (c.kind.__name__, c.id, c.revision, _encode(self._sealer, c.message, c.revision))
            for c in changes
            if c.message is not None
        ]
        gone = [(c.kind.__name__, c.id) for c in changes if c.message is None]
        database = self._database
        database.execute("BEGIN IMMEDIATE")
        try:
            database.executemany("INSERT OR REPLACE INTO object VALUES (?, ?, ?, ?)", puts)
            database.executemany("DELETE FROM object WHERE kind = ? AND id = ?", gone)
            revision = changes[0].revision if changes else self._memory.revision
            database.execute("UPDATE store SET revision = ?", (revision,))
            database.execute("COMMIT")
        except BaseException:
            if database.in_transaction:
                database.execute("ROLLBACK")
            raise


def _typed(error: Exception) -> type[StoreError]:
    code = getattr(error, "sqlite_errorcode", 0)
    if isinstance(error, OSError) and error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return StoreFullError
    return _ERRORS.get(code & _PRIMARY, StoreError)


def _load(database: sqlite3.Connection, sealer: AESGCM) -> Memory:
    """Prepare the file and parse what it holds."""
    database.execute("PRAGMA locking_mode = EXCLUSIVE")
    database.execute("PRAGMA journal_mode = WAL")
    database.execute("PRAGMA synchronous = FULL")
    (version,) = database.execute("PRAGMA user_version").fetchone()
    if version not in {0, SCHEMA_VERSION}:
        raise ValueError(f"it has format {version}, this version knows {SCHEMA_VERSION}")
    database.executescript(_SCHEMA)
    database.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
    kinds = {kind.__name__: kind for kind in KINDS}
    rows = database.execute("SELECT kind, id, revision, body FROM object")
    objects = [
        _decode(sealer, kinds[name], identifier, revision, body)
        for name, identifier, revision, body in rows
    ]
    (revision,) = database.execute("SELECT revision FROM store").fetchone()
    return Memory(revision, objects)


def _encode(sealer: AESGCM, message: Object, revision: int) -> bytes:
    text = message.SerializeToString()
    if type(message) not in SEALED:
        return text
    nonce = secrets.token_bytes(NONCE_BYTES)
    return nonce + sealer.encrypt(nonce, text, _bound(type(message), message.id, revision))


def _decode(sealer: AESGCM, kind: Kind, identifier: str, revision: int, body: bytes) -> Object:
    if kind in SEALED:
        nonce, sealed = body[:NONCE_BYTES], body[NONCE_BYTES:]
        body = sealer.decrypt(nonce, sealed, _bound(kind, identifier, revision))
    return kind.FromString(body)


def _bound(kind: Kind, identifier: str, revision: int) -> bytes:
    """What a sealed row is bound to (AES-GCM's additional data)."""
    return f"{kind.__name__}/{identifier}/{revision}".encode()


def _key_of(path: Path, *, fresh: bool) -> bytes:
    """The key in a file; made, whole or not at all, for a store that is new."""
    if fresh and not path.exists():
        key = secrets.token_bytes(KEY_BYTES)
        draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(key)
                file.flush()
                os.fsync(file.fileno())
            os.link(draft, path)  # refuses to replace a key that appeared meanwhile
        finally:
            with contextlib.suppress(FileNotFoundError):
                draft.unlink()
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)  # the key's name outlives a power cut before anything is sealed
        finally:
            os.close(folder)
    key = path.read_bytes()
    if len(key) != KEY_BYTES:
        raise StoreError(f"{path} is not a key: {len(key)} bytes instead of {KEY_BYTES}")
    return key
