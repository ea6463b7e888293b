"""What nodes say is refused where it comes in, or can reach every other node."""

from __future__ import annotations

from ipaddress import IPv4Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshnet_control.api import control_pb2 as pb
from meshnet_control.manager import validation
from meshnet_control.manager.validation import InvalidError
from meshnet_control.node.dispatcher_client import TEXT


@pytest.mark.parametrize("text", ["10.0.0.1", "192.168.50.11", "127.0.0.9", "100.64.1.1"])
def test_addresses_of_hosts(text: str) -> None:
    assert validation.address(text) == text


@pytest.mark.parametrize(
    "text",
    ["", "h1", "10.0.0", "10.0.0.1/24", "10.0.0.1:7946", "::1", "0.0.0.0", "224.0.0.1",  # noqa: S104 - not bound to
     "255.255.255.255", "240.0.0.1", "10.0.0.1\n", " 10.0.0.1", "1" * 1_000_000],
)  # fmt: skip
def test_what_is_no_address_of_a_host(text: str) -> None:
    with pytest.raises(InvalidError):
        validation.address(text)


def on_network(address6: str) -> pb.AttachRequest:
    asked = pb.Attachment(container_id="c" * 64, network_id="n" * 25, address6=address6)
    return pb.AttachRequest(attachments=[asked])


@pytest.mark.parametrize("text", ["fd00::5", "FD00:0:0::5", "fd00:7:0:0:0:0:0:1"])
def test_an_address_of_ipv6_is_taken_however_it_is_written(text: str) -> None:
    validation.attachments(on_network(text))


@pytest.mark.parametrize(
    "text", ["10.0.0.1", "fd00::zz", "fd00::5%eth0", "fd00::5%" + "x" * 1_000_000, "y" * 1_000_000]
)
def test_what_is_no_address_of_ipv6_is_refused_in_few_words(text: str) -> None:
    with pytest.raises(InvalidError) as refused:
        validation.attachments(on_network(text))
    assert len(str(refused.value)) < 100


@given(st.text(max_size=30) | st.ip_addresses(v=4).map(str))
def test_an_address_that_is_taken_can_be_read_by_every_node(text: str) -> None:
    try:
        taken = validation.address(text)
    except InvalidError:
        return
    assert str(IPv4Address(taken)) == taken


@pytest.mark.parametrize(
    "said",
    [
        pb.NodeDescription(hostname="h" * 256),
        pb.NodeDescription(hostname="h1\nh2"),
        pb.NodeDescription(hostname="h1\x1b[2J"),
        pb.NodeDescription(hostname="h1", underlay_mtu=100),
        pb.NodeDescription(hostname="h1", underlay_mtu=1 << 20),
        pb.NodeDescription(hostname="h1", gossip_key=b"k" * 31),
        pb.NodeDescription(resources=pb.NodeResources(nano_cpus=-1)),
        pb.NodeDescription(routes=[pb.HostRoute(destination="10.0.0.1/24")]),
        pb.NodeDescription(routes=[pb.HostRoute(destination="10.0.0.0/24" + " " * 999)]),
        pb.NodeDescription(routes=[pb.HostRoute(destination="10.0.0.0/24", link="a\nb")]),
        pb.NodeDescription(routes=[pb.HostRoute(destination="10.0.0.0/24")] * 513),
        pb.NodeDescription(engine=pb.EngineDescription(labels={"x": "y" * 70_000})),
    ],
)
def test_descriptions_of_no_node(said: pb.NodeDescription) -> None:
    with pytest.raises(InvalidError):
        validation.description(said)


def test_a_description_of_a_node() -> None:
    said = pb.NodeDescription(hostname="h1", underlay_mtu=1500, gossip_key=b"k" * 32)
    validation.description(said)
    way = pb.HostRoute(destination="255.255.255.254/32", link="abcdefghijklmno")
    validation.description(pb.NodeDescription(routes=[way] * 512))
    validation.description(pb.NodeDescription())


def test_every_state_of_an_agent_and_no_other() -> None:
    for state in pb.TaskState.values():
        refused = state in {
            pb.TASK_STATE_NEW,
            pb.TASK_STATE_PENDING,
            pb.TASK_STATE_ASSIGNED,
            pb.TASK_STATE_REMOVE,
            pb.TASK_STATE_ORPHANED,
        }
        try:
            validation.status(pb.TaskStatus(state=pb.TaskState.Name(state)))
        except InvalidError:
            assert refused, state
        else:
            assert not refused, state


def test_a_node_reports_of_its_own_tasks() -> None:
    validation.owner(pb.Task(node_id="n1"), "n1")
    with pytest.raises(InvalidError):
        validation.owner(pb.Task(node_id="n2"), "n1")


def test_statuses_that_cannot_be() -> None:
    # An enum of proto3 is open: a state beyond all others would never be grown past.
    beyond = pb.TaskStatus.FromString(b"\x10\xa0\x8d\x06")
    assert beyond.state == 100_000
    running = pb.TASK_STATE_RUNNING
    port = pb.PortStatus(ports=[pb.PortConfig(published_port=99_999)])
    for said in (
        beyond,
        pb.TaskStatus(state=running, err="x" * (validation.TEXT + 1)),
        pb.TaskStatus(state=running, port_status=port),
    ):
        with pytest.raises(InvalidError):
            validation.status(said)
    assert TEXT <= validation.TEXT, "agents shorten what managers would refuse"


@pytest.mark.parametrize(
    "request_",
    [
        pb.IssueRequest(addr="10.0.0.999"),
        pb.IssueRequest(availability="sometimes"),
        pb.IssueRequest(csr=b"x" * 20_000),
        pb.IssueRequest(description=pb.NodeDescription(hostname="\0")),
        pb.IssueRequest(routes=["10.0.0.0/8 dev eth0"] * 5000),
    ],
)
def test_requests_for_certificates_that_cannot_be(request_: pb.IssueRequest) -> None:
    with pytest.raises(InvalidError):
        validation.issue(request_)
