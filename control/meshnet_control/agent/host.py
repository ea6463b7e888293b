"""What the workers of a node share: the engine, the data plane, and what the agent knows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv4Interface
from pathlib import Path

from meshnet_control.agent.collaborators import DataPlane, Engine
from meshnet_control.agent.container import Place
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
    gateway: Callable[[str], IPv4Interface]
    """Allocates an address of docker_gwbridge for a task ID."""
    numbered: Callable[[pb.Task], pb.Task]
    """The task with a free number for every host-mode port that has none."""
    file_data: Callable[[str, str], bytes | None]
    """Data of a secret or config: (kind, ID)."""
