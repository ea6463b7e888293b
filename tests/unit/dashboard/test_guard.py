"""Who may look: by which names, and with which token."""

from __future__ import annotations

import stat

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshnet.errors import ControlError
from meshnet_control.dashboard import guard, token
from meshnet_control.dashboard.token import DASHBOARD


@pytest.mark.parametrize(
    "host", ["localhost", "localhost:8000", "127.0.0.1:9000", "192.0.2.1", "[2001:db8::1]:9000"]
)
def test_an_address_or_localhost_is_nobody_elses_name(host):
    assert guard.is_own_name(host)


@pytest.mark.parametrize(
    "host",
    ["", "evil.example", "evil.example:9000", "127.0.0.1.evil.example", "localhost.evil.example",
     "[::1", "[v1.x]", "evil@", "localhost.", "h1"],
)  # fmt: skip
def test_any_other_name_may_be_somebodys(host):
    assert not guard.is_own_name(host)


@given(st.text())
def test_any_text_is_an_answer(host):
    assert guard.is_own_name(host) in {True, False}


@pytest.mark.parametrize(
    ("cookie", "authorization", "known"),
    [
        (guard.remembered("secret", "192.0.2.7"), "", True),
        (guard.remembered("secret", "192.0.2.8"), "", False),
        ("secret", "", False),
        ("", "Bearer secret", True),
        ("", f"Bearer {guard.remembered('secret', '192.0.2.7')}", False),
        ("", "secret", False),
        ("secre", "", False),
        ("secrets", "Bearer x", False),
        ("sécret", "", False),
        ("\udc80", "", False),
        ("", "", False),
    ],
)
def test_the_token_alone_opens(cookie, authorization, known):
    said = guard.is_known("secret", "192.0.2.7", cookie=cookie, authorization=authorization)
    assert said is known


def test_no_token_is_nobodys():
    assert not guard.is_known("", "192.0.2.7", cookie="", authorization="Bearer ")
    assert guard.remembered("", "192.0.2.7") == ""


def test_a_token_is_roots_alone_kept_and_replaced(tmp_path):
    state = tmp_path / "state"
    assert token.kept(state) == ""
    first = token.made(state)
    assert len(first) >= 32
    assert stat.S_IMODE((state / token.NAME).stat().st_mode) == 0o600
    assert token.made(state) == token.kept(state) == first
    second = token.made(state, anew=True)
    assert second != first
    assert token.kept(state) == second


def test_it_is_in_the_address_that_is_printed(tmp_path):
    for address in ("127.0.0.1:9000", "[::1]:9000", "192.0.2.1:9000", "0.0.0.0:9000"):
        assert token.url(tmp_path, address) == (f"http://{address}/?token={token.kept(tmp_path)}")


def test_what_is_no_address_is_refused_in_its_own_words(tmp_path):
    with pytest.raises(ControlError, match="'on' is no place to serve the dashboard at"):
        DASHBOARD.keep(tmp_path, "on")
