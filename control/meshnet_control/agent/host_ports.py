"""Numbers for ports that a task publishes on its own host without naming one.

The manager leaves ``published: 0`` of host mode to the node (orchestrate/ports.py). The node takes
the lowest number of Linux's ephemeral range that nobody has: no socket of the host, no other task
of the node, no service. ``numbered`` decides and is pure; ``open_ports`` reads /proc.

Be aware: the number is in the task from then on, and the task is what the task's directory
remembers: a restart of meshnetd keeps it. A process of the host that opens the same port later is
not kept from it; packets go to the task.
Source: moby libnetwork/portallocator, sysctl net.ipv4.ip_local_port_range.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Final

from meshnet.errors import ControlError
from meshnet_control.api import control_pb2 as pb

FIRST, LAST = 32768, 60999
NO_PORT: Final = f"no free port is left between {FIRST} and {LAST} on this host"

PortKey = tuple[str, int]
"""Protocol and published port."""

_TABLES: Final = {"tcp": ("tcp", "tcp6"), "udp": ("udp", "udp6")}


def of(ports: Iterable[pb.PortConfig]) -> set[PortKey]:
    """The numbers that ports have."""
    return {(port.protocol or "tcp", port.published_port) for port in ports if port.published_port}


def numbered(task: pb.Task, taken: set[PortKey]) -> pb.Task:
    """A copy of the task in which every host-mode port has a number.

    Args:
        task: as assigned.
        taken: what it must not get.

    Raises:
        ControlError: no number is left.
    """
    new = pb.Task()
    new.CopyFrom(task)
    closed = taken | of(task.endpoint_spec.ports)
    for port in new.endpoint_spec.ports:
        if port.publish_mode != "host" or port.published_port:
            continue
        protocol = port.protocol or "tcp"
        free = (n for n in range(FIRST, LAST + 1) if (protocol, n) not in closed)
        port.published_port = next(free, 0)
        if not port.published_port:
            raise ControlError(NO_PORT)
        closed.add((protocol, port.published_port))
    return new


def kept(task: pb.Task, before: pb.Task) -> pb.Task:
    """A newer word on the same task with the numbers it has here already.

    Args:
        task: as the managers say it now; the ports of a task never change.
        before: with its numbers.
    """
    if task.endpoint_spec == before.endpoint_spec:
        return task
    new = pb.Task()
    new.CopyFrom(task)
    for port, had in zip(new.endpoint_spec.ports, before.endpoint_spec.ports, strict=False):
        if port.publish_mode == "host":
            port.published_port = port.published_port or had.published_port
    return new


def open_ports(proc: Path = Path("/proc/net")) -> set[PortKey]:
    """Ports of this host that a socket has, whatever its state (proc_net_tcp.txt)."""
    found: set[PortKey] = set()
    for protocol, tables in _TABLES.items():
        for table in tables:
            try:
                lines = (proc / table).read_text().splitlines()[1:]
            except FileNotFoundError:  # a kernel without IPv6
                continue
            found |= {(protocol, int(line.split()[1].rpartition(":")[2], 16)) for line in lines}
    return found
