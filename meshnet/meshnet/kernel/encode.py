"""rtnetlink messages as bytes and back (rtnetlink(7), linux/if_link.h, linux/neighbour.h).

Pure. Only the messages that the reconcilers use. pyroute2 knows them all, but takes 25 MB, and
1 to 3 ms for each dump; a host with 20 containers makes a hundred dumps a round: see
docs/decisions/0006-own-rtnetlink-encoder.md.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from typing import Final

from meshnet.model.ids import MacAddress
from meshnet.netstate.objects import Link, Neighbour, Route, Rule, Vxlan

NEWLINK, DELLINK, GETLINK = 16, 17, 18
NEWADDR, DELADDR, GETADDR = 20, 21, 22
NEWROUTE, GETROUTE = 24, 26
NEWNEIGH, DELNEIGH, GETNEIGH = 28, 29, 30
NEWRULE, GETRULE = 32, 34

F_REQUEST, F_ACK, F_REPLACE, F_EXCL, F_CREATE, F_APPEND = 1, 4, 0x100, 0x200, 0x400, 0x800
AF_INET, AF_BRIDGE = 2, 7
IFF_UP: Final = 1
NUD_NOARP: Final = 0x40
NUD_PERMANENT: Final = 0x80
_NTF_SELF, _NTF_MASTER = 0x02, 0x04
_NDA_MASTER: Final = 9
OUR_PROTOCOL: Final = 77
"""Origin that we put on our routes and rules (iproute2 rt_protos)."""
_SCOPE_UNIVERSE, _SCOPE_LINK = 0, 253
_RTNH_F_ONLINK: Final = 4
_RTN_UNICAST: Final = 1
_FR_ACT_TO_TBL: Final = 1


@dataclass(frozen=True, slots=True)
class Message:
    """One request: rtnetlink type, flags (REQUEST is added) and body."""

    type: int
    flags: int
    body: bytes


def attribute(kind: int, value: bytes) -> bytes:
    """One netlink attribute, padded to four bytes."""
    return struct.pack("=HH", 4 + len(value), kind) + value + bytes(-len(value) % 4)


def attributes(data: bytes, offset: int = 0) -> Iterator[tuple[int, bytes]]:
    """(type without flags, value) of every attribute from ``offset`` on."""
    end = len(data)
    while offset + 4 <= end:
        length, kind = struct.unpack_from("=HH", data, offset)
        if length < 4:  # noqa: PLR2004  (a header's own size)
            return
        yield kind & 0x3FFF, data[offset + 4 : offset + length]
        offset += (length + 3) & ~3


def _u32(kind: int, value: int) -> bytes:
    return attribute(kind, struct.pack("=I", value))


def _u8(kind: int, value: int) -> bytes:
    return attribute(kind, bytes([value]))


def _name(kind: int, name: str) -> bytes:
    return attribute(kind, name.encode() + b"\0")


def _mac(mac: MacAddress) -> bytes:
    return bytes.fromhex(mac.replace(":", ""))


def _ifinfo(index: int = 0, flags: int = 0, change: int = 0) -> bytes:
    return struct.pack("=BxHiII", 0, 0, index, flags, change)


# ---- links ----

_ADDRESS, _IFNAME, _MTU, _MASTER, _LINKINFO, _NETNS_FD = 1, 3, 4, 10, 18, 28
_KIND, _DATA, _PORT_KIND, _PORT_DATA = 1, 2, 4, 5


def new_vxlan(name: str, vxlan: Vxlan, mtu: int, netns_fd: int) -> Message:
    """A VXLAN device in ``netns_fd`` whose UDP socket stays in the namespace of the request.

    No learning, ARP answered from our neighbours (proxy), no outer checksum.
    """
    data = (
        _u32(1, vxlan.vni)
        + attribute(4, vxlan.local.packed)
        + _u8(7, 0)  # learning
        + _u8(11, 1)  # proxy
        + attribute(15, struct.pack("!H", vxlan.port))
        + _u8(18, 0)  # UDP checksum
    )
    body = (
        _ifinfo()
        + _name(_IFNAME, name)
        + _u32(_MTU, mtu)
        + _u32(_NETNS_FD, netns_fd)
        + attribute(_LINKINFO, _name(_KIND, "vxlan") + attribute(_DATA, data))
    )
    return Message(NEWLINK, F_CREATE | F_EXCL, body)


def new_bridge(name: str, mtu: int) -> Message:
    """A bridge without multicast snooping, up."""
    data = _u8(23, 0)
    body = (
        _ifinfo(0, IFF_UP, IFF_UP)
        + _name(_IFNAME, name)
        + _u32(_MTU, mtu)
        + attribute(_LINKINFO, _name(_KIND, "bridge") + attribute(_DATA, data))
    )
    return Message(NEWLINK, F_CREATE | F_EXCL, body)


def new_veth(
    name: str,
    peer: str,
    peer_mac: MacAddress,
    mtu: int,
    master: int,
    peer_netns_fd: int | None,
) -> Message:
    """A veth pair: this end up and a port of ``master`` (0: none), the peer in its namespace."""
    there = _ifinfo() + _name(_IFNAME, peer) + attribute(_ADDRESS, _mac(peer_mac)) + _u32(_MTU, mtu)
    if peer_netns_fd is not None:
        there += _u32(_NETNS_FD, peer_netns_fd)
    body = _ifinfo(0, IFF_UP, IFF_UP) + _name(_IFNAME, name) + _u32(_MTU, mtu)
    if master:
        body += _u32(_MASTER, master)
    body += attribute(_LINKINFO, _name(_KIND, "veth") + attribute(_DATA, attribute(1, there)))
    return Message(NEWLINK, F_CREATE | F_EXCL, body)


def set_link(
    index: int,
    *,
    mtu: int | None = None,
    mac: MacAddress | None = None,
    master: int | None = None,
) -> Message:
    """Bring a link up, and set what is given."""
    body = _ifinfo(index, IFF_UP, IFF_UP)
    if mtu is not None:
        body += _u32(_MTU, mtu)
    if mac is not None:
        body += attribute(_ADDRESS, _mac(mac))
    if master is not None:
        body += _u32(_MASTER, master)
    return Message(NEWLINK, 0, body)


def no_learning(index: int) -> Message:
    """The bridge learns nothing from frames that come in on this port (IFLA_BRPORT_LEARNING)."""
    data = _u8(8, 0)
    info = attribute(_LINKINFO, _name(_PORT_KIND, "bridge") + attribute(_PORT_DATA, data))
    return Message(NEWLINK, 0, _ifinfo(index) + info)


def del_link(index: int) -> Message:
    """Remove a link."""
    return Message(DELLINK, 0, _ifinfo(index))


def get_links() -> Message:
    """Ask for all links."""
    return Message(GETLINK, 0, _ifinfo())


def link(body: bytes) -> Link:
    """A NEWLINK's body."""
    index, flags = struct.unpack_from("=iI", body, 4)
    name, kind, mac, mtu, master = "", "", "", 0, 0
    vxlan = None
    for what, value in attributes(body, 16):
        if what == _IFNAME:
            name = value[:-1].decode()
        elif what == _ADDRESS:
            mac = value.hex(":")
        elif what == _MTU:
            mtu = struct.unpack("=I", value)[0]
        elif what == _MASTER:
            master = struct.unpack("=I", value)[0]
        elif what == _LINKINFO:
            info = dict(attributes(value))
            kind = info.get(_KIND, b"\0").rstrip(b"\0").decode()
            if kind == "vxlan":
                vxlan = _vxlan(info.get(_DATA, b""))
    return Link(index, name, kind, bool(flags & IFF_UP), mtu, MacAddress(mac), master, vxlan)


