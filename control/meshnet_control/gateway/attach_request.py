"""A container on networks of the cluster, as the engine is to make it. Pure.

The engine gives it an empty namespace (``none``), in which the agent wires the networks, and its
program waits at the gate (``meshnet_control.agent.gate``) until they are. Where one of the engine's
own networks is asked for as well, the engine gives it that one.

Source: moby api/types/network EndpointSettings; daemon/commit.go merge (command of an image).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from http import HTTPStatus
from ipaddress import AddressValueError, IPv4Address, IPv6Address, ip_address
from pathlib import Path
from typing import Any, Final

from meshnet.errors import ControlError
from meshnet.model.ids import mac_of
from meshnet.model.wellknown import LARGEST_PORT
from meshnet_control.agent import gate, host_ports
from meshnet_control.agent.attached_record import LABEL, Place, Record
from meshnet_control.agent.host_ports import PortKey
from meshnet_control.agent.task_networks import BEHIND_ENGINES
from meshnet_control.api.control_pb2 import Network
from meshnet_control.convert.json_text import part

NONE: Final = "none"
DEFAULT_NETWORKS: Final = frozenset({"bridge", "default"})
_OWN_MODES: Final = frozenset({"", "none", "host", "bridge", "default"})
_PROTOCOLS: Final = frozenset({"tcp", "udp", "sctp"})
_DIGITS: Final = 5
_ANY_ADDRESS: Final = frozenset({"", "0.0.0.0", "::"})  # noqa: S104 - as Docker says it
_UNSUPPORTED: Final = "is not supported by this version of meshnet on networks of the cluster"


@dataclass(frozen=True, slots=True)
class Asked:
    """What a container is asked for with each of its networks."""

    named: tuple[str, ...]
    """Networks by the names that the client used, the first one first."""
    settings: Mapping[str, Mapping[str, Any]]


def asked(body: Mapping[str, Any]) -> Asked:
    """Networks of ``POST /containers/create``."""
    mode = part(body, "HostConfig").get("NetworkMode")
    settings = {
        name: dict(each) if isinstance(each, dict) else {}
        for name, each in part(part(body, "NetworkingConfig"), "EndpointsConfig").items()
        if name
    }
    first = (mode,) if isinstance(mode, str) and mode else ()
    return Asked(tuple(dict.fromkeys((*first, *settings))), settings)


def renamed(body: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    """``POST /containers/create`` with other names of networks."""
    host, networking = dict(part(body, "HostConfig")), dict(part(body, "NetworkingConfig"))
    mode, settings = host.get("NetworkMode"), part(networking, "EndpointsConfig")
    if isinstance(mode, str) and mode in names:
        host["NetworkMode"] = names[mode]
    networking["EndpointsConfig"] = {names.get(name, name): each for name, each in settings.items()}
    return {**body, "HostConfig": host, "NetworkingConfig": networking}


def could_be_ours(name: str) -> bool:
    """A name of a network that may be one of the cluster's."""
    return name not in _OWN_MODES and not name.startswith("container:")


def place(network: Network, settings: Mapping[str, Any], number: int) -> Place:
    """A place on a network, as a client wants it.

    Raises:
        ControlError: it wants what we cannot do, or an address that is none.
    """
    ipam = part(settings, "IPAMConfig")
    address = str(ipam.get("IPv4Address") or "")
    if address:
        try:
            IPv4Address(address)
        except AddressValueError:
            raise ControlError(f"invalid IPv4 address: {address}") from None
    second = str(ipam.get("IPv6Address") or "")
    if second:
        try:
            found = IPv6Address(second)
        except AddressValueError:
            found = None
        if found is None or found.scope_id is not None:
            raise ControlError(f"invalid IPv6 address: {second}")
        second = str(found)
    if ipam.get("LinkLocalIPs"):
        raise _cannot("a link-local address")
    if settings.get("Links"):
        raise _cannot("a link between containers")
    mac = str(settings.get("MacAddress") or "")
    if mac and (not address or mac.lower() != mac_of(IPv4Address(address))):
        raise _cannot("a MAC address of one's own (it follows from the IP address)")
    return Place(
        network=network.id,
        name=network.spec.name,
        number=number,
        aliases=tuple(dict.fromkeys(str(name) for name in settings.get("Aliases") or ())),
        asked=address,
        internal=network.spec.internal,
        asked6=second,
    )


def wants_init(body: Mapping[str, Any]) -> bool:
    """Whether its first process is docker-init: in a PID namespace of its own alone, as in moby."""
    host = part(body, "HostConfig")
    shared = str(host.get("PidMode") or "").partition(":")[0] in {"host", "container"}
    return host.get("Init") is True and not shared


@dataclass(frozen=True, slots=True)
class Made:
    """What the engine is asked for, and what is remembered of it."""

    body: dict[str, Any]
    record: Record


