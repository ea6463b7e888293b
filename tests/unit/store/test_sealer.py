"""Sealed objects: bound to what they are, told apart by key, nothing of them to be read."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshnet_control.api.control_pb2 import Config, Secret
from meshnet_control.store import unlock_key
from meshnet_control.store.sealer import Sealer, SealError, key_id, sealed_by

OLD, NEW = b"o" * 32, b"n" * 32


def secret(data: bytes = b"open sesame", revision: int = 7) -> Secret:
    return Secret(id="s1", version={"index": revision}, spec={"data": data})


@given(st.binary(max_size=2000), st.integers(0, 2**64 - 1))
def test_what_is_sealed_opens_as_it_was(data: bytes, revision: int) -> None:
    sealer, made = Sealer([NEW]), secret(data, revision)
    assert sealer.opened(Secret, "s1", sealer.sealed(made)) == made


def test_nothing_of_it_can_be_read_and_no_two_are_alike() -> None:
    sealer = Sealer([NEW])
    one, two = sealer.sealed(secret()), sealer.sealed(secret())
    assert b"sesame" not in one
    assert one[17:49] != two[17:49]  # the salts
    assert one[49:] != two[49:]


@given(st.integers(0, 400), st.integers(1, 255))
def test_a_changed_byte_is_noticed(at: int, by: int) -> None:
    sealer = Sealer([NEW])
    body = bytearray(sealer.sealed(secret()))
    body[at % len(body)] ^= by
    with pytest.raises(SealError):
        sealer.opened(Secret, "s1", bytes(body))


@pytest.mark.parametrize("body", [b"", b"\x01", b"\x0a\x02s1", bytes(17), bytes(60)])
def test_what_was_never_sealed_is_refused(body: bytes) -> None:
    with pytest.raises(SealError, match="Secret s1 is sealed with another key"):
        Sealer([NEW]).opened(Secret, "s1", body)


def test_it_is_bound_to_its_kind_and_its_id() -> None:
    sealer = Sealer([NEW])
    body = sealer.sealed(secret())
    with pytest.raises(SealError):
        sealer.opened(Secret, "s2", body)
    with pytest.raises(SealError):
        sealer.opened(Config, "s1", body)


def test_the_newest_key_seals_and_each_opens() -> None:
    before, between, after = Sealer([OLD]), Sealer([NEW, OLD]), Sealer([NEW])
    old, new = before.sealed(secret()), between.sealed(secret())
    assert (sealed_by(old), sealed_by(new)) == (key_id(OLD), key_id(NEW))
    assert between.opened(Secret, "s1", old) == after.opened(Secret, "s1", new) == secret()
    with pytest.raises(SealError, match="another key"):
        after.opened(Secret, "s1", old)


def test_an_unlock_key_as_users_write_it() -> None:
    # recorded from Docker Engine 20.10.24: GET /swarm/unlockkey
    text = "SWMKEY-1-9lBFGEeCsoBBfPkHDVD9Fzs81lD+bzoTJvR0UyPPNhM"
    assert unlock_key.unlock_key_text(unlock_key.unlock_key_of(text)) == text


@pytest.mark.parametrize(
    "text",
    ["", "SWMKEY-1-", "9lBF", "SWMKEY-1-9lBF", "SWMKEY-1-" + "*" * 43, "SWMKEY-2-" + "A" * 43],
)
def test_what_is_no_unlock_key(text: str) -> None:
    with pytest.raises(ValueError, match="invalid key string"):
        unlock_key.unlock_key_of(text)
