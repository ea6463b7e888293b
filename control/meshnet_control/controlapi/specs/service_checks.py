"""What a service's specification must not say, with swarmkit's sentence for each.

PURE. Called on a completed specification (``service_spec.complete``).

Source: swarmkit manager/controlapi/service.go (validate*), manager/constraint.
"""

from __future__ import annotations

from collections.abc import Iterable, Set
from typing import Final

from meshnet.errors import ControlError
from meshnet.model.wellknown import (
    CONTROL_PORT,
    GOSSIP_PORT,
    LARGEST_PORT,
    PEER_PORT,
    VXLAN_PORT,
)
from meshnet.patterns import Pattern
from meshnet_control.api.control_pb2 import (
    ContainerSpec,
    EndpointSpec,
    Placement,
    ResourceRequirements,
    RestartPolicy,
    ServiceSpec,
    Task,
    TaskSpec,
    UpdateConfig,
)
from meshnet_control.cluster import privileges, service_labels, service_networks
from meshnet_control.cluster.constraint import parse
from meshnet_control.cluster.templates import Where, expanded
from meshnet_control.controlapi.refusals import invalid
from meshnet_control.controlapi.specs import container_checks
from meshnet_control.controlapi.specs.names import check_dns_name
from meshnet_control.controlapi.specs.service_spec import is_job

_MIN_NANO_CPUS: Final = 1_000_000
_MIN_MEMORY_BYTES: Final = 4 * 1024 * 1024
_MAX_SWAPPINESS: Final = 100
OWN_PORTS: Final = frozenset(
    {
        (CONTROL_PORT, "tcp"),
        (PEER_PORT, "tcp"),
        (GOSSIP_PORT, "tcp"),
        (GOSSIP_PORT, "udp"),
    }
)
"""What nodes speak to each other on, beside VXLAN's: a service there would cut them off."""
MOST_REPLICAS: Final = 10_000
"""Tasks of one service; more than any overlay of usual size has addresses for."""
_ID: Final = 25
"""Characters of an id."""
_MOST_ALIASES: Final = 64
_ALIAS: Final = Pattern(r"[a-zA-Z0-9_](?:[a-zA-Z0-9_.-]*[a-zA-Z0-9_])?", longest=253)


def check(spec: ServiceSpec, data_path_port: int = VXLAN_PORT) -> None:
    """Refuse a specification that no service can have.

    Args:
        spec: of the service.
        data_path_port: of the cluster.

    Raises:
        ControlError: the first thing wrong with it.
    """
    check_dns_name(spec.name)
    task = spec.task_template
    _resources(task.resources)
    if task.HasField("restart_policy"):
        _restart(task.restart_policy)
    _placement(task.placement)
    container_checks.check(_expanded(spec))
    _networks(service_networks.template(spec))
    _mode(spec)
    if is_job(spec):
        for name, word in (("update_config", "an update"), ("rollback_config", "a rollback")):
            if spec.HasField(name):
                raise invalid(f"Jobs may not have {word} config")
    for config, manual in ((spec.update_config, True), (spec.rollback_config, False)):
        _update(config, rollback_allowed=manual)
    _endpoint(spec.endpoint_spec, OWN_PORTS | {(data_path_port, "udp")})
    try:
        privileges.asked(spec.labels)
        service_labels.check(spec.labels, spec.endpoint_spec.mode)
    except ControlError as error:
        raise invalid(str(error)) from None


def _expanded(spec: ServiceSpec) -> ContainerSpec:
    """The container of a task made up, as a node would have it.

    Raises:
        ControlError: a template is wrong.
    """
    task = Task(id="t" * _ID, service_id="s" * _ID, service_name=spec.name, slot=1)
    task.service_labels.update(spec.labels)
    task.spec.CopyFrom(spec.task_template)
    name = f"{spec.name}.1.{task.id}"
    try:
        return expanded(task, Where(name, "n" * _ID, "nodeHostname", "architecture", "os"))
    except ControlError as error:
        raise invalid(error.message) from None


def _one_of(what: str, value: str, allowed: Iterable[str]) -> None:
    if value and value not in set(allowed):
        raise invalid(f'invalid {what}: "{value}"')


def _resources(resources: ResourceRequirements) -> None:
    for amount in (resources.limits, resources.reservations):
        if amount.nano_cpus and amount.nano_cpus < _MIN_NANO_CPUS:
            raise invalid(f"invalid cpu value {amount.nano_cpus / 1e9:g}: Must be at least 0.001")
        if amount.memory_bytes and amount.memory_bytes < _MIN_MEMORY_BYTES:
            raise invalid(f"invalid memory value {amount.memory_bytes}: Must be at least 4MiB")
    if resources.swap_bytes < -1:
        raise invalid(f"invalid swap value {resources.swap_bytes}: Must be at least -1")
    if resources.swap_bytes > 0 and not resources.limits.memory_bytes:
        raise invalid(
            "You should always set the Memory limit when using Memoryswap limit, see usage"
        )
    swappiness = resources.memory_swappiness
    if resources.HasField("memory_swappiness") and not -1 <= swappiness <= _MAX_SWAPPINESS:
        raise invalid(
            f"invalid value: {swappiness}, valid memory swappiness range is 0-{_MAX_SWAPPINESS}"
        )
    if resources.limits.pids < 0:
        raise invalid(f"invalid pids limit {resources.limits.pids}: Must not be negative")
    for resource in resources.reservations.generic_resources:
        if resource.discrete_resource_spec.value < 0:
            raise invalid("invalid generic resource: its value must not be negative")


def _mode(spec: ServiceSpec) -> None:
    job = spec.mode.replicated_job
    for value in (spec.mode.replicated.replicas, job.total_completions, job.max_concurrent):
        if value > MOST_REPLICAS:
            raise invalid(f"invalid replicas {value}: Must be at most {MOST_REPLICAS}")


def _networks(task: TaskSpec) -> None:
    for attachment in task.networks:
        if len(attachment.aliases) > _MOST_ALIASES:
            raise invalid(
                f"a service can have at most {_MOST_ALIASES} aliases on a network, "
                f"{attachment.target} was given {len(attachment.aliases)}"
            )
        for alias in attachment.aliases:
            if not _ALIAS.fits(alias):
                raise invalid(f"alias '{alias}' must be valid as a DNS name")


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


def _endpoint(endpoint: EndpointSpec, own: Set[tuple[int, str]]) -> None:
    _one_of("endpoint mode", endpoint.mode, ("vip", "dnsrr"))
    seen: set[tuple[int, str]] = set()
    for port in endpoint.ports:
        if endpoint.mode == "dnsrr" and port.publish_mode == "ingress":
            raise invalid(
                "EndpointSpec: port published with ingress mode can't be used with dnsrr mode"
            )
        _one_of("Protocol", port.protocol, ("tcp", "udp", "sctp"))
        _one_of("PublishMode", port.publish_mode, ("ingress", "host"))
        if not 0 < port.target_port <= LARGEST_PORT or port.published_port > LARGEST_PORT:
            raise invalid("EndpointSpec: ports must be between 1 and 65535")
        protocol = port.protocol or "tcp"
        if (port.published_port, protocol) in own:
            raise invalid(
                f"EndpointSpec: port {port.published_port}/{protocol} is the cluster's own on every"
                " node: publish another one"
            )
        key = (port.published_port, port.protocol)
        if port.published_port and key in seen:
            raise invalid("EndpointSpec: duplicate published ports provided")
        seen.add(key)
