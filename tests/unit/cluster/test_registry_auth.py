"""What is made of ``X-Registry-Auth``, whatever is in it."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshnet_control.cluster.registry_auth import LONGEST, credentials

LOGIN = {"username": "ada", "password": "ÿþ?>", "serveraddress": "r:5000"}


def encoded(said: Any, *, safe: bool = True) -> str:
    raw = json.dumps(said, ensure_ascii=False).encode()
    return (base64.urlsafe_b64encode if safe else base64.b64encode)(raw).decode()


def read(passed_on: str) -> Any:
    """As Go's base64.URLEncoding and encoding/json read it."""
    return json.loads(base64.b64decode(passed_on, altchars=b"-_", validate=True))


@pytest.mark.parametrize(
    "said",
    [
        encoded(LOGIN),
        encoded(LOGIN, safe=False),
        encoded(LOGIN).rstrip("="),
        encoded({**LOGIN, "more": {"of": "it"}, "email": ""}),
        encoded({name.capitalize(): value for name, value in LOGIN.items()}),
        base64.urlsafe_b64encode(json.dumps(LOGIN).encode() + b" and more").decode(),
    ],
)
def test_credentials_are_passed_on(said: str) -> None:
    assert read(credentials(said)) == LOGIN


@pytest.mark.parametrize(
    "said",
    [
        "",
        "e30=",
        "no base64 at all: \u00e4",
        encoded("text"),
        encoded([1]),
        encoded({"username": "ada"}),
        encoded({"username": 1, "password": ["x"]}),
        encoded({"password": "x" * (LONGEST + 1)}),
        encoded({"Name": "web", "TaskTemplate": {"ContainerSpec": {"Image": "web:1"}}}),
        "W1t" * 40000,
    ],
)
def test_anything_else_is_no_credentials(said: str) -> None:
    assert credentials(said) == ""


@given(st.text() | st.binary().map(lambda raw: base64.b64encode(raw).decode()))
def test_nothing_is_an_error(said: str) -> None:
    passed_on = credentials(said)
    assert credentials(passed_on) == passed_on
