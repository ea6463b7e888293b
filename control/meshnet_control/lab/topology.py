"""What a lab file asks for, as values: LANs, hosts, links, probes. Pure.

::

    h1  h2         h3   client
    └─┬─┘          └──┬───┘
    LAN front      LAN back        a bridge each
      └──── router ───┘            joins all LANs of a lab

A link is a machine's cable (one end), or the way between two machines or two LANs (two ends).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Interface, IPv4Network
from typing import Final, Literal

from meshnet.patterns import Pattern

CLIENT: Final = "client"
DEFAULT_LAN: Final = "lan"
"""The LAN of a lab that no file describes."""
HUNDRED_PERCENT: Final = 10_000
PATIENCE_S: Final = 10.0
"""Of a probe that says nothing else."""
Role = Literal["manager", "worker"]
Ends = tuple[str, ...]
"""One machine, or two machines or LANs in the order of :func:`ends`."""

_LOSS = Pattern(r"(\d{1,3})(?:\.(\d{1,2}))?\s*%?", longest=8)
_RATE = Pattern(r"(\d{1,6})\s*(k|m|g)bit(?:/s)?", longest=16)
_DELAY = Pattern(r"(\d{1,5})\s*(ms|s)", longest=10)
_BITS: Final = {"k": 1_000, "m": 1_000_000, "g": 1_000_000_000}


@dataclass(frozen=True, slots=True)
class Lan:
    """A bridge and its subnet; the router has the last address of it but one."""

    name: str
    subnet: IPv4Network

    @property
    def gateway(self) -> IPv4Interface:
        """The router's address here."""
        return IPv4Interface((self.subnet[-2], self.subnet.prefixlen))


@dataclass(frozen=True, slots=True)
class Host:
    """A machine of the file: where it is and what it is to the cluster."""

    name: str
    lan: str
    address: IPv4Interface
    manager: bool = False


@dataclass(frozen=True, slots=True)
class Impairment:
    """What a link does to packets, each way by itself.

    Attributes:
        loss: of 10 000 packets so many are lost.
        rate: bits per second that pass, the rest is dropped; 0: all.
        delay_ms: how long a packet to a machine takes; 0: as it comes.
        down: nothing passes.
    """

    loss: int = 0
    rate: int = 0
    delay_ms: int = 0
    down: bool = False

    def parts(self) -> list[str]:
        """In the words they are typed by, one for each that is set."""
        percent = f"{self.loss / 100:.2f}".rstrip("0").rstrip(".")
        said = [f"loss {percent}%"] if self.loss else []
        said += [f"rate {_rate(self.rate)}"] if self.rate else []
        said += [f"delay {self.delay_ms}ms"] if self.delay_ms else []
        return said + (["down"] if self.down else [])

    def __str__(self) -> str:
        return ", ".join(self.parts()) or "as it comes"


Links = Mapping[Ends, Impairment]


@dataclass(frozen=True, slots=True)
class Probe:
    """A command that shows whether the lab does what it should.

    Attributes:
        name: for people.
        on: the machine it runs on.
        run: as typed into a shell there.
        expect: an expression (RE2) that must be found in what it prints; empty: any output.
        fails: it must fail rather than succeed.
        within_s: it is tried again until then.
    """

    name: str
    on: str
    run: str
    expect: str = ""
    fails: bool = False
    within_s: float = PATIENCE_S


@dataclass(frozen=True, slots=True)
class Topology:
    """A whole lab file."""

    lans: tuple[Lan, ...]
    hosts: tuple[Host, ...]
    client: Host
    links: Links = field(default_factory=dict)
    probes: tuple[Probe, ...] = ()

    def lan(self, name: str) -> Lan:
        """The LAN of that name, which is one of the file."""
        return next(lan for lan in self.lans if lan.name == name)


def ends(names: Iterable[str]) -> Ends:
    """A link's key: the same whichever end is named first."""
    return tuple(sorted(names, key=lambda name: (len(name), name)))


def loss(text: str) -> int:
    """``10%``, ``0.5%`` → of 10 000.

    Raises:
        ValueError: what it should look like.
    """
    found = _LOSS.match(text)
    said = int(found[1]) * 100 + int(f"{found[2]:0<2}") if found else HUNDRED_PERCENT + 1
    if said > HUNDRED_PERCENT:
        raise ValueError(f"{text!r} is no loss: 0% to 100%, such as 2.5%")
    return said


def rate(text: str) -> int:
    """``10mbit`` → bits per second.

    Raises:
        ValueError: what it should look like.
    """
    found = _RATE.match(text)
    if found is None or int(found[1]) == 0:
        raise ValueError(f"{text!r} is no rate: a number and kbit, mbit or gbit, such as 10mbit")
    return int(found[1]) * _BITS[found[2]]


def delay_ms(text: str) -> int:
    """``50ms``, ``1s`` → milliseconds.

    Raises:
        ValueError: what it should look like.
    """
    found = _DELAY.match(text)
    if found is None:
        raise ValueError(f"{text!r} is no time: a number and ms or s, such as 50ms")
    return int(found[1]) * (1000 if found[2] == "s" else 1)


def impairment(words: str) -> Impairment:
    """What :meth:`Impairment.parts` said, back.

    Raises:
        ValueError: these are no such words.
    """
    kind, _, value = words.partition(" ")
    match kind:
        case "loss":
            return Impairment(loss=loss(value))
        case "rate":
            return Impairment(rate=rate(value))
        case "delay":
            return Impairment(delay_ms=delay_ms(value))
        case "down" if not value:
            return Impairment(down=True)
    raise ValueError(f"{words!r} says nothing of a link")


def _rate(bits: int) -> str:
    for unit, one in reversed(_BITS.items()):
        if bits % one == 0:
            return f"{bits // one}{unit}bit"
    return f"{bits}bit"
