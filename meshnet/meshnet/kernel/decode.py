"""rtnetlink's answers as values: bodies of NEWLINK, NEWADDR, NEWROUTE, NEWRULE and NEWNEIGH. Pure.

The counterpart of ``kernel.encode``. A body that cannot be read is a ``WireError``, whatever is
wrong with it. What hundreds of namespaces have is read again and again, and is as it was: the value
of a body is remembered, but of links and neighbours, which are told with counters and ages.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from functools import lru_cache, wraps
from ipaddress import (
    IPv4Address,
    IPv4Interface,
    IPv4Network,
    IPv6Address,
    IPv6Interface,
    IPv6Network,
)
from typing import Final, TypeVar

from meshnet.errors import WireError
from meshnet.kernel.nlmsg import as_text, as_u32, attributes
from meshnet.kernel.rtnetlink import (
    IFADDRMSG,
    IFINFOMSG,
    NDMSG,
    PORT_RANGE,
    RTMSG,
    Af,
    BrState,
    Fra,
    FrAct,
    Ifa,
    Iff,
    Ifla,
    IflaBrport,
    IflaInfo,
    IflaVxlan,
    Nda,
    Rta,
    Rtn,
)
from meshnet.model.families import Address, Interface, IpNetwork
from meshnet.model.ids import MacAddress
from meshnet.netstate.objects import Link, Neighbour, Port, Route, Rule, Vxlan

T = TypeVar("T")

_REMEMBERED: Final = 4096
"""Of each kind, the latest: 100 namespaces of a host have some 900 routes, 400 addresses."""
_ZERO: Final = bytes(4)
"""The number 0, or the address 0.0.0.0."""
_ZERO6: Final = bytes(16)
"""The address ::."""
_ALL_BITS: Final = 0xFFFFFFFF
_FIB_RULE_INVERT: Final = 2
"""Flag of a rule that selects what it does not name (linux/fib_rules.h)."""
_OTHER_SELECTORS: Final = frozenset(
    {
        Fra.DST,
        Fra.SRC,
        Fra.IIFNAME,
        Fra.OIFNAME,
        Fra.L3MDEV,
        Fra.UID_RANGE,
        Fra.DPORT_RANGE,
    }
)
# Before Python 3.12 a look-up in an enumeration takes longer than reading an attribute.
_ADDRESS, _IFNAME, _MTU = int(Ifla.ADDRESS), int(Ifla.IFNAME), int(Ifla.MTU)
_MASTER, _LINKINFO, _UP = int(Ifla.MASTER), int(Ifla.LINKINFO), int(Iff.UP)
_KIND, _DATA = int(IflaInfo.KIND), int(IflaInfo.DATA)
_ID, _LOCAL, _PORT = int(IflaVxlan.ID), int(IflaVxlan.LOCAL), int(IflaVxlan.PORT)
_SLAVE_KIND, _SLAVE_DATA = int(IflaInfo.SLAVE_KIND), int(IflaInfo.SLAVE_DATA)
_QDISC, _RUNNING, _BRIDGE = int(Ifla.QDISC), int(Iff.RUNNING), b"bridge\0"
_UNICAST, _LOCAL_TYPE = int(Rtn.UNICAST), int(Rtn.LOCAL)
_INET6 = int(Af.INET6)
_DST, _LLADDR, _OF_MASTER = int(Nda.DST), int(Nda.LLADDR), int(Nda.MASTER)


def _checked(decode: Callable[[bytes], T]) -> Callable[[bytes], T]:
    @wraps(decode)
    def checked(body: bytes) -> T:
        try:
            return decode(body)
        except (struct.error, ValueError) as error:
            raise WireError("the kernel", f"a {decode.__name__}: {error}") from error

    return checked


@_checked
def link(body: bytes) -> Link:
    """A NEWLINK's body."""
    _, _, index, flags, _ = IFINFOMSG.unpack_from(body)
    found = attributes(body, IFINFOMSG.size)
    info = attributes(found.get(_LINKINFO, b""))
    kind = as_text(info.get(_KIND, b""))
    return Link(
        index=index,
        name=as_text(found.get(_IFNAME, b"")),
        kind=kind,
        up=bool(flags & _UP),
        mtu=as_u32(found.get(_MTU, _ZERO)),
        mac=MacAddress(found.get(_ADDRESS, b"").hex(":")),
        master=as_u32(found.get(_MASTER, _ZERO)),
        vxlan=_vxlan(info.get(_DATA, b"")) if kind == "vxlan" else None,
        port=_port(info[_SLAVE_DATA], running=bool(flags & _RUNNING))
        if info.get(_SLAVE_KIND) == _BRIDGE and _SLAVE_DATA in info
        else None,
        qdisc=as_text(found.get(_QDISC, b"")),
    )


