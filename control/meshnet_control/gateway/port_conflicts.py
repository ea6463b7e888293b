"""A port of this host that a container on our networks is to have, and somebody else has. Pure.

Without a look a container would get what was sent to another one, to a service, or to a process.

Be aware: what a container has is known once it is wired, a while after it was looked at; meanwhile
``Starting`` has its ports.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from http import HTTPStatus

from meshnet.errors import ControlError
from meshnet_control.agent.attached_record import Record
from meshnet_control.agent.host_ports import PortKey, conflict
from meshnet_control.api import control_pb2 as pb
from meshnet_control.dataplane.overlays import Overlays


class Starting:
    """Ports of containers that are about to start: nobody has them yet, and nobody else may."""

    def __init__(self) -> None:
        self._ports: dict[str, frozenset[PortKey]] = {}
        """By container ID."""

    @contextmanager
    def taken(
        self, record: Record, name: str, known: Overlays | None, sockets: Collection[PortKey]
    ) -> Iterator[None]:
        """A container has its ports while it is being started; looking and taking is one step.

        Args:
            record: of the container.
            name: of the container.
            known: by this node.
            sockets: ports that processes of this host wait at.

        Raises:
            ControlError: somebody else has one.
        """
        others = {key: ports for key, ports in self._ports.items() if key != record.container}
        check(record, name, known, sockets, frozenset().union(*others.values()))
        before = self._ports.get(record.container)
        self._ports[record.container] = frozenset((p, port) for p, _, port in record.ports)
        try:
            yield
        finally:
            if before is None:
                self._ports.pop(record.container, None)


def check(
    record: Record,
    name: str,
    known: Overlays | None,
    sockets: Collection[PortKey],
    starting: Collection[PortKey] = (),
) -> None:
    """Whether a container that is about to start can have its ports.

    Args:
        record: of the container.
        name: of the container.
        known: by this node; what the container itself has now is its own.
        sockets: ports that processes of this host wait at.
        starting: ports of others that are about to start.

    Raises:
        ControlError: somebody else has one.
    """
    published = _published(record.container, known) if known is not None else set()
    published |= set(starting)
    others = set(sockets) - (known.snapshot.reserved if known is not None else set())
    wanted = [(protocol, port) for protocol, _, port in record.ports]
    why = conflict(wanted, name, published, others)
    if why:
        raise ControlError(why, HTTPStatus.INTERNAL_SERVER_ERROR)


def _published(container: str, known: Overlays) -> set[PortKey]:
    """By this node's other containers, and by services on every node."""
    others = {
        (port.protocol, port.published)
        for other, ports in known.host_ports.items()
        for port in ports
        if other != container
    }
    coming = {
        (port.protocol or "tcp", port.published_port)
        for task in known.tasks.values()
        if max(task.desired_state, task.status.state) <= pb.TASK_STATE_RUNNING
        for port in task.endpoint_spec.ports
        if port.publish_mode == "host" and port.published_port
    }
    return (
        coming
        | others
        | {
            (port.protocol or "tcp", port.published_port)
            for service in known.services
            for port in service.ports
            if port.publish_mode != "host"
        }
    )
