"""rtnetlink's numbers under the kernel's names (``Ifla.MTU`` is IFLA_MTU), and its headers. Pure.

Sources: linux/rtnetlink.h, if_link.h, if_addr.h, neighbour.h, fib_rules.h, veth.h. Only those that
the reconcilers use.
"""

from __future__ import annotations

import struct
from enum import IntEnum, IntFlag
from typing import Final

IFINFOMSG: Final = struct.Struct("=BxHiII")
"""family, device type, index, flags, which of the flags to change."""
IFADDRMSG: Final = struct.Struct("=BBBBi")
"""family, prefix length, flags, scope, link index."""
RTMSG: Final = struct.Struct("=BBBBBBBBI")
"""family, destination's and source's prefix length, TOS, table, protocol, scope, type, flags; of a
rule (``fib_rule_hdr``) the action stands for the type."""
NDMSG: Final = struct.Struct("=BxxxiHBB")
"""family, link index, state, flags, type."""
TCMSG: Final = struct.Struct("=BxxxiIII")
"""family, link index, handle, parent, info."""
PORT_RANGE: Final = struct.Struct("=HH")
"""The first and the last port that a rule selects (linux/fib_rules.h)."""
TC_H_ROOT: Final = 0xFFFFFFFF
"""Parent of a link's root qdisc (linux/pkt_sched.h)."""


class Rtm(IntEnum):
    """Types of messages."""

    NEWLINK = 16
    DELLINK = 17
    GETLINK = 18
    NEWADDR = 20
    DELADDR = 21
    GETADDR = 22
    NEWROUTE = 24
    DELROUTE = 25
    GETROUTE = 26
    NEWNEIGH = 28
    DELNEIGH = 29
    GETNEIGH = 30
    NEWRULE = 32
    GETRULE = 34
    DELQDISC = 37


class Af(IntEnum):
    """Address families; BRIDGE's neighbours are FDB rows."""

    INET = 2
    BRIDGE = 7
    INET6 = 10


class Iff(IntFlag):
    """Flags of a link."""

    UP = 0x1
    RUNNING = 0x40


class Ifla(IntEnum):
    """Attributes of a link."""

    ADDRESS = 1
    IFNAME = 3
    MTU = 4
    QDISC = 6
    MASTER = 10
    LINKINFO = 18
    NET_NS_FD = 28
    EXT_MASK = 29


SKIP_STATS: Final = 1 << 3
"""In EXT_MASK: without counters (RTEXT_FILTER_SKIP_STATS, linux/rtnetlink.h)."""


class IflaInfo(IntEnum):
    """Attributes in IFLA_LINKINFO; SLAVE_* are those of a port, defined by its master's kind."""

    KIND = 1
    DATA = 2
    SLAVE_KIND = 4
    SLAVE_DATA = 5


class IflaVxlan(IntEnum):
    """Attributes in a VXLAN device's IFLA_INFO_DATA."""

    ID = 1
    LOCAL = 4
    LEARNING = 7
    PROXY = 11
    PORT = 15
    UDP_CSUM = 18


class IflaBr(IntEnum):
    """Attributes in a bridge's IFLA_INFO_DATA."""

    MCAST_SNOOPING = 23


class IflaBrport(IntEnum):
    """Attributes in a bridge port's IFLA_INFO_SLAVE_DATA."""

    STATE = 1
    MODE = 4
    LEARNING = 8
    UNICAST_FLOOD = 9
    MCAST_FLOOD = 27
    BCAST_FLOOD = 30
    NEIGH_SUPPRESS = 32
    ISOLATED = 33
    LOCKED = 39


class BrState(IntEnum):
    """States of a bridge's port (linux/if_bridge.h)."""

    DISABLED = 0
    FORWARDING = 3


class VethInfo(IntEnum):
    """Attributes in a veth's IFLA_INFO_DATA: a whole link behind an ifinfomsg."""

    PEER = 1


class Ifa(IntEnum):
    """Attributes of an address."""

    ADDRESS = 1
    LOCAL = 2


class IfaF(IntFlag):
    """Flags of an address."""

    NODAD = 0x02


class Nda(IntEnum):
    """Attributes of a neighbour or FDB row."""

    DST = 1
    LLADDR = 2
    MASTER = 9


class Nud(IntFlag):
    """State of a neighbour."""

    STALE = 0x04
    NOARP = 0x40
    PERMANENT = 0x80


class Ntf(IntFlag):
    """Flags of a neighbour: whose FDB row it is, the device's own or its bridge's."""

    SELF = 0x02
    MASTER = 0x04


class Rta(IntEnum):
    """Attributes of a route."""

    DST = 1
    OIF = 4
    GATEWAY = 5
    PREFSRC = 7
    TABLE = 15


class Rtn(IntEnum):
    """Types of routes."""

    UNICAST = 1
    LOCAL = 2


class RtScope(IntEnum):
    """How far away a route's destination is."""

    UNIVERSE = 0
    LINK = 253
    HOST = 254


KERNEL_PROTOCOL: Final = 2
"""RTPROT_KERNEL: of the routes that the kernel makes with an address."""


RA_PROTOCOL: Final = 9
"""RTPROT_RA: of those that a router's advertisement made."""


class RtnhF(IntFlag):
    """Flags of a route's next hop."""

    ONLINK = 4


class Fra(IntEnum):
    """Attributes of a policy rule."""

    DST = 1
    SRC = 2
    IIFNAME = 3
    PRIORITY = 6
    FWMARK = 10
    TABLE = 15
    FWMASK = 16
    OIFNAME = 17
    L3MDEV = 19
    UID_RANGE = 20
    PROTOCOL = 21
    IP_PROTO = 22
    SPORT_RANGE = 23
    DPORT_RANGE = 24


class FrAct(IntEnum):
    """What a policy rule does."""

    TO_TBL = 1
