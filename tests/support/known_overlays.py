"""What a node of a cluster of two knows of its overlay networks: one service, a task on each."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Interface
from typing import Any

from meshnet.model.ids import NetworkId, NodeId, ServiceId, TaskId
from meshnet.model.snapshot import Endpoint, Gwbridge, Node, Sandbox, Snapshot
from meshnet_control.api import control_pb2 as pb
from meshnet_control.cluster.node_state import NodeState
from meshnet_control.dataplane.overlays import Overlays, overlays
from meshnet_control.dataplane.snapshot import network_of

HERE, THERE = "c" * 64, "d" * 64
"""IDs of the containers of the task on this node and of the one on the other."""
TASK = "t1"
NET, INGRESS = NetworkId("net1aaaaaaaaaaaaaaaaaaaaa"), NetworkId("ing1aaaaaaaaaaaaaaaaaaaaa")
_SELF, _OTHER = NodeId("n1"), NodeId("n2")
_WEB = ServiceId("s1")

_LABELS = {"meshnet.task": "1", "com.docker.swarm.task.id": "t1"}

CONTAINERS: list[dict[str, Any]] = [
    {
        "Id": identity * 64,
        "Names": [f"/{identity}"],
        "Labels": labels,
        "State": "running",
        "Ports": [],
        "HostConfig": {"NetworkMode": network},
        "NetworkSettings": {"Networks": {network: {"NetworkID": f"4a09{identity}", "Gateway": ""}}},
    }
    for identity, labels, network in (
        ("a", {}, "bridge"),
        ("c", _LABELS | {"com.docker.swarm.task.name": "c"}, "none"),
        ("e", _LABELS | {"com.docker.swarm.task.name": "e"}, "none"),
        ("f", {}, "bridge"),
    )
]
"""As an engine lists them: ``c`` is the task's container, ``e`` one of it that does not run."""


def known(*, other_lives: bool = True) -> Overlays:
    """As the node ``h1`` knows it.

    Args:
        other_lives: the node ``h2`` is there.
    """
    networks = [
        _network(NET, "discovery", 4097, "10.0.1.0/24"),
        _network(INGRESS, "ingress", 4096, "10.0.0.0/24"),
    ]
    networks[1].spec.ingress = True
    web = pb.ServiceView(id=_WEB, name="web", endpoint_mode="vip")
    web.virtual_ips.add(network_id=NET, addr="10.0.1.2/24")
    web.virtual_ips.add(network_id=INGRESS, addr="10.0.0.4/24")
    web.ports.add(target_port=80, published_port=8080, protocol="tcp", publish_mode="ingress")
    task = pb.Task(id=TASK, service_id=_WEB)
    for network, address in zip(networks, ("10.0.1.3/24", "10.0.0.5/24"), strict=True):
        task.networks_attachments.add(network=network, addresses=[address])
    endpoints = [
        _endpoint(TASK, _SELF, HERE, "10.0.1.3", "10.0.0.5"),
        _endpoint("t2", _OTHER, THERE, "10.0.1.4", "10.0.0.6"),
    ]
    sandbox = Sandbox(
        task=TaskId(TASK),
        netns="/run/docker/netns/0123456789ab",
        networks=(
            (INGRESS, IPv4Interface("10.0.0.5/24")),
            (NET, IPv4Interface("10.0.1.3/24")),
        ),
        gateway_address=IPv4Interface("172.18.0.3/16"),
    )
    nodes = [
        Node(_SELF, "h1", IPv4Address("192.168.0.1"), ingress_address=IPv4Address("10.0.0.2")),
        Node(
            _OTHER,
            "h2",
            IPv4Address("192.168.0.2"),
            ingress_address=IPv4Address("10.0.0.3"),
            live=other_lives,
        ),
    ]
    views = [network_of(network) for network in networks]
    snapshot = Snapshot(
        1,
        _SELF,
        nodes={node.id: node for node in nodes},
        networks={view.id: view for view in views if view is not None},
        endpoints={endpoint.task: endpoint for endpoint in endpoints},
        sandboxes={sandbox.task: sandbox},
        gwbridge=Gwbridge(
            "docker_gwbridge", sandbox.gateway_address.network, IPv4Address("172.18.0.1")
        )
        if sandbox.gateway_address is not None
        else None,
    )
    return overlays(
        snapshot, NodeState.of(pb.Assignments(networks=networks, services=[web], tasks=[task]))
    )


def _network(identity: str, name: str, vni: int, subnet: str) -> pb.Network:
    network = pb.Network(id=identity, vni=vni)
    network.created_at.FromSeconds(1_795_222_333)
    network.spec.name = name
    network.spec.driver_configuration.name = network.driver_state.name = "overlay"
    network.ipam_options.configs.add(subnet=subnet)
    return network


def _endpoint(task: str, node: NodeId, container: str, *addresses: str) -> Endpoint:
    here = {net: IPv4Address(each) for net, each in zip((NET, INGRESS), addresses, strict=True)}
    return Endpoint(
        task=TaskId(task),
        name=f"web.1.{task}",
        node=node,
        service=_WEB,
        addresses=here,
        container=container,
        hostname=container[:12],
        aliases={NET: ("w",)},
    )