def rewritten(
    body: Mapping[str, Any],
    image: Mapping[str, Any],
    ours: Mapping[str, Network],
    key: str,
    gate_path: Path,
    taken: Iterable[PortKey],
    init: str = "",
) -> Made:
    """The body of ``POST /containers/create`` for a container on networks of ours.

    Args:
        body: as the client sent it.
        image: ``Config`` of its image.
        ours: its networks of the cluster, by the name that the client used.
        key: of its record.
        gate_path: of its FIFO on this host.
        taken: ports of this host that it must not get where it names none.
        init: docker-init on this host, if the gate becomes it (``wants_init``).

    Raises:
        ControlError: what is asked for cannot be had.
    """
    wanted = asked(body)
    engines = [name for name in wanted.named if name not in ours]
    if any(not could_be_ours(name) and name not in DEFAULT_NETWORKS for name in engines):
        raise ControlError(
            "conflicting options: cannot attach both user-defined and non-user-defined "
            "network-modes"
        )
    if body.get("MacAddress"):
        raise _cannot("a MAC address of one's own (it follows from the IP address)")
    first = BEHIND_ENGINES if engines else 0
    names = [name for name in wanted.named if name in ours]
    places = tuple(
        place(ours[name], wanted.settings.get(name, {}), first + at)
        for at, name in enumerate(names)
    )
    if len({each.network for each in places}) < len(places):
        raise ControlError("a network is named twice")
    host = dict(part(body, "HostConfig"))
    record = Record(
        key=key,
        places=places,
        gated=True,
        gateway_number=first + len(places),
        first_number=first,
        ports=() if engines else tuple(_ports(body, image, host, set(taken))),
        upstreams=_name_servers(host),
    )
    words = replace(_program(body, image), init=bool(init))
    environment = gate.environment_of(image.get("Env") or (), _words(body.get("Env")))
    entrypoint, command = gate.wrapped(words.process, environment)
    mounts = [*(host.get("Mounts") or ()), *gate.mounts(gate_path, init)]
    kept = {name: wanted.settings[name] for name in engines if name in wanted.settings}
    host |= {"NetworkMode": engines[0] if engines else NONE, "Mounts": mounts}
    host |= {"Init": False} if init else {}
    return Made(
        {
            **body,
            "Entrypoint": entrypoint,
            "Cmd": command,
            "Labels": {
                **part(body, "Labels"),
                LABEL: key,
                gate.COMMAND_LABEL: words.label(),
            },
            "HostConfig": host,
            "NetworkingConfig": {"EndpointsConfig": kept},
        },
        record,
    )


def connected(container: Mapping[str, Any], key: str) -> Record:
    """What is remembered of a container of the engine's that is connected to a network of ours.

    Args:
        container: ``GET /containers/{id}/json``.
        key: of the record.

    Raises:
        ControlError: it cannot be.
    """
    mode = str(part(container, "HostConfig").get("NetworkMode") or "")
    networks = part(part(container, "NetworkSettings"), "Networks")
    if mode == "host" or mode.startswith("container:"):
        raise ControlError(
            "cannot connect a container to networks whose network namespace is not its own",
            HTTPStatus.FORBIDDEN,
        )
    engines = [name for name in networks if name != NONE]
    first = BEHIND_ENGINES if engines else 0
    return Record(
        key=key,
        container=str(container["Id"]),
        gateway_number=first,
        first_number=first,
        upstreams=_name_servers(part(container, "HostConfig")),
    )


def _name_servers(host: Mapping[str, Any]) -> tuple[str, ...]:
    """Of ``HostConfig``; what the engine lets in and no resolver could ask is refused."""
    try:
        return tuple(str(ip_address(str(server))) for server in host.get("Dns") or ())
    except ValueError as error:
        raise ControlError(f"invalid DNS server: {error}") from None


def _program(body: Mapping[str, Any], image: Mapping[str, Any]) -> gate.Words:
    entrypoint, command = _words(body.get("Entrypoint")), _words(body.get("Cmd"))
    if not entrypoint:
        command = command or _words(image.get("Cmd"))
    if body.get("Entrypoint") is None:
        entrypoint = _words(image.get("Entrypoint"))
    found = gate.Words(tuple([] if entrypoint == [""] else entrypoint), tuple(command))
    if not found.argv:
        raise ControlError("No command specified")
    return found


def _words(said: object) -> list[str]:
    if isinstance(said, str):
        return [said]
    return [str(word) for word in said] if isinstance(said, Sequence) else []


def _ports(
    body: Mapping[str, Any], image: Mapping[str, Any], host: Mapping[str, Any], taken: set[PortKey]
) -> Iterable[tuple[str, int, int]]:
    """Published ports: (protocol, in the container, on the host)."""
    bindings: dict[str, Sequence[Mapping[str, Any]]] = {
        port: each or [{}] for port, each in part(host, "PortBindings").items()
    }
    if host.get("PublishAllPorts"):
        exposed = [*part(body, "ExposedPorts"), *(image.get("ExposedPorts") or ())]
        bindings = {port: [{}] for port in exposed} | bindings
    for port, bound in bindings.items():
        target, _, protocol = port.partition("/")
        protocol = protocol or "tcp"
        if protocol not in _PROTOCOLS:
            raise ControlError(f"invalid protocol in port {port}")
        for each in bound:
            if str(each.get("HostIp") or "") not in _ANY_ADDRESS:
                raise _cannot("a port published on one address of the host")
            number = str(each.get("HostPort") or "")
            published = _number(number) if number else host_ports.free(protocol, taken)
            taken.add((protocol, published))
            yield protocol, _number(target), published


def _number(text: str) -> int:
    short = text.isascii() and text.isdigit() and len(text) <= _DIGITS
    if not short or not 0 < int(text) <= LARGEST_PORT:
        raise ControlError(f"invalid port specification: {text!r}")
    return int(text)


def _cannot(what: str) -> ControlError:
    return ControlError(f"{what} {_UNSUPPORTED}", HTTPStatus.NOT_IMPLEMENTED)
