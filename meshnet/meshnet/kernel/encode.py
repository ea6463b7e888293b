"""rtnetlink requests as bytes (rtnetlink(7)); ``kernel.decode`` reads the answers. Pure.

Only the requests that the reconcilers make. pyroute2 knows them all, but takes 25 MB, and 1 to 3 ms
for each dump; a host with 20 containers makes a hundred dumps a round: see
docs/decisions/0006-own-rtnetlink-encoder.md. A test holds both modules to pyroute2.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Final

from meshnet.kernel.nlmsg import NlmF, attribute, inet, lladdr, text, u8, u32
from meshnet.kernel.rtnetlink import (
    IFADDRMSG,
    IFINFOMSG,
    KERNEL_PROTOCOL,
    NDMSG,
    PORT_RANGE,
    RTMSG,
    SKIP_STATS,
    TC_H_ROOT,
    TCMSG,
    Af,
    BrState,
    Fra,
    FrAct,
    Ifa,
    IfaF,
    Iff,
    Ifla,
    IflaBr,
    IflaBrport,
    IflaInfo,
    IflaVxlan,
    Nda,
    Ntf,
    Nud,
    Rta,
    Rtm,
    Rtn,
    RtnhF,
    RtScope,
    VethInfo,
)
from meshnet.model.families import Address, Family, Interface
from meshnet.model.ids import MacAddress
from meshnet.netstate.objects import (
    STANDARD_RULES,
    STANDARD_RULES6,
    Port,
    Route,
    Rule,
    Vxlan,
)

OUR_PROTOCOL: Final = 77
"""Origin that we put on our routes and rules (iproute2 rt_protos)."""
_BYTE: Final = 0xFF
# Before Python 3.12 a look-up in an enumeration takes longer than packing an attribute.
_NEWNEIGH, _DST, _LLADDR = int(Rtm.NEWNEIGH), int(Nda.DST), int(Nda.LLADDR)
_INET, _BRIDGE = int(Af.INET), int(Af.BRIDGE)
_FAMILIES: Final[dict[int, int]] = {4: _INET, 6: int(Af.INET6)}
_PERMANENT, _NOARP = int(Nud.PERMANENT), int(Nud.NOARP)
_SELF, _MASTER = int(Ntf.SELF), int(Ntf.MASTER)
_CREATE, _CREATE_OR_REPLACE = int(NlmF.CREATE | NlmF.EXCL), int(NlmF.CREATE | NlmF.REPLACE)


@dataclass(frozen=True, slots=True)
class Message:
    """One request: rtnetlink type, flags (REQUEST is added) and body."""

    type: int
    flags: int
    body: bytes


def _ifinfo(index: int = 0, flags: int = 0, change: int = 0) -> bytes:
    return IFINFOMSG.pack(0, 0, index, flags, change)


def _kind(kind: str, data: bytes) -> bytes:
    info = text(IflaInfo.KIND, kind) + attribute(IflaInfo.DATA, data)
    return attribute(Ifla.LINKINFO, info)


# ---- links ----


def new_vxlan(name: str, vxlan: Vxlan, mtu: int, netns_fd: int) -> Message:
    """A VXLAN device in ``netns_fd`` whose UDP socket stays in the namespace of the request.

    No learning, ARP and its like of IPv6 answered from our neighbours (proxy), no outer checksum.
    """
    data = (
        u32(IflaVxlan.ID, vxlan.vni)
        + inet(IflaVxlan.LOCAL, vxlan.local)
        + u8(IflaVxlan.LEARNING, 0)
        + u8(IflaVxlan.PROXY, 1)
        + attribute(IflaVxlan.PORT, struct.pack("!H", vxlan.port))
        + u8(IflaVxlan.UDP_CSUM, 0)
    )
    body = (
        _ifinfo()
        + text(Ifla.IFNAME, name)
        + u32(Ifla.MTU, mtu)
        + u32(Ifla.NET_NS_FD, netns_fd)
        + _kind("vxlan", data)
    )
    return Message(Rtm.NEWLINK, _CREATE, body)


def new_bridge(name: str, mtu: int) -> Message:
    """A bridge without multicast snooping, up."""
    body = (
        _ifinfo(0, Iff.UP, Iff.UP)
        + text(Ifla.IFNAME, name)
        + u32(Ifla.MTU, mtu)
        + _kind("bridge", u8(IflaBr.MCAST_SNOOPING, 0))
    )
    return Message(Rtm.NEWLINK, _CREATE, body)


def new_veth(
    name: str,
    peer: str,
    peer_mac: MacAddress,
    mtu: int,
    master: int,
    peer_netns_fd: int | None,
) -> Message:
    """A veth pair: this end up and a port of ``master`` (0: none), the peer in its namespace."""
    there = (
        _ifinfo() + text(Ifla.IFNAME, peer) + lladdr(Ifla.ADDRESS, peer_mac) + u32(Ifla.MTU, mtu)
    )
    if peer_netns_fd is not None:
        there += u32(Ifla.NET_NS_FD, peer_netns_fd)
    body = _ifinfo(0, Iff.UP, Iff.UP) + text(Ifla.IFNAME, name) + u32(Ifla.MTU, mtu)
    if master:
        body += u32(Ifla.MASTER, master)
    body += _kind("veth", attribute(VethInfo.PEER, there))
    return Message(Rtm.NEWLINK, _CREATE, body)


def set_link(
    index: int,
    *,
    mtu: int | None = None,
    mac: MacAddress | None = None,
    master: int | None = None,
) -> Message:
    """Bring a link up, and set what is given."""
    body = _ifinfo(index, Iff.UP, Iff.UP)
    if mtu is not None:
        body += u32(Ifla.MTU, mtu)
    if mac is not None:
        body += lladdr(Ifla.ADDRESS, mac)
    if master is not None:
        body += u32(Ifla.MASTER, master)
    return Message(Rtm.NEWLINK, 0, body)


def no_learning(index: int) -> Message:
    """The bridge learns nothing from frames that come in on this port."""
    info = text(IflaInfo.SLAVE_KIND, "bridge") + attribute(
        IflaInfo.SLAVE_DATA, u8(IflaBrport.LEARNING, 0)
    )
    return Message(Rtm.NEWLINK, 0, _ifinfo(index) + attribute(Ifla.LINKINFO, info))


def set_port(index: int, port: Port, *, forward: bool) -> Message:
    """How a bridge is to treat a port; ``forward``: take it out of the state disabled, too."""
    flags = {
        IflaBrport.MODE: port.hairpin,
        IflaBrport.LEARNING: port.learning,
        IflaBrport.UNICAST_FLOOD: port.flood,
        IflaBrport.MCAST_FLOOD: port.multicast,
        IflaBrport.BCAST_FLOOD: port.broadcast,
        IflaBrport.NEIGH_SUPPRESS: port.suppress,
        IflaBrport.ISOLATED: port.isolated,
        IflaBrport.LOCKED: port.locked,
    }
    data = u8(IflaBrport.STATE, BrState.FORWARDING) if forward else b""
    data += b"".join(u8(flag, value) for flag, value in flags.items())
    info = text(IflaInfo.SLAVE_KIND, "bridge") + attribute(IflaInfo.SLAVE_DATA, data)
    return Message(Rtm.NEWLINK, 0, _ifinfo(index) + attribute(Ifla.LINKINFO, info))


def del_qdisc(index: int) -> Message:
    """Remove a link's root qdisc: it has the one of its kind again."""
    return Message(Rtm.DELQDISC, 0, TCMSG.pack(0, index, 0, TC_H_ROOT, 0))


