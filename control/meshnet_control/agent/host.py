"""What the workers of a node share: the engine, the data plane, and what the agent knows."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from meshnet_control.agent.collaborators import DataPlane, Engine
from meshnet_control.agent.container import Place
from meshnet_control.agent.gateway_addresses import GatewayAddresses
from meshnet_control.agent.node_networks import NodeNetworks
from meshnet_control.agent.program import ProgramKey
from meshnet_control.agent.task_files import Assigned
from meshnet_control.api import control_pb2 as pb


@dataclass(frozen=True, slots=True)
class Host:
    """What all workers of a node share."""

    engine: Engine
    dataplane: DataPlane
    report: Callable[[str, pb.TaskStatus], None]
    place: Place
    tasks_dir: Path
    """Directories of tasks, for as long as the host is up."""
    memories_dir: Path
    """What is remembered of tasks over a reboot."""
    proc: Path
    """proc(5) with the processes of the engine's containers."""
    socket: Path
    """What containers get in place of docker.sock, if it is there."""
    gateways: GatewayAddresses
    """Addresses of docker_gwbridge, by task ID."""
    numbered: Callable[[pb.Task], pb.Task]
    """The task with a free number for every host-mode port that has none."""
    assigned: Callable[[str, str], Assigned | None]
    """A secret or config: (kind, ID)."""
    networks: NodeNetworks
    """Networks that the engine makes for tasks and others."""
    runnable: set[ProgramKey]
    """Programs that were found in their image."""
    wall: Callable[[], float] = time.time
    """Unix time, seconds."""
