"""What a service's specification must not say, with swarmkit's sentence for each.

PURE. Called on a completed specification (``service_spec.complete``).

Source: swarmkit manager/controlapi/service.go (validate*), manager/constraint.
"""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import ip_address
from typing import Final

from meshnet.patterns import Pattern
from meshnet_control.api.control_pb2 import (
    ContainerSpec,
    EndpointSpec,
    HealthConfig,
    Placement,
    ResourceRequirements,
    RestartPolicy,
    ServiceSpec,
    UpdateConfig,
)
from meshnet_control.cluster.constraint import parse
from meshnet_control.controlapi.refusals import invalid
from meshnet_control.controlapi.specs.names import check_dns_name

_MIN_NANO_CPUS: Final = 1_000_000
_MIN_MEMORY_BYTES: Final = 4 * 1024 * 1024
_MIN_HEALTH_NS: Final = 1_000_000
_MAX_PORT: Final = 65535
_PART: Final = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_IMAGE: Final = Pattern(
    rf"(?:[A-Za-z0-9.-]+(?::[0-9]+)?/)?{_PART}(?:/{_PART})*"
    r"(?::\w[\w.-]{0,127})?(?:@[A-Za-z][A-Za-z0-9+._-]*:[0-9a-fA-F]{32,128})?",
    longest=1024,
)


def check(spec: ServiceSpec) -> None:
    """Refuse a specification that no service can have.

    Raises:
        ControlError: the first thing wrong with it.
    """
    check_dns_name(spec.name)
    task = spec.task_template
    _resources(task.resources)
    if task.HasField("restart_policy"):
        _restart(task.restart_policy)
    _placement(task.placement)
    _container(task.container_spec)
    for config, manual in ((spec.update_config, True), (spec.rollback_config, False)):
        _update(config, rollback_allowed=manual)
    _endpoint(spec.endpoint_spec)


def _one_of(what: str, value: str, allowed: Iterable[str]) -> None:
    if value and value not in set(allowed):
        raise invalid(f'invalid {what}: "{value}"')


def _resources(resources: ResourceRequirements) -> None:
    for amount in (resources.limits, resources.reservations):
        if amount.nano_cpus and amount.nano_cpus < _MIN_NANO_CPUS:
            raise invalid(f"invalid cpu value {amount.nano_cpus / 1e9:g}: Must be at least 0.001")
        if amount.memory_bytes and amount.memory_bytes < _MIN_MEMORY_BYTES:
            raise invalid(f"invalid memory value {amount.memory_bytes}: Must be at least 4MiB")


def _restart(policy: RestartPolicy) -> None:
    _one_of("RestartCondition", policy.condition, ("none", "on-failure", "any"))
    if policy.delay < 0:
        raise invalid("TaskSpec: restart-delay cannot be negative")
    if policy.window < 0:
        raise invalid("TaskSpec: restart-window cannot be negative")


def _placement(placement: Placement) -> None:
    for constraint in placement.constraints:
        try:
            parse(constraint)
        except ValueError as error:
            raise invalid(str(error)) from None


def _container(container: ContainerSpec) -> None:
    if not container.image:
        raise invalid("ContainerSpec: image reference must be provided")
    if not _IMAGE.fits(container.image):
        raise invalid(f'ContainerSpec: "{container.image}" is not a valid repository/tag')
    targets: set[str] = set()
    for mount in container.mounts:
        if mount.target in targets:
            raise invalid(f"ContainerSpec: duplicate mount point: {mount.target}")
        targets.add(mount.target)
    for server in container.dns_config.nameservers:
        _address("DNS server", server)
    if container.HasField("healthcheck"):
        _health(container.healthcheck)
    _references("secret", [(s.secret_id, s.secret_name, s.file.name) for s in container.secrets])
    _references("config", [(c.config_id, c.config_name, c.file.name) for c in container.configs])


def _address(what: str, address: str) -> None:
    try:
        ip_address(address)
    except ValueError:
        raise invalid(f'ContainerSpec: {what} "{address}" is not an IP address') from None


def _health(health: HealthConfig) -> None:
    for what, value in (
        ("Interval", health.interval),
        ("Timeout", health.timeout),
        ("StartPeriod", health.start_period),
        ("StartInterval", health.start_interval),
    ):
        if value < 0:
            raise invalid(f"ContainerSpec: {what} in HealthConfig cannot be negative")
        if 0 < value < _MIN_HEALTH_NS:
            raise invalid(f"ContainerSpec: {what} in HealthConfig cannot be less than 1ms")
    if health.retries < 0:
        raise invalid("ContainerSpec: Retries in HealthConfig cannot be negative")


def _references(kind: str, references: list[tuple[str, str, str]]) -> None:
    by_target: dict[str, str] = {}
    for identifier, name, target in references:
        if not identifier or not name:
            raise invalid(f"malformed {kind} reference")
        if not target:
            raise invalid(f"malformed file {kind} reference, no target file")
        if target in by_target:
            raise invalid(
                f"{kind} references '{by_target[target]}' and '{name}' "
                f"have a conflicting target: '{target}'"
            )
        by_target[target] = name


def _update(config: UpdateConfig, *, rollback_allowed: bool) -> None:
    actions = ("pause", "continue", "rollback") if rollback_allowed else ("pause", "continue")
    _one_of("FailureAction", config.failure_action, actions)
    _one_of("Order", config.order, ("stop-first", "start-first"))
    if config.delay < 0:
        raise invalid("TaskSpec: update-delay cannot be negative")
    if config.monitor < 0:
        raise invalid("TaskSpec: update-monitor cannot be negative")
    if not 0 <= config.max_failure_ratio <= 1:
        raise invalid("TaskSpec: update-maxfailureratio cannot be less than 0 or bigger than 1")


def _endpoint(endpoint: EndpointSpec) -> None:
    _one_of("endpoint mode", endpoint.mode, ("vip", "dnsrr"))
    seen: set[tuple[int, str]] = set()
    for port in endpoint.ports:
        if endpoint.mode == "dnsrr" and port.publish_mode == "ingress":
            raise invalid(
                "EndpointSpec: port published with ingress mode can't be used with dnsrr mode"
            )
        _one_of("Protocol", port.protocol, ("tcp", "udp", "sctp"))
        _one_of("PublishMode", port.publish_mode, ("ingress", "host"))
        if not 0 < port.target_port <= _MAX_PORT or port.published_port > _MAX_PORT:
            raise invalid("EndpointSpec: ports must be between 1 and 65535")
        key = (port.published_port, port.protocol)
        if port.published_port and key in seen:
            raise invalid("EndpointSpec: duplicate published ports provided")
        seen.add(key)
