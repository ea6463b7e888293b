"""``lab.yaml``: from its text to a topology, or to everything that is wrong with it. Pure.

The words of the file are in docs/lab-file.md.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from typing import Final, TypeVar

from meshnet.patterns import Pattern
from meshnet_control.lab import topology
from meshnet_control.lab.errors import LabError, meant
from meshnet_control.lab.topology import CLIENT, DEFAULT_LAN, Host, Impairment, Lan, Probe, Topology
from meshnet_control.lab.yaml_tree import Complaint, Section, Value, read

T = TypeVar("T")
DEFAULT_SUBNET: Final = IPv4Network("192.168.50.0/24")
OVERLAYS: Final = IPv4Network("10.0.0.0/8")
CLIENT_NUMBER: Final = 100
MOST_HOSTS: Final = 80
_WIDEST, _NARROWEST = 16, 24
_THIS_NETWORK = IPv4Network("0.0.0.0/8")
_NAME = Pattern("[a-z][a-z0-9-]{0,11}", longest=12)
_LAN_NAME = Pattern("[a-z][a-z0-9]{0,9}", longest=10)
_NUMBERED = Pattern("h([1-9][0-9]?)", longest=3)
_LONGEST = 1000
_RESERVED: Final = (CLIENT, "lo")


class LabFileError(LabError):
    """The file is not a lab; a line for each thing that is wrong."""

    def __init__(self, name: str, complaints: Iterable[Complaint]) -> None:
        self.complaints = sorted(set(complaints))
        super().__init__("\n".join(f"{name}:{each}" for each in self.complaints))


@dataclass(slots=True)
class _Draft:
    """What is known of the file while it is read."""

    lans: dict[str, Lan] = field(default_factory=dict)
    hosts: dict[str, Host] = field(default_factory=dict)


def parsed(text: str, name: str) -> Topology:
    """The lab that a file describes.

    Args:
        text: the file's.
        name: of the file, for complaints.

    Raises:
        LabFileError: everything that is wrong, with lines.
    """
    top, complaints = read(text)
    if top is None:
        raise LabFileError(name, complaints)
    section = top.section()
    draft = _Draft()
    _lans(section, draft)
    _hosts(section, draft)
    client = _client(section, draft)
    machines = {**draft.hosts, CLIENT: client}
    links = _links(section, machines, draft)
    probes = _probes(section, machines)
    section.done()
    if complaints:
        raise LabFileError(name, complaints)
    return Topology(tuple(draft.lans.values()), tuple(draft.hosts.values()), client, links, probes)


def _lans(top: Section, draft: _Draft) -> None:
    said = top.take("lans")
    for name, value in said.section().entries() if said else ():
        if not _LAN_NAME.fits(name) or name in _RESERVED:
            value.wrong("a LAN's name is 1 to 10 of a-z and 0-9, a letter first")
            continue
        subnet = _tried(value, value.text(), _subnet, "no subnet such as "
                        "192.168.60.0/24")  # fmt: skip
        if subnet is None:
            continue
        if not _WIDEST <= subnet.prefixlen <= _NARROWEST:
            value.wrong(f"a LAN's subnet is a /{_WIDEST} to /{_NARROWEST}, not {subnet}")
            continue  # the addresses that have a meaning in it may not be there
        if subnet.overlaps(OVERLAYS):
            value.wrong(f"{subnet} is in {OVERLAYS}, where overlay networks have theirs")
        elif _has_a_meaning(subnet):
            value.wrong(f"{subnet} is not for hosts: one such as 192.168.60.0/24")
        elif other := next(
            (lan for lan in draft.lans.values() if lan.subnet.overlaps(subnet)), None
        ):
            value.wrong(f"{subnet} overlaps {other.subnet} of LAN {other.name}")
        draft.lans[name] = Lan(name, subnet)
    if not draft.lans:
        draft.lans[DEFAULT_LAN] = Lan(DEFAULT_LAN, DEFAULT_SUBNET)


def _has_a_meaning(subnet: IPv4Network) -> bool:
    """Whether the kernel takes it for something else than a LAN (RFC 6890)."""
    return any(
        (subnet.is_loopback, subnet.is_link_local, subnet.is_multicast, subnet.is_reserved)
    ) or subnet.overlaps(_THIS_NETWORK)


def _hosts(top: Section, draft: _Draft) -> None:
    said = top.take("hosts")
    if said is None:
        top.whole.wrong("a lab has hosts: hosts: {h1: {manager: true}, h2: {}}")
        return
    taken: dict[IPv4Address, str] = {lan.gateway.ip: "the router" for lan in draft.lans.values()}
    entries = list(said.section().entries())
    if not 1 <= len(entries) <= MOST_HOSTS:
        said.wrong(f"a lab has 1 to {MOST_HOSTS} hosts, not {len(entries)}")
    for name, value in entries:
        fields = value.section()
        manager = fields.take("manager")
        lan, given = fields.take("lan"), fields.take("address")
        fields.done()
        reserved = name in _RESERVED or name in draft.lans or name.startswith("br")
        if not _NAME.fits(name) or reserved or name.endswith("-"):
            value.wrong("a host's name is 1 to 12 of a-z, 0-9 and -, a letter first, and no LAN's")
            continue
        where = _lan(lan, draft)
        address = _address(name, value, given, where)
        if address is None:
            continue
        if address.ip in taken:
            (given or value).wrong(f"{address.ip} is {taken[address.ip]}'s")
        taken[address.ip] = name
        draft.hosts[name] = Host(name, where.name, address, manager.truth() if manager else False)


def _lan(value: Value | None, draft: _Draft) -> Lan:
    first = next(iter(draft.lans.values()))
    if value is None:
        return first
    name = value.text()
    if name not in draft.lans:
        value.wrong(f"no LAN {name!r} in this file{meant(name, draft.lans)}")
    return draft.lans.get(name, first)


def _address(name: str, value: Value, given: Value | None, lan: Lan) -> IPv4Interface | None:
    if given is None:
        number = _NUMBERED.match(name)
        if number is None or int(number[1]) > MOST_HOSTS:
            value.wrong(
                f"give it an address of {lan.subnet}: h1 to h{MOST_HOSTS} alone have one by name"
            )
            return None
        return IPv4Interface((lan.subnet[10 + int(number[1])], lan.subnet.prefixlen))
    ip = _tried(given, given.text(), _ip, "no IPv4 address")
    if ip is None:
        return None
    if ip not in lan.subnet or ip in {lan.subnet[0], lan.subnet[-1], lan.subnet[CLIENT_NUMBER]}:
        given.wrong(f"{ip} is no address for a host of {lan.subnet}")
        return None
    return IPv4Interface((ip, lan.subnet.prefixlen))


def _client(top: Section, draft: _Draft) -> Host:
    said = top.take(CLIENT)
    where = None
    if said is not None:
        fields = said.section()
        where = fields.take("lan")
        fields.done()
    lan = _lan(where, draft)
    address = IPv4Interface((lan.subnet[CLIENT_NUMBER], lan.subnet.prefixlen))
    return Host(CLIENT, lan.name, address)


def _links(
    top: Section, machines: dict[str, Host], draft: _Draft
) -> dict[topology.Ends, Impairment]:
    found: dict[topology.Ends, Impairment] = {}
    said = top.take("links")
    for value in said.items() if said else []:
        fields = value.section()
        between = fields.take("between")
        names = _ends(value, between, machines, draft)
        impairment = _impairment(fields)
        fields.done()
        if not names:
            continue
        key = topology.ends(names)
        if impairment.delay_ms and len(key) > 1:
            value.wrong("a delay is of a machine's cable: between: [h1], and not of two ends")
        if key in found:
            value.wrong(f"the link of {' and '.join(key)} is there twice")
        if not fields.values.keys() - {"between"}:
            value.wrong("say what the link does: loss, rate, delay or down")
        found[key] = impairment
    return found


def _ends(
    value: Value, between: Value | None, machines: dict[str, Host], draft: _Draft
) -> list[str]:
    if between is None:
        value.wrong("between: [h1] is h1's cable, [h1, h2] what is between two")
        return []
    names = [each.text() for each in between.items()]
    if names and all(name in draft.lans for name in names):
        kinds_fit = len(set(names)) == 2  # noqa: PLR2004 - a LAN has no cable
    else:
        known = {*machines, *draft.lans}
        for name in names:
            if name not in known:
                between.wrong(f"no machine or LAN {name!r} in this file{meant(name, known)}")
                return []
        kinds_fit = all(name in machines for name in names) and 1 <= len(set(names)) <= 2  # noqa: PLR2004
    if not kinds_fit or len(set(names)) != len(names):
        between.wrong("a link has one machine, or two machines, or two LANs")
        return []
    return names


def _impairment(fields: Section) -> Impairment:
    lost, rate, delay, down = (fields.take(word) for word in ("loss", "rate", "delay", "down"))
    return Impairment(
        (_said(lost, topology.loss) if lost else None) or 0,
        (_said(rate, topology.rate) if rate else None) or 0,
        (_said(delay, topology.delay_ms) if delay else None) or 0,
        down.truth() if down else False,
    )


def _probes(top: Section, machines: dict[str, Host]) -> tuple[Probe, ...]:
    said = top.take("probes")
    found: list[Probe] = []
    for value in said.items() if said else []:
        fields = value.section()
        texts = {key: (at.text() if (at := fields.take(key)) else "") for key in ("name", "run")}
        on, expect, fails, within = (
            fields.take(word) for word in ("on", "expect", "fails", "within")
        )
        fields.done()
        if not texts["run"]:
            value.wrong("say what it runs: run: curl -sS http://h1:8080/")
        elif "\0" in texts["run"]:
            value.wrong("run: no command has a NUL in it")
        where = on.text() if on else CLIENT
        if on and where not in machines:
            on.wrong(f"no machine {where!r} in this file{meant(where, machines)}")
        wanted = expect.text() if expect else ""
        if expect:
            _said(expect, lambda text: Pattern(text, longest=_LONGEST))
        patience = _said(within, topology.delay_ms) if within else None
        found.append(
            Probe(
                texts["name"] or texts["run"],
                where,
                texts["run"],
                wanted,
                fails.truth() if fails else False,
                patience / 1000 if patience is not None else topology.PATIENCE_S,
            )
        )
    return tuple(found)


def _said(value: Value, read_as: Callable[[str], T]) -> T | None:
    """What a text means; its own complaint if it means nothing."""
    try:
        return read_as(value.text())
    except ValueError as error:
        value.wrong(str(error))
        return None


def _tried(value: Value, text: str, read_as: Callable[[str], T], why: str) -> T | None:
    try:
        return read_as(text)
    except ValueError:
        value.wrong(f"{text!r} is {why}")
        return None


def _subnet(text: str) -> IPv4Network:
    return IPv4Network(text)


def _ip(text: str) -> IPv4Address:
    return IPv4Address(text)