def del_link(index: int) -> Message:
    """Remove a link."""
    return Message(Rtm.DELLINK, 0, _ifinfo(index))


def get_links() -> Message:
    """Ask for all links, without their counters."""
    return Message(Rtm.GETLINK, 0, _ifinfo() + u32(Ifla.EXT_MASK, SKIP_STATS))


# ---- addresses ----


def new_address(index: int, address: Interface) -> Message:
    """Give a link an address; nobody is asked whether it is taken, it is usable at once."""
    return Message(Rtm.NEWADDR, _CREATE_OR_REPLACE, _address(index, address))


def del_address(index: int, address: Interface) -> Message:
    """Take an address from a link."""
    return Message(Rtm.DELADDR, 0, _address(index, address))


def _address(index: int, address: Interface) -> bytes:
    flags = 0 if isinstance(address.ip, IPv4Address) else IfaF.NODAD
    family = _FAMILIES[address.version]
    header = IFADDRMSG.pack(family, address.network.prefixlen, flags, 0, index)
    return header + inet(Ifa.LOCAL, address.ip) + inet(Ifa.ADDRESS, address.ip)


def get_addresses(family: Family = 4) -> Message:
    """Ask for all addresses of a family."""
    return Message(Rtm.GETADDR, 0, IFADDRMSG.pack(_FAMILIES[family], 0, 0, 0, 0))


# ---- routes and rules ----


