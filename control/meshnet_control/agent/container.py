"""What a task's container looks like: task -> body of ``POST /containers/create``. Pure.

A task on overlay networks gets ``NetworkMode: none``, our name server and the gate; a task without
them is an ordinary container of the engine (default bridge, or the engine's network it names).

Its ``HostConfig`` is in ``host_config``, what is mounted in ``mounts``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from ipaddress import IPv4Interface
from pathlib import Path
from typing import Any, Final

from meshnet.errors import ControlError
from meshnet_control.agent import engine_socket, gate
from meshnet_control.agent.gateway_addresses import GATEWAY_LABEL
from meshnet_control.agent.host_config import host_config
from meshnet_control.agent.program import DEFAULT_PATH, Program
from meshnet_control.agent.task_networks import name_of, overlays_of, sandbox_of
from meshnet_control.api import control_pb2 as pb
from meshnet_control.cluster import node_local, privileges
from meshnet_control.cluster.published_ports import ports_of
from meshnet_control.cluster.templates import Where, expanded
from meshnet_control.engine.labels import NODE_LABEL, TASK_LABEL, TASK_NAME_LABEL

IS_TASK_LABEL: Final = "meshnet.task"
"""Of every task's container that we made."""
TASKS: Final = "tasks"
"""In the run directory: the directories of all tasks."""


@dataclass(frozen=True, slots=True)
class Place:
    """The node a container runs on."""

    node_id: str
    hostname: str
    architecture: str = ""
    os: str = "linux"
    allows_privileged: bool = False
    """Its administrator lets services ask for more of the host (``cluster/privileges``)."""
    dns_options: tuple[str, ...] = ()
    """Of its resolver; a container of ours has them unless it names its own."""
    init: str = ""
    """docker-init on it; empty: the engine's business, also for one that waits at a gate."""


@dataclass(frozen=True, slots=True)
class Created:
    """A container to make: its name and the body of the request."""

    name: str
    config: dict[str, Any]
    program: Program | None = None
    """What waits at the gate; None: no gate, or an init, which says itself what is not there."""
    connections: tuple[tuple[str, dict[str, Any]], ...] = ()
    """Networks of the engine that it is to be on besides, with ``EndpointSettings``."""

    @property
    def ungated(self) -> dict[str, Any]:
        """The body without the gate: for a program that the engine is to refuse itself."""
        if self.program is None:
            return self.config
        words = self.program.words
        return self.config | {
            "Entrypoint": list(words.entrypoint), "Cmd": list(words.command)
        }  # fmt: skip


def create_arguments(
    task: pb.Task,
    image: Mapping[str, Any],
    place: Place,
    directory: Path,
    gateway: IPv4Interface | None,
    socket: Path | None = None,
) -> Created:
    """The container of a task.

    Args:
        task: the task.
        image: ``GET /images/{name}/json`` of its image.
        place: where it runs.
        directory: the task's directory on this host: ``gate``, ``hosts``, ``files/<n>``.
        gateway: its address on docker_gwbridge, None when it has none.
        socket: what it gets in place of docker.sock, None: the engine's own.

    Raises:
        ControlError: the task cannot run; ``message`` is the engine's sentence for it.
    """
    spec = expanded(task, where(task, place))
    spec.env.extend(_resource_env(task))
    wired = bool(overlays_of(task))
    if wired:
        sandbox_of(task, "", gateway)  # what cannot be wired is not made either
    entrypoint, command, labels = list(spec.command), list(spec.args), _labels(task, place, gateway)
    said = image.get("Config") or {}
    words = gate.words_of(entrypoint, command, said)
    if not words.argv:
        raise ControlError("No command specified")
    program: Program | None = None
    init = place.init if wired and spec.init else ""
    if wired:
        words = replace(words, init=bool(init))
        environment = gate.environment_of(said.get("Env") or (), spec.env)
        labels[gate.COMMAND_LABEL] = words.label()
        entrypoint, command = gate.wrapped(words.process, environment)
        if not spec.init:
            path = environment.get("PATH", DEFAULT_PATH)
            directory_inside = spec.dir or said.get("WorkingDir") or "/"
            program = Program(words, str(image.get("Id") or ""), path, directory_inside)
    config: dict[str, Any] = {
        "Image": spec.image,
        "Cmd": command,
        "Env": list(spec.env),
        "Labels": labels,
        "User": spec.user,
        "WorkingDir": spec.dir,
        "Tty": spec.tty,
        "OpenStdin": spec.open_stdin,
        "HostConfig": host_config(
            task, spec, directory, wired=wired, dns_options=place.dns_options, init=init
        ),
    }
    if not wired:
        ports = ports_of(task.endpoint_spec.ports)
        config["ExposedPorts"] = {f"{port.target}/{port.protocol}": {} for port in ports}
    if entrypoint:
        config["Entrypoint"] = entrypoint
    if spec.hostname:
        config["Hostname"] = spec.hostname
    if spec.stop_signal:
        config["StopSignal"] = spec.stop_signal
    if spec.HasField("healthcheck"):
        config["Healthcheck"] = _health(spec.healthcheck)
    local = [(p.network.spec.name, node_local.endpoint(task, p)) for p in node_local.of_task(task)]
    if local:
        config["NetworkingConfig"] = {"EndpointsConfig": dict(local[:1])}
    wanted = privileges.asked(task.service_labels)
    if wanted.anything and not place.allows_privileged:
        raise ControlError(wanted.refusal)
    config["HostConfig"] |= wanted.host_config()
    kept = {key: value for key, value in config.items() if value not in ("", None)}
    if socket is not None and not engine_socket.wants_engines(task.service_labels):
        kept = dict(engine_socket.lent(kept, socket))
    return Created(name_of(task), kept, program, tuple(local[1:]))


def where(task: pb.Task, place: Place) -> Where:
    """What templates are told of where the task runs."""
    return Where(name_of(task), place.node_id, place.hostname, place.architecture, place.os)


# ---- inside ----


def _labels(task: pb.Task, place: Place, gateway: IPv4Interface | None) -> dict[str, str]:
    return dict(task.spec.container_spec.labels) | {
        NODE_LABEL: place.node_id,
        "com.docker.swarm.service.id": task.service_id,
        "com.docker.swarm.service.name": task.service_name,
        "com.docker.swarm.task": "",
        TASK_LABEL: task.id,
        TASK_NAME_LABEL: name_of(task),
        IS_TASK_LABEL: "1",
        GATEWAY_LABEL: str(gateway) if gateway is not None else "",
    }


def _resource_env(task: pb.Task) -> list[str]:
    """``DOCKER_RESOURCE_GPU=a,b``: what the task was given (swarmkit genericresource.EnvFormat)."""
    given: dict[str, list[str]] = {}
    for resource in task.generic_resources:
        named, discrete = resource.named_resource_spec, resource.discrete_resource_spec
        is_named = resource.HasField("named_resource_spec")
        kind, value = (named.kind, named.value) if is_named else (discrete.kind, discrete.value)
        given.setdefault(kind, []).append(str(value))
    return [f"DOCKER_RESOURCE_{kind.upper()}={','.join(of)}" for kind, of in sorted(given.items())]


def _health(check: pb.HealthConfig) -> dict[str, Any]:
    return {
        "Test": list(check.test),
        "Interval": check.interval,
        "Timeout": check.timeout,
        "StartPeriod": check.start_period,
        "StartInterval": check.start_interval,
        "Retries": check.retries,
    }
