"""Which part of the cluster one node works from, and how that part changes. Pure.

```
 store objects ──Objects──> node_assignments(node) ──> state n ─┐
                                                      state n+1 ┴─ difference() ──> message
 agent:  state n ── merge(message) ──> state n+1
```

A state is an ``Assignments`` with ``full`` set, every list sorted by id. Law: merging
``difference(old, new)`` into ``old`` gives ``new``.

Be aware: a task's status is the agent's own to know and would come back as an echo; only whether it
is new, has begun or has ended is sent, so that no task is begun twice.
Source: swarmkit manager/dispatcher/assignments.go.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from ipaddress import AddressValueError, IPv4Address
from typing import Final, Protocol, TypeVar

from meshnet.errors import WireError
from meshnet_control.api import control_pb2 as pb
from meshnet_control.cluster.roles import MANAGER, WORKER, is_manager

HEARTBEAT_NS: Final = 5_000_000_000
"""Period while the cluster does not say another (swarmkit's default)."""
BEAT_NS: Final = 1_000_000_000
"""Agents beat at least this often, so that a silence means something when gossip misses a node."""


class _Named(Protocol):
    @property
    def id(self) -> str: ...


M = TypeVar("M", bound=_Named)


@dataclass(frozen=True)
class Objects:
    """The cluster's objects at one revision, each kind by id. Not to be changed."""

    cluster: pb.Cluster
    nodes: Mapping[str, pb.Node] = field(default_factory=dict)
    services: Mapping[str, pb.Service] = field(default_factory=dict)
    tasks: Mapping[str, pb.Task] = field(default_factory=dict)
    networks: Mapping[str, pb.Network] = field(default_factory=dict)
    secrets: Mapping[str, pb.Secret] = field(default_factory=dict)
    configs: Mapping[str, pb.Config] = field(default_factory=dict)

    @cached_property
    def tasks_of(self) -> Mapping[str, list[pb.Task]]:
        """Tasks that a node was told to run, by node."""
        found: dict[str, list[pb.Task]] = defaultdict(list)
        for task in self.tasks.values():
            if task.node_id and task.status.state >= pb.TASK_STATE_ASSIGNED:
                found[task.node_id].append(task)
        return found

    @cached_property
    def network_views(self) -> Mapping[str, pb.Network]:
        """Networks without what changes for no node's sake."""
        return {network.id: _network(network) for network in self.networks.values()}

    @cached_property
    def node_views(self) -> Mapping[str, pb.NodeView]:
        """Nodes with an address that others can reach: the way to one that is down stays, too."""
        return {
            node.id: _node(node)
            for node in self.nodes.values()
            if is_host_address(node.status.addr)
        }

    @cached_property
    def service_views(self) -> Mapping[str, pb.ServiceView]:
        """Services by id; their networks by id even where the spec names them."""
        ids = {network.spec.name: network.id for network in self.networks.values()}
        ids |= {network.id: network.id for network in self.networks.values()}
        return {service.id: _service(service, ids) for service in self.services.values()}

    @cached_property
    def managers(self) -> list[pb.RemoteManager]:
        """Where managers can be reached; who leads comes first, for it has the sessions."""
        there = [
            node
            for node in _sorted(self.nodes.values())
            if node.manager_status.addr and node.status.state != "down"
        ]
        there.sort(key=lambda node: not node.manager_status.leader)
        return [pb.RemoteManager(node_id=node.id, addr=node.manager_status.addr) for node in there]


def node_assignments(objects: Objects, node_id: str) -> pb.Assignments:
    """Everything one node works from: a state, with version 0.

    Its tasks; the networks of those that may still run, and the ingress network; services on these
    networks or with published ports; all nodes; secrets and configs of tasks that may still run.
    """
    tasks = objects.tasks_of.get(node_id, [])
    live = [task for task in tasks if not _final(task)]
    wanted = {
        attachment.network.id for task in live for attachment in task.networks_attachments
    } | {network.id for network in objects.networks.values() if network.spec.ingress}
    containers = [task.spec.container_spec for task in live]
    secrets = {ref.secret_id for container in containers for ref in container.secrets}
    configs = {ref.config_id for container in containers for ref in container.configs}
    cluster = objects.cluster
    return pb.Assignments(
        full=True,
        tasks=_sorted(_task(task) for task in tasks),
        networks=_sorted(_present(objects.network_views, wanted)),
        services=_sorted(s for s in objects.service_views.values() if _concerns(s, wanted)),
        nodes=_sorted(objects.node_views.values()),
        secrets=[
            pb.SecretAssignment(id=secret.id, data=secret.spec.data)
            for secret in _sorted(_present(objects.secrets, secrets))
        ],
        configs=[
            pb.ConfigAssignment(id=config.id, data=config.spec.data)
            for config in _sorted(_present(objects.configs, configs))
        ],
        gossip_keys=cluster.gossip_keys,
        cluster_id=cluster.id,
        heartbeat_period=min(heartbeat_ns(cluster), BEAT_NS),
        managers=objects.managers,
        trust_root=cluster.ca_certificate,
        issuer_key=cluster.tls_info.cert_issuer_public_key,
    )


def is_host_address(said: str) -> bool:
    """True for an IPv4 address that one host can have: a VTEP's, gossip's.

    Whatever else a node says its address is stays out of what other nodes work from.
    """
    try:
        address = IPv4Address(said)
    except AddressValueError:
        return False
    return not (address.is_unspecified or address.is_multicast or address.is_reserved)


def heartbeat_ns(cluster: pb.Cluster) -> int:
    """The period whose third miss makes a node Down, nanoseconds."""
    return cluster.spec.dispatcher.heartbeat_period or HEARTBEAT_NS


def difference(old: pb.Assignments, new: pb.Assignments) -> pb.Assignments | None:
    """What turns one state into another; None when nothing but the version differs.

    Returns:
        A message with the version of ``new``; keys, managers and settings are whole in it.
    """
    message = pb.Assignments(
        version=new.version,
        tasks=_changed(old.tasks, new.tasks),
        networks=_changed(old.networks, new.networks),
        services=_changed(old.services, new.services),
        nodes=_changed(old.nodes, new.nodes),
        secrets=_changed(old.secrets, new.secrets),
        configs=_changed(old.configs, new.configs),
        removed_tasks=_gone(old.tasks, new.tasks),
        removed_networks=_gone(old.networks, new.networks),
        removed_services=_gone(old.services, new.services),
        removed_nodes=_gone(old.nodes, new.nodes),
        removed_secrets=_gone(old.secrets, new.secrets),
        removed_configs=_gone(old.configs, new.configs),
    )
    settled = pb.Assignments(version=new.version) == message and _settings(old) == _settings(new)
    if settled:
        return None
    message.MergeFrom(_settings(new))
    return message


def merge(state: pb.Assignments | None, message: pb.Assignments) -> pb.Assignments:
    """The state after a message; neither argument is changed.

    Args:
        state: the state before; None: nothing was received yet.
        message: full, or a difference to exactly this state.

    Raises:
        WireError: a difference without a state it could apply to.
    """
    if message.full:
        fresh = pb.Assignments()
        fresh.CopyFrom(message)
        return fresh
    if state is None:
        raise WireError(peer="manager", why="incremental assignments before the first full ones")
    merged = pb.Assignments(
        version=message.version,
        full=True,
        tasks=_applied(state.tasks, message.tasks, message.removed_tasks),
        networks=_applied(state.networks, message.networks, message.removed_networks),
        services=_applied(state.services, message.services, message.removed_services),
        nodes=_applied(state.nodes, message.nodes, message.removed_nodes),
        secrets=_applied(state.secrets, message.secrets, message.removed_secrets),
        configs=_applied(state.configs, message.configs, message.removed_configs),
    )
    merged.MergeFrom(_settings(message))
    return merged


# ---- views ----


def _final(task: pb.Task) -> bool:
    return task.status.state > pb.TASK_STATE_RUNNING


def _told(task: pb.Task) -> pb.TaskState:
    """What a node hears of a task's state: whether it is new, has begun, or has ended.

    One that has begun is never begun again by a node that has forgotten it (a new disk, say).
    """
    if _final(task):
        return task.status.state
    begun = task.status.state >= pb.TASK_STATE_STARTING
    return pb.TASK_STATE_STARTING if begun else pb.TASK_STATE_ASSIGNED


def _task(task: pb.Task) -> pb.Task:
    view = pb.Task()
    view.CopyFrom(task)
    for name in ("version", "updated_at", "status"):
        view.ClearField(name)
    view.status.state = _told(task)
    return view


def _network(network: pb.Network) -> pb.Network:
    return pb.Network(
        id=network.id,
        spec=network.spec,
        driver_state=network.driver_state,
        ipam_options=network.ipam_options,
        vni=network.vni,
    )


def _node(node: pb.Node) -> pb.NodeView:
    return pb.NodeView(
        id=node.id,
        hostname=node.description.hostname,
        addr=node.status.addr,
        ingress_address=node.ingress_address,
        role=MANAGER if is_manager(node) else WORKER,
        down=node.status.state == "down",
    )


def _service(service: pb.Service, ids: Mapping[str, str]) -> pb.ServiceView:
    networks = service.spec.task_template.networks or service.spec.networks
    spec = (
        service.endpoint.spec if service.endpoint.HasField("spec") else service.spec.endpoint_spec
    )
    return pb.ServiceView(
        id=service.id,
        name=service.spec.name,
        endpoint_mode=spec.mode or "vip",
        virtual_ips=service.endpoint.virtual_ips,
        ports=service.endpoint.ports,
        networks=[
            pb.NetworkAttachmentConfig(
                target=ids.get(network.target, network.target),
                aliases=network.aliases,
                driver_opts=network.driver_opts,
            )
            for network in networks
        ],
    )


def _concerns(service: pb.ServiceView, networks: set[str]) -> bool:
    attached = {network.target for network in service.networks}
    attached |= {vip.network_id for vip in service.virtual_ips}
    return bool(service.ports) or not attached.isdisjoint(networks)


def _settings(state: pb.Assignments) -> pb.Assignments:
    return pb.Assignments(
        gossip_keys=state.gossip_keys,
        cluster_id=state.cluster_id,
        heartbeat_period=state.heartbeat_period,
        managers=state.managers,
        trust_root=state.trust_root,
        issuer_key=state.issuer_key,
    )


# ---- sets of messages by id ----


def _sorted(messages: Iterable[M]) -> list[M]:
    return sorted(messages, key=lambda message: message.id)


def _present(by_id: Mapping[str, M], ids: set[str]) -> Iterator[M]:
    return (by_id[id_] for id_ in ids if id_ in by_id)


def _changed(old: Iterable[M], new: Iterable[M]) -> list[M]:
    before = {message.id: message for message in old}
    return [message for message in new if before.get(message.id) != message]


def _gone(old: Iterable[_Named], new: Iterable[_Named]) -> list[str]:
    after = {message.id for message in new}
    return [message.id for message in old if message.id not in after]


def _applied(old: Iterable[M], upserts: Iterable[M], removed: Iterable[str]) -> list[M]:
    by_id = {message.id: message for message in old} | {message.id: message for message in upserts}
    gone = set(removed)
    return _sorted(message for id_, message in by_id.items() if id_ not in gone)
