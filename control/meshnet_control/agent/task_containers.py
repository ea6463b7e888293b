"""Which of the engine's containers are tasks'.

An image made of a task's container (``docker commit``) hands all its labels on to what is made of
it. The name it cannot hand on: a container is a task's if it has the name that its labels say.

Source: moby daemon/cluster/executor/container/adapter.go (finds a task's container by its name).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from meshnet_control.agent.collaborators import Engine
from meshnet_control.engine.labels import TASK_NAME_LABEL


def is_tasks(labels: Mapping[str, Any], names: Collection[str]) -> bool:
    """Whether a container was made for the task that its labels name.

    Args:
        labels: of the container.
        names: of the container as the engine says them, with a slash before.
    """
    name = labels.get(TASK_NAME_LABEL)
    return bool(name) and f"/{name}" in names


async def task_containers(engine: Engine, labels: Sequence[str]) -> list[dict[str, Any]]:
    """Containers of tasks with all ``labels`` (``key`` or ``key=value``), stopped ones included.

    Raises:
        EngineError: the engine does not say.
    """
    return [
        entry
        for entry in await engine.containers(labels)
        if is_tasks(entry.get("Labels") or {}, entry.get("Names") or ())
    ]
