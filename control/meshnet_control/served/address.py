"""Where this host serves something by HTTP: a file of the state directory for each such thing.

meshnetd looks at it again and again: what is written there counts from then on, also after a
restart. No file: nothing is served.
"""

from __future__ import annotations

import socket
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from meshnet.errors import ControlError
from meshnet.model.wellknown import CONTROL_PORT, GOSSIP_PORT, PEER_PORT

OFF: Final = "off"
OURS: Final = frozenset({CONTROL_PORT, PEER_PORT, GOSSIP_PORT})
_LOCAL: Final = "127.0.0.1"


@dataclass(frozen=True)
class Served:
    """One thing that is served, or not."""

    name: str
    """Of the file, less its end."""
    words: str
    """In a sentence."""
    port: int
    """The usual one."""

    @property
    def file(self) -> str:
        """Its name in the state directory."""
        return f"{self.name}-address"

    def parsed(self, text: str) -> tuple[str, int]:
        """Host and port of ``ADDR:PORT``; of a port alone the host itself is who may ask. Pure.

        Raises:
            ControlError: it is no such thing; one sentence.
        """
        digits = text.removeprefix(":")
        whole = f"{_LOCAL}:{digits}" if digits.isascii() and digits.isdigit() else text
        try:
            found = urlsplit(f"//{whole}")
            host, port = str(ip_address(found.hostname or "")), found.port
        except ValueError:
            host, port = "", None
        if not host or not port or joined(host, port) != whole:
            raise ControlError(
                f"{text!r} is no place to serve {self.words} at: give a port, or an IP address of "
                f"this host and a port, such as {self.port} or 192.0.2.1:{self.port}"
            )
        return host, port

    def keep(self, state_dir: Path, text: str) -> str:
        """Write it; ``off`` ends it.

        Returns:
            What is kept, whole; empty: nothing is served.

        Raises:
            ControlError: it is no address, or a port of ours, which this node needs, maybe later.
            OSError: the disk does not take it.
        """
        path = state_dir / self.file
        if text == OFF:
            path.unlink(missing_ok=True)
            return ""
        host, port = self.parsed(text)
        if port in OURS:
            raise ControlError(
                f"{self.words} cannot be served at port {port}: it is one of those that nodes "
                "speak to each other on"
            )
        whole = joined(host, port)
        state_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        fresh = path.with_suffix(".new")
        fresh.write_text(whole + "\n")
        fresh.replace(path)
        return whole

    def kept(self, state_dir: Path) -> str:
        """What was kept; empty: nothing, or nothing that can be read."""
        try:
            return (state_dir / self.file).read_text().strip()
        except (OSError, UnicodeDecodeError):
            return ""


METRICS: Final = Served("metrics", "metrics", 9700)


def joined(host: str, port: int) -> str:
    """As it is written: ``192.0.2.1:9700``, ``[2001:db8::1]:9700``. Pure."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def is_here(host: str) -> bool:
    """Whether an address is one of this host's now."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as tried:
        try:
            tried.bind((host, 0))
        except OSError:
            return False
    return True