def _vxlan(data: bytes) -> Vxlan:
    found = dict(attributes(data))
    return Vxlan(
        vni=struct.unpack("=I", found.get(1, bytes(4)))[0],
        local=IPv4Address(found.get(4, bytes(4))),
        port=struct.unpack("!H", found.get(15, bytes(2)))[0],
    )


# ---- addresses ----


def new_address(index: int, address: IPv4Interface) -> Message:
    """Give a link an address."""
    return Message(NEWADDR, F_CREATE | F_REPLACE, _address(index, address))


def del_address(index: int, address: IPv4Interface) -> Message:
    """Take an address from a link."""
    return Message(DELADDR, 0, _address(index, address))


def _address(index: int, address: IPv4Interface) -> bytes:
    header = struct.pack("=BBBBi", AF_INET, address.network.prefixlen, 0, 0, index)
    packed = address.ip.packed
    return header + attribute(2, packed) + attribute(1, packed)


def get_addresses() -> Message:
    """Ask for all IPv4 addresses."""
    return Message(GETADDR, 0, struct.pack("=BBBBi", AF_INET, 0, 0, 0, 0))


def address(body: bytes) -> tuple[int, IPv4Interface]:
    """A NEWADDR's body: (link index, address)."""
    prefix = body[1]
    (index,) = struct.unpack_from("=i", body, 4)
    found = dict(attributes(body, 8))
    local = IPv4Address(found.get(2) or found.get(1, bytes(4)))
    return index, IPv4Interface((local, prefix))


# ---- routes and rules ----


def new_route(route: Route, *, onlink: bool = False) -> Message:
    """A route through a gateway; ``onlink``: the gateway needs no route of its own."""
    return Message(NEWROUTE, F_CREATE | F_REPLACE, _route(route, onlink=onlink))


def _route(route: Route, *, onlink: bool) -> bytes:
    scope = _SCOPE_UNIVERSE if route.gateway is not None else _SCOPE_LINK
    flags = _RTNH_F_ONLINK if onlink else 0
    header = struct.pack(
        "=BBBBBBBBI",
        AF_INET,
        route.destination.prefixlen,
        0,
        0,
        route.table if route.table < 256 else 0,  # noqa: PLR2004  (the header has one byte)
        route.protocol,
        scope,
        _RTN_UNICAST,
        flags,
    )
    body = header + _u32(15, route.table) + _u32(4, route.index)
    if route.destination.prefixlen:
        body += attribute(1, route.destination.network_address.packed)
    if route.gateway is not None:
        body += attribute(5, route.gateway.packed)
    return body


