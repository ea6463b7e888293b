"""Which part of the cluster one node works from, and how that part changes. Pure.

```
 store objects ──Objects──> node_assignments(node) ──> state n ─┐
                                                      state n+1 ┴─ difference() ──> message
```

A state is an ``Assignments`` with ``full`` set, every list sorted by id; on its node it is a
``node_state.NodeState``. Law: merging ``difference(old, new)`` into ``old`` gives ``new``.
Source: swarmkit manager/dispatcher/assignments.go.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Final, Protocol, TypeAlias, TypeVar

from immutables import Map

from meshnet_control.api import control_pb2 as pb
from meshnet_control.cluster import encryption, gossip_ring
from meshnet_control.cluster.buckets import Buckets, BucketsEdit
from meshnet_control.cluster.node_state import settings
from meshnet_control.cluster.views import (
    concerns,
    is_final,
    is_reached,
    is_told,
    told_config,
    told_network,
    told_node,
    told_secret,
    told_service,
    told_task,
)

HEARTBEAT_NS: Final = 5_000_000_000
"""Period while the cluster does not say another (swarmkit's default)."""
BEAT_NS: Final = 1_000_000_000
"""Agents beat at least this often, so that a silence means something when gossip misses a node."""


class _Named(Protocol):
    @property
    def id(self) -> str: ...


M = TypeVar("M", bound=_Named)
Change: TypeAlias = tuple[type, str, Any]
"""Kind, id, and the object as it is now; None: it is gone."""
_FIELDS: Final[Mapping[type, str]] = {
    pb.Node: "nodes",
    pb.Service: "services",
    pb.Task: "tasks",
    pb.Network: "networks",
    pb.Secret: "secrets",
    pb.Config: "configs",
}


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
    number: int = field(default=0, compare=False, kw_only=True)
    """Grows with every change."""

    @cached_property
    def tasks_of(self) -> Buckets[str, str, pb.Task]:
        """Tasks that a node was told to run, by node."""
        found = BucketsEdit[str, str, pb.Task](Map())
        for task in self.tasks.values():
            if is_told(task):
                found.put(task.node_id, task.id, task)
        return found.finish()

    @cached_property
    def network_views(self) -> Map[str, pb.Network]:
        """Networks without what changes for no node's sake."""
        return Map({network.id: told_network(network) for network in self.networks.values()})

    @cached_property
    def node_views(self) -> Map[str, pb.NodeView]:
        """Nodes with an address that others can reach: the way to one that is down stays, too."""
        return Map({node.id: told_node(node) for node in self.nodes.values() if is_reached(node)})

    @cached_property
    def network_ids(self) -> Mapping[str, str]:
        """Ids of networks, by name and by id."""
        ids = {network.spec.name: network.id for network in self.networks.values()}
        return ids | {network.id: network.id for network in self.networks.values()}

    @cached_property
    def service_views(self) -> Map[str, pb.ServiceView]:
        """Services by id; their networks by id even where the spec names them."""
        ids = self.network_ids
        return Map({service.id: told_service(service, ids) for service in self.services.values()})

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

    def after(self, changes: Iterable[Change]) -> Objects:
        """The objects after some changes of nodes, services, tasks, networks, secrets, configs.

        What was found out of these is kept for what did not change.

        Args:
            changes: kind, id, and the object; None: it is gone.
        """
        changed = {kind: dict[str, Any]() for kind in _FIELDS}
        for kind, name, message in changes:
            changed[kind][name] = message
        fields: dict[str, Any] = {
            _FIELDS[kind]: _updated(getattr(self, _FIELDS[kind]), messages)
            for kind, messages in changed.items()
            if messages
        }
        new = replace(self, **fields, number=self.number + 1)
        kept: dict[str, Any] = {"tasks_of": self._tasks_after(changed[pb.Task])}
        if not changed[pb.Node]:
            kept["managers"] = self.managers
        reached = {
            name: told_node(node) if node is not None and is_reached(node) else None
            for name, node in changed[pb.Node].items()
        }
        kept["node_views"] = _updated(self.node_views, reached)
        networks = changed[pb.Network]
        seen = {
            name: None if each is None else told_network(each) for name, each in networks.items()
        }
        kept["network_views"] = _updated(self.network_views, seen)
        new.__dict__.update(kept)
        services = changed[pb.Service]
        if networks:
            services = dict(new.services) | services
        else:
            new.__dict__["network_ids"] = self.network_ids
        ids = new.network_ids
        views: dict[str, pb.ServiceView | None] = {}
        for name, service in services.items():
            view = None if service is None else told_service(service, ids)
            known = self.service_views.get(name)
            views[name] = known if view == known else view
        new.__dict__["service_views"] = _updated(self.service_views, views)
        return new

    def with_cluster(self, cluster: pb.Cluster) -> Objects:
        """The same objects, but for the cluster itself."""
        new = replace(self, cluster=cluster, number=self.number + 1)
        own = {"cluster", "number"}
        found = {name: each for name, each in self.__dict__.items() if name not in own}
        new.__dict__.update(found)
        return new

    def of(self, kind: type) -> Mapping[str, Any]:
        """The objects of a kind, by id."""
        found: Mapping[str, Any] = getattr(self, _FIELDS[kind])
        return found

    def _tasks_after(self, tasks: Mapping[str, pb.Task | None]) -> Buckets[str, str, pb.Task]:
        edit = BucketsEdit(self.tasks_of)
        for name, task in tasks.items():
            old = self.tasks.get(name)
            if old is not None:
                edit.drop(old.node_id, name)
            if task is not None and is_told(task):
                edit.put(task.node_id, name, task)
        return edit.finish()


def node_assignments(objects: Objects, node_id: str) -> pb.Assignments:
    """Everything one node works from: a state, with version 0.

    Its tasks; the networks of those that may still run, and the ingress network; services on these
    networks or with published ports; all nodes; secrets and configs of tasks that may still run.
    """
    needs = needs_of(objects, node_id)
    state = pb.Assignments(
        full=True,
        tasks=_sorted(told_task(task) for task in objects.tasks_of.get(node_id, {}).values()),
        networks=_sorted(_present(objects.network_views, needs.networks)),
        services=_sorted(s for s in objects.service_views.values() if concerns(s, needs.networks)),
        nodes=_sorted(objects.node_views.values()),
        secrets=[told_secret(s) for s in _sorted(_present(objects.secrets, needs.secrets))],
        configs=[told_config(c) for c in _sorted(_present(objects.configs, needs.configs))],
    )
    state.MergeFrom(settings_of(objects, needs))
    return state


@dataclass(frozen=True)
class Needs:
    """What a node's tasks that may still run need, by ids."""

    networks: frozenset[str]
    """With the ingress network, which every node is on."""
    secrets: frozenset[str]
    configs: frozenset[str]
    encrypts: bool = False
    """One of its networks is encrypted."""


def needs_of(objects: Objects, node_id: str) -> Needs:
    """What a node has to be told of, for its tasks."""
    live = [task for task in objects.tasks_of.get(node_id, {}).values() if not is_final(task)]
    attached = {a.network.id for task in live for a in task.networks_attachments}
    everywhere = {network.id for network in objects.networks.values() if network.spec.ingress}
    containers = [task.spec.container_spec for task in live]
    networks = frozenset(attached | everywhere)
    return Needs(
        networks,
        frozenset(ref.secret_id for container in containers for ref in container.secrets),
        frozenset(ref.config_id for container in containers for ref in container.configs),
        any(encryption.is_encrypted(each) for each in _present(objects.networks, networks)),
    )


def settings_of(objects: Objects, needs: Needs) -> pb.Assignments:
    """What is whole in each message; only who encrypts is told keys to do it with."""
    cluster = objects.cluster
    return pb.Assignments(
        gossip_keys=gossip_ring.ring(cluster),
        cluster_id=cluster.id,
        heartbeat_period=min(heartbeat_ns(cluster), BEAT_NS),
        managers=objects.managers,
        trust_root=cluster.ca_certificate,
        issuer_key=cluster.tls_info.cert_issuer_public_key,
        data_path_port=cluster.data_path_port,
        esp_keys=gossip_ring.ring(cluster, gossip_ring.OVERLAYS) if needs.encrypts else (),
    )


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
    settled = pb.Assignments(version=new.version) == message and settings(old) == settings(new)
    if settled:
        return None
    message.MergeFrom(settings(new))
    return message


# ---- sets of messages by id ----


def _sorted(messages: Iterable[M]) -> list[M]:
    return sorted(messages, key=lambda message: message.id)


def _updated(objects: Mapping[str, M], changed: Mapping[str, M | None]) -> Map[str, M]:
    """Objects after some were made, changed, or are gone (None)."""
    start = objects if isinstance(objects, Map) else Map(objects)
    if not changed:
        return start
    edit = start.mutate()
    for name, message in changed.items():
        if message is None:
            edit.pop(name, None)
        else:
            edit[name] = message
    return edit.finish()


def _present(by_id: Mapping[str, M], ids: AbstractSet[str]) -> Iterator[M]:
    return (by_id[id_] for id_ in ids if id_ in by_id)


def _changed(old: Iterable[M], new: Iterable[M]) -> list[M]:
    before = {message.id: message for message in old}
    return [message for message in new if before.get(message.id) != message]


def _gone(old: Iterable[_Named], new: Iterable[_Named]) -> list[str]:
    after = {message.id for message in new}
    return [message.id for message in old if message.id not in after]
