"""A service's specification: completed as the engine completes it, and checked.

PURE. ``complete`` writes down what the engine writes down (one replica, vip, container runtime);
``with_defaults`` adds for display what is left to the orchestrator (``insertDefaults=true``).

Source: moby daemon/cluster/convert/service.go; swarmkit manager/controlapi/service.go and
api/defaults/service.go.
"""

from __future__ import annotations

from collections.abc import Iterable
from http import HTTPStatus
from typing import Final

from meshnet.errors import ControlError
from meshnet_control.api.control_pb2 import (
    ContainerSpec,
    EndpointSpec,
    PortConfig,
    Service,
    ServiceSpec,
    UpdateConfig,
)
from meshnet_control.controlapi.refusals import invalid, unimplemented

SECOND: Final = 1_000_000_000
"""Nanoseconds; the Engine API counts time in them."""


def mode_of(spec: ServiceSpec) -> str:
    """``replicated``, ``global``, ``replicated-job`` or ``global-job``; empty when none is set."""
    for field, word in (
        ("replicated", "replicated"),
        ("global", "global"),
        ("replicated_job", "replicated-job"),
        ("global_job", "global-job"),
    ):
        if spec.mode.HasField(field):
            return word
    return ""


def is_job(spec: ServiceSpec) -> bool:
    """The service's tasks are to end, not to run for ever."""
    return mode_of(spec).endswith("-job")


def complete(spec: ServiceSpec) -> ServiceSpec:
    """A copy with everything written out that the engine writes out on create and update.

    Raises:
        ControlError: no container specification, or a mode this version does not run.
    """
    done = ServiceSpec()
    done.CopyFrom(spec)
    task = done.task_template
    if not task.HasField("container_spec") or task.runtime not in {"", "container"}:
        raise ControlError("mismatched Runtime and *Spec fields", HTTPStatus.BAD_REQUEST)
    _check_supported(task.container_spec)
    task.runtime = "container"
    task.container_spec.isolation = task.container_spec.isolation or "default"
    if task.HasField("restart_policy"):
        task.restart_policy.condition = task.restart_policy.condition or _condition(done)
        if not task.restart_policy.HasField("max_attempts"):
            task.restart_policy.max_attempts = 0
    _complete_mode(done)
    for name in ("update_config", "rollback_config"):
        if done.HasField(name):
            config: UpdateConfig = getattr(done, name)
            config.failure_action = config.failure_action or "pause"
            config.order = config.order or "stop-first"
    if done.HasField("endpoint_spec"):
        _complete_endpoint(done.endpoint_spec)
    return done


def _check_supported(container: ContainerSpec) -> None:
    """Refuse what a Linux engine would not do for a task rather than leave it out silently."""
    if container.privileges.HasField("credential_spec"):
        raise unimplemented(
            "credential specs are for Windows containers, meshnet runs Linux ones: "
            "leave out --credential-spec"
        )
    if container.isolation.lower() not in {"", "default"}:
        raise unimplemented(
            f"isolation {container.isolation} is for Windows containers, meshnet runs Linux ones: "
            "leave out --isolation"
        )


def _condition(spec: ServiceSpec) -> str:
    """When a task is followed by another one, if nothing is said."""
    return "on-failure" if is_job(spec) else "any"


def _complete_mode(spec: ServiceSpec) -> None:
    if len(spec.mode.ListFields()) > 1:
        raise ControlError("must specify only one service mode", HTTPStatus.BAD_REQUEST)
    mode = mode_of(spec)
    if mode in {"", "replicated"}:
        if not spec.mode.replicated.HasField("replicas"):
            spec.mode.replicated.replicas = 1
    elif mode == "replicated-job":
        job = spec.mode.replicated_job
        if not job.HasField("max_concurrent"):
            job.max_concurrent = 1
        if not job.HasField("total_completions"):
            job.total_completions = job.max_concurrent


def _complete_endpoint(endpoint: EndpointSpec) -> None:
    endpoint.mode = endpoint.mode or "vip"
    for port in endpoint.ports:
        port.protocol = port.protocol or "tcp"
        port.publish_mode = port.publish_mode or "ingress"


def with_defaults(spec: ServiceSpec) -> ServiceSpec:
    """A copy with the defaults the orchestrator works from, for ``docker service inspect``."""
    full = ServiceSpec()
    full.CopyFrom(spec)
    task = full.task_template
    if not task.container_spec.HasField("stop_grace_period"):
        task.container_spec.stop_grace_period = 10 * SECOND
    task.container_spec.dns_config.SetInParent()
    task.resources.limits.SetInParent()
    task.resources.reservations.SetInParent()
    task.placement.SetInParent()
    policy = task.restart_policy
    policy.condition = policy.condition or _condition(spec)
    if not policy.HasField("delay"):
        policy.delay = 5 * SECOND
    if not policy.HasField("max_attempts"):
        policy.max_attempts = 0
    for name in () if is_job(spec) else ("update_config", "rollback_config"):
        if not full.HasField(name):
            getattr(full, name).CopyFrom(
                UpdateConfig(
                    parallelism=1, failure_action="pause", monitor=5 * SECOND, order="stop-first"
                )
            )
        elif getattr(full, name).monitor == 0:
            getattr(full, name).monitor = 5 * SECOND
    full.endpoint_spec.mode = full.endpoint_spec.mode or "vip"
    return full


def check_ports(spec: ServiceSpec, service_id: str, services: Iterable[Service]) -> None:
    """Refuse a published port that another service has.

    Two services may publish the same port on the host: the scheduler keeps them apart.

    Raises:
        ControlError: taken by another service, which is named (400).
    """
    wanted = {_key(p): p for p in spec.endpoint_spec.ports if p.published_port}
    for other in services:
        if other.id == service_id:
            continue
        for port in [*other.spec.endpoint_spec.ports, *other.endpoint.ports]:
            asked = wanted.get(_key(port)) if port.published_port else None
            if asked is None or (asked.publish_mode == port.publish_mode == "host"):
                continue
            manner = "a host-published" if port.publish_mode == "host" else "an ingress"
            raise invalid(
                f"port '{port.published_port}' is already in use by service "
                f"'{other.spec.name}' ({other.id}) as {manner} port"
            )


def _key(port: PortConfig) -> tuple[int, str]:
    return port.published_port, port.protocol or "tcp"