def get_routes() -> Message:
    """Ask for all IPv4 routes."""
    return Message(GETROUTE, 0, struct.pack("=BBBBBBBBI", AF_INET, *bytes(7), 0))


def route(body: bytes) -> Route | None:
    """A NEWROUTE's body; None for what is not a unicast route through one link."""
    prefix, table, protocol, kind = body[1], body[4], body[5], body[7]
    found = dict(attributes(body, 12))
    if kind != _RTN_UNICAST or 4 not in found:  # noqa: PLR2004  (RTA_OIF)
        return None
    gateway = found.get(5)
    return Route(
        table=struct.unpack("=I", found[15])[0] if 15 in found else table,  # noqa: PLR2004
        destination=IPv4Network((found.get(1, bytes(4)), prefix)),
        gateway=IPv4Address(gateway) if gateway else None,
        index=struct.unpack("=I", found[4])[0],
        protocol=protocol,
    )


def new_rule(rule: Rule) -> Message:
    """A rule: packets with the mark look a route up in the table."""
    return Message(NEWRULE, F_CREATE | F_EXCL, _rule(rule))


def _rule(rule: Rule) -> bytes:
    header = struct.pack("=BBBBBBBBI", AF_INET, 0, 0, 0, 0, 0, 0, _FR_ACT_TO_TBL, 0)
    values = _u32(6, rule.priority) + _u32(10, rule.mark) + _u32(16, rule.mask)
    return header + values + _u32(15, rule.table) + _u8(21, OUR_PROTOCOL)


def get_rules() -> Message:
    """Ask for all IPv4 policy rules."""
    return Message(GETRULE, 0, struct.pack("=BBBBBBBBI", AF_INET, *bytes(7), 0))


def rule(body: bytes) -> Rule | None:
    """A NEWRULE's body; None when it does not select by mark."""
    found = dict(attributes(body, 12))
    if 10 not in found:  # noqa: PLR2004  (FRA_FWMARK)
        return None
    number = {key: struct.unpack("=I", found[key])[0] for key in (6, 10, 15, 16) if key in found}
    return Rule(number[10], number.get(16, 0xFFFFFFFF), number.get(15, body[4]), number.get(6, 0))


# ---- neighbours and FDB ----


def new_neighbour(index: int, destination: IPv4Address, mac: MacAddress) -> Message:
    """A permanent ARP entry."""
    return Message(NEWNEIGH, F_CREATE | F_REPLACE, _neighbour(AF_INET, index, 0, mac, destination))


def del_neighbour(index: int, destination: IPv4Address) -> Message:
    """Remove an ARP entry."""
    return Message(DELNEIGH, 0, _neighbour(AF_INET, index, 0, None, destination))


def new_fdb(index: int, mac: MacAddress, vtep: IPv4Address | None) -> Message:
    """A permanent FDB row: of the VXLAN device to ``vtep``, or (None) of its bridge, static."""
    if vtep is None:
        body = _neighbour(AF_BRIDGE, index, _NTF_MASTER, mac, None, state=NUD_NOARP)
    else:
        body = _neighbour(AF_BRIDGE, index, _NTF_SELF, mac, vtep)
    return Message(NEWNEIGH, F_CREATE | F_REPLACE, body)


def del_fdb(index: int, mac: MacAddress, vtep: IPv4Address | None) -> Message:
    """Remove an FDB row."""
    flags = _NTF_MASTER if vtep is None else _NTF_SELF
    return Message(DELNEIGH, 0, _neighbour(AF_BRIDGE, index, flags, mac, vtep))


def _neighbour(
    family: int,
    index: int,
    flags: int,
    mac: MacAddress | None,
    destination: IPv4Address | None,
    *,
    state: int = NUD_PERMANENT,
) -> bytes:
    body = struct.pack("=BxxxiHBB", family, index, state, flags, 0)
    if destination is not None:
        body += attribute(1, destination.packed)
    if mac is not None:
        body += attribute(2, _mac(mac))
    return body


def get_neighbours(family: int) -> Message:
    """Ask for all ARP entries (AF_INET) or FDB rows (AF_BRIDGE)."""
    if family == AF_BRIDGE:
        return Message(GETNEIGH, 0, struct.pack("=BxHiII", AF_BRIDGE, 0, 0, 0, 0))
    return Message(GETNEIGH, 0, struct.pack("=BxxxiHBB", family, 0, 0, 0, 0))


def neighbour(body: bytes) -> Neighbour | None:
    """A NEWNEIGH's body; None when it has no MAC or is not IPv4."""
    index, state, _, _ = struct.unpack_from("=iHBB", body, 4)
    found = dict(attributes(body, 12))
    mac, destination = found.get(2), found.get(1)
    if mac is None or (destination is not None and len(destination) != 4):  # noqa: PLR2004
        return None
    return Neighbour(
        index=index,
        mac=MacAddress(mac.hex(":")),
        destination=IPv4Address(destination) if destination is not None else None,
        state=state,
        master=_NDA_MASTER in found,
    )
