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


def is_known(token: str, *, cookie: str, authorization: str) -> bool:
    """Whether a request has the token; the time that this takes says nothing of it."""
    bearer = authorization.removeprefix(_BEARER) if authorization.startswith(_BEARER) else ""
    return same(token, cookie) or same(token, bearer)


def same(token: str, said: str) -> bool:
    """Whether it is the token; no token is nobody's."""
    return bool(token) and hmac.compare_digest(token.encode(), said.encode("utf-8", "replace"))
