"""The head of a request: what is read of it, and what the next server is sent."""

from __future__ import annotations

import pytest

from meshnet.errors import WireError
from meshnet_control.gateway.http_head import END, Head, asked_in, one_shot, parse


def head(*lines: str) -> bytes:
    return "\r\n".join(lines).encode() + END


@pytest.mark.parametrize(
    ("line", "read"),
    [
        ("GET /v1.41/info HTTP/1.1", Head("GET", "/info", (1, 41), upgrade=False)),
        ("GET /info?v=/v1.2/x HTTP/1.0", Head("GET", "/info", None, upgrade=False)),
        ("GET /v1.41 HTTP/1.1", Head("GET", "/v1.41", None, upgrade=False)),
        ("GET /a%2Fb HTTP/1.1", Head("GET", "/a/b", None, upgrade=False)),
        ("GET http://docker/v1.41/info HTTP/1.1", Head("GET", "/info", (1, 41), upgrade=False)),
        ("GET http://docker HTTP/1.1", Head("GET", "/", None, upgrade=False)),
    ],
)
def test_method_path_and_version(line, read):
    assert parse(head(line, "Host: docker")) == read


@pytest.mark.parametrize(
    ("field", "upgrade"),
    [
        ("Connection: Upgrade", True),
        ("connection: keep-alive, UPGRADE", True),
        ("Connection: close", False),
        ("Upgrade: tcp", False),
    ],
)
def test_a_connection_becomes_a_pipe_when_it_says_so_in_any_case(field, upgrade):
    assert parse(head("POST /exec/1/start HTTP/1.1", "Host: docker", field)).upgrade is upgrade


def test_what_is_no_http_is_refused():
    for line in ("", "GET /info", "GET /info HTTP/2", "GET / info HTTP/1.1"):
        with pytest.raises(WireError):
            parse(head(line))


@pytest.mark.parametrize(
    ("line", "as_asked"),
    [
        ("GET /v1.44/info HTTP/1.1", "GET /v1.41/info HTTP/1.1"),
        ("GET /v1.44/a%20b?x=/v1.44/y HTTP/1.1", "GET /v1.41/a%20b?x=/v1.44/y HTTP/1.1"),
        ("GET http://docker/v1.44/info HTTP/1.1", "GET http://docker/v1.41/info HTTP/1.1"),
        ("GET /info?x=/v1.44/y HTTP/1.1", "GET /info?x=/v1.44/y HTTP/1.1"),
        ("GET /v1.44 HTTP/1.1", "GET /v1.44 HTTP/1.1"),
        ("GET /%76%31.44/info HTTP/1.1", "GET /%76%31.44/info HTTP/1.1"),
        ("GET http://docker HTTP/1.1", "GET http://docker HTTP/1.1"),
    ],
)
def test_a_head_in_another_version_is_the_same_but_for_its_prefix(line, as_asked):
    fields = ("Host: docker", "X: /v1.44/info")
    assert asked_in(head(line, *fields), (1, 41)) == head(as_asked, *fields)


def test_the_next_server_is_asked_once_whatever_the_client_wanted():
    said = head("GET / HTTP/1.1", "Host: d", "CONNECTION: keep-alive", "Keep-Alive: 9", "X: y")
    assert one_shot(said) == head("GET / HTTP/1.1", "Host: d", "X: y", "Connection: close")
