"""Histories of a small cluster: Snapshots that share with the one before what is the same.

Whoever derives something from Snapshots at the cost of what changed must say the same of each as
somebody who has seen none before.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from ipaddress import (
    IPv4Address,
    IPv4Interface,
    IPv4Network,
    IPv6Address,
    IPv6Interface,
    IPv6Network,
)
from typing import Any

from hypothesis import strategies as st

from meshnet.model.ids import NetworkId, NodeId, ServiceId, TaskId, Vni
from meshnet.model.shared_map import SharedMap
from meshnet.model.snapshot import (
    Endpoint,
    Gwbridge,
    Network,
    Node,
    PublishedPort,
    Sandbox,
    Service,
    Snapshot,
)

SELF = NodeId("n0")
NODES = [NodeId(f"n{i}") for i in range(3)]
NETS = [NetworkId(f"net{i}".ljust(25, "0")) for i in range(3)]
"""The first is the ingress network; it and the last are dual stack, or nodes alone say so."""
MESH, DUAL = NETS[0], NETS[2]
SERVICES = [ServiceId(f"svc{i}".ljust(25, "0")) for i in range(3)]
TASKS = [TaskId(f"t{i}".ljust(25, "0")) for i in range(6)]
_OWN6, _OTHER6 = IPv6Network("fd00:0:0:2::/64"), IPv6Network("fd00:0:0:99::/64")
_MESH6 = IPv6Network("fd00::/64")
_SUBNETS6 = {MESH: ((_MESH6,), ()), DUAL: ((_OWN6,), (_OWN6, _OTHER6), ())}
_BRIDGE = Gwbridge("docker_gwbridge", IPv4Network("172.18.0.0/16"), IPv4Address("172.18.0.1"))


def second(address: IPv4Address) -> IPv6Address:
    """The address of IPv6 beside one of IPv4: ``10.0.2.7`` and ``fd00:0:0:2::7``."""
    _, _, network, host = str(address).split(".")
    return IPv6Address(f"fd00:0:0:{network}::{host}")


def _seconds(draw: Any, addresses: Mapping[NetworkId, IPv4Address]) -> dict[NetworkId, IPv6Address]:
    """Those on the dual stack network; a node of before tells of none."""
    return {
        network: second(addresses[network])
        for network in (MESH, DUAL)
        if network in addresses and draw(st.sampled_from([True, True, False]))
    }


@st.composite
def _node(draw: Any, node: NodeId) -> Node:
    number = int(node[1:])
    own = draw(st.sampled_from([None, IPv4Address(f"10.0.0.{number + 2}")]))
    own6 = second(own) if own is not None and draw(st.booleans()) else None
    return Node(
        node,
        node,
        IPv4Address(f"192.168.0.{number + 1 + draw(st.sampled_from([0, 100]))}"),
        underlay_mtu=draw(st.sampled_from([1500, 1400])),
        narrow=draw(
            st.sampled_from([(), (), ((SELF, 1280),), ((NODES[0], 1450), (NODES[2], 1300))])
        ),
        ingress_address=own,
        ingress_address6=own6,
        live=node == SELF or draw(st.booleans()),
        doubted=node != SELF and draw(st.booleans()),
        down=node != SELF and draw(st.booleans()),
        weight=draw(st.sampled_from([None, None, 0, 3])),
    )


@st.composite
def _network(draw: Any, network: NetworkId) -> Network:
    at = NETS.index(network)
    return Network(
        network,
        f"Net{at}",
        Vni(4096 + at),
        IPv4Network(f"10.0.{at}.0/24"),
        IPv4Address(f"10.0.{at}.1"),
        ingress=at == 0,
        mtu=draw(st.sampled_from([None, None, 1300, 9000])),
        more=draw(st.sampled_from([(), (IPv4Network(f"10.1.{at}.0/24"),)])) if at else (),
        subnets6=draw(st.sampled_from(_SUBNETS6.get(network, ((),)))),
    )


@st.composite
def _service(draw: Any, service: ServiceId) -> Service:
    at = SERVICES.index(service)
    nets = draw(st.frozensets(st.sampled_from(NETS)))
    aliases = draw(st.sampled_from([(), ("web",), ("web", "App")]))
    one, shared = PublishedPort("tcp", 80, 8080 + at), PublishedPort("udp", 53, 9000)
    two = replace(one, target=81, name="http")
    ports = draw(st.sampled_from([(), (one,), (one, shared), (two, replace(shared, target=54))]))
    vips = {net: IPv4Address(f"10.0.{NETS.index(net)}.{at + 2}") for net in nets}
    return Service(
        service,
        draw(st.sampled_from([f"s{at}", "same"])),
        draw(st.sampled_from(["vip", "vip", "dnsrr"])),
        vips,
        dict.fromkeys(draw(st.frozensets(st.sampled_from(NETS))), aliases),
        ports,
        vips6=_seconds(draw, vips),
    )


@st.composite
def _endpoint(draw: Any, task: TaskId) -> Endpoint:
    at = TASKS.index(task)
    nets = draw(st.frozensets(st.sampled_from(NETS)))
    addresses = {net: IPv4Address(f"10.0.{NETS.index(net)}.{at + 10}") for net in nets}
    return Endpoint(
        task,
        draw(st.sampled_from([f"c{at}", "same"])),
        draw(st.sampled_from(NODES)),
        draw(st.sampled_from([None, *SERVICES])),
        addresses,
        container=draw(st.sampled_from(["", f"{at}" * 64])),
        hostname=draw(st.sampled_from(["", "host", "s0"])),
        aliases=dict.fromkeys(nets, draw(st.sampled_from([(), ("web",)]))),
        ready=draw(st.booleans()),
        addresses6=_seconds(draw, addresses),
    )


@st.composite
def _sandbox(draw: Any, task: TaskId) -> Sandbox:
    at = TASKS.index(task)
    nets = sorted(draw(st.frozensets(st.sampled_from(NETS), min_size=1)))
    own = draw(st.sampled_from([None, IPv4Interface(f"172.18.0.{at + 2}/16")]))
    own_port, in_mesh = PublishedPort("udp", 80, 9000, "host"), PublishedPort("udp", 54, 9000)
    ports = draw(st.sampled_from([(), (own_port,), (in_mesh,)]))
    mesh6 = draw(st.booleans())
    return Sandbox(
        task,
        f"/run/{task}",
        tuple((n, IPv4Interface(f"10.0.{NETS.index(n)}.{at + 10}/24")) for n in nets),
        own,
        ports,
        networks6=tuple(
            (n, IPv6Interface(f"fd00:0:0:{NETS.index(n)}::{at + 10}/64"))
            for n in nets
            if n == DUAL or (n == MESH and mesh6)
        ),
    )


_KINDS: dict[str, tuple[Sequence[Any], Callable[[Any], Any]]] = {
    "nodes": (NODES, _node),
    "networks": (NETS, _network),
    "services": (SERVICES, _service),
    "endpoints": (TASKS, _endpoint),
    "sandboxes": (TASKS[:3], _sandbox),
}


@st.composite
def _change(draw: Any) -> tuple[str, Mapping[Any, Any], list[Any]]:
    kind = draw(st.sampled_from([*_KINDS, "endpoints", "endpoints"]))
    keys, make = _KINDS[kind]
    some = draw(st.lists(st.sampled_from(keys), max_size=3, unique=True))
    drop = [key for key in some if draw(st.integers(0, 3)) == 0]
    return kind, {key: draw(make(key)) for key in some if key not in drop}, drop


@st.composite
def _first(draw: Any) -> Snapshot:
    parts: dict[str, Any] = {
        kind: SharedMap({key: draw(make(key)) for key in keys})
        for kind, (keys, make) in _KINDS.items()
    }
    return Snapshot(1, SELF, gwbridge=_BRIDGE, complete=draw(st.booleans()), **parts)


@st.composite
def histories(draw: Any) -> list[Snapshot]:
    """Snapshots, one after the other."""
    found = [draw(_first())]
    for changes in draw(st.lists(st.lists(_change(), max_size=3), max_size=6)):
        now = found[-1]
        for kind, put, drop in changes:
            now = replace(now, **{kind: getattr(now, kind).changed(put, drop)})
        complete = now.complete or draw(st.booleans())
        some = [frozenset(), frozenset({("udp", 9000)})]
        taken = draw(st.sampled_from([now.taken, *some]))
        taken6 = draw(st.sampled_from([now.taken6, *some]))
        revision = now.revision + 1
        found.append(replace(now, revision=revision, complete=complete, taken=taken, taken6=taken6))
    return found
