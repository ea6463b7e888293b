"""Which requests are ours and which the engine's, by method and path alone."""

from __future__ import annotations

import pytest

from meshnet_control.gateway.http_head import parse
from meshnet_control.gateway.routing import is_ours


@pytest.mark.parametrize(
    ("line", "ours"),
    [
        ("GET /v1.41/services/web", True),
        ("GET /networks", True),
        ("GET /info", True),
        ("POST /v1.41/containers/create?name=x", True),
        ("GET /v1.41/containers/create", False),
        ("GET /v1.41/containers/json?all=1", True),
        ("GET /containers/abc/json", True),
        ("GET /containers/abc/stats?stream=0", True),
        ("GET /containers/abc/logs", False),
        ("GET /containers/abc/top", False),
        ("POST /containers/abc/json", False),
        ("GET /containers/abc/x/json", False),
        ("GET /containers/abc/changes", True),
        ("GET /containers", False),
        ("POST /commit?container=abc", True),
        ("GET /v1.41/images/registry:5000/team/app:1/json", True),
        ("GET /images/app/history", False),
        ("POST /images/app/json", False),
        ("POST /containers/abc/start", True),
        ("POST /v1.44/containers/abc/restart?t=1", True),
        ("POST /containers/abc/stop", False),
        ("GET /containers/abc/start", False),
        ("POST /containers/abc/start/x", False),
        ("GET /images/json", False),
        ("GET /servicesx", False),
        ("GET /v1.44/images/json", False),
        ("GET /v1.45/images/json", True),
        ("GET /v2.0/images/json", True),
    ],
)
def test_what_is_answered_here(line, ours):
    assert is_ours(parse(f"{line} HTTP/1.1\r\n\r\n".encode())) is ours
