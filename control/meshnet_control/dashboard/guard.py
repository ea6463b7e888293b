"""Who may see the page: a token where strangers reach it, and no other site's name. Pure.

A page of somebody else's that a browser here shows may have its name lead to this host (DNS
rebinding). So a request is answered only by an address, or by ``localhost``: no site has those.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from ipaddress import ip_address
from typing import Final
from urllib.parse import urlsplit

COOKIE: Final = "meshnet-dashboard"
_BEARER: Final = "Bearer "

HEADERS: Final[Mapping[str, str]] = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
        "img-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
"""Of every answer."""


def is_local(host: str) -> bool:
    """Whether only this host itself reaches an address."""
    return ip_address(host).is_loopback


def is_own_name(host: str) -> bool:
    """Whether what a browser calls us (the field ``Host``) is no name that somebody may have."""
    try:
        name = urlsplit(f"//{host}").hostname or ""
        if name == "localhost":
            return True
        ip_address(name)
    except ValueError:
        return False
    return True


def remembered(token: str, peer: str) -> str:
    """What a cookie says of the token: enough for this peer alone, and not the token.

    A browser sends a cookie to every port of its address (RFC 6265, section 8.5), so also to the
    services that publish ports there.

    Args:
        token: empty: there is none, and nothing is remembered.
        peer: the address that a request comes from.
    """
    return hmac.new(token.encode(), peer.encode(), "sha256").hexdigest() if token else ""


def is_known(token: str, peer: str, *, cookie: str, authorization: str) -> bool:
    """Whether a request has the token; the time that this takes says nothing of it."""
    bearer = authorization.removeprefix(_BEARER) if authorization.startswith(_BEARER) else ""
    return same(remembered(token, peer), cookie) or same(token, bearer)


def same(token: str, said: str) -> bool:
    """Whether it is the token; no token is nobody's."""
    return bool(token) and hmac.compare_digest(token.encode(), said.encode("utf-8", "replace"))
