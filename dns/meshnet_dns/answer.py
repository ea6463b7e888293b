"""What to answer to a question: the policy, as one pure function.

The networks of a container are asked in its interface order; the first that knows a name answers
alone, so that a name never mixes two networks. A short name of the container's own stack comes
before that: the first network that knows the name and the stack's service answers, for the latter.

| question | answer |
|---|---|
| A, AAAA or ANY of a name of ours | those addresses; none: no record (NOERROR, RFC 2308 2.2) |
| MX, TXT, ... of a name of ours | NOERROR, no record: the name exists |
| SRV or ANY of ``_port._proto.<service>`` | a record for each ready task of that port |
| other types of it; any type of ``_proto.<service>`` that has a port | NOERROR, no record |
| the same of a port or protocol that the service does not publish | NXDOMAIN |
| PTR of an endpoint or a VIP | its name with the network's |
| PTR of another address of our networks | NXDOMAIN: nobody else can know it |
| class other than IN | NOTIMP |
| everything else, single labels too | forwarded (NXDOMAIN when there is nobody to ask: forward) |

Be aware: unknown single-label names are forwarded, as Swarm does: office networks and home routers
do serve such names, and a name that is ours never gets that far, since a service keeps its name
while it has no task. Unknown names under ``tasks.`` or ``.<network>`` are forwarded too: a network
may be called ``dev`` or ``app``, which are public domains.

A port is called by its number (``_80``) or by the name that the service gives it. Its number is
that of the task, whom the record leads to; what is published on hosts plays no part. All records
have priority 0 and one weight, but of ``nearest.<service>`` those on other nodes have priority 1:
who cannot reach the near ones takes them (RFC 2782). Ports that an image exposes and a service does
not publish are known to nobody.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from ipaddress import IPv4Address, IPv6Address
from typing import Final

from meshnet.model.families import Address
from meshnet_dns.zone import NEAREST, ServedPort, Zone

TTL_S: Final = 1
"""Seconds that a client may keep an answer. Swarm says 600, so that clients go on using addresses
that are gone. One second bounds a caching client to one question a second and name, and is shorter
than any grace a withdrawn endpoint gets. Answers without records carry no SOA: nobody caches them
(RFC 2308 section 5)."""

A: Final = 1
PTR: Final = 12
AAAA: Final = 28
SRV: Final = 33
ANY: Final = 255
IN: Final = 1

NOERROR: Final = 0
FORMERR: Final = 1
SERVFAIL: Final = 2
NXDOMAIN: Final = 3
NOTIMP: Final = 4
REFUSED: Final = 5

WEIGHT: Final = 1
_PROTOCOLS: Final = frozenset({"_tcp", "_udp", "_sctp"})
_REVERSE: Final = ".in-addr.arpa"
_REVERSE6: Final = ".ip6.arpa"
_NIBBLES: Final = 32
_OCTET = 255
_FAMILIES: Final[Mapping[int, tuple[type[Address], ...]]] = {
    A: (IPv4Address,),
    AAAA: (IPv6Address,),
    ANY: (IPv4Address, IPv6Address),
}


@dataclass(frozen=True, slots=True)
class Question:
    """One question. ``name`` is lower case without a final dot; types are IANA's numbers."""

    name: str
    type: int
    cls: int = IN


@dataclass(frozen=True, slots=True)
class Served:
    """Where a service is served: an SRV record with the address of its target (RFC 2782)."""

    priority: int
    port: int
    target: str
    address: IPv4Address

    def __str__(self) -> str:
        return f"{self.priority} {WEIGHT} {self.port} {self.target}"


@dataclass(frozen=True, slots=True)
class Answer:
    """What to say: a result code with addresses, a name, places where it is served, or nothing."""

    rcode: int = NOERROR
    addresses: tuple[Address, ...] = ()
    pointer: str = ""
    served: tuple[Served, ...] = ()
    authoritative: bool = True

    @property
    def told(self) -> tuple[str, ...]:
        """Its addresses, or where it is served, as text."""
        return tuple(map(str, self.addresses or self.served))


class Why(Enum):
    """Which row of the table a question falls into."""

    CLASS = "class"
    NAME = "name"
    STACK = "own stack"
    PORT = "port"
    NO_PORT = "no port"
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


