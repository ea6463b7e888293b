"""What nodes say of themselves, read back; whatever else is said, no decoder raises."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address

import msgpack
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from meshnet.gossip.engine import UNREACHED_KEY
from meshnet.gossip.table import VALUE_BYTES
from meshnet.model.ids import NetworkId, NodeId, ServiceId, TaskId
from meshnet.model.snapshot import Endpoint
from meshnet_control.cluster import gossip_records
from meshnet_control.cluster.gossip_records import (
    EPOCH_KEY,
    NARROW_MOST,
    NODE_KEY,
    is_well_formed,
)

OWNER, TASK = NodeId("n1"), TaskId("t1")
GOOD = {"name": "web.1.t1", "svc": "s1", "addr": {"net": 0x0A000102}, "ready": True}
FIELDS = ["mtu", *GOOD, "ctr", "host", "alias", "net"]

Names = st.text(st.characters(categories=("L", "N"), include_characters="-._"), min_size=1)
Addresses = st.integers(0x0A000000, 0x0AFFFFFF).map(IPv4Address)
Sixes = st.integers(0xFD << 120, (0xFE << 120) - 1).map(IPv6Address)


@st.composite
def _dual(draw: st.DrawFn, firsts: st.SearchStrategy[Endpoint]) -> Endpoint:
    said = draw(firsts)
    return replace(said, addresses6={net: draw(Sixes) for net in said.addresses if draw(Booleans)})


Booleans = st.booleans()
Firsts = st.builds(
    Endpoint,
    task=st.just(TASK),
    name=Names,
    node=st.just(OWNER),
    service=st.none() | Names.map(ServiceId),
    addresses=st.dictionaries(Names.map(NetworkId), Addresses, max_size=3),
    container=st.text("0123456789abcdef", max_size=64),
    hostname=st.just("") | Names,
    aliases=st.dictionaries(
        Names.map(NetworkId), st.lists(Names, max_size=3).map(tuple), max_size=2
    ),
    ready=st.booleans(),
)
Endpoints = Firsts | _dual(Firsts)


@given(Endpoints)
def test_an_endpoint_that_is_said_is_read_back(endpoint):
    value = gossip_records.encode_endpoint(endpoint)
    key = gossip_records.endpoint_key(TASK)
    assert is_well_formed(key, value)
    assert gossip_records.decode_endpoint(OWNER, TASK, value) == endpoint
    assert gossip_records.decode_endpoints({(OWNER, key): value}) == {TASK: endpoint}


@pytest.mark.parametrize(
    ("ready", "owner"),
    [
        ({"n1": True, "n2": False}, "n1"),
        ({"n1": False, "n2": True}, "n2"),
        ({"n1": True, "n2": True}, "n2"),
        ({"n1": False, "n2": False}, "n2"),
    ],
)
def test_a_task_that_two_nodes_say_is_one_nodes_for_all_who_hear_both(ready, owner):
    key = gossip_records.endpoint_key(TASK)
    said = [
        ((NodeId(node), key), msgpack.packb({**GOOD, "ready": is_ready}))
        for node, is_ready in ready.items()
    ]
    for heard in (said, said[::-1]):
        assert gossip_records.decode_endpoints(dict(heard))[TASK].node == owner


def test_a_name_that_no_resolver_could_serve_is_not_said_and_costs_nothing_else():
    endpoint = Endpoint(
        task=TASK,
        name="web.1.t1",
        node=OWNER,
        service=None,
        addresses={},
        hostname="x" * 256,
        aliases={NetworkId("net"): ("fine", "", "a\nb", "y" * 256)},
    )
    value = gossip_records.encode_endpoint(endpoint)
    read = gossip_records.decode_endpoint(OWNER, TASK, value)
    assert read is not None
    assert (read.hostname, read.aliases) == ("", {NetworkId("net"): ("fine",)})


@pytest.mark.parametrize(
    "change",
    [
        {"svc": [1]},
        {"svc": ""},
        {"svc": 7},
        {"name": None},
        {"name": ""},
        {"name": "a\nb"},
        {"name": "x" * 256},
        {"addr": None},
        {"addr": [1]},
        {"addr": {"net": -1}},
        {"addr": {"net": 1 << 32}},
        {"addr": {"net": 1.5}},
        {"addr": {"net": True}},
        {"addr": {"net": "10.0.0.1"}},
        {"addr": {"net": 0}},
        {"addr": {"net": 0x7F000001}},
        {"addr": {"net": 0xE0000001}},
        {"addr": {"net": 0xFFFFFFFF}},
        {"addr": {7: 0x0A000001}},
        {"addr": {"": 0x0A000001}},
        {"ctr": 7},
        {"ctr": "c" * 65},
        {"host": ["h"]},
        {"alias": {"net": "name"}},
        {"alias": {"net": [7]}},
        {"alias": {"net": ["a\x00b"]}},
        {"alias": [1]},
        {"addr6": {"net": 7}},
        {"addr6": {"net": b"\0" * 16}},
        {"addr6": {"net": IPv6Address("fe80::1").packed}},
        {"addr6": {"net": IPv6Address("ff02::1").packed}},
        {"addr6": {"net": IPv6Address("::ffff:10.0.0.1").packed}},
        {"addr6": {"net": b"\xfd"}},
        {"addr6": [1]},
        {"ready": 1},
        {"ready": None},
    ],
    ids=str,
)
def test_an_endpoint_that_is_wrong_in_one_field_is_none(change):
    key = gossip_records.endpoint_key(TASK)
    assert is_well_formed(key, msgpack.packb(GOOD))
    value = msgpack.packb(GOOD | change)
    assert not is_well_formed(key, value)
    assert gossip_records.decode_endpoint(OWNER, TASK, value) is None
    assert gossip_records.decode_endpoints({(OWNER, key): value}) == {}


def test_an_address_of_ipv6_stands_beside_one_of_ipv4():
    six = {"addr6": {"net": IPv6Address("fd00::2").packed, "other": IPv6Address("fd00::3").packed}}
    read = gossip_records.decode_endpoint(OWNER, TASK, msgpack.packb(GOOD | six))
    assert read is not None
    assert read.addresses6 == {"net": IPv6Address("fd00::2")}
    before = gossip_records.decode_endpoint(OWNER, TASK, msgpack.packb(GOOD))
    assert before is not None
    assert (before.addresses, before.addresses6) == (read.addresses, {})


def test_more_fields_and_other_keys_are_a_newer_versions_business():
    assert is_well_formed(gossip_records.endpoint_key(TASK), msgpack.packb(GOOD | {"new": [1]}))
    assert is_well_formed("new", msgpack.packb({"x": 1}))


@pytest.mark.parametrize(
    ("key", "good", "bad"),
    [
        (NODE_KEY, {"mtu": 1400}, {"mtu": 575}),
        (NODE_KEY, {"mtu": 65535, "new": 1}, {"mtu": True}),
        (NODE_KEY, {"mtu": 1500, "narrow": {"n1": 1400}}, {"mtu": 1500, "narrow": {"n1": 80}}),
        (NODE_KEY, {"mtu": 1500, "narrow": {}}, {"mtu": 1500, "narrow": ["n1"]}),
        (
            NODE_KEY,
            {"mtu": 1500, "narrow": {f"n{at}": 1400 for at in range(NARROW_MOST)}},
            {"mtu": 1500, "narrow": {f"n{at}": 1400 for at in range(NARROW_MOST + 1)}},
        ),
        (EPOCH_KEY, [7, 1], 7),
        (EPOCH_KEY, [0, 0], [7, -1]),
        (UNREACHED_KEY, ["n1"], ["n1", 7]),
        (UNREACHED_KEY, [], {"n1": 1}),
    ],
)
def test_the_other_records(key, good, bad):
    assert is_well_formed(key, msgpack.packb(good))
    assert not is_well_formed(key, msgpack.packb(bad))


def test_numbers_and_ways_are_read_back():
    assert gossip_records.decode_node(gossip_records.encode_node(1400)) == (1400, ())
    ways = {NodeId(f"n{at:02}"): 1400 - at for at in range(NARROW_MOST)}
    said = gossip_records.decode_node(gossip_records.encode_node(1500, ways))
    assert said == (1500, tuple(ways.items()))
    more = gossip_records.encode_node(1500, ways | {NodeId("n99"): 1300})
    assert gossip_records.decode_node(more) == (1300, ()), "too many to tell of: the lowest"
    assert is_well_formed(NODE_KEY, more)
    assert gossip_records.decode_epoch(gossip_records.encode_epoch((7, 2))) == (7, 2)
    told = {
        (NodeId("n1"), UNREACHED_KEY): msgpack.packb(["n2", "n3"]),
        (NodeId("n2"), UNREACHED_KEY): msgpack.packb([1]),
        (NodeId("n3"), "other"): msgpack.packb(["n1"]),
    }
    assert gossip_records.unreached(told) == {"n1": {"n2", "n3"}}


def test_the_largest_endpoint_is_told_and_keeps_its_address():
    nets = [NetworkId(f"net{number}".ljust(25, "0")) for number in range(20)]
    names = tuple(f"{number:02}".ljust(253, "x") for number in range(64))
    endpoint = Endpoint(
        TASK,
        "x" * 255,
        OWNER,
        ServiceId("s" * 25),
        {net: IPv4Address("10.0.0.2") for net in nets},
        container="c" * 64,
        hostname="h" * 63,
        aliases=dict.fromkeys(nets, names),
    )
    value = gossip_records.encode_endpoint(endpoint)
    assert len(value) <= VALUE_BYTES
    read = gossip_records.decode_endpoint(OWNER, TASK, value)
    assert read is not None
    assert read.addresses == endpoint.addresses
    assert read.aliases[nets[0]] == names[: len(read.aliases[nets[0]])] != ()


Anything = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(1 << 63), (1 << 64) - 1)
    | st.floats()
    | st.text(max_size=5)
    | st.binary(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(FIELDS), inner, max_size=7)
        | st.dictionaries(st.integers(0, 3) | st.text(max_size=2), inner, max_size=2)
    ),
    max_leaves=15,
)


@given(Anything.map(msgpack.packb) | st.binary(max_size=60))
@example(msgpack.packb(GOOD | {"svc": [1]}))
@example(b"\x91" * 3000)
@example(b"\x81\x90\x01")
@example(b"\xc7\x00\xff")
def test_no_decoder_raises_and_all_agree_with_the_door(value):
    key = gossip_records.endpoint_key(TASK)
    endpoint = gossip_records.decode_endpoint(OWNER, TASK, value)
    assert (endpoint is not None) == is_well_formed(key, value)
    if endpoint is not None:
        hash((endpoint.service, endpoint.name, *endpoint.addresses, *endpoint.aliases))
    assert (gossip_records.decode_epoch(value) is not None) == is_well_formed(EPOCH_KEY, value)
    assert bool(gossip_records.unreached({(OWNER, UNREACHED_KEY): value})) == is_well_formed(
        UNREACHED_KEY, value
    )
    assert 576 <= gossip_records.decode_node(value)[0] <= 65535
    is_well_formed(NODE_KEY, value)
