"""What nodes say, before it reaches the store and by it every other node's Snapshot. Pure.

An address that is none, a state that no agent reports, a host's name with a line in it: each would
be read by every node of the cluster. Here it is refused, once, where it comes in.

Each function raises ``InvalidError`` with a sentence that fits a log beside the sender's name.
"""

from __future__ import annotations

from ipaddress import AddressValueError, IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Final

from google.protobuf.message import Message

from meshnet.errors import MeshnetError
from meshnet.gossip.signing import PUBLIC_BYTES
from meshnet.model.wellknown import LARGEST_PORT
from meshnet.patterns import Pattern
from meshnet_control.api import control_pb2 as pb
from meshnet_control.cluster import host_routes
from meshnet_control.cluster.attachments import MOST

HOSTNAME: Final = 255
"""Characters (getconf HOST_NAME_MAX is less everywhere)."""
ADDRESS: Final = 15
_ADDRESS6: Final = 45
"""Characters of its longest way to write one (INET6_ADDRSTRLEN - 1)."""
LONGEST_NETWORK: Final = _ADDRESS6 + 4
LINK: Final = 15
"""Characters of a link's name (IFNAMSIZ - 1)."""
PORT: Final = 5
DESCRIPTION_BYTES: Final = 64 * 1024
CSR_BYTES: Final = 16 * 1024
ROUTES: Final = 4096
TEXT: Final = 4096
"""Characters of a status's message or error; agents shorten to it."""
PORTS: Final = 1024
_CONTAINER_ID: Final = Pattern("[0-9a-f]{64}", longest=64)
_OBJECT_ID: Final = Pattern("[0-9a-z]{25}", longest=25)
_MTU: Final = range(576, 65536)
"""RFC 791; 0: not said."""
_AVAILABILITIES: Final = frozenset({"", "active", "pause", "drain"})
REPORTED: Final = frozenset(
    {
        pb.TASK_STATE_ACCEPTED,
        pb.TASK_STATE_PREPARING,
        pb.TASK_STATE_READY,
        pb.TASK_STATE_STARTING,
        pb.TASK_STATE_RUNNING,
        pb.TASK_STATE_COMPLETE,
        pb.TASK_STATE_SHUTDOWN,
        pb.TASK_STATE_FAILED,
        pb.TASK_STATE_REJECTED,
    }
)
"""The states an agent reports; the others are the managers' own."""


class InvalidError(MeshnetError):
    """A peer said what cannot be."""


def address(text: str) -> str:
    """A node's address: IPv4, of one host.

    Raises:
        InvalidError: it is none.
    """
    try:
        found = IPv4Address(text) if len(text) <= ADDRESS else None
    except AddressValueError:
        found = None
    if found is None:
        raise InvalidError(f"{text[:ADDRESS]!r} is not an IPv4 address")
    if found.is_multicast or found.is_unspecified or found.is_reserved:
        raise InvalidError(f"{found} is not the address of a host")
    return str(found)


def address6(text: str) -> IPv6Address:
    """A container's address: IPv6, in whatever way it is written, without a zone.

    Raises:
        InvalidError: it is none.
    """
    try:
        found = IPv6Address(text) if len(text) <= _ADDRESS6 else None
    except AddressValueError:
        found = None
    if found is None or found.scope_id is not None:
        raise InvalidError(f"{text[:_ADDRESS6]!r} is not an IPv6 address")
    return found


def peer(text: str) -> None:
    """Where a manager's etcd is reached: an address and a port.

    Raises:
        InvalidError: it is none.
    """
    host, _, port = text.rpartition(":")
    address(host)
    number = int(port) if len(port) <= PORT and port.isascii() and port.isdigit() else 0
    if not 0 < number <= LARGEST_PORT:
        raise InvalidError(f"{port[:PORT]!r} is not a port")


