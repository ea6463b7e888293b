"""Which published port a service gets when it asks for none. Pure.

Only ports published on every node (ingress mode) are the cluster's to give; a host-mode port of 0
is chosen by the node that runs the task. A port once given stays through every update as long as
the service keeps publishing the same target (name, protocol, target, mode).

Be aware: a port that a service asks for by number is taken as it is: that nobody else has it was
checked when the service was written.
Source: swarmkit manager/allocator/portallocator.go.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from meshnet_control.api import control_pb2 as pb

FIRST_DYNAMIC, LAST_DYNAMIC = 30000, 32767
NO_PORT = f"no published port is left between {FIRST_DYNAMIC} and {LAST_DYNAMIC}"

PortKey = tuple[str, int]
"""Protocol and published port."""


def is_ingress(port: pb.PortConfig) -> bool:
    """True for a port published on every node; the default."""
    return port.publish_mode != "host"


def taken(services: Iterable[pb.Service]) -> set[PortKey]:
    """Ports published on every node: asked for by number, or given."""
    return {
        (port.protocol or "tcp", port.published_port)
        for service in services
        for port in (*service.spec.endpoint_spec.ports, *service.endpoint.ports)
        if port.published_port and is_ingress(port)
    }


def allocate(
    service: pb.Service, others: Callable[[PortKey], bool]
) -> Sequence[pb.PortConfig] | None:
    """The service's ports, every ingress one with a number; None when no number is left.

    Args:
        service: with the ports it had so far in its endpoint.
        others: whether a port is another service's.
    """
    asked = {
        (port.protocol or "tcp", port.published_port)
        for port in service.spec.endpoint_spec.ports
        if port.published_port and is_ingress(port)
    }
    had = [p for p in service.endpoint.ports if is_ingress(p) and p.published_port >= FIRST_DYNAMIC]
    given: set[PortKey] = set()
    ports: list[pb.PortConfig] = []
    for wanted in service.spec.endpoint_spec.ports:
        port = pb.PortConfig()
        port.CopyFrom(wanted)
        protocol = port.protocol or "tcp"
        if not port.published_port and is_ingress(port):
            before = (p.published_port for p in had if _same_target(p, port))
            candidates = (*before, *range(FIRST_DYNAMIC, LAST_DYNAMIC + 1))
            closed = asked | given
            free = (n for n in candidates if (protocol, n) not in closed)
            number = next((n for n in free if not others((protocol, n))), None)
            if number is None:
                return None
            port.published_port = number
            given.add((protocol, number))
        ports.append(port)
    return ports


def _same_target(one: pb.PortConfig, other: pb.PortConfig) -> bool:
    return (one.name, one.protocol or "tcp", one.target_port) == (
        other.name,
        other.protocol or "tcp",
        other.target_port,
    )
