"""What a task's secrets and configs are in its container: their data, templates replaced. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from meshnet.errors import ControlError
from meshnet_control.agent.container import Place, where
from meshnet_control.agent.mounts import file_targets
from meshnet_control.api import control_pb2 as pb
from meshnet_control.cluster.templates import payload

Assigned: TypeAlias = pb.SecretAssignment | pb.ConfigAssignment


@dataclass(frozen=True, slots=True)
class TaskFile:
    """One secret or config of a task."""

    target: pb.FileTarget
    data: bytes
    hot: bool = False
    """It belongs into a container that runs, too."""
    signal: str = ""
    """For the program when its file was rewritten; empty: none."""


def contents(
    task: pb.Task, place: Place, assigned: Callable[[str, str], Assigned | None]
) -> list[TaskFile]:
    """The files of a task, in the order of ``file_targets``.

    A template may have another file in it: what is hot in one of them is so in all templates.

    Args:
        task: the task.
        place: the node it runs on.
        assigned: what the node was given, by ``secret`` or ``config`` and the object's id.

    Raises:
        ControlError: one is not on this node, or its template cannot be expanded.
    """
    found: list[tuple[str, pb.FileTarget, Assigned]] = []
    for kind, object_id, target, _ in file_targets(task):
        given = assigned(kind, object_id)
        if given is None:
            raise ControlError(f"{kind} {target.name} ({object_id}) not found on this node")
        found.append((kind, target, given))
    stored = {(kind, target.name): given.data for kind, target, given in found}
    any_hot = next((given for _, _, given in found if given.hot), None)
    files: list[TaskFile] = []
    for kind, target, given in found:
        data = given.data
        if given.templated:
            try:
                data = payload(data, task, where(task, place), stored)
            except ControlError as error:
                why = f"failed to expand templated {kind} {given.id}: {error.message}"
                raise ControlError(why) from error
        hot = given if given.hot else any_hot if given.templated else None
        files.append(TaskFile(target, data, hot is not None, hot.signal if hot is not None else ""))
    return files
