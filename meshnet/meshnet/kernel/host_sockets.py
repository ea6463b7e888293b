"""Which ports of this host its sockets have, and whose they are: read from proc(5).

Be aware: what is bound and neither listens nor is connected is told of UDP alone.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Final, NamedTuple

from meshnet.model.families import FAMILIES, Family
from meshnet.model.snapshot import Port, Protocol

PROC: Final = Path("/proc")
_WAITS: Final = {"tcp": "0A", "udp": "07"}
"""State of a socket that is bound and connected to nobody (linux/tcp_states.h: LISTEN, CLOSE)."""
_TABLES: Final[Mapping[Protocol, Mapping[Family, str]]] = {
    "tcp": {4: "tcp", 6: "tcp6"},
    "udp": {4: "udp", 6: "udp6"},
}
"""A socket of IPv6 that is also IPv4's is in the table of IPv6 alone."""
_INODE: Final = 9
"""Column of the tables (proc_net_tcp.txt)."""


class _Socket(NamedTuple):
    port: Port
    state: str
    inode: int


def open_ports(proc: Path = PROC) -> set[Port]:
    """Ports of this host that a socket has, whatever its state."""
    return {each.port for each in _sockets(proc)}


def waited_at(proc: Path = PROC, families: Collection[Family] = FAMILIES) -> dict[Port, int]:
    """Ports at which a process waits for whoever comes, and the inode of a socket of each.

    Args:
        proc: proc(5) of the host.
        families: whose sockets; those of IPv6 may be IPv4's, too.
    """
    found = _sockets(proc, families)
    return {each.port: each.inode for each in found if each.state == _WAITS[each.port[0]]}


def holder(inode: int, proc: Path = PROC) -> str:
    """Who has a socket open, such as ``nginx (process 812)``; empty: nobody that can be seen."""
    wanted = f"socket:[{inode}]"
    for process in sorted(proc.glob("[0-9]*"), key=lambda each: int(each.name)):
        try:
            if any(str(each.readlink()) == wanted for each in (process / "fd").iterdir()):
                return f"{(process / 'comm').read_text().strip()} (process {process.name})"
        except OSError:  # it ended meanwhile, or is not ours to look at
            continue
    return ""


def _sockets(proc: Path, families: Collection[Family] = FAMILIES) -> Iterator[_Socket]:
    for protocol, tables in _TABLES.items():
        for family in families:
            try:
                lines = (proc / "net" / tables[family]).read_text().splitlines()[1:]
            except FileNotFoundError:  # a kernel without IPv6
                continue
            for line in lines:
                fields = line.split()
                number = int(fields[1].rpartition(":")[2], 16)
                yield _Socket((protocol, number), fields[3], int(fields[_INODE]))
