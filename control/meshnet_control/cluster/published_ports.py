"""Published ports of services and tasks as the data plane's values. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import cast

from meshnet.model.snapshot import Protocol, PublishedPort
from meshnet_control.api import control_pb2 as pb


def ports_of(ports: Iterable[pb.PortConfig]) -> tuple[PublishedPort, ...]:
    """Published ports of a service; ``tcp`` and ``ingress`` are the defaults."""
    return tuple(
        PublishedPort(
            protocol=cast("Protocol", port.protocol or "tcp"),
            target=port.target_port,
            published=port.published_port,
            mode="host" if port.publish_mode == "host" else "ingress",
            name=port.name,
        )
        for port in ports
    )