@lru_cache(maxsize=_REMEMBERED)
def _port(data: bytes, *, running: bool) -> Port:
    """A bridge port's settings; what an older kernel does not tell is as it begins.

    A bridge disables the port of a link without a carrier, and enables it with one.
    """
    found = attributes(data)

    def flag(what: int, default: bool) -> bool:  # noqa: FBT001
        return bool(found[what][0]) if found.get(what) else default

    state = found.get(IflaBrport.STATE)
    began = Port()
    return Port(
        forwarding=not (running and state is not None and state[0] == BrState.DISABLED),
        learning=flag(IflaBrport.LEARNING, began.learning),
        flood=flag(IflaBrport.UNICAST_FLOOD, began.flood),
        broadcast=flag(IflaBrport.BCAST_FLOOD, began.broadcast),
        multicast=flag(IflaBrport.MCAST_FLOOD, began.multicast),
        hairpin=flag(IflaBrport.MODE, began.hairpin),
        suppress=flag(IflaBrport.NEIGH_SUPPRESS, began.suppress),
        isolated=flag(IflaBrport.ISOLATED, began.isolated),
        locked=flag(IflaBrport.LOCKED, began.locked),
    )


def _vxlan(data: bytes) -> Vxlan:
    found = attributes(data)
    return Vxlan(
        vni=as_u32(found.get(_ID, _ZERO)),
        local=IPv4Address(found.get(_LOCAL, _ZERO)),
        port=struct.unpack("!H", found.get(_PORT, bytes(2)))[0],
    )


@lru_cache(maxsize=_REMEMBERED)
@_checked
def address(body: bytes) -> tuple[int, Interface]:
    """A NEWADDR's body: (link index, address)."""
    family, prefix, _, _, index = IFADDRMSG.unpack_from(body)
    found = attributes(body, IFADDRMSG.size)
    local = found.get(Ifa.LOCAL) or found.get(Ifa.ADDRESS)
    if family == _INET6:
        return index, IPv6Interface((local or _ZERO6, prefix))
    return index, IPv4Interface((local or _ZERO, prefix))


@lru_cache(maxsize=_REMEMBERED)
@_checked
def route(body: bytes) -> Route | None:
    """A NEWROUTE's body; None for what is no unicast or local route through one link."""
    family, prefix, _, _, table, protocol, _, kind, _ = RTMSG.unpack_from(body)
    found = attributes(body, RTMSG.size)
    if kind not in (_UNICAST, _LOCAL_TYPE) or Rta.OIF not in found:
        return None
    gateway, source = found.get(Rta.GATEWAY), found.get(Rta.PREFSRC)
    of: type[Address] = IPv6Address if family == _INET6 else IPv4Address
    destination: IpNetwork
    if family == _INET6:
        destination = IPv6Network((found.get(Rta.DST, _ZERO6), prefix))
    else:
        destination = IPv4Network((found.get(Rta.DST, _ZERO), prefix))
    return Route(
        table=as_u32(found[Rta.TABLE]) if Rta.TABLE in found else table,
        destination=destination,
        gateway=of(gateway) if gateway else None,
        index=as_u32(found[Rta.OIF]),
        protocol=protocol,
        source=of(source) if source else None,
        local=kind == _LOCAL_TYPE,
    )


@lru_cache(maxsize=_REMEMBERED)
@_checked
def rule(body: bytes) -> Rule | None:
    """A NEWRULE's body; None when it selects by more than our rules do. Mask 0: it selects all."""
    family, to, source, tos, table, _, _, action, flags = RTMSG.unpack_from(body)
    found = attributes(body, RTMSG.size)
    answers = _answers(found.pop(Fra.IP_PROTO, b""), found.pop(Fra.SPORT_RANGE, b""))
    selects = to or source or tos or flags & _FIB_RULE_INVERT or found.keys() & _OTHER_SELECTORS
    if selects or action != FrAct.TO_TBL or answers is False:
        return None

    def number(what: Fra, default: int) -> int:
        return as_u32(found[what]) if what in found else default

    return Rule(
        mark=number(Fra.FWMARK, 0),
        mask=number(Fra.FWMASK, _ALL_BITS if Fra.FWMARK in found else 0),
        table=number(Fra.TABLE, table),
        priority=number(Fra.PRIORITY, 0),
        family=6 if family == _INET6 else 4,
        answers=None if answers is True else answers,
    )


def _answers(protocol: bytes, ports: bytes) -> tuple[int, int] | bool:
    """What a rule selects of a protocol and its source ports; True: all, False: not one port."""
    if not protocol and not ports:
        return True
    if not protocol or not ports:
        return False
    first, last = PORT_RANGE.unpack(ports)
    return (protocol[0], first) if first == last else False


@_checked
def neighbour(body: bytes) -> Neighbour | None:
    """A NEWNEIGH's body; None when it has no MAC, or is an FDB row to a VTEP of IPv6."""
    family, index, state, _, _ = NDMSG.unpack_from(body)
    found = attributes(body, NDMSG.size)
    mac, destination = found.get(_LLADDR), found.get(_DST)
    if mac is None:
        return None
    at: Address | None = None
    if destination is not None and family == _INET6:
        at = IPv6Address(destination)
    elif destination is not None:
        if len(destination) != len(_ZERO):
            return None
        at = IPv4Address(destination)
    return Neighbour(
        index=index,
        mac=MacAddress(mac.hex(":")),
        destination=at,
        state=state,
        master=_OF_MASTER in found,
    )
