"""A manager in one file: what ``meshnet backup`` writes and ``restore`` reads; snapshots, too.

```
 manifest.json   format, when, which node and cluster, SHA-256 of every other member
 store.db        the cluster's objects, sealed           store.key   their keys; not in a snapshot
 state.json, node.pem, ca.crt                            who this node is
```

An uncompressed tar of these, 0600, written whole or not at all. What a node knows of its own
containers (``tasks/``) is not in it: another machine has other containers.

Be aware: with ``store.key`` in it the file is the cluster: every secret, the CA's key, the tokens.
Restoring writes ``state.json`` last, so a crash half-way leaves a node that is in no cluster.
"""

from __future__ import annotations

import asyncio
import errno
import hashlib
import io
import json
import os
import secrets
import shutil
import tarfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Final, Protocol

from meshnet.errors import MeshnetError
from meshnet.process.durable import sync_directory
from meshnet_control.api import control_pb2 as pb
from meshnet_control.identity import identity
from meshnet_control.store import files, keyring
from meshnet_control.store.files import (
    ASIDE,
    ETCD,
    KEY_DRAFTS,
    SALVAGED,
    SNAPSHOTS,
    STORE,
    STORE_FILES,
    STORE_KEY,
)
from meshnet_control.store.keyring import NO_LOCK, StoreSealedError
from meshnet_control.store.sqlite import SqliteStore, copy_database
from meshnet_control.store.store import StoreError

_MANIFEST: Final = "manifest.json"
_LARGEST_MANIFEST: Final = 64 * 1024
_FORMAT: Final = 1
_CHUNK: Final = 1024 * 1024
_COPY: Final = ".copy."
_FRESH: Final = ".restore."
_NO_LINKS: Final = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS)
"""What a filesystem says that has no hard links: FAT on a stick, some network ones."""
IDENTITY: Final = ("ca.crt", "node.pem", "state.json")
"""In the order in which they are put in place."""


class Copied(Protocol):
    """A store that can be copied into a file: one manager's, or what etcd holds."""

    @property
    def key_name(self) -> str:
        """Names the key that it is sealed with."""
        ...

    @property
    def revision(self) -> int:
        """Of the last commit."""
        ...

    async def copy_to(self, path: Path) -> bytes:
        """A consistent copy, sealed, as SQLite has it, in a file that is not there yet.

        Returns:
            What the key file held meanwhile.

        Raises:
            StoreError: it cannot be read or written, or the store is closed.
        """
        ...


class ArchiveError(MeshnetError):
    """A file that cannot be written, or that cannot be restored from; one sentence."""


@dataclass(frozen=True)
class Manifest:
    """What a file says of itself."""

    made: str
    """UTC, ``2026-11-26T02:17:09Z``."""
    node_id: str
    cluster_id: str
    key_name: str = ""
    """Of the key that the store is sealed with; empty: not known (the store was locked)."""
    locked: bool = False
    """Its keys are there, and need an unlock key."""
    digests: dict[str, str] = field(default_factory=dict)
    """SHA-256 by member, hexadecimal."""
    format: int = _FORMAT


def write(
    path: Path, state_dir: Path, database: Path, now: float, *, key_name: str, keys: bytes = b""
) -> Manifest:
    """Put a manager into a file that is not there yet.

    Args:
        path: of the file.
        state_dir: the node's.
        database: a consistent copy of its store.
        now: Unix seconds.
        key_name: of the key that the copy is sealed with.
        keys: the key file that opens the copy, if it is to go along.

    Raises:
        ArchiveError: the node is in no cluster, the file is there, or it cannot be written.
    """
    try:
        who = identity.load(state_dir)
        if who is None:
            raise ArchiveError("this node is in no cluster: there is nothing to back up")
        # Each is read once: meshnetd renews certificates whenever it is time.
        members = {name: (state_dir / name).read_bytes() for name in IDENTITY}
        members[STORE] = database.read_bytes()
        if keys:
            members[STORE_KEY] = keys
        manifest = Manifest(
            locked=bool(keys) and _locked(state_dir / STORE_KEY, keys),
            made=datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            node_id=who.node_id,
            cluster_id=who.cluster_id,
            key_name=key_name,
            digests={name: hashlib.sha256(data).hexdigest() for name, data in members.items()},
        )
        vacant(path)
        with _draft(path) as draft, tarfile.open(draft, "w", format=tarfile.USTAR_FORMAT) as tar:
            _add(tar, _MANIFEST, json.dumps(asdict(manifest), indent=1).encode(), now)
            for name, data in members.items():
                _add(tar, name, data, now)
    except (OSError, ValueError) as error:
        raise ArchiveError(f"cannot write {path}: {_why(path, error)}") from error
    return manifest


def _why(path: Path, error: Exception) -> str:
    """Without the name of the draft, which is nobody's business."""
    if isinstance(error, FileNotFoundError):
        return f"there is no directory {path.parent}"
    return (error.strerror if isinstance(error, OSError) else None) or str(error)


