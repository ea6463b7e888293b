"""A host that is silent and not called dead: new connections go past it, what was begun stays."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address, IPv4Interface, IPv4Network

import pytest

from meshnet.model.ids import NetworkId, NodeId, ServiceId, TaskId, Vni
from meshnet.model.snapshot import (
    Endpoint,
    Network,
    Node,
    PublishedPort,
    Sandbox,
    Service,
    Snapshot,
)
from meshnet.nft import flows
from meshnet.nft.flows import Fate, Flow, Known, Stale
from meshnet.nft.objects import Ruleset
from meshnet_lb.rules import rulesets

NET, MESH = NetworkId("net"), NetworkId("mesh")
OWN, OTHER = NodeId("n1"), NodeId("n2")
SERVICE = ServiceId("s")
TASKS = {TaskId("a"): OWN, TaskId("b"): OTHER}
VIP, HERE, THERE = "10.0.1.200", "10.0.1.11", "10.0.1.12"
ON_MESH = "10.0.0.11", "10.0.0.12"
PATH = "/run/a"


def snapshot(*doubted: NodeId, tasks=TASKS) -> Snapshot:
    endpoints = {
        task: Endpoint(
            task,
            task,
            node,
            SERVICE,
            {
                NET: IPv4Address({OWN: HERE, OTHER: THERE}[node]),
                MESH: IPv4Address({OWN: ON_MESH[0], OTHER: ON_MESH[1]}[node]),
            },
        )
        for task, node in tasks.items()
    }
    nodes = {
        node: Node(
            node,
            node,
            IPv4Address(f"192.0.2.{at}"),
            ingress_address=IPv4Address(f"10.0.0.{at}"),
            doubted=node in doubted,
        )
        for at, node in ((2, OWN), (3, OTHER))
    }
    subnets = IPv4Network("10.0.1.0/24"), IPv4Network("10.0.0.0/24")
    networks = {
        NET: Network(NET, "net", Vni(4097), subnets[0], subnets[0][1]),
        MESH: Network(MESH, "ingress", Vni(4096), subnets[1], subnets[1][1], ingress=True),
    }
    port = PublishedPort("udp", 53, 8053)
    service = Service(SERVICE, "web", vips={NET: IPv4Address(VIP)}, ports=(port,))
    box = Sandbox(TaskId("a"), PATH, ((NET, IPv4Interface(f"{HERE}/24")),), None)
    return Snapshot(1, OWN, nodes, networks, {SERVICE: service}, endpoints, {box.task: box})


def table(of: Snapshot, where: str | None) -> Ruleset:
    return rulesets(of)[where][0]


@pytest.mark.parametrize(("where", "both"), [(PATH, (HERE, THERE)), (None, ON_MESH)])
def test_new_connections_go_to_others_where_there_are_any(where, both):
    assert table(snapshot(), where).backends == {*both}
    assert table(snapshot(OTHER), where).backends == {both[0]}
    assert table(snapshot(OTHER), where).avoided == {both[1]}
    everyone = table(snapshot(OWN, OTHER), where)
    assert replace(everyone, avoided=frozenset()) == table(snapshot(), where)
    alone = {TaskId("b"): OTHER}
    assert table(snapshot(OTHER, tasks=alone), where).backends == {both[1]}


@pytest.mark.parametrize(
    ("where", "asked", "port", "to"),
    [(PATH, VIP, 53, THERE), (None, "192.0.2.2", 8053, ON_MESH[1])],
)
def test_what_was_begun_stays(where, asked, port, to):
    before, now = rulesets(snapshot())[where], rulesets(snapshot(OTHER))[where]
    known = flows.after(Known().with_backends(before[0].backends), before, Stale())
    stale = flows.stale(known, now, ())
    for protocol in ("tcp", "udp"):
        begun = Flow(protocol, "10.0.1.11", asked, port, to, "10.0.1.11")
        assert stale.fate(begun) is Fate.STAYS
    waits = Flow("tcp", "10.0.1.11", asked, port, to, "10.0.1.11", unanswered=True)
    assert stale.fate(waits) is Fate.DOUBTED
    known = flows.after(known, now, stale)
    away = replace(
        snapshot(), nodes={**snapshot().nodes, OTHER: replace(snapshot().nodes[OTHER], live=False)}
    )
    gone = flows.stale(known, rulesets(away)[where], ())
    assert gone.fate(Flow("udp", "10.0.1.11", asked, port, to, "10.0.1.11")) is Fate.FORGOTTEN
