"""Published ports are bound on the host, so that no process takes one for its own afterwards.

Connections to them are translated before any socket of the host is asked, so these sockets get
nothing: those of TCP do not even listen. A process that wants the port hears ``address already in
use``, as with Docker; one that had it before us keeps it, and is named.

A port is bound for IPv4, and where the mesh is dual stack by a second socket for IPv6: a process
may have one and not the other.

Be aware: a kernel without SCTP, or without IPv6, has no process that could want a port of it. The
sockets end with the process: until the next one has bound them, a port is anybody's.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Mapping, Set
from contextlib import ExitStack
from pathlib import Path
from types import MappingProxyType
from typing import Final, NamedTuple

from meshnet.kernel import host_sockets
from meshnet.model.families import FAMILIES, Family
from meshnet.model.snapshot import Port

_ANY: Final[Mapping[Family, tuple[int, str]]] = {
    4: (socket.AF_INET, "0.0.0.0"),  # noqa: S104 - published on every address, as in Swarm
    6: (socket.AF_INET6, "::"),
}
_KINDS: Final = {
    "tcp": (socket.SOCK_STREAM, socket.IPPROTO_TCP),
    "udp": (socket.SOCK_DGRAM, socket.IPPROTO_UDP),
    "sctp": (socket.SOCK_STREAM, socket.IPPROTO_SCTP),
}
_UNKNOWN_PROTOCOL: Final = frozenset(
    {errno.EPROTONOSUPPORT, errno.ESOCKTNOSUPPORT, errno.EAFNOSUPPORT}
)
_WAIT: Final[Mapping[Family, tuple[Family, ...]]] = {4: FAMILIES, 6: (6,)}
"""Whose sockets may have a port of a family."""
_Place = tuple[Family, Port]


class Holders(NamedTuple):
    """Ports that processes of this host wait at -> who that is, or empty; of each family."""

    first: Mapping[Port, str] = MappingProxyType({})
    second: Mapping[Port, str] = MappingProxyType({})


class ReservedPorts:
    """The ports that this process holds.

    Args:
        proc: proc(5) of the host.
    """

    def __init__(self, proc: Path = host_sockets.PROC) -> None:
        self._proc = proc
        self._held: dict[_Place, socket.socket | None] = {}
        self._names: dict[int, str] = {}
        self.short = False
        """Not every port that is wanted is held: ``hold`` may get it later."""

    def hold(self, wanted: Set[Port], wanted6: Set[Port] = frozenset()) -> Holders:
        """Hold exactly these from now on, as far as others do not.

        A port that only a connection of this host has for a moment is not held, and nobody's.

        Args:
            wanted: of IPv4.
            wanted6: of IPv6.

        Returns:
            Those that processes of this host wait at.
        """
        every: set[_Place] = {(4, port) for port in wanted}
        every |= {(6, port) for port in wanted6}
        for place in self._held.keys() - every:
            self._release(place)
        refused = [place for place in sorted(every - self._held.keys()) if not self._bind(place)]
        self.short = bool(refused)
        waiting = {
            family: host_sockets.waited_at(self._proc, _WAIT[family])
            for family in {family for family, _ in refused}
        }
        taken = {
            (family, port): waiting[family][port]
            for family, port in refused
            if port in waiting[family]
        }
        self._names = {inode: self._name(inode) for inode in taken.values()}
        first, second = (
            {port: self._names[inode] for (of, port), inode in taken.items() if of == family}
            for family in FAMILIES
        )
        return Holders(first, second)

    def others(self) -> frozenset[Port]:
        """Ports that others' sockets wait at."""
        inodes = {os.fstat(made.fileno()).st_ino for made in self._held.values() if made}
        waiting = host_sockets.waited_at(self._proc)
        return frozenset(port for port, inode in waiting.items() if inode not in inodes)

    def close(self) -> None:
        """Let all go."""
        self.hold(frozenset())

    def _bind(self, place: _Place) -> bool:
        family, (protocol, number) = place
        af, address = _ANY[family]
        with ExitStack() as stack:
            try:
                made = stack.enter_context(socket.socket(af, *_KINDS[protocol]))
                if af == socket.AF_INET6:  # IPv4 has a socket of its own
                    made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                _bind(made, (address, number), over_ended=protocol == "tcp")
            except OSError as error:
                if error.errno not in _UNKNOWN_PROTOCOL:
                    return False
                self._held[place] = None
                return True
            stack.pop_all()
        self._held[place] = made
        return True

    def _release(self, place: _Place) -> None:
        made = self._held.pop(place)
        if made is not None:
            made.close()

    def _name(self, inode: int) -> str:
        return self._names.get(inode) or host_sockets.holder(inode, self._proc)


def _bind(made: socket.socket, at: tuple[str, int], *, over_ended: bool) -> None:
    """Bind for every address, if need be (and ``over_ended``) beside connections that have ended.

    With SO_REUSEADDR those in TIME_WAIT do not count, nor others' sockets that have it and do not
    listen. Without it again ours counts for whoever is about to listen.

    Raises:
        OSError: somebody else has the port.
    """
    try:
        made.bind(at)
    except OSError as error:
        if error.errno != errno.EADDRINUSE or not over_ended:
            raise
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind(at)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
