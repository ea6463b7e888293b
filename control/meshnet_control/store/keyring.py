"""The file with the store's keys: open, or locked with what ``docker swarm unlock`` takes.

```
 {"format": 2, "keys": "<base64 of 32 bytes each>"}      whoever has the file opens the store
 {"format": 2, "locked": ["<base64, sealed>"]}           and the unlock key (autolock)
 32 bytes                                                one key as it is: the first format
```

The unlock key is in the store it locks, as a field of the Cluster: managers tell it to who may ask.
When it changes the store's own key changes with it, and neither key file nor store may be behind
the other at a power cut. So, in this order:

    file: new and old key, new and old lock ──> store sealed anew ──> file: new key, new lock

    file: both keys, for both locks ──> store sealed anew ──> file: new key, new lock
settled by who opens the store next.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import json
import os
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from meshnet.process.durable import sync_directory
from meshnet_control.store.sealer import KEY_BYTES, Sealer, SealError, open_sealed, seal
from meshnet_control.store.store import StoreError

NO_LOCK: Final = b""
"""In the place of an unlock key: the keys lie open."""
_FORMAT: Final = 2
_CONTEXT: Final = b"meshnet store.key 2"


class StoreSealedError(StoreError):
    """The store's keys are locked, and no unlock key was given that opens them.

    Args:
        path: of the key file.
        tried: whether an unlock key was given.
    """

    def __init__(self, path: Path, *, tried: bool) -> None:
        self.tried = tried
        said = "is not locked with this key" if tried else "is locked: docker swarm unlock"
        super().__init__(f"{path} {said}")


@dataclass(frozen=True)
class Keyring:
    """The keys of a store, and who may open their file."""

    keys: tuple[bytes, ...] = field(repr=False)
    """The newest first; several only while the store is sealed anew."""
    locks: frozenset[bytes] = field(default=frozenset({NO_LOCK}), repr=False)
    """Unlock keys, each of which opens the file; NO_LOCK: it needs none."""

    @property
    def sealer(self) -> Sealer:
        """What seals with the newest key."""
        return Sealer(self.keys)

    def changing(self, lock: bytes) -> Keyring:
        """With a new key and a new lock beside the old ones: before the store is sealed anew."""
        return Keyring((secrets.token_bytes(KEY_BYTES), *self.keys), self.locks | {lock})

    def settled(self, lock: bytes, used: Sequence[bytes] = ()) -> Keyring:
        """With nothing but what is in use: after the store is sealed anew.

        Args:
            lock: the unlock key that the cluster has; NO_LOCK: none.
            used: keys that something is sealed with; empty: the newest.
        """
        kept = tuple(key for key in self.keys if key in used) or self.keys[:1]
        return replace(self, keys=kept, locks=frozenset({lock}))


def new() -> Keyring:
    """One new key that lies open."""
    return Keyring((secrets.token_bytes(KEY_BYTES),))


def load(path: Path, unlock_key: bytes = NO_LOCK) -> Keyring:
    """Read a key file.

    Args:
        path: of the file.
        unlock_key: what it may be locked with.

    Raises:
        OSError: it cannot be read.
        StoreSealedError: it is locked, and not with ``unlock_key``.
        StoreError: it is no key file.
    """
    return parsed(path, path.read_bytes(), unlock_key)


def parsed(path: Path, raw: bytes, unlock_key: bytes = NO_LOCK) -> Keyring:
    """The keys in what a key file holds.

    Args:
        path: of the file, for what is said of it.
        raw: its bytes.
        unlock_key: what it may be locked with.

    Raises:
        StoreSealedError: it is locked, and not with ``unlock_key``.
        StoreError: it is no key file.
    """
    if len(raw) == KEY_BYTES:
        return Keyring((raw,))
    try:
        said = json.loads(raw)
        known = said["format"] == _FORMAT
        plain = base64.b64decode(said.get("keys", ""), validate=True)
        locked = [base64.b64decode(each, validate=True) for each in said.get("locked", ())]
    except (ValueError, LookupError, TypeError, AttributeError, binascii.Error):
        raise StoreError(f"{path} is not a key file: {len(raw)} bytes that are none") from None
    if not known:
        raise StoreError(f"{path} has format {said['format']}, this version knows {_FORMAT}")
    if plain:
        return Keyring(_split(path, plain), frozenset({NO_LOCK, *([unlock_key] if locked else ())}))
    if unlock_key:
        for each in locked:
            with contextlib.suppress(SealError):
                keys = _split(path, open_sealed(unlock_key, each, _CONTEXT))
                return Keyring(keys, frozenset({unlock_key}))
    raise StoreSealedError(path, tried=bool(unlock_key))


def save(path: Path, ring: Keyring, *, first: bool = False) -> None:
    """Write a key file, whole or not at all, for root alone.

    Args:
        path: of the file.
        ring: what to keep.
        first: refuse to replace one that appeared meanwhile.

    Raises:
        OSError: it cannot be written; what was there is still there.
    """
    keys = b"".join(ring.keys)
    said: dict[str, object] = {"format": _FORMAT}
    if NO_LOCK in ring.locks:
        said["keys"] = base64.b64encode(keys).decode()
    locked = [seal(lock, keys, _CONTEXT) for lock in sorted(ring.locks - {NO_LOCK})]
    if locked:
        said["locked"] = [base64.b64encode(each).decode() for each in locked]
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w") as file:
            json.dump(said, file)
            file.write("\n")
            file.flush()
            os.fsync(file.fileno())
        if first:
            os.link(draft, path)
        else:
            draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
    sync_directory(path.parent)  # its name outlives a power cut before anything is sealed with it


def keep(path: Path, ring: Keyring) -> bool:
    """Write a key file again that was removed or damaged while its keys are in use.

    Returns:
        Whether that was so.

    Raises:
        OSError: it cannot be written.
    """
    for lock in ring.locks:
        with contextlib.suppress(OSError, StoreError):
            if ring.keys[0] in load(path, lock).keys:
                return False
    save(path, ring)
    return True


def _split(path: Path, keys: bytes) -> tuple[bytes, ...]:
    if not keys or len(keys) % KEY_BYTES:
        raise StoreError(f"{path} is not a key file: it holds {len(keys)} bytes of keys")
    return tuple(keys[at : at + KEY_BYTES] for at in range(0, len(keys), KEY_BYTES))
