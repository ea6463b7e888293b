"""A Snapshot made of changes is the one made from scratch, and shares what did not change."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address, IPv4Interface, IPv6Address

import from_scratch
from hypothesis import given
from hypothesis import strategies as st

from meshnet.gossip.audiences import takes_part_key
from meshnet.gossip.engine import UNREACHED_KEY
from meshnet.model.ids import NetworkId, NodeId, ServiceId, TaskId
from meshnet.model.snapshot import Endpoint, Sandbox, Snapshot
from meshnet_control.api import control_pb2 as pb
from meshnet_control.cluster import gossip_records
from meshnet_control.cluster.assignments import difference
from meshnet_control.cluster.gossip_records import EPOCH_KEY, NODE_KEY
from meshnet_control.cluster.named import named
from meshnet_control.cluster.node_state import NodeState, merge
from meshnet_control.dataplane import snapshot
from meshnet_control.dataplane.builder import Builder
from meshnet_control.dataplane.claims import Taken
from meshnet_control.dataplane.endpoints import Endpoints

SELF = NodeId("n0")
NODES = [NodeId(f"n{i}") for i in range(3)]
NETS = [NetworkId(f"net{i}") for i in range(2)]
NOBODY: dict[TaskId, Sandbox] = {}
HERE = {
    TaskId("a"): Sandbox(TaskId("a"), "/run/a", ((NETS[1], IPv4Interface("10.0.1.9/24")),), None)
}
Nodes = st.frozensets(st.sampled_from(NODES[1:])).map(lambda some: {SELF, *some})


@st.composite
def assignments(draw) -> pb.Assignments:
    made = pb.Assignments(full=True)
    for node in sorted(draw(Nodes)):
        made.nodes.add(
            id=node,
            addr=f"192.168.0.{node[1:]}",
            hostname=node,
            down=draw(st.booleans()),
            weight=draw(st.sampled_from([None, 0, 3])),
        )
    for at, net in enumerate(NETS):
        if draw(st.booleans()):
            network = made.networks.add(id=net, vni=4096 + at)
            network.spec.name = net
            network.spec.ingress = at == 0
            network.ipam_options.configs.add(subnet=f"10.0.{at}.0/24", gateway=f"10.0.{at}.1")
    for number in sorted(draw(st.frozensets(st.integers(0, 2)))):
        service = made.services.add(id=f"s{number}", name=f"web{number}", endpoint_mode="vip")
        address = f"10.0.1.{draw(st.integers(1, 5))}/24"
        service.virtual_ips.add(network_id=NETS[1], addr=address)
        if draw(st.booleans()):
            service.virtual_ips.add(network_id=NETS[1], addr=f"{draw(SIXES)}/64")
    return made


SIXES = st.integers(1, 5).map(lambda number: IPv6Address(f"fd00::{number}"))


@st.composite
def record(draw) -> tuple[tuple[NodeId, str], bytes | None]:
    node = draw(st.sampled_from(NODES))
    task = TaskId(draw(st.sampled_from("ab")))
    kinds = {
        EPOCH_KEY: gossip_records.encode_epoch((1, draw(st.integers(0, 3)))),
        NODE_KEY: gossip_records.encode_node(
            draw(st.sampled_from([1400, 1500])), draw(st.sampled_from([{}, {NODES[1]: 1300}]))
        ),
        UNREACHED_KEY: b"\x91\xa2n1",
        gossip_records.endpoint_key(task): gossip_records.encode_endpoint(
            Endpoint(
                task=task,
                name=task,
                node=node,
                service=ServiceId("s0"),
                addresses={
                    net: IPv4Address(f"10.0.1.{draw(st.integers(1, 5))}")
                    for net in draw(st.frozensets(st.sampled_from(NETS)))
                },
                ready=draw(st.booleans()),
                made=draw(st.integers(0, 2)),
                addresses6=draw(st.dictionaries(st.just(NETS[1]), SIXES, max_size=1)),
            )
        ),
    }
    for network in NETS:
        kinds[gossip_records.epoch_key(network)] = kinds[EPOCH_KEY]
        kinds[takes_part_key(network)] = b"\xc0"
        on_it = gossip_records.endpoint_key(task, network)
        kinds[on_it] = kinds[gossip_records.endpoint_key(task)]
    key = draw(st.sampled_from(sorted(kinds)))
    return (node, key), draw(st.sampled_from([kinds[key], kinds[key], None, b"\xc1"]))


Steps = st.lists(
    st.tuples(
        st.lists(record(), max_size=4),
        st.one_of(st.none(), assignments()),
        st.frozensets(st.sampled_from(NODES)),
        st.frozensets(st.sampled_from(NODES)),
        st.frozensets(st.sampled_from(NETS)),
        st.booleans(),
        st.booleans(),
        st.booleans(),
    ),
    max_size=6,
)


@given(assignments(), Steps)
def test_what_is_made_of_changes_is_what_is_made_from_scratch(told, steps):
    builder, before = Builder(SELF), Snapshot(0, SELF, complete=False)
    records: dict[tuple[NodeId, str], bytes] = {}
    kept: gossip_records.Records = {}
    state = NodeState.of(told)
    for news, fresh, gone, doubted, networks, on, whole, in_full in steps:
        message = fresh if fresh is None or in_full else difference(told, fresh)
        if fresh is not None and message is not None:
            told, state = fresh, merge(state, message)
        nodes = frozenset(NodeId(node.id) for node in told.nodes)
        for place, value in news:
            records = {at: v for at, v in records.items() if at != place}
            if value is not None:
                records[place] = value
        if whole:
            builder.records.tell_all(records)
        else:
            builder.records.tell({place: records.get(place) for place, _ in news})
        kept = from_scratch.remembered(kept, records, nodes, networks)
        builder.follow(nodes, networks)
        inputs = {
            "assignments": state,
            "gone": gone,
            "doubted": doubted,
            "sandboxes": HERE if on else NOBODY,
            "gwbridge": None,
            "complete": True,
        }
        known = named(message) if message is not None and before.revision else None
        now = builder.build(before, named=known, **inputs)
        scratch = from_scratch.build(
            revision=now.revision,
            self_id=SELF,
            records=kept,
            before=before.networks,
            **inputs,
        )
        assert now == scratch
        assert builder.unreached == gossip_records.unreached(kept)
        if now == replace(before, revision=now.revision):
            for part in ("nodes", "networks", "services", "endpoints", "epochs"):
                assert getattr(now, part) is getattr(before, part) or before.revision == 0
        builder.follow(nodes, networks)
        assert builder.build(now, **inputs) is now
        before = now


def test_an_address_that_is_free_again_is_the_other_claimant_s():
    place = {NETS[1]: IPv4Address("10.0.1.3")}
    first, later = (
        Endpoint(TaskId(task), task, node, ServiceId("s0"), place, ready=True, made=made)
        for task, node, made in (("a", NODES[1], 1), ("b", NODES[2], 2))
    )
    said = {
        (each.node, gossip_records.endpoint_key(each.task)): gossip_records.encode_endpoint(each)
        for each in (first, later)
    }
    endpoints = Endpoints()
    endpoints.change(said, frozenset())
    assert not endpoints.settled[first.task].addresses
    assert endpoints.settled[later.task].addresses == place
    endpoints.change({(later.node, gossip_records.endpoint_key(later.task)): None}, frozenset())
    assert endpoints.settled[first.task].addresses == place


def test_an_address_that_a_service_gets_is_no_task_s_any_more():
    address = IPv4Address("10.0.1.3")
    said = Endpoint(TaskId("a"), "a", NODES[1], None, {NETS[1]: address}, ready=True, made=1)
    builder, before = Builder(SELF), Snapshot(0, SELF, complete=False)
    key = gossip_records.endpoint_key(said.task)
    builder.records.tell({(NODES[1], key): gossip_records.encode_endpoint(said)})
    nodes = [pb.NodeView(id=node, addr="192.0.2.1") for node in NODES]
    builder.follow(frozenset(NODES))
    given_to = []
    for vips in ([], [f"{address}/24"], []):
        told = pb.Assignments(nodes=nodes)
        service = told.services.add(id="s0", name="s0")
        for vip in vips:
            service.virtual_ips.add(network_id=NETS[1], addr=vip)
        before = builder.build(
            before,
            assignments=NodeState.of(told),
            gone=frozenset(),
            sandboxes={},
            gwbridge=None,
            complete=True,
        )
        given_to.append(before.endpoints[said.task].addresses)
    assert given_to == [{NETS[1]: address}, {}, {NETS[1]: address}]


def test_an_address_of_two_services_is_taken_until_both_let_go():
    place = (NETS[1], IPv4Address("10.0.1.3"))
    taken = Taken()
    assert taken.change([], [place]) == {place}
    assert taken.change([], [place]) == set()
    assert taken.change([place], []) == set()
    assert place in taken
    assert taken.change([place], []) == {place}
    assert place not in taken


def _withdrawn_by_hand(before: Snapshot, now: Snapshot) -> bool:
    def chosen(of: Snapshot) -> set[object]:
        return {
            (each.service, place, sure)
            for each in of.live_endpoints()
            if each.ready and each.service is not None
            for place in each.addresses.items()
            for sure in {False, not of.doubts(each)}
        }

    return chosen(now) < chosen(before)


@given(
    st.lists(st.tuples(st.booleans(), st.sampled_from(NODES)), min_size=2, max_size=2),
    st.lists(st.frozensets(st.sampled_from(NODES)), min_size=2, max_size=2),
    st.lists(st.frozensets(st.sampled_from(NODES)), min_size=2, max_size=2),
)
def test_only_withdraws_is_told_by_what_changed(ready, gone, doubted):
    def made(at: int) -> Snapshot:
        told = pb.Assignments()
        for node in NODES:
            told.nodes.add(id=node, addr=f"192.168.0.{node[1:]}")
        is_ready, node = ready[at]
        both = [
            Endpoint(TaskId("a"), "a", NODES[1], ServiceId("s"), {NETS[1]: IPv4Address(1)}),
            Endpoint(
                TaskId("b"), "b", node, ServiceId("s"), {NETS[1]: IPv4Address(2)}, ready=is_ready
            ),
        ]
        return replace(
            Snapshot(1, SELF, endpoints={each.task: each for each in both}),
            nodes=snapshot.nodes_of(NodeState.of(told), SELF, {}, gone[at], doubted[at]),
        )

    before, now = made(0), made(1)
    assert snapshot.only_withdraws(before, now) == _withdrawn_by_hand(before, now)
