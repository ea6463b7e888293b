"""Containers with what the engine does not know of them: tasks and overlay networks. Pure.

To the engine a task's container is on the network ``none``, for it is meshnet that wires it. So
what the engine answers gets the endpoints of ours, and two filters are ours to apply:

| filter of ``GET /containers/json`` | how |
|---|---|
| ``is-task=true`` | another label for the engine to look for, and as the next ones |
| ``is-task=false``, ``network`` | applied to its answer, and then ``limit`` is, too |
| every other one | the engine's |

Source: moby daemon/list.go (includeContainerInList), daemon/stats.go, recorded answers.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

from meshnet.errors import ControlError
from meshnet.kernel.net_dev import Traffic
from meshnet.model.ids import NetworkId, TaskId
from meshnet.model.snapshot import PublishedPort
from meshnet_control.agent.attached_record import LABEL, Record
from meshnet_control.agent.container import IS_TASK_LABEL
from meshnet_control.agent.task_containers import is_tasks
from meshnet_control.api import control_pb2 as pb
from meshnet_control.convert.json_text import parse_json, part
from meshnet_control.dataplane.overlays import LocalEndpoint, Overlays
from meshnet_control.engine.labels import TASK_LABEL
from meshnet_control.gateway.http_head import Version

_DNS_NAMES: Final[Version] = (1, 44)
"""Since then an endpoint lists all names by which it is found."""
_TRUE: Final = frozenset({"true", "1"})
_FALSE: Final = frozenset({"false", "0"})
_DIGITS: Final = 9
"""Most of a number of containers; a longer one is the engine's to refuse."""
_NONE: Final = "none"
_EVERYWHERE: Final = "0.0.0.0"  # noqa: S104 - where a host-mode port is bound
_NO_RECORDS: Final[Mapping[str, Record]] = MappingProxyType({})
Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Asked:
    """A list of containers: what the engine is asked, and what is applied to its answer."""

    query: Mapping[str, str]
    tasks: bool | None = None
    """Tasks' containers alone, or all others; None: both."""
    networks: frozenset[str] = frozenset()
    """Names and beginnings of IDs, one of which must fit; none: any will do."""
    limit: int | None = None

    @property
    def all_done(self) -> bool:
        """The engine's answer is complete."""
        return self.tasks is None and not self.networks


def asked(query: Mapping[str, str]) -> Asked:
    """The query of ``GET /containers/json``, divided; what is malformed the engine refuses."""
    filters = _filters(query.get("filters"))
    tasks = _flag(filters.get("is-task"))
    networks = frozenset(filters.get("network", ()))
    if tasks is None and not networks:
        return Asked(query)
    if tasks is not None:
        del filters["is-task"]
    if tasks:
        filters["label"] = [*filters.get("label", ()), IS_TASK_LABEL]
    if networks:
        del filters["network"]
    sent = {key: dict.fromkeys(values, True) for key, values in filters.items()}
    ours = Asked(dict(query) | {"filters": json.dumps(sent)}, tasks, networks)
    limit = query.get("limit", "")
    counts = limit.isascii() and limit.isdecimal() and len(limit) <= _DIGITS
    if ours.all_done or not counts or not int(limit):
        return ours
    without = {key: value for key, value in ours.query.items() if key != "limit"}
    return Asked(without | {"all": "1"}, ours.tasks, networks, int(limit))


def listed(
    entries: Iterable[Json],
    known: Overlays | None,
    wanted: Asked,
    records: Mapping[str, Record] = _NO_RECORDS,
) -> list[Json]:
    """Entries of ``GET /containers/json``: with their networks, and those alone that are wanted.

    Args:
        entries: as the engine says them.
        known: by this node; None: it is in no cluster.
        wanted: what was asked for.
        records: of attached containers by ID, whether they run or not.
    """
    shown = (_entry(entry, known, records) for entry in entries)
    return [entry for entry in shown if _fits(entry, wanted)][: wanted.limit]


def inspected(
    found: Json, known: Overlays, api: Version, records: Mapping[str, Record] = _NO_RECORDS
) -> Json | None:
    """``GET /containers/{id}/json`` with what is ours; None: nothing is.

    Args:
        found: as the engine says it.
        known: by this node.
        api: version that the client asked in.
        records: of attached containers by ID, whether they run or not.
    """
    config = part(found, "Config")
    container, labels = str(found.get("Id")), part(config, "Labels")
    ours = _networks(found, labels, known, named=True, dns=api >= _DNS_NAMES)
    ours = _remembered(records.get(container), named=True) | ours
    if not ours:
        return None
    settings = _with_networks(part(found, "NetworkSettings"), ours)
    ports = known.host_ports.get(container)
    if ports is not None:
        exposed = dict.fromkeys(part(config, "ExposedPorts"))
        settings["Ports"] = {**exposed, **(settings.get("Ports") or {}), **_bindings(ports)}
    return {**found, "HostConfig": _host_config(found, labels, ours), "NetworkSettings": settings}


def with_traffic(said: Json, traffic: Mapping[str, Traffic]) -> Json:
    """One reading of ``GET /containers/{id}/stats``, with that of the interfaces that we made."""
    return {
        **said,
        "networks": {
            name: {
                f"{way}_{unit}": getattr(counters, unit)
                for way, counters in (("rx", each.received), ("tx", each.sent))
                for unit in ("bytes", "packets", "errors", "dropped")
            }
            for name, each in traffic.items()
        },
    }


# ---- inside ----


def _filters(raw: str | None) -> dict[str, list[str]]:
    """Filters in either of their forms; none when they are malformed."""
    try:
        said = parse_json((raw or "{}").encode(errors="surrogateescape"))
    except ControlError:
        return {}
    if not isinstance(said, dict):
        return {}
    if not all(isinstance(values, list | dict) for values in said.values()):
        return {}
    return {str(key): [str(value) for value in values] for key, values in said.items()}


