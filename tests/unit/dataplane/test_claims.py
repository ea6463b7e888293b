"""Whose an address is that several claim: the same on every node, whatever came first."""

from __future__ import annotations

import random
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network, IPv6Address

import from_scratch
from hypothesis import given
from hypothesis import strategies as st

from meshnet.model.ids import NetworkId, NodeId, ServiceId, TaskId, Vni
from meshnet.model.snapshot import Endpoint, Network, Node, Service
from meshnet_control.api import control_pb2 as pb
from meshnet_control.cluster import gossip_records
from meshnet_control.cluster.node_state import NodeState
from meshnet_control.dataplane import claims

NETS = [NetworkId("net1"), NetworkId("net2")]
NODES = [NodeId(f"n{number}") for number in range(3)]
HOSTS = [IPv4Address("10.0.1.0") + number for number in range(2, 6)]

SIXES = [IPv6Address("fd00::") + number for number in range(2, 6)]


def _beside(said: Endpoint, second: dict[NetworkId, IPv6Address]) -> Endpoint:
    both = {net: at for net, at in second.items() if net in said.addresses}
    return replace(said, addresses6=both)


Firsts = st.builds(
    Endpoint,
    task=st.sampled_from("abcdef").map(TaskId),
    name=st.just("web.1.x"),
    node=st.sampled_from(NODES),
    service=st.just(ServiceId("svc")),
    addresses=st.dictionaries(st.sampled_from(NETS), st.sampled_from(HOSTS), max_size=2),
    ready=st.booleans(),
    made=st.integers(0, 3),
)
Said = st.builds(
    _beside,
    Firsts,
    st.dictionaries(st.sampled_from(NETS), st.sampled_from(SIXES), max_size=2),
)


def _assignments() -> pb.Assignments:
    said = pb.Assignments()
    for number, name in enumerate(NETS):
        network = said.networks.add(id=name, vni=4096 + number)
        network.spec.name = name
        network.ipam_options.configs.add(subnet="10.0.1.0/24")
        network.ipam_options.configs.add(subnet="fd00::/64")
    service = said.services.add(id="svc", name="web", endpoint_mode="vip")
    service.virtual_ips.add(network_id=NETS[0], addr=f"{HOSTS[0]}/24")
    service.virtual_ips.add(network_id=NETS[0], addr=f"{SIXES[0]}/64")
    for number, node in enumerate(NODES):
        said.nodes.add(id=node, hostname=node, addr=f"192.0.2.{number + 1}")
    return said


@given(st.lists(Said, max_size=8), st.randoms(), st.sets(st.sampled_from(NODES)))
def test_all_nodes_choose_the_same_owner_whatever_came_first(said, rng: random.Random, gone):
    records = {
        (each.node, gossip_records.endpoint_key(each.task)): gossip_records.encode_endpoint(each)
        for each in said
    }
    shuffled = list(records.items())
    rng.shuffle(shuffled)
    views = [
        from_scratch.build(
            revision=1,
            self_id=node,
            assignments=NodeState.of(_assignments()),
            gone=believed,
            records=held,
            sandboxes={},
            gwbridge=None,
            complete=True,
        )
        for node, held, believed in (
            (NODES[0], records, frozenset()),
            (NODES[1], dict(shuffled), gone),
        )
    ]
    assert views[0].endpoints == views[1].endpoints
    owned = [place for each in views[0].endpoints.values() for place in claims.places(each)]
    assert len(owned) == len(set(owned)), "one owner each"
    assert (NETS[0], HOSTS[0]) not in owned, "that is the service's"
    assert (NETS[0], SIXES[0]) not in owned
    for each in views[0].endpoints.values():
        assert each.addresses6.keys() <= each.addresses.keys()


def test_who_loses_an_address_loses_the_one_of_ipv6_beside_it_and_not_the_other_way_round():
    def endpoint(task: str, made: int, at: int, six: int) -> Endpoint:
        both = {NETS[0]: HOSTS[at]}, {NETS[0]: SIXES[six]}
        return Endpoint(TaskId(task), task, NODES[0], None, both[0], made=made, addresses6=both[1])

    one, two, three = endpoint("a", 1, 1, 1), endpoint("b", 2, 1, 2), endpoint("c", 3, 3, 2)
    found = claims.settled({each.task: each for each in (one, two, three)}, ())
    assert (found[one.task].addresses, found[one.task].addresses6) == ({}, {})
    assert (found[two.task].addresses, found[two.task].addresses6) == ({NETS[0]: HOSTS[1]}, {})
    assert found[three.task] == three


def test_the_later_task_has_the_address_and_the_other_one_keeps_its_others():
    old = Endpoint(TaskId("z"), "old", NODES[2], None, dict.fromkeys(NETS, HOSTS[1]), made=1)
    new = Endpoint(TaskId("a"), "new", NODES[0], None, {NETS[0]: HOSTS[1]}, ready=False, made=2)
    said = {old.task: old, new.task: new}
    found = claims.settled(said, ())
    assert found[new.task] == new
    assert found[old.task].addresses == {NETS[1]: HOSTS[1]}
    assert claims.lost({old.task: old}, found) == {old.task: {(NETS[0], HOSTS[1])}}
    assert claims.lost({new.task: new}, found) == {}


def test_what_the_managers_gave_to_services_and_nodes_is_no_tasks():
    ingress = Network(NETS[1], "in", Vni(4096), IPv4Network("10.0.1.0/24"), HOSTS[3], ingress=True)
    node = Node(NODES[0], "h", IPv4Address("192.0.2.1"), ingress_address=HOSTS[1])
    service = Service(ServiceId("svc"), "web", vips={NETS[0]: HOSTS[0]})
    assert claims.taken([service], [node], {NETS[1]: ingress}) == [
        (NETS[0], HOSTS[0]),
        (NETS[1], HOSTS[1]),
    ]
