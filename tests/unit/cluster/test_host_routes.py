"""Where nodes' own networks lead, no overlay is put."""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network

from hypothesis import given
from hypothesis import strategies as st

from meshnet.model.families import IpNetwork
from meshnet_control.api import control_pb2 as pb
from meshnet_control.cluster import host_routes

NETWORKS = st.tuples(st.integers(0, (1 << 32) - 1), st.integers(1, 32)).map(
    lambda made: IPv4Network(made, strict=False)
)
ROUTES = st.lists(st.tuples(NETWORKS, st.sampled_from(["eth0", "docker_gwbridge"])))


def node(name: str, *routes: tuple[str, str], state: str = "ready") -> pb.Node:
    made = pb.Node(id=f"id-{name}", status=pb.NodeStatus(state=state))
    made.description.hostname = name
    for destination, link in routes:
        made.description.routes.add(destination=destination, link=link)
    return made


@given(ROUTES)
def test_what_is_told_is_read_back_each_once(routes: list[tuple[IPv4Network, str]]) -> None:
    told = host_routes.told(routes)
    made = node("h", *((route.destination, route.link) for route in told))
    assert [(to, link) for to, link, _ in host_routes.of([made])] == sorted(
        set(routes), key=lambda route: (route[0].prefixlen, *route)
    )


def test_of_too_many_the_widest_are_told() -> None:
    small = [(IPv4Network((number << 8, 32)), "eth0") for number in range(host_routes.MOST)]
    told = host_routes.told([*small, (IPv4Network("192.0.0.0/8"), "vpn0")])
    assert len(told) == host_routes.MOST
    assert told[0].destination == "192.0.0.0/8"


def test_an_overlap_names_route_and_node() -> None:
    nodes = [
        node("h1", ("10.9.0.0/16", "eth0")),
        node("h2", ("nonsense", "x"), ("172.18.0.0/16", "docker_gwbridge")),
        node("h3", ("10.7.0.0/16", "vpn0"), state="down"),
    ]
    routes = list(host_routes.of(nodes))
    found = host_routes.overlapping(IPv4Network("172.18.5.0/24"), routes)
    assert str(found) == "the route 172.18.0.0/16 (docker_gwbridge) of node h2"
    assert host_routes.overlapping(IPv4Network("10.0.0.0/8"), routes) is not None
    assert host_routes.overlapping(IPv4Network("10.7.0.0/24"), routes) is None


def test_a_node_says_which_of_its_networks_its_routes_cross() -> None:
    subnets = [("ingress", IPv4Network("10.0.0.0/24")), ("app", IPv4Network("10.0.1.0/24"))]
    routes = host_routes.told([(IPv4Network("10.0.1.128/25"), "vpn0")])
    [said] = host_routes.crossing(subnets, routes)
    assert said.startswith("network app (10.0.1.0/24) overlaps with the route 10.0.1.128/25 (vpn0)")


def test_routes_of_ipv6_are_told_apart_and_read_with_the_others() -> None:
    """A manager of a version before refuses a node with a destination that it cannot read."""
    four, six = (IPv4Network("10.0.0.0/8"), "vpn0"), (IPv6Network("fd00:7::/32"), "vpn0")
    said = pb.NodeDescription(hostname="h2")
    assert host_routes.tell(said, [six, four])
    assert not host_routes.tell(said, [four, six, six]), "the same is no news"
    assert [route.destination for route in said.routes] == ["10.0.0.0/8"]
    assert [route.destination for route in said.routes6] == ["fd00:7::/32"]
    routes = list(host_routes.of([pb.Node(id="n", description=said)]))
    found = host_routes.overlapping(IPv6Network("fd00:7:1::/64"), routes)
    assert str(found) == "the route fd00:7::/32 (vpn0) of node h2"
    assert host_routes.overlapping(IPv6Network("fd00:8::/64"), routes) is None
    subnets: list[tuple[str, IpNetwork]] = [
        ("app", IPv6Network("fd00:7::/64")), ("app", IPv4Network("10.0.1.0/24")),
    ]  # fmt: skip
    crossed = host_routes.crossing(subnets, (*said.routes, *said.routes6))
    assert [each.partition(" overlaps")[0] for each in crossed] == [
        "network app (10.0.1.0/24)", "network app (fd00:7::/64)",
    ]  # fmt: skip
    assert host_routes.tell(said, [four])
    assert not said.routes6
    many = [(IPv6Network((number << 64, 64)), "x") for number in range(host_routes.MOST6 + 9)]
    assert len(host_routes.told(many, 6)) == host_routes.MOST6
