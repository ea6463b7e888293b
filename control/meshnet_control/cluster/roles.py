"""Who is a manager: by what is wanted of a node, and by what it still is. Pure.

``spec.role`` is what a user wants. A manager that is to be a worker stays one until the others have
let it out of etcd; the leader says so by taking its ``manager_status`` away, and only then does it
get a worker's certificate. A process that would still vote never loses its certificate.
"""

from __future__ import annotations

from typing import Final

from meshnet_control.api import control_pb2 as pb

MANAGER: Final = "manager"
WORKER: Final = "worker"


def is_manager(node: pb.Node) -> bool:
    """Whether a node is to have a manager's certificate."""
    return node.spec.role == MANAGER or node.HasField("manager_status")
