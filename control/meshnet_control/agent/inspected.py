"""What ``GET /containers/{id}/json`` says of a task's container. Pure.

Raises of every function: EngineError, when the engine describes something that is no container.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from meshnet_control.agent import gate
from meshnet_control.agent.step import Seen
from meshnet_control.api import control_pb2 as pb
from meshnet_control.engine.client import EngineError

_NEVER: Final = "0001-"
"""How Go's zero time begins."""


def seen_of(found: Mapping[str, Any], died: int | None) -> Seen:
    """The container's state.

    Args:
        found: as the engine describes it.
        died: exit code that an event told since; it is newer.
    """
    try:
        state = found["State"]
        running = bool(state["Running"]) and died is None
        return Seen(
            id=str(found["Id"]),
            running=running,
            started=running or not str(state["StartedAt"]).startswith(_NEVER),
            exit_code=died if died is not None else int(state["ExitCode"]),
            health=str((state.get("Health") or {}).get("Status", "")),
            error=str(state.get("Error") or ""),
            pid=int(state.get("Pid") or 0),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise nonsense(error) from error


def netns_of(found: Mapping[str, Any]) -> str:
    """Path of the network namespace of a container that runs."""
    try:
        path = str(found["NetworkSettings"]["SandboxKey"])
    except (KeyError, TypeError) as error:
        raise nonsense(error) from error
    if not path:
        raise EngineError("the container has no network namespace", 500)
    return path


def gated(found: Mapping[str, Any]) -> bool:
    """The container's program waits at a gate, or has passed it."""
    entrypoint = _config(found).get("Entrypoint")
    return isinstance(entrypoint, list) and entrypoint[:1] == [gate.SHELL_TARGET]


def hostname_of(found: Mapping[str, Any]) -> str:
    """The name that the container has for itself."""
    return str(_config(found).get("Hostname") or str(found.get("Id"))[:12])


def stop_signal_of(task: pb.Task, config: Mapping[str, Any]) -> str:
    """The signal that ends the task's program.

    Args:
        task: the task; its own word counts.
        config: ``Config`` of its container or image.
    """
    own = task.spec.container_spec.stop_signal
    return str(own or config.get("StopSignal") or "SIGTERM")


def stop_signal_in(task: pb.Task, found: Mapping[str, Any]) -> str:
    """The signal that ends the program of a container that is there."""
    return stop_signal_of(task, _config(found))


def _config(found: Mapping[str, Any]) -> Mapping[str, Any]:
    config = found.get("Config") or {}
    if not isinstance(config, Mapping):
        raise nonsense(TypeError(config))
    return config


def nonsense(error: Exception) -> EngineError:
    """What is raised for something that is no container."""
    return EngineError(f"the engine describes a container that is none: {error!r}", 502)
