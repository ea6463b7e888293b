"""Published ports are bound on the host, so that no process takes one for its own afterwards.

Connections to them are translated before any socket of the host is asked, so these sockets get
nothing: those of TCP do not even listen. A process that wants the port hears ``address already in
use``, as with Docker; one that had it before us keeps it, and is named.

Be aware: bound for IPv4, as we publish nothing for IPv6. A kernel without SCTP has no process that
could want a port of it. The sockets end with the process: until the next one has bound them, a
port is anybody's.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Mapping, Set
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from meshnet.kernel import host_sockets
from meshnet.model.snapshot import Port

_ANY: Final = "0.0.0.0"  # noqa: S104 - published on every address, as in Swarm
_KINDS: Final = {
    "tcp": (socket.SOCK_STREAM, socket.IPPROTO_TCP),
    "udp": (socket.SOCK_DGRAM, socket.IPPROTO_UDP),
    "sctp": (socket.SOCK_STREAM, socket.IPPROTO_SCTP),
}
_UNKNOWN_PROTOCOL: Final = frozenset({errno.EPROTONOSUPPORT, errno.ESOCKTNOSUPPORT})


class ReservedPorts:
    """The ports that this process holds.

    Args:
        proc: proc(5) of the host.
    """

    def __init__(self, proc: Path = host_sockets.PROC) -> None:
        self._proc = proc
        self._held: dict[Port, socket.socket | None] = {}
        self._names: dict[int, str] = {}
        self.short = False
        """Not every port that is wanted is held: ``hold`` may get it later."""

    def hold(self, wanted: Set[Port]) -> Mapping[Port, str]:
        """Hold exactly these from now on, as far as others do not.

        A port that only a connection of this host has for a moment is not held, and nobody's.

        Returns:
            Ports that processes of this host wait at: who that is, or empty.
        """
        for port in self._held.keys() - wanted:
            self._release(port)
        refused = [port for port in sorted(wanted - self._held.keys()) if not self._bind(port)]
        self.short = bool(refused)
        waiting = host_sockets.waited_at(self._proc) if refused else {}
        taken = {port: waiting[port] for port in refused if port in waiting}
        self._names = {inode: self._name(inode) for inode in taken.values()}
        return {port: self._names[inode] for port, inode in taken.items()}

    def others(self) -> frozenset[Port]:
        """Ports that others' sockets wait at."""
        inodes = {os.fstat(made.fileno()).st_ino for made in self._held.values() if made}
        waiting = host_sockets.waited_at(self._proc)
        return frozenset(port for port, inode in waiting.items() if inode not in inodes)

    def close(self) -> None:
        """Let all go."""
        self.hold(frozenset())

    def _bind(self, port: Port) -> bool:
        protocol, number = port
        with ExitStack() as stack:
            try:
                made = stack.enter_context(socket.socket(socket.AF_INET, *_KINDS[protocol]))
                _bind(made, number, over_ended=protocol == "tcp")
            except OSError as error:
                if error.errno not in _UNKNOWN_PROTOCOL:
                    return False
                self._held[port] = None
                return True
            stack.pop_all()
        self._held[port] = made
        return True

    def _release(self, port: Port) -> None:
        made = self._held.pop(port)
        if made is not None:
            made.close()

    def _name(self, inode: int) -> str:
        return self._names.get(inode) or host_sockets.holder(inode, self._proc)


def _bind(made: socket.socket, number: int, *, over_ended: bool) -> None:
    """Bind for every address, if need be (and ``over_ended``) beside connections that have ended.

    With SO_REUSEADDR those in TIME_WAIT do not count, nor others' sockets that have it and do not
    listen. Without it again ours counts for whoever is about to listen.

    Raises:
        OSError: somebody else has the port.
    """
    try:
        made.bind((_ANY, number))
    except OSError as error:
        if error.errno != errno.EADDRINUSE or not over_ended:
            raise
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind((_ANY, number))
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
