"""The file of a store's keys, while the store is in use."""

from __future__ import annotations

import dataclasses
import secrets
from pathlib import Path

import pytest

from meshnet_control.store import keyring
from meshnet_control.store.keyring import NO_LOCK, Keyring
from meshnet_control.store.sealer import KEY_BYTES

OLD, NEW = (secrets.token_bytes(KEY_BYTES) for _ in range(2))
LOCK = b"lock".ljust(32)


@pytest.mark.parametrize("locks", [{NO_LOCK}, {LOCK}, {NO_LOCK, LOCK}])
@pytest.mark.parametrize("damage", [None, b"", b"{}", b"x" * KEY_BYTES])
def test_what_is_lost_is_written_again_with_the_locks_it_had(
    tmp_path: Path, locks: set[bytes], damage: bytes | None
) -> None:
    path, ring = tmp_path / "store.key", Keyring((NEW,), frozenset(locks))
    if damage is not None:
        path.write_bytes(damage)
    assert keyring.keep(path, ring)
    for lock in locks:
        assert keyring.load(path, lock).keys == (NEW,)
    assert (b"keys" in path.read_bytes()) == (NO_LOCK in locks)
    assert not keyring.keep(path, ring)


def test_a_file_that_opens_with_more_than_is_in_use_is_left_alone(tmp_path: Path) -> None:
    """Between a new lock and the end of it."""
    path, ring = tmp_path / "store.key", Keyring((OLD,))
    both = dataclasses.replace(ring, keys=(NEW, OLD), locks=frozenset({NO_LOCK, LOCK}))
    keyring.save(path, both)
    before = path.read_bytes()
    assert not keyring.keep(path, ring)
    assert not keyring.keep(path, both.settled(LOCK))
    assert path.read_bytes() == before
