"""What to answer to a question: the policy, as one pure function.

The networks of a container are asked in its interface order; the first that knows a name answers
alone, so that a name never mixes two networks.

| question | answer |
|---|---|
| A or ANY of a name of ours | its addresses; no record when it has none (NOERROR, RFC 2308 2.2) |
| AAAA, MX, TXT, ... of a name of ours | NOERROR, no record: the name exists, IPv4 only |
| PTR of an endpoint or a VIP | its name with the network's |
| PTR of another address of our networks | NXDOMAIN: nobody else can know it |
| class other than IN | NOTIMP |
| everything else, single labels too | forwarded (NXDOMAIN when there is nobody to ask: forward) |

Be aware: unknown single-label names are forwarded, as Swarm does: office networks and home routers
do serve such names, and a name that is ours never gets that far, since a service keeps its name
while it has no task. Unknown names under ``tasks.`` or ``.<network>`` are forwarded too: a network
may be called ``dev`` or ``app``, which are public domains.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from ipaddress import IPv4Address
from typing import Final

from meshnet_dns.zone import Zone

TTL_S: Final = 1
"""Seconds that a client may keep an answer. Swarm says 600, so that clients go on using addresses
that are gone. One second bounds a caching client to one question a second and name, and is shorter
than any grace a withdrawn endpoint gets. Answers without records carry no SOA: nobody caches them
(RFC 2308 section 5)."""

A: Final = 1
PTR: Final = 12
ANY: Final = 255
IN: Final = 1

NOERROR: Final = 0
FORMERR: Final = 1
SERVFAIL: Final = 2
NXDOMAIN: Final = 3
NOTIMP: Final = 4
REFUSED: Final = 5

_REVERSE: Final = ".in-addr.arpa"
_OCTET = 255


@dataclass(frozen=True, slots=True)
class Question:
    """One question. ``name`` is lower case without a final dot; types are IANA's numbers."""

    name: str
    type: int
    cls: int = IN


@dataclass(frozen=True, slots=True)
class Answer:
    """What to say: a result code with either addresses, a name, or nothing."""

    rcode: int = NOERROR
    addresses: tuple[IPv4Address, ...] = ()
    pointer: str = ""
    authoritative: bool = True


class Why(Enum):
    """Which row of the table a question falls into."""

    CLASS = "class"
    NAME = "name"
    POINTER = "pointer"
    NO_POINTER = "no pointer"
    FORWARDED = "forwarded"


@dataclass(frozen=True, slots=True)
class Decision:
    """What to answer, and why.

    Attributes:
        answer: None: ask the upstreams.
        zone: which one decided; None: none did.
    """

    answer: Answer | None
    why: Why
    zone: Zone | None = None


def answer(question: Question, zones: Sequence[Zone]) -> Answer | None:
    """The answer to ``question``, or None: ask the upstreams. Pure.

    Args:
        question: what is asked.
        zones: of the container's networks, in interface order.
    """
    return decide(question, zones).answer


def decide(question: Question, zones: Sequence[Zone]) -> Decision:
    """The same, with the reason; ``meshnet dns query`` tells it. Pure."""
    if question.cls != IN:
        return Decision(Answer(NOTIMP, authoritative=False), Why.CLASS)
    for zone in zones:
        addresses = zone.find(question.name)
        if addresses is not None:
            said = Answer(addresses=addresses if question.type in {A, ANY} else ())
            return Decision(said, Why.NAME, zone)
    address = reverse_address(question.name)
    if address is None:
        return Decision(None, Why.FORWARDED)
    for zone in zones:
        pointer = zone.pointers.get(address)
        if pointer is not None:
            said = Answer(pointer=pointer if question.type in {PTR, ANY} else "")
            return Decision(said, Why.POINTER, zone)
    for zone in zones:
        if address in zone.subnet:
            return Decision(Answer(NXDOMAIN), Why.NO_POINTER, zone)
    return Decision(None, Why.FORWARDED)


def reverse_address(name: str) -> IPv4Address | None:
    """The address whose reverse name ``name`` is (RFC 1035 section 3.5), None when it is none."""
    if not name.endswith(_REVERSE):
        return None
    octets = name[: -len(_REVERSE)].split(".")
    if len(octets) != len(IPv4Address(0).packed):
        return None
    if not all(octet.isascii() and octet.isdigit() for octet in octets):
        return None
    if any(len(octet) > len(str(_OCTET)) or int(octet) > _OCTET for octet in octets):
        return None
    return IPv4Address(bytes(int(octet) for octet in reversed(octets)))