def answer(question: Question, zones: Sequence[Zone], stack: str = "") -> Answer | None:
    """The answer to ``question``, or None: ask the upstreams. Pure.

    Args:
        question: what is asked.
        zones: of the container's networks, in interface order.
        stack: the container's, lower case; empty: none.
    """
    return decide(question, zones, stack).answer


def decide(question: Question, zones: Sequence[Zone], stack: str = "") -> Decision:
    """The same, with the reason; ``meshnet dns query`` tells it. Pure."""
    if question.cls != IN:
        return Decision(Answer(NOTIMP, authoritative=False), Why.CLASS)
    if stack:
        for zone in zones:
            addresses = zone.of_stack(question.name, stack)
            if addresses is not None:
                return _named(question, addresses, Why.STACK, zone)
    for zone in zones:
        addresses = zone.find(question.name)
        if addresses is not None:
            return _named(question, addresses, Why.NAME, zone)
    if question.name.startswith("_"):
        return _served(question, zones, stack)
    return _reverse(question, zones)


def _named(question: Question, addresses: tuple[Address, ...], why: Why, zone: Zone) -> Decision:
    wanted = _FAMILIES.get(question.type, ())
    said = Answer(addresses=tuple(each for each in addresses if isinstance(each, wanted)))
    return Decision(said, why, zone)


def _served(question: Question, zones: Sequence[Zone], stack: str) -> Decision:
    """Of ``_port._proto.<service>``, or what is above it."""
    first, _, rest = question.name.partition(".")
    port, protocol, service = ("", first, rest)
    if first not in _PROTOCOLS:
        protocol, _, service = rest.partition(".")
        port = first[1:]
    if protocol not in _PROTOCOLS or not service:
        return Decision(None, Why.FORWARDED)
    for zone, name in _of_service(service, zones, stack):
        ports = [each for each in zone.served(name) or () if each.protocol == protocol[1:]]
        if port:
            ports = [each for each in ports if port in {str(each.number), each.name}]
        if not ports:
            return Decision(Answer(NXDOMAIN), Why.NO_PORT, zone)
        wanted = port and question.type in {SRV, ANY}
        said = Answer(served=tuple(_places(zone, name, ports)) if wanted else ())
        return Decision(said, Why.PORT, zone)
    return Decision(None, Why.FORWARDED)


def _of_service(service: str, zones: Sequence[Zone], stack: str) -> Iterator[tuple[Zone, str]]:
    """Zones that know a service, the best first, each with its name there."""
    for zone in zones if stack else ():
        whole = zone.in_stack(service, stack)
        if whole is not None:
            yield zone, whole
    for zone in zones:
        if zone.served(service) is not None:
            yield zone, service


def _places(zone: Zone, service: str, ports: Sequence[ServedPort]) -> Iterator[Served]:
    first = zone.tasks(service)
    every = zone.tasks(service.removeprefix(NEAREST))
    for port in sorted({port.number for port in ports}):
        for address in (*first, *(each for each in every if each not in first)):
            if isinstance(address, IPv4Address) and address in zone.pointers:
                priority = 0 if address in first else 1
                yield Served(priority, port, zone.pointers[address], address)


def _reverse(question: Question, zones: Sequence[Zone]) -> Decision:
    address = reverse_address(question.name)
    if address is None:
        return Decision(None, Why.FORWARDED)
    for zone in zones:
        pointer = zone.pointers.get(address)
        if pointer is not None:
            said = Answer(pointer=pointer if question.type in {PTR, ANY} else "")
            return Decision(said, Why.POINTER, zone)
    for zone in zones:
        if zone.has(address):
            return Decision(Answer(NXDOMAIN), Why.NO_POINTER, zone)
    return Decision(None, Why.FORWARDED)


def reverse_address(name: str) -> Address | None:
    """The address whose reverse name ``name`` is, None when it is none.

    Source: RFC 1035 section 3.5, RFC 3596 section 2.5.
    """
    if name.endswith(_REVERSE6):
        return _reverse6(name[: -len(_REVERSE6)].split("."))
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


def _reverse6(nibbles: Sequence[str]) -> IPv6Address | None:
    digits = frozenset("0123456789abcdef")
    if len(nibbles) != _NIBBLES or not all(len(each) == 1 and each in digits for each in nibbles):
        return None
    return IPv6Address(int("".join(reversed(nibbles)), 16))