async def backup(
    path: Path, state_dir: Path, store: Copied | None, now: float, *, keys: bool = True
) -> Manifest:
    """``write`` with a copy of the store as it is now.

    Args:
        path: of the file.
        state_dir: the node's.
        store: when it is open in this process; None: nobody has it open.
        now: Unix seconds.
        keys: whether the store's keys go along.

    Raises:
        ArchiveError: see ``write``.
        StoreError: the store cannot be copied.
    """
    copy = state_dir / f"{_COPY}{secrets.token_hex(4)}"
    key_name = store.key_name if store is not None else ""
    try:
        if store is not None:
            held = await store.copy_to(copy)
        elif (state_dir / STORE).exists():
            source = state_dir / STORE
            held = await asyncio.to_thread(copy_database, source, state_dir / STORE_KEY, copy)
        elif (state_dir / ETCD).exists():
            raise ArchiveError("the store is in etcd, and meshnet-manager has not opened it")
        else:
            raise ArchiveError("this node is not a manager: there is nothing to back up")
        return await asyncio.to_thread(
            write, path, state_dir, copy, now, key_name=key_name, keys=held if keys else b""
        )
    finally:
        copy.unlink(missing_ok=True)


def beside(state_dir: Path) -> Path:
    """A place for a backup that meshnet-manager writes: its unit lets it write nowhere else."""
    return state_dir / f"{_COPY}{secrets.token_hex(4)}.tar"


def deliver(written: Path, path: Path) -> None:
    """Give a backup that was written in one place its name in another, where no file is yet.

    Raises:
        ArchiveError: the file is there, or cannot be written.
    """
    vacant(path)
    try:
        with _draft(path) as draft, written.open("rb") as source, draft.open("wb") as target:
            shutil.copyfileobj(source, target, _CHUNK)
    except OSError as error:
        raise ArchiveError(f"cannot write {path}: {_why(path, error)}") from error


def vacant(path: Path) -> None:
    """Refuse a name that a file has already.

    Raises:
        ArchiveError: it has.
    """
    if os.path.lexists(path):
        raise ArchiveError(f"{path} is there already: name another file")


def restore(path: Path, state_dir: Path, *, replace: bool = False) -> Manifest:
    """Make this host the node that a file holds; meshnetd must not run.

    Args:
        path: of the file.
        state_dir: of this host.
        replace: put it in the place of what the node is now, which is kept as ``*.orphan``.

    Raises:
        ArchiveError: the file is damaged, the node is in a cluster, or a key is missing. Nothing
            has changed then.
    """
    state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    if identity.exists(state_dir) and not replace:
        raise ArchiveError(
            "this node is in a cluster: docker swarm leave --force gives that up, or "
            "meshnet restore --replace puts the backup in its place"
        )
    sweep(state_dir)
    fresh = state_dir / f"{_FRESH}{secrets.token_hex(4)}"
    try:
        fresh.mkdir(mode=0o700)
        manifest = _unpacked(path, fresh)
        own_keys = STORE_KEY in manifest.digests
        if not own_keys:
            _take_keys(path, state_dir, fresh)
        _check_identity(path, fresh, manifest)
        asyncio.run(_tried(path, fresh, manifest))
        names = [*([STORE_KEY] if own_keys else []), STORE, *IDENTITY]
        _put_aside(state_dir, ["state.json", *names, *STORE_FILES])
        # Whoever was a manager beside it when the backup was made, and comes back, is none.
        files.set_generation(state_dir, time.time_ns())
        for name in names:
            (fresh / name).replace(state_dir / name)
        sync_directory(state_dir)
    except OSError as error:
        raise ArchiveError(f"cannot restore from {path}: {error}") from error
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    return manifest


def sweep(state_dir: Path) -> None:
    """Remove what was being written when a crash came; nothing may be written now.

    Of backups, restores and snapshots; of key files, too: a key that was left in the open would
    open what is still in free pages of a store that is locked since.
    """
    snapshots = f"{SNAPSHOTS}/.*.tar.*"
    patterns = (f"{_COPY}*", f".{_COPY}*", f"{_FRESH}*", KEY_DRAFTS, snapshots, SALVAGED)
    for left in [path for pattern in patterns for path in state_dir.glob(pattern)]:
        if left.is_dir():
            shutil.rmtree(left, ignore_errors=True)
        else:
            left.unlink(missing_ok=True)


def read_manifest(path: Path) -> Manifest:
    """What a file says of itself.

    Raises:
        ArchiveError: it is no file of ours.
    """
    with _reading(path), tarfile.open(path, "r:") as tar:
        return _manifest(path, tar)


# ---- inside ----


def _add(tar: tarfile.TarFile, name: str, data: bytes, now: float) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode, entry.mtime = len(data), 0o600, int(now)
    tar.addfile(entry, io.BytesIO(data))


