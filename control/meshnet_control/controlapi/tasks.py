"""Tasks: list and inspect. Nobody but the orchestrator makes them.

Those that only attach a container to a network are not listed, as in Docker.

Source: moby daemon/cluster/tasks.go and filters.go; swarmkit manager/controlapi/task.go.
"""

from __future__ import annotations

from meshnet.errors import ControlError
from meshnet_control.api.control_pb2 import Node, Service, Task, TaskState
from meshnet_control.controlapi import filters
from meshnet_control.controlapi.access import Access
from meshnet_control.store.index import task_name
from meshnet_control.store.store import Where

_FILTERS = ("_up-to-date", "desired-state", "id", "label", "name", "node", "runtime", "service")


class Tasks:
    """The tasks of a cluster."""

    def __init__(self, access: Access) -> None:
        self._access = access

    async def select(self, raw_filters: str | None) -> list[Task]:
        """Tasks that match.

        Raises:
            ControlError: a filter that is not understood, or names a service or node that is not
                there.
        """
        wanted = filters.parse(raw_filters, _FILTERS)
        of = [await self._access.find(Service, s) for s in sorted(wanted.get("service", ()))]
        services = {service.id for service in of}
        nodes = {(await self._access.find(Node, n)).id for n in sorted(wanted.get("node", ()))}
        where = Where(services=frozenset(services), nodes=frozenset(nodes))
        states = {_state(word) for word in wanted.get("desired-state", ())}
        fresh = filters.flag(wanted.get("_up-to-date"))
        seen = (of or await self._access.all(Service)) if fresh else []
        versions = {service.id: service.spec_version for service in seen}
        return [
            shown(task)
            for task in await self._access.all(Task, where)
            if not task.spec.HasField("network_attachment_spec")
            and (not services or task.service_id in services)
            and (not nodes or task.node_id in nodes)
            and (not states or shown(task).desired_state in states)
            and (not fresh or up_to_date(task, versions.get(task.service_id)))
            and filters.prefix(wanted.get("id"), task.id)
            and filters.prefix(wanted.get("name"), task_name(task))
            and filters.labels(wanted.get("label"), {**task.service_labels, **task.labels})
        ]

    async def inspect(self, reference: str) -> Task:
        """One task."""
        return shown(await self._access.find(Task, reference))


def up_to_date(task: Task, version: int | None) -> bool:
    """A task of its service's newest specification (``_up-to-date``); PURE.

    The docker CLI follows a job by these and takes of each slot the task that has come least far.
    Where one is on its way out, or lost with its node, it would wait for it for ever: that is none.

    Args:
        task: the task.
        version: of its service's specification; None: there is no such service.
    """
    wanted = task.desired_state <= TaskState.TASK_STATE_COMPLETE and not task.displaced
    over = task.status.state > TaskState.TASK_STATE_RUNNING
    return version == task.spec_version and (wanted or over or not task.HasField("job_iteration"))


def shown(task: Task) -> Task:
    """The task as the API shows it; PURE.

    Its specification does not name the runtime; a task that was replaced because its node was lost
    is one that is to stop, as in Swarm, though it may get its place back.
    """
    replaced = task.displaced and task.desired_state <= TaskState.TASK_STATE_COMPLETE
    if not task.spec.runtime and not replaced:
        return task
    copy = Task()
    copy.CopyFrom(task)
    copy.spec.ClearField("runtime")
    if replaced:
        copy.desired_state = TaskState.TASK_STATE_SHUTDOWN
    return copy


def _state(word: str) -> int:
    name = f"TASK_STATE_{word.upper()}"
    if name not in TaskState.keys():  # noqa: SIM118 - an enum wrapper, not a mapping
        raise ControlError(f"Invalid desired-state filter: '{word}'")
    return int(TaskState.Value(name))
