"""The head of one HTTP request as it came over the wire: read it, and say it otherwise.

PURE. The proxy looks at the first line and a few headers only; it never looks at a body.

Be aware: this is not an HTTP parser. It splits what a client of the Engine API sends (RFC 9112,
section 2 to 5); everything it does not understand is the next server's to refuse.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote

from meshnet.errors import WireError
from meshnet.patterns import Pattern

END: Final = b"\r\n\r\n"
LIMIT_BYTES: Final = 256 * 1024
"""Longest head accepted; the engine (Go net/http) takes 1 MiB. Clients send some 100 bytes, and
dockerode a whole service, in the query and once more as ``X-Registry-Auth``."""

_VERSIONED: Final = Pattern(r"v([0-9]{1,4})\.([0-9]{1,4})", longest=10)
Version = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Head:
    """Method and path of a request, and what its connection becomes."""

    method: str
    path: str
    """Decoded, without the version prefix and the query: ``/services/web``."""
    version: Version | None
    """Of the path's prefix ``/v1.41``; None without one."""
    upgrade: bool
    """The client asks for another protocol (``tcp``, ``h2c``): the connection is a byte pipe."""


def parse(raw: bytes) -> Head:
    """Read a head.

    Args:
        raw: everything up to and including the empty line.

    Raises:
        WireError: the first line is not one of HTTP/1.
    """
    lines = raw.decode("latin-1").split("\r\n")
    words = lines[0].split(" ")
    if len(words) != 3 or not words[2].startswith("HTTP/1."):  # noqa: PLR2004 - RFC 9112, 3
        raise WireError("client", "malformed HTTP request line")
    target = words[1]
    if target.startswith(("http://", "https://")):  # absolute form: RFC 9112, 3.2.2
        target = "/" + target.split("/", 3)[3] if target.count("/") > 2 else "/"  # noqa: PLR2004
    version, path = split_version(unquote(target.partition("?")[0]))
    options = {
        option.strip().lower()
        for line in lines[1:]
        if line[:11].lower() == "connection:"
        for option in line[11:].split(",")
    }
    return Head(words[0], path, version, "upgrade" in options)


def split_version(path: str) -> tuple[Version | None, str]:
    """``/v1.41/info`` is ``((1, 41), "/info")``; without a prefix the version is None."""
    _, _, behind = path.partition("/")
    first, slash, rest = behind.partition("/")
    found = _VERSIONED.match(first)
    if found is None or not slash:
        return None, path
    return (int(found[1]), int(found[2])), f"/{rest}"


def reversioned(target: str, version: Version) -> str:
    """``/v1.44/info?x=1`` as ``/v1.41/info?x=1``; what has no version prefix stays as it is."""
    absolute = target.startswith(("http://", "https://"))
    at = target.find("/", target.index("//") + 2) if absolute else 0
    asked, _ = split_version(target[at:])
    if at < 0 or asked is None:
        return target
    behind = target.index("/", at + 1)
    return f"{target[:at]}/v{version[0]}.{version[1]}{target[behind:]}"


def asked_in(raw: bytes, version: Version) -> bytes:
    """The same head, its path with another version prefix."""
    first, end, rest = raw.partition(b"\r\n")
    method, target, protocol = first.decode("latin-1").split(" ")
    line = f"{method} {reversioned(target, version)} {protocol}"
    return line.encode("latin-1") + end + rest


def one_shot(raw: bytes) -> bytes:
    """The same head, saying ``Connection: close``: the server ends the connection after it.

    So each request is routed for itself, and no body has to be framed to find the next one.
    """
    first, *lines = raw.removesuffix(END).split(b"\r\n")
    kept = [line for line in lines if line[:11].lower() not in {b"connection:", b"keep-alive:"}]
    return b"\r\n".join([first, *kept, b"Connection: close"]) + END
