"""Our rtnetlink codec against pyroute2's: the same bytes out, the same values in."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_interface

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyroute2.netlink.rtnl.fibmsg import fibmsg
from pyroute2.netlink.rtnl.ifaddrmsg import ifaddrmsg
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg
from pyroute2.netlink.rtnl.ndmsg import ndmsg
from pyroute2.netlink.rtnl.rtmsg import rtmsg
from pyroute2.netlink.rtnl.tcmsg import tcmsg

from meshnet.kernel import decode, encode, nlmsg
from meshnet.kernel.rtnetlink import SKIP_STATS, Af, IfaF, Iff, Ntf, Nud, Rtm
from meshnet.model.ids import MacAddress
from meshnet.netstate.objects import Link, Neighbour, Port, Route, Rule, Vxlan

BYTE, U32 = st.integers(0, 255), st.integers(0, 2**32 - 1)
NUMBER = st.integers(0, 65535)
INDEX = st.integers(1, 2**31 - 1)
NAME = st.text("abcdefghijklmnopqrstuvwxyz0123456789-_.", min_size=1, max_size=15)
ADDRESS = st.integers(1, 2**32 - 1).map(IPv4Address)
ADDRESS6 = st.integers(1, 2**128 - 1).map(IPv6Address)
MAC = st.binary(min_size=6, max_size=6).map(lambda raw: MacAddress(raw.hex(":")))
MTU = st.integers(68, 65535)
NETWORK = st.tuples(U32, st.integers(0, 32)).map(lambda both: IPv4Network(both, strict=False))
NETWORK6 = st.tuples(st.integers(0, 2**128 - 1), st.integers(0, 128)).map(
    lambda both: IPv6Network(both, strict=False)
)
VXLAN = st.builds(Vxlan, st.integers(0, 2**24 - 1), ADDRESS, st.integers(0, 65535))


def _routes(network, at):
    return st.builds(
        Route, U32, network, st.none() | at, INDEX, BYTE, st.none() | at, st.booleans()
    )


def theirs(cls, fields, attrs):
    """The body of a message as pyroute2 writes it."""
    message = cls()
    for name, value in fields.items():
        message[name] = value
    message["attrs"] = attrs
    message.encode()
    return bytes(message.data[nlmsg.HEADER.size :])


def read(cls, message):
    """What pyroute2 reads in a request of ours: (fields, attributes)."""
    made = cls(nlmsg.message(message.type, message.flags, 7, message.body))
    made.decode()
    return made, dict(made["attrs"])


def up(index=0):
    return {"index": index, "flags": 1, "change": 1}


def nested(name, *attrs):
    return name, {"attrs": [*attrs]}


def info(kind, *data):
    kept = nested("IFLA_INFO_DATA", *data)
    return nested("IFLA_LINKINFO", ("IFLA_INFO_KIND", kind), *([kept] if data else []))


@settings(max_examples=30)
@given(NAME, VXLAN, MTU, INDEX)
def test_a_vxlan_device(name, vxlan, mtu, fd):
    ours = encode.new_vxlan(name, vxlan, mtu, fd)
    attrs = [
        ("IFLA_IFNAME", name),
        ("IFLA_MTU", mtu),
        ("IFLA_NET_NS_FD", fd),
        info(
            "vxlan",
            ("IFLA_VXLAN_ID", vxlan.vni),
            ("IFLA_VXLAN_LOCAL", str(vxlan.local)),
            ("IFLA_VXLAN_LEARNING", 0),
            ("IFLA_VXLAN_PROXY", 1),
            ("IFLA_VXLAN_PORT", vxlan.port),
            ("IFLA_VXLAN_UDP_CSUM", 0),
        ),
    ]
    assert ours.body == theirs(ifinfmsg, {}, attrs)
    assert decode.link(ours.body) == Link(
        0, name, "vxlan", up=False, mtu=mtu, mac=MacAddress(""), vxlan=vxlan
    )


@settings(max_examples=30)
@given(NAME, MTU)
def test_a_bridge(name, mtu):
    ours = encode.new_bridge(name, mtu)
    data = info("bridge", ("IFLA_BR_MCAST_SNOOPING", 0))
    attrs = [("IFLA_IFNAME", name), ("IFLA_MTU", mtu), data]
    assert ours.body == theirs(ifinfmsg, up(), attrs)


@settings(max_examples=30)
@given(NAME, NAME, MAC, MTU, INDEX, INDEX)
def test_a_veth_pair(name, peer, mac, mtu, master, fd):
    ours = encode.new_veth(name, peer, mac, mtu, master, fd)
    there = [("IFLA_IFNAME", peer), ("IFLA_ADDRESS", mac), ("IFLA_MTU", mtu)]
    there.append(("IFLA_NET_NS_FD", fd))
    attrs = [
        ("IFLA_IFNAME", name),
        ("IFLA_MTU", mtu),
        ("IFLA_MASTER", master),
        info("veth", nested("VETH_INFO_PEER", *there)),
    ]
    assert ours.body == theirs(ifinfmsg, up(), attrs)


@settings(max_examples=30)
@given(INDEX, MTU, MAC, INDEX)
def test_changes_of_a_link(index, mtu, mac, master):
    attrs = [("IFLA_MTU", mtu), ("IFLA_ADDRESS", mac), ("IFLA_MASTER", master)]
    ours = encode.set_link(index, mtu=mtu, mac=mac, master=master)
    assert ours.body == theirs(ifinfmsg, up(index), attrs)
    assert encode.set_link(index).body == theirs(ifinfmsg, up(index), [])
    assert encode.del_link(index).body == theirs(ifinfmsg, {"index": index}, [])
    learning = nested("IFLA_INFO_SLAVE_DATA", ("IFLA_BRPORT_LEARNING", 0))
    attrs = [nested("IFLA_LINKINFO", ("IFLA_INFO_SLAVE_KIND", "bridge"), learning)]
    assert encode.no_learning(index).body == theirs(ifinfmsg, {"index": index}, attrs)
    fields = {"index": index, "parent": 0xFFFFFFFF}
    assert encode.del_qdisc(index).body == theirs(tcmsg, fields, [])


PORT = st.builds(Port, st.just(True), *[st.booleans()] * 8)  # noqa: FBT003 - positional


@settings(max_examples=50)
@given(INDEX, PORT, st.booleans())
def test_a_bridge_s_port(index, port, forward):
    flags = [
        ("IFLA_BRPORT_MODE", port.hairpin),
        ("IFLA_BRPORT_LEARNING", port.learning),
        ("IFLA_BRPORT_UNICAST_FLOOD", port.flood),
        ("IFLA_BRPORT_MCAST_FLOOD", port.multicast),
        ("IFLA_BRPORT_BCAST_FLOOD", port.broadcast),
        ("IFLA_BRPORT_NEIGH_SUPPRESS", port.suppress),
        ("IFLA_BRPORT_ISOLATED", port.isolated),
        ("IFLA_BRPORT_LOCKED", port.locked),
    ]
    state = [("IFLA_BRPORT_STATE", 3)] if forward else []
    data = nested("IFLA_INFO_SLAVE_DATA", *state, *((n, int(v)) for n, v in flags))
    attrs = [nested("IFLA_LINKINFO", ("IFLA_INFO_SLAVE_KIND", "bridge"), data)]
    ours = encode.set_port(index, port, forward=forward)
    assert ours.body == theirs(ifinfmsg, {"index": index}, attrs)
    assert decode.link(ours.body).port == port


@pytest.mark.parametrize(
    ("state", "flags", "forwarding"),
    [(0, Iff.UP | Iff.RUNNING, False), (0, Iff.UP, True), (1, Iff.UP | Iff.RUNNING, True)],
    ids=["disabled", "without a carrier", "of a spanning tree, in time"],
)
def test_a_port_is_disabled_by_somebody_where_its_link_has_a_carrier(state, flags, forwarding):
    data = nested("IFLA_INFO_SLAVE_DATA", ("IFLA_BRPORT_STATE", state))
    attrs = [nested("IFLA_LINKINFO", ("IFLA_INFO_SLAVE_KIND", "bridge"), data)]
    body = theirs(ifinfmsg, {"index": 7, "flags": int(flags)}, attrs)
    assert decode.link(body).port == Port(forwarding=forwarding), "what is not told is as it begins"


@settings(max_examples=30)
@given(INDEX, ADDRESS | ADDRESS6, st.integers(0, 32))
def test_an_address(index, address, prefix):
    interface = ip_interface((address, prefix))
    attrs = [("IFA_LOCAL", str(address)), ("IFA_ADDRESS", str(address))]
    family, flags = (Af.INET, 0) if address.version == 4 else (Af.INET6, IfaF.NODAD)
    fields = {"family": family, "prefixlen": prefix, "flags": flags, "index": index}
    body = theirs(ifaddrmsg, fields, attrs)
    assert encode.new_address(index, interface).body == body
    assert encode.del_address(index, interface).body == body
    assert decode.address(body) == (index, interface)


@settings(max_examples=30)
@given(
    _routes(NETWORK, ADDRESS) | _routes(NETWORK6, ADDRESS6),
    st.booleans(),
)
def test_a_route(route, onlink):
    fields = {
        "family": Af.INET if route.destination.version == 4 else Af.INET6,
        "dst_len": route.destination.prefixlen,
        "table": route.table if route.table < 256 else 0,
        "proto": route.protocol,
        "scope": 254 if route.local else 253 if route.gateway is None else 0,
        "type": 2 if route.local else 1,
        "flags": 4 if onlink else 0,
    }
    attrs = [("RTA_TABLE", route.table), ("RTA_OIF", route.index)]
    if route.destination.prefixlen:
        attrs.append(("RTA_DST", str(route.destination.network_address)))
    if route.gateway is not None:
        attrs.append(("RTA_GATEWAY", str(route.gateway)))
    if route.source is not None:
        attrs.append(("RTA_PREFSRC", str(route.source)))
    body = theirs(rtmsg, fields, attrs)
    assert encode.new_route(route, onlink=onlink).body == body
    assert decode.route(body) == route


@settings(max_examples=30)
@given(
    st.builds(
        Rule, U32, U32, U32, U32, st.sampled_from([4, 6]), st.none() | st.tuples(BYTE, NUMBER)
    )
)
def test_a_rule(rule):
    attrs = [
        ("FRA_PRIORITY", rule.priority),
        ("FRA_FWMARK", rule.mark),
        ("FRA_FWMASK", rule.mask),
        ("FRA_TABLE", rule.table),
        ("FRA_PROTOCOL", encode.OUR_PROTOCOL),
    ]
    if rule.answers is not None:
        protocol, port = rule.answers
        attrs.append(("FRA_IP_PROTO", protocol))
        attrs.append(("FRA_SPORT_RANGE", f"{port}:{port}"))
    family = Af.INET if rule.family == 4 else Af.INET6
    body = theirs(fibmsg, {"family": family, "action": 1}, attrs)
    assert encode.new_rule(rule).body == body
    assert decode.rule(body) == rule


@pytest.mark.parametrize(
    ("fields", "attrs"),
    [
        ({}, [("FRA_IIFNAME", "eth0")]),
        ({}, [("FRA_SRC", "10.0.0.1")]),
        ({"src_len": 8}, []),
        ({"tos": 4}, []),
        ({"flags": 2}, []),
        ({"action": 7}, []),
        ({}, [("FRA_IP_PROTO", 17)]),
        ({}, [("FRA_SPORT_RANGE", "5:5")]),
        ({}, [("FRA_IP_PROTO", 17), ("FRA_SPORT_RANGE", "5:6")]),
    ],
    ids=[
        "interface",
        "source",
        "source network",
        "tos",
        "inverted",
        "unreachable",
        "protocol",
        "port",
        "ports",
    ],
)
def test_a_rule_that_selects_by_more_than_a_mark_is_none_of_ours(fields, attrs):
    whole = {"family": Af.INET, "action": 1}
    ours = [("FRA_PRIORITY", 7), ("FRA_FWMARK", 1), ("FRA_TABLE", 100)]
    assert decode.rule(theirs(fibmsg, whole, ours)) == Rule(1, 2**32 - 1, 100, 7)
    assert decode.rule(theirs(fibmsg, {**whole, **fields}, [*ours, *attrs])) is None


@settings(max_examples=30)
@given(INDEX, ADDRESS | ADDRESS6, MAC)
def test_a_neighbour(index, address, mac):
    family = Af.INET if address.version == 4 else Af.INET6
    fields = {"family": family, "ifindex": index, "state": Nud.PERMANENT}
    attrs = [("NDA_DST", str(address)), ("NDA_LLADDR", mac)]
    body = theirs(ndmsg, fields, attrs)
    assert encode.new_neighbour(index, address, mac).body == body
    assert encode.del_neighbour(index, address).body == theirs(ndmsg, fields, attrs[:1])
    assert decode.neighbour(body) == Neighbour(index, mac, address, Nud.PERMANENT)


@pytest.mark.parametrize(
    "attrs",
    [[("NDA_DST", "fe80::1"), ("NDA_LLADDR", "02:42:0a:00:00:01")], [("NDA_DST", "10.0.0.1")]],
    ids=["a VTEP of IPv6", "no MAC"],
)
def test_a_neighbour_that_is_none_of_ours_is_passed_over(attrs):
    family = Af.BRIDGE if len(attrs) > 1 else Af.INET
    assert decode.neighbour(theirs(ndmsg, {"family": family, "ifindex": 3}, attrs)) is None


@settings(max_examples=30)
@given(INDEX, MAC, st.none() | ADDRESS)
def test_an_fdb_row(index, mac, vtep):
    state, flags = (Nud.NOARP, Ntf.MASTER) if vtep is None else (Nud.PERMANENT, Ntf.SELF)
    fields = {"family": Af.BRIDGE, "ifindex": index, "state": state, "flags": flags}
    attrs = [("NDA_LLADDR", mac)] if vtep is None else [("NDA_DST", str(vtep)), ("NDA_LLADDR", mac)]
    body = theirs(ndmsg, fields, attrs)
    assert encode.new_fdb(index, mac, vtep).body == body
    assert encode.del_fdb(index, mac, vtep).body == body
    assert decode.neighbour(body) == Neighbour(index, mac, vtep, state)


LINKS = st.builds(
    Link,
    INDEX,
    NAME,
    st.sampled_from(["", "veth", "dummy"]),
    st.booleans(),
    MTU,
    MAC,
    INDEX,
    qdisc=st.sampled_from(["noqueue", "fq_codel"]),
)


@settings(max_examples=30)
@given(LINKS, st.none() | VXLAN)
def test_links_that_pyroute2_tells_are_read(link, vxlan):
    attrs = [("IFLA_IFNAME", link.name), ("IFLA_TXQLEN", 1000), ("IFLA_ADDRESS", link.mac)]
    attrs += [("IFLA_MTU", link.mtu), ("IFLA_MASTER", link.master), ("IFLA_QDISC", link.qdisc)]
    if vxlan is not None:
        link = replace(link, kind="vxlan", vxlan=vxlan)
        local, port = ("IFLA_VXLAN_LOCAL", str(vxlan.local)), ("IFLA_VXLAN_PORT", vxlan.port)
        attrs.append(
            info("vxlan", ("IFLA_VXLAN_ID", vxlan.vni), ("IFLA_VXLAN_TTL", 0), local, port)
        )
    elif link.kind:
        attrs.append(info(link.kind))
    flags = Iff.UP if link.up else 0
    assert decode.link(theirs(ifinfmsg, {"index": link.index, "flags": flags}, attrs)) == link


@pytest.mark.parametrize(
    ("request_", "cls", "kind"),
    [
        (encode.get_links(), ifinfmsg, Rtm.GETLINK),
        (encode.get_addresses(), ifaddrmsg, Rtm.GETADDR),
        (encode.get_addresses(6), ifaddrmsg, Rtm.GETADDR),
        (encode.get_routes(), rtmsg, Rtm.GETROUTE),
        (encode.get_routes(6), rtmsg, Rtm.GETROUTE),
        (encode.get_rules(), fibmsg, Rtm.GETRULE),
        (encode.get_neighbours(Af.INET), ndmsg, Rtm.GETNEIGH),
        (encode.get_neighbours(Af.BRIDGE), ifinfmsg, Rtm.GETNEIGH),
    ],
)
def test_dump_requests_ask_for_everything_of_a_family(request_, cls, kind):
    message, attrs = read(cls, request_)
    assert request_.type == kind
    assert attrs == ({"IFLA_EXT_MASK": SKIP_STATS} if kind == Rtm.GETLINK else {})
    others = {k: v for k, v in message.items() if k not in {"family", "header", "attrs", "state"}}
    assert not any(others.values()), others
    assert message["family"] == {Rtm.GETLINK: 0}.get(kind, message["family"])
