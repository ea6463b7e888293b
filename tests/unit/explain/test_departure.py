"""What a client asks, and whom a word on the command line means; ways that end at once."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address, IPv4Interface, IPv4Network

import pytest

from meshnet.errors import ControlError
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
from meshnet.netstate.values import NetnsState
from meshnet_control.explain import containers, departure
from meshnet_control.explain.picture import Picture

H1, H2 = NodeId("node1"), NodeId("node2")
APP, DATA = NetworkId("app"), NetworkId("data")
WEB, DB = ServiceId("svcweb"), ServiceId("svcdb")
PORTS = (PublishedPort("tcp", 80, 8080), PublishedPort("udp", 53, 5353))
AGENT = ServiceId("svcagent")
HOST_MODE = (
    "port 8090/tcp of agent is published by mode=host: the engine of each host with a task leads "
    "it there, not the mesh: docker service ps agent, and docker ps on that host"
)


def network(key, third):
    subnet = IPv4Network(f"10.0.{third}.0/24")
    return Network(key, key, Vni(4096 + third), subnet, subnet[1])


def endpoint(name, node, service, **addresses):
    at = {NetworkId(net): IPv4Address(address) for net, address in addresses.items()}
    return Endpoint(TaskId(f"t{name}"), f"{name}.1.t{name}", node, service, at)


BOX = Sandbox(TaskId("ta"), "/ns/a", ((APP, IPv4Interface("10.0.1.11/24")),), None)
SNAPSHOT = Snapshot(
    1,
    H1,
    {H1: Node(H1, "h1", IPv4Address("192.0.2.1")), H2: Node(H2, "h2", IPv4Address("192.0.2.2"))},
    {APP: network(APP, 1), DATA: network(DATA, 2)},
    {
        WEB: Service(WEB, "web", ports=PORTS),
        DB: Service(DB, "db"),
        AGENT: Service(AGENT, "agent", ports=(PublishedPort("tcp", 80, 8090, "host"),)),
    },
    {
        TaskId("tb"): endpoint("b", H2, WEB, app="10.0.1.12"),
        TaskId("ta"): endpoint("a", H1, WEB, app="10.0.1.11"),
        TaskId("tc"): endpoint("c", H2, DB, data="10.0.2.13"),
    },
    {TaskId("ta"): BOX},
)


@pytest.mark.parametrize(
    ("to", "port", "protocol", "published"),
    [
        ("h2", 8080, "tcp", 8080),
        ("web", 0, "tcp", 8080),
        ("web", 0, "udp", 5353),
        ("", 5353, "udp", 5353),
        ("web", 8080, "tcp", 8080),
    ],
)  # fmt: skip
def test_what_a_client_asks(to, port, protocol, published):
    service, found = departure.published(SNAPSHOT, to, port, protocol)
    assert (service.id, found.published) == (WEB, published)


@pytest.mark.parametrize(
    ("to", "port", "words"),
    [
        ("h2", 8081, "no service publishes port 8081/tcp (published: 8080/tcp 8090/tcp)"),
        ("", 8090, HOST_MODE),
        ("agent", 0, HOST_MODE),
        ("wbe", 8080, "no such service or host: wbe; did you mean web?"),
        ("h3", 8080, "no such service or host: h3 (there is agent, db, h1, h2, web)"),
        ("web", 8090, "service web publishes no port 8090/tcp (published: 8080/tcp)"),
        ("wbe", 0, "no such service or host: wbe; did you mean web?"),
        ("db", 0, "service db publishes no port (docker service update --publish-add)"),
    ],
)
def test_what_nobody_publishes(to, port, words):
    with pytest.raises(ControlError) as refused:
        departure.published(SNAPSHOT, to, port, "tcp")
    assert str(refused.value) == words


@pytest.mark.parametrize(
    ("reference", "task"), [("web", "ta"), ("b.1", "tb"), ("10.0.2.13", "tc"), ("db", "tc")]
)
def test_a_service_is_one_of_its_tasks_of_this_node_first(reference, task):
    assert containers.caller(SNAPSHOT, reference).task == task


@pytest.mark.parametrize(
    ("reference", "words"),
    [("clinet", "did you mean client?"), ("wbe", "did you mean web?"), ("c.2", "c.1")],
)
def test_who_may_have_been_meant_is_also_a_service_or_the_client(reference, words):
    with pytest.raises(ControlError, match="no such container") as refused:
        containers.caller(SNAPSHOT, reference)
    assert words in str(refused.value)


def test_two_containers_meet_on_a_network_or_are_told_to():
    a, b, c = (SNAPSHOT.endpoints[TaskId(task)] for task in ("ta", "tb", "tc"))
    assert containers.common(SNAPSHOT, a, b) == IPv4Address("10.0.1.12")
    with pytest.raises(ControlError, match="on no network together: docker service update"):
        containers.common(SNAPSHOT, a, c)


@pytest.mark.parametrize(
    ("reference", "node"),
    [("h2", H2), ("192.0.2.1", H1), ("node2", H2), ("node", None), ("", None)],
)
def test_which_host_is_meant(reference, node):
    found = containers.host(SNAPSHOT, reference)
    assert (found.id if found is not None else None) == node


def way(address, snapshot=SNAPSHOT):
    seen = Picture(snapshot, states={"/ns/a": NetnsState()})
    of = snapshot.endpoints[TaskId("ta")]
    return departure.from_container(seen, of, BOX, [IPv4Address(address)], 80, "tcp").steps


def test_an_address_of_a_network_that_the_container_is_not_on():
    (step,) = way("10.0.2.13")
    assert (step.ok, step.ends) == (False, True)
    assert "--network-add data" in step.mend


def test_a_container_of_internal_networks_has_no_way_out_and_should_have_none():
    (step,) = way("198.51.100.1")
    assert (step.ok, step.ends) == (True, True)
    assert "internal" in step.mend


def test_an_address_that_nobody_has_is_where_it_ends():
    steps = way("10.0.1.77", replace(SNAPSHOT, sandboxes={BOX.task: BOX}))
    assert (steps[-1].what, steps[-1].ends) == ("10.0.1.77", True)


def test_every_address_that_a_name_has_is_a_way():
    seen = Picture(SNAPSHOT, states={"/ns/a": NetnsState()})
    addresses = [IPv4Address(each) for each in ("10.0.1.12", "10.0.1.11", "10.0.2.13")]
    of = SNAPSHOT.endpoints[TaskId("ta")]
    found = departure.from_container(seen, of, BOX, addresses, 80, "tcp")
    assert found.address == "10.0.1.12"
    assert [each.address for each in found.targets] == ["10.0.1.11", "10.0.1.12"]


def test_a_published_port_that_is_not_led_here_says_who_may_know_why():
    service = SNAPSHOT.services[WEB]
    (step,) = departure.from_client(Picture(SNAPSHOT), service, PORTS[0]).steps
    assert (step.found, step.should) == ("nothing", "goto port-tcp-8080")
    assert (step.ok, step.ends) == (False, True)
    assert step.mend.endswith("meshnet doctor on h1")
