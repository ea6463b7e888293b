"""What one nftables table of ours should hold, as values.

Rules are nft text: they are written by pure functions in ``meshnet_lb`` and ``meshnet_dns`` and are
compared by a fingerprint of their chain, never by the text that the kernel gives back (nft prints
rules in its own words). Sets and maps are compared element by element, but for those whose elements
come and go in the kernel.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

DYNAMIC: Final = "dynamic"
"""Flag of a set that rules change; libnftables 1.0.6 does not list it."""
Family = Literal["ip", "netdev", "inet", "ip6"]


@dataclass(frozen=True, slots=True)
class Chain:
    """A chain and its rules in order.

    Attributes:
        hook: what stands between the braces of a base chain before its rules, such as
            ``type nat hook output priority dstnat; policy accept;`` (nft(8)); None: a chain that
            is only jumped to.
        rules: rule texts without comments, such as ``ip daddr vmap @vips``.
    """

    name: str
    rules: tuple[str, ...] = ()
    hook: str | None = None


@dataclass(frozen=True, slots=True)
class Set:
    """A named set, map or verdict map.

    Attributes:
        type: nft type text: ``ipv4_addr``, ``inet_proto . inet_service : verdict``,
            ``ether_addr : mark``.
        elements: key text -> value text, "" in a plain set. Keys and values are in nft's canonical
            form as given by ``meshnet.nft.canonical``: ``10.0.1.2``, ``tcp . 8080``,
            ``goto svc-web``, ``0x10000001``.
        flags: such as ``interval``. With ``dynamic`` rules add elements, too.
        timeout_s: an element is forgotten so many seconds after it was added; 0: never.
        typeof: two expressions of nft that say the type where it has no name that can be written,
            such as ``numgen inc mod 1 : ip daddr`` of an ``integer : ipv4_addr``.
        size: most elements, which a map that rules add to must have; 0: not said.
        slots: the keys are 0, 1, … and it is all the same which value stands at which, so that one
            that goes leaves the others where they are. One that has several slots is several times
            among them.
        leads: of a verdict map of VIPs or ports: key -> backends that flows to it may have.
        counts: each element counts the packets that a rule found it for, and their bytes; until it
            goes.
    """

    name: str
    type: str
    elements: Mapping[str, str] = field(default_factory=dict)
    flags: tuple[str, ...] = ()
    timeout_s: int = 0
    typeof: str = ""
    slots: bool = False
    size: int = 0
    leads: Mapping[str, frozenset[str]] = field(default_factory=dict)
    counts: bool = False

    @property
    def is_volatile(self) -> bool:
        """True when rules or time change its elements: ours are there when it is made."""
        return bool(self.timeout_s) or DYNAMIC in self.flags

    @property
    def is_map(self) -> bool:
        """True when elements carry a value."""
        return ":" in self.type


@dataclass(frozen=True, slots=True)
class Ruleset:
    """Everything one table should hold; whatever else is in the table is not wanted.

    Attributes:
        backends: addresses that its rules DNAT to. Flows to one that leaves are seen to
            (``meshnet.nft.flows``), as conntrack would keep sending their packets there.
        there: addresses of all endpoints that may still answer, chosen or not.
        avoided: backends that only new flows go past, as their hosts are silent.
    """

    family: Family
    name: str
    chains: tuple[Chain, ...] = ()
    sets: tuple[Set, ...] = ()
    backends: frozenset[str] = frozenset()
    there: frozenset[str] = frozenset()
    avoided: frozenset[str] = frozenset()
