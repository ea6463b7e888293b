"""What is read of chains of others and of address pools."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network

import pytest

from meshnet.model.ids import NetworkId, NodeId, ServiceId, TaskId, Vni
from meshnet.model.snapshot import Endpoint, Network, Node, Service, Snapshot
from meshnet_control.explain.checks import MODULES
from meshnet_control.node import gathering


def chain(table, name, hook="forward", policy="drop", family="ip"):
    body = {"family": family, "table": table, "name": name, "hook": hook, "policy": policy}
    return {"chain": body}


@pytest.mark.parametrize(
    ("listed", "want"),
    [
        (chain("filter", "in", "input", family="inet"), ["inet filter in"]),
        (chain("x", "forward"), ["ip x forward"]),
        (chain("filter", "FORWARD"), []),  # the engine's: our rules are at its head
        (chain("meshnet", "x"), []),
        (chain("x", "out", "output"), []),
        (chain("x", "in", "input", "accept"), []),
        ({"chain": {"family": "ip", "table": "x", "name": "plain"}}, []),
        ({"metainfo": {}}, []),
    ],
)
def test_chains_of_others_that_drop(listed, want):
    assert list(gathering.droppers([listed])) == want


DROP, REJECT = {"drop": None}, {"xt": {"type": "target", "name": "REJECT"}}


def dport(right, protocol="udp", op="=="):
    left = {"payload": {"protocol": protocol, "field": "dport"}}
    return {"match": {"op": op, "left": left, "right": right}}


@pytest.mark.parametrize(
    ("rule", "want"),
    [
        ((dport(4789), {"counter": None}, DROP), {(4789, "udp")}),
        ((dport(4789), {"accept": None}), set()),
        ((dport(4789, "tcp"), DROP), set()),
        ((dport(7946, "th"), REJECT), {(7946, "tcp"), (7946, "udp")}),
        ((dport(7946, "tcp"), {"reject": {"type": "tcp reset"}}), {(7946, "tcp")}),
        ((dport({"set": [22, {"range": [4000, 5000]}]}), DROP), {(4789, "udp")}),
        ((dport({"range": [1, 4788]}), DROP), set()),
        ((dport("@those"), DROP), set()),
        ((dport(22, op="!="), DROP), set()),
        (({"match": {"op": "==", "left": {"meta": {"key": "iif"}}, "right": 1}}, DROP), set()),
        ((DROP,), set()),
    ],
)
def test_ports_of_ours_that_a_rule_of_others_drops(rule, want):
    ours = {(4789, "udp"), (7946, "udp"), (7946, "tcp")}
    assert gathering.dropped([{"metainfo": {}}, {"rule": {"expr": list(rule)}}], ours) == want


@pytest.mark.parametrize(
    ("listed", "loaded", "want"),
    [
        ("", set(MODULES), []),
        (
            "kernel/drivers/net/vxlan/vxlan.ko.xz: kernel/net/udp.ko.xz\nkernel/net/nf-tables.ko:\n"
            "kernel/net/bridge/bridge.ko\nkernel/drivers/net/veth.ko\nkernel/net/sctp/sctp.ko.zst:",
            {"nf_conntrack"},
            ["esp4"],
        ),
    ],
)
def test_modules_that_a_kernel_has_in_no_way(listed, loaded, want):
    assert gathering.lacking(listed, loaded) == want


def test_addresses_of_a_network_that_are_taken():
    app, mesh = NetworkId("app"), NetworkId("mesh")
    subnet = IPv4Network("10.0.1.0/29")
    web = ServiceId("web")
    made = Snapshot(
        1,
        NodeId("n"),
        {NodeId("n"): Node(NodeId("n"), "h", IPv4Address("192.0.2.1"), ingress_address=subnet[3])},
        {
            app: Network(app, "app", Vni(1), subnet, subnet[1]),
            mesh: Network(mesh, "mesh", Vni(2), subnet, subnet[1], ingress=True),
        },
        {web: Service(web, "web", vips={app: subnet[2], mesh: subnet[2]})},
        {TaskId("t"): Endpoint(TaskId("t"), "t", NodeId("n"), web, {app: subnet[4]})},
    )
    found = {room.what: (room.used, room.most) for room in gathering.pools(made)}
    # the gateway, the VIP and the task; the gateway, the VIP and the node's own
    assert found == {"addresses of network app": (3, 6), "addresses of network mesh": (3, 6)}


@pytest.mark.parametrize(
    ("managers", "want"),
    [
        (["192.0.2.1:2377"], [("h1", 2377)]),
        (["192.0.2.2:2377", "192.0.2.3:4000"], [("h2", 2377), ("192.0.2.3", 4000)]),
        (["192.0.2.1:2377", "192.0.2.2:2377"], [("h1", 2377), ("h2", 2377), ("h2", 2380)]),
    ],
)
def test_a_manager_looks_for_the_etcd_of_the_others(managers, want):
    nodes = {
        NodeId(name): Node(NodeId(name), name, IPv4Address(f"192.0.2.{number}"))
        for number, name in ((1, "h1"), (2, "h2"))
    }
    made = Snapshot(1, NodeId("h1"), nodes)
    found = gathering.ports_of_managers(made, managers)
    assert [(name, port) for name, _, port in found] == want
