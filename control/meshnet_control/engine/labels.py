"""Labels that Swarm gives to a task's container, by which it is found in the engine. Pure.

Source: moby daemon/cluster/executor/container/container.go, ``labels``.
"""

from __future__ import annotations

from typing import Final

OURS: Final = "meshnet"
"""Of what we made in the engine."""
NODE_LABEL: Final = "com.docker.swarm.node.id"
TASK_LABEL: Final = "com.docker.swarm.task.id"
NETWORK_LABEL: Final = "meshnet.network"
"""Of a network that a node made for itself: the ID that it has in the cluster."""
CONFIG_LABEL: Final = "meshnet.config-from"
"""Of such a network: the engine's network that says how it is made."""
TASK_NAME_LABEL: Final = "com.docker.swarm.task.name"