def _flag(values: Iterable[str] | None) -> bool | None:
    said = frozenset(values or ())
    return True if said & _TRUE else False if said & _FALSE else None


def _entry(entry: Json, known: Overlays | None, records: Mapping[str, Record]) -> Json:
    container, labels = str(entry.get("Id")), part(entry, "Labels")
    if known is None:
        return entry
    ours = _networks(entry, labels, known, named=False, dns=False)
    ours = _remembered(records.get(container), named=False) | ours
    if not ours:
        return entry
    shown = {
        **entry,
        "HostConfig": _host_config(entry, labels, ours),
        "NetworkSettings": _with_networks(part(entry, "NetworkSettings"), ours),
    }
    published = known.host_ports.get(container)
    if published:
        shown["Ports"] = [*(entry.get("Ports") or ()), *map(_port, published)]
    return shown


def _fits(entry: Json, wanted: Asked) -> bool:
    if wanted.tasks not in {None, _is_tasks(entry)}:
        return False
    networks = part(part(entry, "NetworkSettings"), "Networks")
    ids = [str(part(networks, name).get("NetworkID") or "") for name in networks]
    return not wanted.networks or any(
        want in networks or any(each.startswith(want) for each in ids) for want in wanted.networks
    )


def _is_tasks(found: Json) -> bool:
    """Of an entry of the list, or of what is inspected."""
    labels = part(found, "Labels") or part(part(found, "Config"), "Labels")
    names = found.get("Names") or [str(found.get("Name"))]
    return IS_TASK_LABEL in labels and is_tasks(labels, names)


def _networks(
    found: Json, labels: Json, known: Overlays, *, named: bool, dns: bool
) -> dict[str, Json]:
    """Network name -> ``EndpointSettings`` of a container, whether it runs or not."""
    endpoints = known.endpoints.get(str(found.get("Id")), ())
    if endpoints:
        return {
            known.name_of(each.network): _endpoint(each, named=named, dns=dns) for each in endpoints
        }
    task = known.tasks.get(TaskId(str(labels.get(TASK_LABEL)))) if _is_tasks(found) else None
    return _reserved(task) if task is not None else {}


def _endpoint(endpoint: LocalEndpoint, *, named: bool, dns: bool) -> Json:
    short = endpoint.container[:12]
    second = endpoint.address6
    asked = str(endpoint.address.ip), str(second.ip) if second is not None else ""
    shown = _settings(endpoint.network, *asked) | {
        "EndpointID": endpoint.id,
        "IPAddress": str(endpoint.address.ip),
        "IPPrefixLen": endpoint.address.network.prefixlen,
        "MacAddress": endpoint.mac,
    }
    if second is not None:
        shown["GlobalIPv6Address"] = str(second.ip)
        shown["GlobalIPv6PrefixLen"] = second.network.prefixlen
    if named:
        shown["Aliases"] = [*endpoint.aliases, short]
    if dns:
        names = (endpoint.name, *endpoint.aliases, short, endpoint.hostname)
        shown["DNSNames"] = [*dict.fromkeys(filter(None, names))]
    return shown


def _reserved(task: pb.Task) -> dict[str, Json]:
    """Networks of a task whose container does not run, or is not wired yet."""
    return {
        str(net.network.spec.name): _settings(
            NetworkId(net.network.id), *(each.partition("/")[0] for each in net.addresses[:2])
        )
        for net in task.networks_attachments
        if net.addresses
    }


def _remembered(record: Record | None, *, named: bool) -> dict[str, Json]:
    """Networks that an attached container is to be on; it does not run, or is not wired yet."""
    return {
        place.name: _settings(NetworkId(place.network), place.asked, place.asked6)
        | {"Aliases": [*place.aliases] if named and place.aliases else None}
        for place in (record.places if record is not None else ())
    }


def _settings(network: NetworkId, address: str, second: str = "") -> Json:
    """An ``EndpointSettings`` without an endpoint."""
    asked = {"IPv4Address": address, "IPv6Address": second}
    return {
        "IPAMConfig": {family: said for family, said in asked.items() if said},
        "Links": None,
        "Aliases": None,
        "NetworkID": network,
        "EndpointID": "",
        "Gateway": "",
        "IPAddress": "",
        "IPPrefixLen": 0,
        "IPv6Gateway": "",
        "GlobalIPv6Address": "",
        "GlobalIPv6PrefixLen": 0,
        "MacAddress": "",
        "DriverOpts": None,
    }


def _with_networks(settings: Json, ours: dict[str, Json]) -> Json:
    theirs = {name: net for name, net in part(settings, "Networks").items() if name != _NONE}
    return {**settings, "Networks": dict(sorted({**theirs, **ours}.items()))}


def _host_config(found: Json, labels: Json, ours: Json) -> Json:
    """Not on none: a task on the default network, as Swarm has it, any other on its first."""
    config = part(found, "HostConfig")
    if config.get("NetworkMode") != _NONE:
        return config
    if _is_tasks(found):
        return {**config, "NetworkMode": "default"}
    return {**config, "NetworkMode": next(iter(ours))} if LABEL in labels else config


def _port(port: PublishedPort) -> Json:
    return {
        "IP": _EVERYWHERE,
        "PrivatePort": port.target,
        "PublicPort": port.published,
        "Type": port.protocol,
    }


def _bindings(ports: Iterable[PublishedPort]) -> dict[str, list[Json]]:
    found: dict[str, list[Json]] = {}
    for port in ports:
        bound = found.setdefault(f"{port.target}/{port.protocol}", [])
        bound.append({"HostIp": _EVERYWHERE, "HostPort": str(port.published)})
    return found
