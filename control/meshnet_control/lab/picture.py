"""A running lab as values, and as a graph in dot's language. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from ipaddress import IPv4Address
from typing import Any, Final

from meshnet_control.lab.layout import Layout
from meshnet_control.lab.packets import endpoint_name, vni_of
from meshnet_control.lab.topology import Links

_FOLDED: Final = 3
"""Tasks of one service on one host beyond which they are counted."""


@dataclass(frozen=True, slots=True)
class Box:
    """A machine: where it is, what it is to the cluster (empty: nothing), what runs there."""

    name: str
    lan: str
    address: str
    up: bool
    role: str
    tasks: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Segment:
    """A LAN, with the router's address there."""

    name: str
    subnet: str
    gateway: str


@dataclass(frozen=True, slots=True)
class Impaired:
    """A link that does not take packets as they come."""

    ends: tuple[str, ...]
    what: str


@dataclass(frozen=True, slots=True)
class Member:
    """An endpoint on an overlay: a task or container, its address, and the host's."""

    name: str
    address: str
    host: str


@dataclass(frozen=True, slots=True)
class Service:
    """A service on an overlay; an empty VIP is none."""

    name: str
    vip: str
    tasks: tuple[Member, ...]


@dataclass(frozen=True, slots=True)
class Overlay:
    """An overlay network; VNI 0 is not known."""

    name: str
    vni: int
    subnet: str
    services: tuple[Service, ...]
    others: tuple[Member, ...]


@dataclass(frozen=True, slots=True)
class Picture:
    """Everything that is drawn."""

    lab: str
    segments: tuple[Segment, ...]
    boxes: tuple[Box, ...]
    impaired: tuple[Impaired, ...]
    overlays: tuple[Overlay, ...]


@dataclass(frozen=True, slots=True)
class Told:
    """What one host says of itself: its role, its containers, its overlays (``docker`` JSON)."""

    role: str = ""
    containers: tuple[str, ...] = ()
    networks: tuple[Mapping[str, Any], ...] = ()


def picture(layout: Layout, up: Iterable[str], told: Mapping[str, Told], links: Links) -> Picture:
    """The lab as its hosts tell.

    Args:
        layout: its machines.
        up: machines that are whole.
        told: of each host that answers.
        links: what the links do.
    """
    whole = set(up)
    boxes = [
        Box(
            machine.name,
            machine.lan,
            str(machine.address.ip),
            machine.name in whole,
            told.get(machine.name, Told()).role,
            tuple(sorted(map(endpoint_name, told.get(machine.name, Told()).containers))),
        )
        for machine in layout.machines
    ]
    hosts = {str(machine.address.ip): machine.name for machine in layout.hosts}
    return Picture(
        layout.name,
        tuple(Segment(lan.name, str(lan.subnet), str(lan.gateway.ip)) for lan in layout.lans),
        tuple(boxes),
        tuple(Impaired(key, str(link)) for key, link in sorted(links.items())),
        tuple(_overlays(told, hosts)),
    )


def as_json(drawn: Picture) -> dict[str, Any]:
    """The same for programs."""
    return asdict(drawn)


def dot(drawn: Picture) -> str:
    """The lab in Graphviz' language, dot."""
    lines = [f"graph {_quoted(drawn.lab)} {{", "  node [shape=box, fontname=sans];"]
    if len(drawn.segments) > 1:
        lines.append('  router [shape=diamond, label="router"];')
    for segment in drawn.segments:
        said = _quoted(f"LAN {segment.name}\n{segment.subnet}")
        lines.append(f"  {_quoted('LAN ' + segment.name)} [shape=ellipse, label={said}];")
        if len(drawn.segments) > 1:
            gateway = _quoted(segment.gateway)
            lines.append(f"  router -- {_quoted('LAN ' + segment.name)} [label={gateway}];")
    does = {each.ends: each.what for each in drawn.impaired}
    for box in drawn.boxes:
        label = "\n".join([box.name, box.address, *filter(None, [box.role]), *folded(box.tasks)])
        style = "" if box.up else ", style=dashed"
        lines.append(f"  {_quoted(box.name)} [label={_quoted(label)}{style}];")
        what = f" [label={_quoted(does[box.name,])}]" if (box.name,) in does else ""
        lines.append(f"  {_quoted(box.name)} -- {_quoted('LAN ' + box.lan)}{what};")
    lans = {segment.name for segment in drawn.segments}
    for ends, what in does.items():
        if len(ends) > 1:
            one, other = (_quoted(f"LAN {end}" if end in lans else end) for end in ends)
            lines.append(f"  {one} -- {other} [style=dashed, color=red, label={_quoted(what)}];")
    for overlay in drawn.overlays:
        for service in overlay.services:
            key = _quoted(f"{overlay.name}/{service.name}")
            label = _quoted(f"{service.name}\n{service.vip or 'no VIP'}\n{overlay.name}")
            lines.append(f"  {key} [shape=component, label={label}];")
            lines += [
                f"  {key} -- {_quoted(task.host)} [style=dotted, label={_quoted(task.address)}];"
                for task in service.tasks
            ]
    return "\n".join([*lines, "}"]) + "\n"


def folded(tasks: Sequence[str]) -> list[str]:
    """Tasks, of one service beyond some counted: ``web x7``."""
    by_service: dict[str, list[str]] = {}
    for task in tasks:
        by_service.setdefault(task.rpartition(".")[0] or task, []).append(task)
    return [
        line
        for service, names in by_service.items()
        for line in (names if len(names) <= _FOLDED else [f"{service} x{len(names)}"])
    ]


def _overlays(told: Mapping[str, Told], hosts: Mapping[str, str]) -> Iterable[Overlay]:
    """Each network as the hosts together know it: one knows a network that it has tasks on."""
    found: dict[str, list[tuple[str, Mapping[str, Any]]]] = {}
    for host, each in told.items():
        for network in each.networks:
            found.setdefault(network["Name"], []).append((host, network))
    for name, told_of in sorted(found.items()):
        services: dict[str, Service] = {}
        others: dict[str, Member] = {}
        for host, network in told_of:
            for service, said in (network.get("Services") or {}).items():
                services.setdefault(service, _service(service, said, hosts))
            for each in (network.get("Containers") or {}).values():
                address = each["IPv4Address"].partition("/")[0]
                others[address] = Member(endpoint_name(each["Name"]), address, host)
        tasks = {task.address for service in services.values() for task in service.tasks}
        pools = (told_of[0][1].get("IPAM") or {}).get("Config") or [{}]
        yield Overlay(
            name,
            max((vni_of(network) for _, network in told_of), default=0),
            pools[0].get("Subnet", ""),
            tuple(services[service] for service in sorted(services)),
            tuple(
                member
                for address, member in sorted(
                    others.items(), key=lambda item: int(IPv4Address(item[0]))
                )
                if address not in tasks
            ),
        )


def _service(name: str, said: Mapping[str, Any], hosts: Mapping[str, str]) -> Service:
    tasks = [
        Member(
            endpoint_name(task["Name"]),
            task["EndpointIP"],
            hosts.get(task["Info"]["Host IP"], task["Info"]["Host IP"]),
        )
        for task in said.get("Tasks") or []
    ]
    return Service(name, said.get("VIP") or "", tuple(sorted(tasks, key=lambda task: task.name)))


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'