def new_route(route: Route, *, onlink: bool = False) -> Message:
    """A route through a gateway; ``onlink``: the gateway needs no route of its own."""
    header = RTMSG.pack(
        _FAMILIES[route.destination.version],
        route.destination.prefixlen,
        0,
        0,
        route.table if route.table <= _BYTE else 0,
        route.protocol,
        _scope(route),
        Rtn.LOCAL if route.local else Rtn.UNICAST,
        RtnhF.ONLINK if onlink else 0,
    )
    body = header + u32(Rta.TABLE, route.table) + u32(Rta.OIF, route.index)
    if route.destination.prefixlen:
        body += inet(Rta.DST, route.destination.network_address)
    if route.gateway is not None:
        body += inet(Rta.GATEWAY, route.gateway)
    if route.source is not None:
        body += inet(Rta.PREFSRC, route.source)
    return Message(Rtm.NEWROUTE, _CREATE_OR_REPLACE, body)


def _scope(route: Route) -> RtScope:
    if route.local:
        return RtScope.HOST
    return RtScope.UNIVERSE if route.gateway is not None else RtScope.LINK


def get_routes(family: Family = 4) -> Message:
    """Ask for all routes of a family."""
    return Message(Rtm.GETROUTE, 0, RTMSG.pack(_FAMILIES[family], *bytes(7), 0))


def new_rule(rule: Rule) -> Message:
    """A rule: packets with the mark look a route up in the table."""
    of_kernel = rule in STANDARD_RULES | STANDARD_RULES6
    body = (
        RTMSG.pack(_FAMILIES[rule.family], *bytes(6), FrAct.TO_TBL, 0)
        + u32(Fra.PRIORITY, rule.priority)
        + u32(Fra.FWMARK, rule.mark)
        + u32(Fra.FWMASK, rule.mask)
        + u32(Fra.TABLE, rule.table)
        + u8(Fra.PROTOCOL, KERNEL_PROTOCOL if of_kernel else OUR_PROTOCOL)
    )
    if rule.answers is not None:
        protocol, port = rule.answers
        body += u8(Fra.IP_PROTO, protocol)
        body += attribute(Fra.SPORT_RANGE, PORT_RANGE.pack(port, port))
    return Message(Rtm.NEWRULE, _CREATE, body)


def get_rules(family: Family = 4) -> Message:
    """Ask for all policy rules of a family."""
    return Message(Rtm.GETRULE, 0, RTMSG.pack(_FAMILIES[family], *bytes(7), 0))


# ---- neighbours and FDB ----


def new_neighbour(index: int, destination: Address, mac: MacAddress) -> Message:
    """A permanent neighbour."""
    family = _FAMILIES[destination.version]
    body = _neighbour(family, index, _PERMANENT, 0, mac, destination)
    return Message(_NEWNEIGH, _CREATE_OR_REPLACE, body)


def del_neighbour(index: int, destination: Address) -> Message:
    """Remove a neighbour."""
    family = _FAMILIES[destination.version]
    return Message(Rtm.DELNEIGH, 0, _neighbour(family, index, _PERMANENT, 0, None, destination))


def new_fdb(index: int, mac: MacAddress, vtep: IPv4Address | None) -> Message:
    """A permanent FDB row: of the VXLAN device to ``vtep``, or (None) of its bridge, static."""
    return Message(_NEWNEIGH, _CREATE_OR_REPLACE, _fdb(index, mac, vtep))


def del_fdb(index: int, mac: MacAddress, vtep: IPv4Address | None) -> Message:
    """Remove an FDB row."""
    return Message(Rtm.DELNEIGH, 0, _fdb(index, mac, vtep))


def _fdb(index: int, mac: MacAddress, vtep: IPv4Address | None) -> bytes:
    if vtep is None:
        return _neighbour(_BRIDGE, index, _NOARP, _MASTER, mac, None)
    return _neighbour(_BRIDGE, index, _PERMANENT, _SELF, mac, vtep)


def _neighbour(
    family: int,
    index: int,
    state: int,
    flags: int,
    mac: MacAddress | None,
    destination: Address | None,
) -> bytes:
    body = NDMSG.pack(family, index, state, flags, 0)
    if destination is not None:
        body += inet(_DST, destination)
    if mac is not None:
        body += lladdr(_LLADDR, mac)
    return body


def get_neighbours(family: Af) -> Message:
    """Ask for all neighbours (INET, INET6) or FDB rows (BRIDGE)."""
    if family == Af.BRIDGE:
        return Message(Rtm.GETNEIGH, 0, IFINFOMSG.pack(Af.BRIDGE, 0, 0, 0, 0))
    return Message(Rtm.GETNEIGH, 0, NDMSG.pack(family, 0, 0, 0, 0))
