"""Numbers for ports that a task publishes on its own host without naming one.

The manager leaves ``published: 0`` of host mode to the node (orchestrate/ports.py). The node takes
the lowest number of Linux's ephemeral range that nobody has: no socket of the host, no other task
of the node, no service. ``numbered`` decides.

Be aware: the number is in the task from then on, and the task is what the task's directory
remembers: a restart of meshnetd keeps it.
Source: moby libnetwork/portallocator, sysctl net.ipv4.ip_local_port_range.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Final

from meshnet.errors import ControlError
from meshnet_control.api import control_pb2 as pb

FIRST, LAST = 32768, 60999
NO_PORT: Final = f"no free port is left between {FIRST} and {LAST} on this host"

PortKey = tuple[str, int]
"""Protocol and published port."""


def of(ports: Iterable[pb.PortConfig]) -> set[PortKey]:
    """The numbers that ports have."""
    return {(port.protocol or "tcp", port.published_port) for port in ports if port.published_port}


def free(protocol: str, taken: set[PortKey]) -> int:
    """The lowest number that nobody has.

    Args:
        protocol: ``tcp``, ``udp`` or ``sctp``.
        taken: what it must not be.

    Raises:
        ControlError: no number is left.
    """
    found = next((n for n in range(FIRST, LAST + 1) if (protocol, n) not in taken), None)
    if found is None:
        raise ControlError(NO_PORT)
    return found


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
        port.published_port = free(protocol, closed)
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


def conflict(
    wanted: Iterable[PortKey],
    name: str,
    published: Collection[PortKey],
    sockets: Collection[PortKey],
) -> str:
    """Why a container cannot have its ports, in the engine's words; empty: it can.

    The engine opens a socket for each port that it publishes, so that two cannot have one; we
    publish by rules, which come before every socket of the host.

    Args:
        wanted: ports of the host.
        name: of the container.
        published: by others on this host.
        sockets: ports that processes of this host wait at.

    Source: moby libnetwork/portallocator, drivers/bridge/port_mapping (at each start).
    """
    for protocol, number in wanted:
        why = ""
        if (protocol, number) in published:
            why = f"Bind for 0.0.0.0:{number} failed: port is already allocated"
        elif (protocol, number) in sockets:
            bind = f"listen {protocol}4 0.0.0.0:{number}: bind: address already in use"
            why = f"Error starting userland proxy: {bind}"
        if why:
            return f"driver failed programming external connectivity on endpoint {name}: {why}"
    return ""
