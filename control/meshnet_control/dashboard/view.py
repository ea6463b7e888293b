"""What the page shows, of the cluster's objects, as plain values for JSON. Pure.

```
 Node, Service, Task, Network ──> picture() ──┐
                        the picture before ───┴─> difference() ──> what a page that has it needs
```
A picture is ``{"nodes": {id: row}, "services": {id: row}, "tasks": {id: row}}``. A row has what is
shown and nothing else: environments, secrets and commands are no part of it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, TypeAlias
from zlib import crc32

from meshnet_control.api import control_pb2 as pb
from meshnet_control.api import explain_pb2 as xpb
from meshnet_control.cluster.published_ports import ports_of
from meshnet_control.explain import balancing, references

Row: TypeAlias = Mapping[str, Any]
Picture: TypeAlias = Mapping[str, Mapping[str, Row]]

KINDS: Final = ("nodes", "services", "tasks")
EMPTY: Final[Picture] = {kind: {} for kind in KINDS}
COLOURS: Final = 12
"""As many as the style sheet has."""
_GIGA: Final = 10**9

RUNNING: Final = "running"
COMING: Final = "coming"
GOING: Final = "going"
FAILED: Final = "failed"
_FAILURES: Final = frozenset({pb.TASK_STATE_FAILED, pb.TASK_STATE_REJECTED})


def picture(
    nodes: Iterable[pb.Node],
    services: Iterable[pb.Service],
    tasks: Iterable[pb.Task],
    networks: Iterable[pb.Network],
) -> Picture:
    """Everything that is shown.

    Args:
        nodes: all of them.
        services: with their ``service_status`` counted.
        tasks: all that are kept, also those that have ended.
        networks: for their names.
    """
    names = {network.id: network.spec.name for network in networks}
    theirs: defaultdict[str, list[pb.Task]] = defaultdict(list)
    for task in tasks:
        if task.service_id:
            theirs[task.service_id].append(task)
    oldest_first = sorted(services, key=lambda each: (each.created_at.ToNanoseconds(), each.id))
    colours = _colours([service.id for service in oldest_first])
    by_name = sorted(oldest_first, key=lambda each: each.spec.name)
    shown = (
        (task, group)
        for service in by_name
        for task in sorted(theirs[service.id], key=lambda each: (each.slot, each.node_id, each.id))
        if (group := group_of(task))
    )
    hosts = sorted(nodes, key=lambda each: (each.description.hostname, each.id))
    return {
        "nodes": {node.id: _node(node) for node in hosts},
        "services": {
            service.id: _service(service, theirs[service.id], names, colours[service.id])
            for service in by_name
        },
        "tasks": {task.id: _task(task, group) for task, group in shown},
    }


def difference(before: Picture, after: Picture) -> dict[str, Any]:
    """What makes the one the other: of each kind the rows that are other, and ids that are gone."""
    found: dict[str, Any] = {}
    for kind in KINDS:
        old, new = before[kind], after[kind]
        put = [row for key, row in new.items() if old.get(key) != row]
        gone = [key for key in old if key not in new]
        if put or gone:
            found[kind] = {"put": put, "gone": gone}
    return found


def group_of(task: pb.Task) -> str:
    """How a task is drawn; empty: it is not, for it is history."""
    state, wanted = task.status.state, task.desired_state
    if state in _FAILURES:
        return FAILED if wanted <= pb.TASK_STATE_RUNNING else ""
    if state > pb.TASK_STATE_RUNNING:
        return ""
    if wanted > pb.TASK_STATE_COMPLETE:
        # one that never began is not waited for
        return GOING if state > pb.TASK_STATE_PENDING else ""
    return RUNNING if state == pb.TASK_STATE_RUNNING else COMING


def backends(answer: xpb.BalancingAnswer, service_id: str, missing: Sequence[str]) -> Row:
    """Who answers for a service now, and what part of its connections each got.

    Args:
        answer: of all nodes, merged.
        service_id: of the service.
        missing: who did not answer, a sentence each.
    """
    rows: list[Row] = []
    for service in answer.services:
        if service.id != service_id:
            continue
        for backend, share in zip(service.backends, balancing.shares(service), strict=True):
            rows.append(
                {
                    "task": backend.task,
                    "name": references.short(backend.name, backend.task),
                    "node": backend.node,
                    "addresses": [each.address for each in backend.addresses],
                    "state": backend.state,
                    "open": backend.counters.open,
                    "connections": backend.counters.connections,
                    "bytes": backend.counters.bytes,
                    "share": round(share, 3),
                }
            )
    return {"service": service_id, "backends": rows, "missing": [*missing, *answer.unread]}


def _colours(ids: Sequence[str]) -> Mapping[str, int]:
    """A colour for each, its own as long as there are any left; the oldest chooses first."""
    given: dict[str, int] = {}
    free: list[int] = []
    for each in ids:
        free = free or list(range(COLOURS))
        wanted = crc32(each.encode()) % COLOURS
        given[each] = wanted if wanted in free else free[wanted % len(free)]
        free.remove(given[each])
    return given


def _node(node: pb.Node) -> Row:
    said = node.description
    return {
        "id": node.id,
        "name": said.hostname or node.id,
        "role": node.spec.role,
        "leader": node.manager_status.leader,
        "reachability": node.manager_status.reachability,
        "state": node.status.state,
        "message": node.status.message,
        "availability": node.spec.availability,
        "address": node.status.addr,
        "cpus": said.resources.nano_cpus / _GIGA,
        "memory": said.resources.memory_bytes,
        "platform": "/".join(filter(None, (said.platform.os, said.platform.architecture))),
        "engine": said.engine.engine_version,
        "labels": dict(sorted(node.spec.labels.items())),
    }


def _service(
    service: pb.Service, tasks: Sequence[pb.Task], networks: Mapping[str, str], colour: int
) -> Row:
    spec, counted = service.spec, service.service_status
    said = service.update_status
    fresh = sum(
        task.spec_version == service.spec_version and group_of(task) == RUNNING for task in tasks
    )
    return {
        "id": service.id,
        "name": spec.name,
        "colour": colour,
        "mode": _mode(spec.mode),
        "image": _image(spec.task_template),
        "running": counted.running_tasks,
        "wanted": counted.desired_tasks,
        "completed": counted.completed_tasks,
        "update": {"state": said.state, "message": said.message, "fresh": fresh},
        "vips": [
            {"network": networks.get(vip.network_id, vip.network_id), "address": vip.addr}
            for vip in service.endpoint.virtual_ips
        ],
        "ports": [
            {
                "published": port.published,
                "target": port.target,
                "protocol": port.protocol,
                "mode": port.mode,
            }
            for port in ports_of(service.endpoint.ports)
        ],
        "labels": dict(sorted(spec.labels.items())),
        "trouble": _trouble(tasks) if counted.running_tasks < counted.desired_tasks else "",
    }


def _mode(mode: pb.ServiceMode) -> str:
    words = {
        "global": "global",
        "replicated_job": "replicated job",
        "global_job": "global job",
    }
    return next((word for field, word in words.items() if mode.HasField(field)), "replicated")


def _trouble(tasks: Sequence[pb.Task]) -> str:
    """Why the last one failed that did, or why one has no node."""
    said = [task for task in tasks if task.status.err]
    newest = max(said, key=lambda each: each.status.timestamp.ToNanoseconds(), default=None)
    return newest.status.err if newest is not None else ""


def _task(task: pb.Task, group: str) -> Row:
    name = task.name or f"{task.service_name}.{task.slot or task.node_id}"
    return {
        "id": task.id,
        "name": references.short(name, task.id),
        "service": task.service_id,
        "node": task.node_id,
        "group": group,
        "state": _state(task.status.state),
        "wanted": _state(task.desired_state),
        "message": task.status.err or task.status.message,
        "since": task.status.timestamp.seconds,
        "image": _image(task.spec),
    }


def _state(state: pb.TaskState) -> str:
    return pb.TaskState.Name(state).removeprefix("TASK_STATE_").lower()


def _image(spec: pb.TaskSpec) -> str:
    return spec.container_spec.image.partition("@")[0]
