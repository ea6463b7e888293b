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
        ("POST /containers/abc/start", False),
        ("GET /images/json", False),
        ("GET /servicesx", False),
        ("GET /v1.44/images/json", False),
        ("GET /v1.45/images/json", True),
        ("GET /v2.0/images/json", True),
    ],
)
def test_what_is_answered_here(line, ours):
    assert is_ours(parse(f"{line} HTTP/1.1\r\n\r\n".encode())) is ours
