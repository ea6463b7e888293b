"""How many addresses of a network are in use, as API 1.52 shows it, and as the allocator has it."""

from __future__ import annotations

from ipaddress import IPv4Address
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from known_addresses import Known

from meshnet_control.api import control_pb2 as pb
from meshnet_control.controlapi.network_status import status
from meshnet_control.orchestrate.addresses import Addresses

NET, SUBNET = "n" * 25, "10.7.0.0/24"


def network(**config: Any) -> pb.Network:
    made = pb.Network(id=NET)
    made.ipam_options.configs.add(**{"subnet": SUBNET, "gateway": "10.7.0.1", **config})
    return made


def task(state: pb.TaskState, address: str, node: str = "") -> pb.Task:
    made = pb.Task(node_id=node)
    made.status.state = state
    made.networks_attachments.add(addresses=[address]).network.id = NET
    made.networks_attachments.add(addresses=["10.8.0.9/24"]).network.id = "other"
    return made


def counts(
    of: pb.Network, services: list[pb.Service], tasks: list[pb.Task], nodes: list[pb.Node]
) -> tuple[int, int]:
    """In use and left, of the one subnet."""
    (found,) = status(of, services, tasks, nodes)["IPAM"]["Subnets"].values()
    return found["IPsInUse"], found["DynamicIPsAvailable"]


def test_an_empty_network_has_its_ends_and_its_gateway_in_use():
    said = status(network(), [], [], [])
    assert said == {"IPAM": {"Subnets": {SUBNET: {"IPsInUse": 3, "DynamicIPsAvailable": 253}}}}
    assert status(pb.Network(id=NET), [], [], []) == {"IPAM": {}}


def test_each_family_is_counted_and_what_no_number_of_64_bits_holds_is_the_most():
    of = network()
    of.ipam_options.configs.add(subnet="fd00:7::/64", gateway="fd00:7::1", ip_range="fd00:7::/120")
    of.ipam_options.configs.add(subnet="fd01::/48", gateway="fd01::1")
    both = task(pb.TASK_STATE_RUNNING, "10.7.0.3/24")
    both.networks_attachments[0].addresses.append("fd00:7::3/64")
    service = pb.Service()
    service.endpoint.virtual_ips.add(network_id=NET, addr="fd00:7::2/64")
    assert status(of, [service], [both], [])["IPAM"]["Subnets"] == {
        SUBNET: {"IPsInUse": 4, "DynamicIPsAvailable": 252},
        "fd00:7::/64": {"IPsInUse": 5, "DynamicIPsAvailable": 252},
        "fd01::/48": {"IPsInUse": 3, "DynamicIPsAvailable": (1 << 64) - 1},
    }


def test_virtual_ips_and_addresses_of_tasks_are_in_use_and_those_of_ended_tasks_are_not():
    service = pb.Service()
    service.endpoint.virtual_ips.add(network_id=NET, addr="10.7.0.2/24")
    service.endpoint.virtual_ips.add(network_id="other", addr="10.8.0.2/24")
    tasks = [
        task(pb.TASK_STATE_RUNNING, "10.7.0.3/24"),
        task(pb.TASK_STATE_PENDING, "10.7.0.4/24"),
        task(pb.TASK_STATE_SHUTDOWN, "10.7.0.5/24"),
        task(pb.TASK_STATE_FAILED, "10.7.0.6/24"),
    ]
    assert counts(network(), [service], tasks, []) == (6, 250)


@pytest.mark.parametrize(("state", "used"), [("down", 4), ("ready", 3), ("unknown", 3), (None, 3)])
def test_a_task_that_was_given_up_holds_its_address_while_its_node_may_run_it(
    state: str | None, used: int
):
    node = pb.Node(id="lost")
    node.status.state = state or ""
    given_up = task(pb.TASK_STATE_ORPHANED, "10.7.0.9/24", "lost")
    assert counts(network(), [], [given_up], [node] if state else [])[0] == used


def test_nodes_have_addresses_on_the_ingress_network_alone():
    nodes = [pb.Node(id="a", ingress_address="10.7.0.2/24"), pb.Node(id="b")]
    assert counts(network(), [], [], nodes) == (3, 253)
    ingress = network()
    ingress.spec.ingress = True
    assert counts(ingress, [], [], nodes) == (4, 252)


def test_what_is_left_is_left_of_the_range_that_is_given_from():
    # As in moby's test: network, gateway, two auxiliary ones, broadcast and a container.
    config = {
        "subnet": "10.7.0.0/28",
        "ip_range": "10.7.0.8/30",
        "auxiliary_addresses": {"in": "10.7.0.9", "out": "10.7.0.3"},
    }
    tasks = [task(pb.TASK_STATE_RUNNING, "10.7.0.8/28")]
    assert counts(network(**config), [], tasks, []) == (6, 2)


@given(
    st.sampled_from(["", "10.7.0.8/30", "10.7.0.0/29", "10.7.0.12/30"]),
    st.frozensets(st.integers(0, 15), max_size=12),
)
def test_the_allocator_gives_as_many_as_are_said_to_be_left(ip_range: str, held: frozenset[int]):
    config = {"subnet": "10.7.0.0/28", "ip_range": ip_range}
    base = int(IPv4Address("10.7.0.0"))
    tasks = [task(pb.TASK_STATE_RUNNING, f"{IPv4Address(base + at)}/28") for at in held]
    made = network(**config)
    free = Addresses(made.ipam_options.configs[0], Known([base + at for at in held]))
    given_out = 0
    while free.take() is not None:
        given_out += 1
    assert counts(made, [], tasks, [])[1] == given_out