def description(said: pb.NodeDescription) -> None:
    """What a node says of itself.

    Raises:
        InvalidError: it is too long, or has a name or an MTU that none can have.
    """
    _bounded(said, DESCRIPTION_BYTES, "description of a node")
    if len(said.hostname) > HOSTNAME or not said.hostname.isprintable():
        raise InvalidError(f"hostname {said.hostname[:64]!r} cannot be one")
    if said.underlay_mtu and said.underlay_mtu not in _MTU:
        raise InvalidError(f"underlay MTU {said.underlay_mtu} is out of range")
    if len(said.routes) > host_routes.MOST or len(said.routes6) > host_routes.MOST6:
        raise InvalidError(f"more than {host_routes.MOST} routes")
    for route in said.routes:
        _route(route, IPv4Network)
    for route in said.routes6:
        _route(route, IPv6Network)
    if len(said.gossip_key) not in {0, PUBLIC_BYTES}:
        raise InvalidError("the key that it signs gossip with is none")
    generic = (each.discrete_resource_spec for each in said.resources.generic_resources)
    amounts = [said.resources.nano_cpus, said.resources.memory_bytes]
    if min(*amounts, *(each.value for each in generic)) < 0:
        raise InvalidError("resources below zero")


def _route(said: pb.HostRoute, of: type[IPv4Network | IPv6Network]) -> None:
    if "%" in said.destination:  # a zone is of one host
        raise InvalidError(f"{said.destination[:LONGEST_NETWORK]!r} is no destination")
    try:
        of(said.destination[:LONGEST_NETWORK])
    except ValueError:
        raise InvalidError(f"{said.destination[:LONGEST_NETWORK]!r} is no destination") from None
    if len(said.link) > LINK or not said.link.isprintable():
        raise InvalidError(f"link {said.link[:LINK]!r} cannot be one")


def issue(request: pb.IssueRequest) -> None:
    """A request for a certificate; its signing request is judged by who signs.

    Raises:
        InvalidError: something in it cannot be.
    """
    if len(request.csr) > CSR_BYTES or len(request.routes) + len(request.routes6) > ROUTES:
        raise InvalidError("certificate signing request is too long")
    if request.availability not in _AVAILABILITIES:
        raise InvalidError(f"invalid availability {request.availability[:16]!r}")
    if request.addr:
        address(request.addr)
    if request.manager_addr:
        address(request.manager_addr)
    description(request.description)


def status(said: pb.TaskStatus) -> None:
    """What an agent reports of a task.

    Raises:
        InvalidError: no agent reports that.
    """
    if said.state not in REPORTED:
        raise InvalidError(f"state {said.state} is not an agent's to report")
    if max(len(said.message), len(said.err)) > TEXT:
        raise InvalidError(f"a text of more than {TEXT} characters")
    ports = said.port_status.ports
    if len(ports) > PORTS or any(port.published_port > LARGEST_PORT for port in ports):
        raise InvalidError("ports that cannot be")
    _bounded(said, DESCRIPTION_BYTES, "status of a task")


def attachments(said: pb.AttachRequest) -> None:
    """What a node's containers are to be attached to.

    Raises:
        InvalidError: more than a node may have, one twice, or a name or address that is none.
    """
    if len(said.attachments) > MOST:
        raise InvalidError(f"more than {MOST} attachments")
    places: set[tuple[str, str]] = set()
    for each in said.attachments:
        if not _CONTAINER_ID.fits(each.container_id):
            raise InvalidError(f"{each.container_id[:64]!r} is not the id of a container")
        if not _OBJECT_ID.fits(each.network_id):
            raise InvalidError(f"{each.network_id[:64]!r} is not the id of a network")
        if each.address:
            address(each.address)
        if each.address6:
            address6(each.address6)
        places.add((each.container_id, each.network_id))
    if len(places) < len(said.attachments):
        raise InvalidError("a container twice on one network")


def owner(task: pb.Task, node_id: str) -> None:
    """Who may report of a task: the node it was given to.

    Raises:
        InvalidError: the task is another node's.
    """
    if task.node_id != node_id:
        raise InvalidError("the task is another node's")


def _bounded(message: Message, most: int, what: str) -> None:
    if message.ByteSize() > most:
        raise InvalidError(f"{what} of {message.ByteSize()} bytes")
