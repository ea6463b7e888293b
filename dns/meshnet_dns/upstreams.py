"""The host's own name servers: whom a container asks that names none (``--dns``).

Read from /etc/resolv.conf of the host, as the Engine does, and read again when the file has become
another one; a host that moves between networks needs no restart of anything.

Be aware: 127.0.0.11 is left out. It is the address we answer at, a question sent there could come
back to us. Other loopback addresses (127.0.0.53 of systemd-resolved) are fine, since upstreams are
asked from the host's namespace. A file that says none, or is not there, means none: the Engine's
8.8.8.8 is nobody's to choose for a host.
"""

from __future__ import annotations

from ipaddress import ip_address
from pathlib import Path
from typing import Final

from meshnet.model.wellknown import RESOLVER_ADDRESS

HOST_FILE: Final = Path("/etc/resolv.conf")

_Identity = tuple[int, int, int, int]


def nameservers(text: str) -> tuple[str, ...]:
    """IPv4 and IPv6 addresses of the ``nameserver`` lines of ``text`` (man 5 resolv.conf). Pure.

    Each once, in their order; lines that no address can be read from are passed over.
    """
    found: dict[str, None] = {}
    for line in text.splitlines():
        keyword, *words = line.split()[:2] or [""]
        if keyword != "nameserver" or not words:
            continue
        if words[0] != RESOLVER_ADDRESS and _is_address(words[0]):
            found[words[0]] = None
    return tuple(found)


class HostUpstreams:
    """Name servers of the host as they are now.

    Attributes:
        version: another one whenever the file has become another one.
    """

    def __init__(self, path: Path = HOST_FILE) -> None:
        self._path = path
        self._read_from: _Identity | None = None
        self._servers: tuple[str, ...] = ()
        self.version = 0

    def now(self) -> tuple[str, ...]:
        """The servers, at most three are of use. One stat(2), and a read when the file changed."""
        try:
            status = self._path.stat()
            identity = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)
            if identity != self._read_from:
                text = self._path.read_bytes().decode("utf-8", "replace")
                self._servers, self._read_from = nameservers(text), identity
                self.version += 1
        except OSError:
            if self._read_from is not None:
                self.version += 1
            self._servers, self._read_from = (), None
        return self._servers


def _is_address(word: str) -> bool:
    try:
        return ip_address(word).version > 0
    except ValueError:
        return False
