"""Who is connected to a task of this node, and who else serves for it. Pure.

A connection is counted where it arrives: in the task's own namespace, whichever node it came in
through and whoever translated it.
"""

from __future__ import annotations

from collections.abc import Iterable

from meshnet.model.ids import TaskId
from meshnet.model.snapshot import Sandbox, Snapshot
from meshnet.nft.flows import Flow


def open_to(sandbox: Sandbox, flows: Iterable[Flow]) -> int:
    """TCP connections that others opened to a container and that not both ends have closed.

    Args:
        sandbox: the container's.
        flows: what conntrack knows in its namespace.
    """
    own = {str(interface.ip) for _, interface in sandbox.networks}
    own |= {str(interface.ip) for _, interface in sandbox.networks6}
    if sandbox.gateway_address is not None:
        own.add(str(sandbox.gateway_address.ip))
    return sum(
        flow.protocol == "tcp"
        and not (flow.unanswered or flow.ended)
        and flow.backend in own
        and flow.source not in own
        for flow in flows
    )


def others_serve(snapshot: Snapshot, task: TaskId) -> bool:
    """Whether another task of its service takes new connections."""
    own = snapshot.endpoints.get(task)
    if own is None or own.service is None:
        return False
    return any(
        other.service == own.service and other.task != task and snapshot.chooses(other)
        for other in snapshot.endpoints.values()
    )
