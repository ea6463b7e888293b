"""What nodes hear of the cluster's objects: each without what is of no concern to them. Pure.

Be aware: a task's status is the agent's own to know and would come back as an echo; only whether it
is new, has begun or has ended is sent, so that no task is begun twice.
"""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from ipaddress import AddressValueError, IPv4Address

from meshnet.errors import ControlError
from meshnet_control.api import control_pb2 as pb
from meshnet_control.cluster import service_labels, service_networks
from meshnet_control.cluster.roles import MANAGER, WORKER, is_manager


def is_final(task: pb.Task) -> bool:
    """It will not run (again)."""
    return task.status.state > pb.TASK_STATE_RUNNING


def is_told(task: pb.Task) -> bool:
    """Its node is told to run it."""
    return bool(task.node_id and task.status.state >= pb.TASK_STATE_ASSIGNED)


def is_reached(node: pb.Node) -> bool:
    """It has an address that others can reach."""
    return is_host_address(data_path_addr(node))


def told_task(task: pb.Task) -> pb.Task:
    """The task as its node hears of it; one of a job runs like any other, and ends by itself."""
    view = pb.Task()
    view.CopyFrom(task)
    if task.desired_state == pb.TASK_STATE_COMPLETE:
        view.desired_state = pb.TASK_STATE_RUNNING
    for name in ("version", "updated_at", "status"):
        view.ClearField(name)
    view.status.state = _told(task)
    return view


def _told(task: pb.Task) -> pb.TaskState:
    """What a node hears of a task's state: whether it is new, has begun, or has ended.

    One that has begun is never begun again by a node that has forgotten it (a new disk, say).
    """
    if is_final(task):
        return task.status.state
    begun = task.status.state >= pb.TASK_STATE_STARTING
    return pb.TASK_STATE_STARTING if begun else pb.TASK_STATE_ASSIGNED


def told_network(network: pb.Network) -> pb.Network:
    """The network without what changes for no node's sake."""
    return pb.Network(
        id=network.id,
        created_at=network.created_at,
        spec=network.spec,
        driver_state=network.driver_state,
        ipam_options=network.ipam_options,
        vni=network.vni,
    )


def told_node(node: pb.Node) -> pb.NodeView:
    """The node as others work from it."""
    return pb.NodeView(
        id=node.id,
        hostname=node.description.hostname,
        addr=data_path_addr(node),
        ingress_address=node.ingress_address,
        ingress_address6=node.ingress_address6,
        role=MANAGER if is_manager(node) else WORKER,
        down=node.status.state == "down",
        gossip_key=node.description.gossip_key,
        weight=_weight(node),
    )


def _weight(node: pb.Node) -> int | None:
    """A label of a time when nobody looked at it may mean nothing."""
    try:
        return service_labels.node_weight(node.spec.labels)
    except ControlError:
        return None


def told_service(service: pb.Service, ids: Mapping[str, str]) -> pb.ServiceView:
    """The service as nodes get it.

    Args:
        service: of the store.
        ids: of networks, by name and by id: a spec may have either.
    """
    networks = service_networks.template(service.spec).networks
    return pb.ServiceView(
        id=service.id,
        name=service.spec.name,
        endpoint_mode=service.endpoint.spec.mode or service.spec.endpoint_spec.mode or "vip",
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
        lb=service.spec.labels.get(service_labels.LB, ""),
        lb_weights=service.spec.labels.get(service_labels.WEIGHTS, ""),
    )


def concerns(service: pb.ServiceView, networks: AbstractSet[str]) -> bool:
    """Nodes on these networks are told of a service."""
    attached = {network.target for network in service.networks}
    attached |= {vip.network_id for vip in service.virtual_ips}
    return bool(service.ports) or not attached.isdisjoint(networks)


def told_secret(secret: pb.Secret) -> pb.SecretAssignment:
    """A secret as nodes get it."""
    return pb.SecretAssignment(
        id=secret.id,
        data=secret.spec.data,
        templated=bool(secret.spec.templating.name),
        hot=secret.hot,
        signal=secret.signal,
    )


def told_config(config: pb.Config) -> pb.ConfigAssignment:
    """A config as nodes get it."""
    return pb.ConfigAssignment(
        id=config.id,
        data=config.spec.data,
        templated=bool(config.spec.templating.name),
        hot=config.hot,
        signal=config.signal,
    )


def data_path_addr(node: pb.Node) -> str:
    """A node's underlay address: its VTEP, where gossip reaches it.

    What others are told (``status.addr``) may be another one, of a router before it.
    """
    return str(node.status.data_path_addr or node.status.addr)


def is_host_address(said: str) -> bool:
    """True for an IPv4 address that one host can have: a VTEP's, gossip's.

    Whatever else a node says its address is stays out of what other nodes work from.
    """
    try:
        address = IPv4Address(said)
    except AddressValueError:
        return False
    return not (address.is_unspecified or address.is_multicast or address.is_reserved)