@contextmanager
def _draft(path: Path) -> Iterator[Path]:
    """A file beside ``path`` that takes its name when all is written, and not if it is there."""
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    os.close(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    try:
        yield draft
        descriptor = os.open(draft, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        _take_name(draft, path)
        sync_directory(path.parent)
    finally:
        draft.unlink(missing_ok=True)


def _take_name(draft: Path, path: Path) -> None:
    """Rename, but never over a file that is there."""
    try:
        os.link(draft, path)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        draft.replace(path)


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        yield
    except (tarfile.TarError, EOFError) as error:
        raise ArchiveError(f"{path} is damaged: {error}") from None
    except OSError as error:
        raise ArchiveError(f"cannot read {path}: {error.strerror or error}") from None


def _manifest(path: Path, tar: tarfile.TarFile) -> Manifest:
    first = tar.next()
    if first is None or first.name != _MANIFEST or first.size > _LARGEST_MANIFEST:
        raise ArchiveError(f"{path} is not a backup of meshnet")
    try:
        manifest = Manifest(**json.loads(_held(path, tar, first).read()))
        who: list[object] = [manifest.made, manifest.node_id, manifest.cluster_id]
        who.extend(manifest.digests.values())
    except (ValueError, TypeError, AttributeError, RecursionError):
        raise ArchiveError(f"{path} is damaged: its manifest cannot be read") from None
    if not all(isinstance(text, str) and text.isprintable() for text in who):
        raise ArchiveError(f"{path} is damaged: its manifest cannot be read")
    if manifest.format != _FORMAT:
        raise ArchiveError(f"{path} has format {manifest.format}, this version knows {_FORMAT}")
    if not {STORE, *IDENTITY} <= manifest.digests.keys() <= {STORE, STORE_KEY, *IDENTITY}:
        raise ArchiveError(f"{path} is damaged: its manifest names other files")
    return manifest


def _held(path: Path, tar: tarfile.TarFile, entry: tarfile.TarInfo) -> IO[bytes]:
    """What a member holds, which is never more than the file itself: no link, no holes."""
    if not entry.isreg() or entry.issparse():
        raise ArchiveError(f"{path} is damaged: {entry.name} is not a plain file")
    held = tar.extractfile(entry)
    assert held is not None  # noqa: S101 - of a plain file
    return held


def _unpacked(path: Path, fresh: Path) -> Manifest:
    """The members of a file, each whole, in an empty directory."""
    with _reading(path), tarfile.open(path, "r:") as tar:
        manifest = _manifest(path, tar)
        left = dict(manifest.digests)
        for entry in tar:
            wanted = left.pop(entry.name, None)
            if wanted is None:
                continue
            target = fresh / entry.name
            descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "wb") as file, _held(path, tar, entry) as held:
                shutil.copyfileobj(held, file, _CHUNK)
                file.flush()
                os.fsync(file.fileno())
            if _digest(target) != wanted:
                raise ArchiveError(f"{path} is damaged: {entry.name} is not what was written")
        if left:
            raise ArchiveError(f"{path} is damaged: {', '.join(sorted(left))} is not in it")
    return manifest


def _take_keys(path: Path, state_dir: Path, fresh: Path) -> None:
    """A snapshot goes with the keys of the node that made it."""
    try:
        shutil.copyfile(state_dir / STORE_KEY, fresh / STORE_KEY)
    except FileNotFoundError:
        raise ArchiveError(
            f"{path} is a snapshot, without the keys of its store: it can be restored where "
            f"{state_dir / STORE_KEY} is still that of the cluster"
        ) from None


async def _tried(path: Path, fresh: Path, manifest: Manifest) -> None:
    """Open what was unpacked, as the next start will."""
    try:
        store = SqliteStore.open(fresh / STORE, fresh / STORE_KEY)
    except StoreSealedError:
        return  # by its unlock key alone, which whoever restores is asked for later
    except StoreError as error:
        raise ArchiveError(f"{path} cannot be used: {error}") from None
    held = [cluster.id for cluster in await store.list(pb.Cluster)]
    await store.close()
    if held != [manifest.cluster_id]:
        raise ArchiveError(f"{path} is damaged: its store is not of cluster {manifest.cluster_id}")


def _check_identity(path: Path, fresh: Path, manifest: Manifest) -> None:
    """Read who the node is, as the next start will."""
    try:
        who = identity.load(fresh)
    except ValueError as error:
        raise ArchiveError(f"{path} cannot be used: {error}") from None
    said = (manifest.node_id, manifest.cluster_id, "manager")
    if who is None or (who.node_id, who.cluster_id, who.role) != said:
        raise ArchiveError(f"{path} is damaged: its identity is not of node {manifest.node_id}")


def _locked(key_path: Path, keys: bytes) -> bool:
    try:
        return NO_LOCK not in keyring.parsed(key_path, keys).locks
    except StoreSealedError:
        return True
    except StoreError as error:
        raise ArchiveError(str(error)) from error


def _put_aside(state_dir: Path, names: list[str]) -> None:
    for name in names:
        with suppress(FileNotFoundError):
            (state_dir / name).replace(state_dir / f"{name}{ASIDE}")


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
