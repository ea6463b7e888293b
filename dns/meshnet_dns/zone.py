"""Names to records: what each network's containers can ask for.

A Zone is everything one network knows, made whole from a Snapshot and swapped whole in the
resolver, so that no answer ever mixes two states. Names are kept in lower case without a final dot.

| name | records |
|---|---|
| service (VIP mode), its aliases | the VIP, for as long as the service exists, 0 tasks included |
| service (dnsrr mode), its aliases | its ready endpoints |
| ``tasks.<service>``, ``tasks.<alias>`` | its ready endpoints |
| container name, 12 hex digits of its ID, endpoint aliases, hostname | that endpoint |
| ``nearest.<service>``, ``nearest.<alias>`` | those of ``tasks.`` on this node; none: all of them |
| ``_<port>._<protocol>.<any of the services' names>`` | SRV (``Zone.served``) |
| ``<any of these>.<network>`` | the same (see ``Zone.find``: not stored twice) |
| reverse of an endpoint's address | ``<container name>.<network>`` |
| reverse of a VIP | ``<service>.<network>`` |

When two things claim a name, the better claim takes it alone: service name, service alias,
container name or ID, endpoint alias, hostname. Equal claims share it: two stacks' services with one
alias give the addresses of both, as in Swarm. But who asks for ``db`` from a container of the stack
``shop`` means ``shop_db``, where both names are known (``Zone.of_stack``).

A name with several addresses leaves out those on doubted nodes while it has others. On a dual stack
network each of them has addresses of both families.

Be aware: an endpoint's own names stay while it drains or fails its health check, a container must
be able to find itself; only the names of its *service* follow readiness. A dnsrr service is known
on a network from its first endpoint there (or its aliases); it stays known, with no address, while
none of them is ready. The ingress network has no names.

Source: moby libnetwork service_common.go addServiceInfoToCluster; differs: VIPs with no task, VIP
reverse records, 12-hex ID and hostname on every node, own stack first, nearest, SRV.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass, field
from enum import IntEnum
from ipaddress import IPv4Network
from typing import NamedTuple

from meshnet.model.families import Address, IpNetwork, order
from meshnet.model.ids import NetworkId, ServiceId
from meshnet.model.snapshot import Endpoint, Network, Service, Snapshot

TASKS = "tasks."
NEAREST = "nearest."
SHORT_ID = 12
_LABEL = 63
_NAME = 253


class ServedPort(NamedTuple):
    """A port at which the tasks of a service answer."""

    protocol: str
    number: int
    name: str = ""
    """Lower case; empty: it has none."""


@dataclass(frozen=True, slots=True)
class Zone:
    """The names of one network.

    Attributes:
        network: the network's name, lower case.
        subnet: the network's addresses; their reverse names are ours alone.
        names: lower-case name -> addresses, ascending, IPv4 first. Empty: the name is ours, it has
            no address.
        pointers: address -> name with its case kept.
        ports: name of a service, or an alias -> ports that it says it serves (it publishes them).
        near: addresses of endpoints on this node; the values are True.
        more: the network's further subnets, of either family, as the first.
    """

    network: str
    subnet: IPv4Network
    names: Mapping[str, tuple[Address, ...]] = field(default_factory=dict)
    pointers: Mapping[Address, str] = field(default_factory=dict)
    ports: Mapping[str, tuple[ServedPort, ...]] = field(default_factory=dict)
    near: Mapping[Address, bool] = field(default_factory=dict)
    more: tuple[IpNetwork, ...] = ()

    def has(self, address: Address) -> bool:
        """Whether an address is the network's to give."""
        return address in self.subnet or any(address in subnet for subnet in self.more)

    def find(self, name: str) -> tuple[Address, ...] | None:
        """Addresses of ``name`` (lower case, no final dot), or of ``name`` less ``.<network>``.

        None: not a name of this network.
        """
        found = self._own(name)
        if found is None and name.endswith("." + self.network):
            return self._own(name[: -len(self.network) - 1])
        return found

    def of_stack(self, name: str, stack: str) -> tuple[Address, ...] | None:
        """What a container of ``stack`` (lower case) means by a short name of its stack.

        None: a name of no service of that stack, or not one that this network knows.
        """
        whole = self.in_stack(name, stack)
        return None if whole is None else self._own(whole)

    def in_stack(self, name: str, stack: str) -> str | None:
        """``name`` with the stack's in it, if both are known here: ``tasks.shop_db``."""
        bare = name.removesuffix("." + self.network)
        prefix = next((each for each in (TASKS, NEAREST) if bare.startswith(each)), "")
        short = bare[len(prefix) :]
        whole = f"{stack}_{short}"
        if short not in self.names or TASKS + whole not in self.names:
            return None
        return prefix + whole

    def served(self, service: str) -> tuple[ServedPort, ...] | None:
        """Ports of a service by one of its names, as ``find`` takes them; None: there is none."""
        for name in (service, service.removesuffix("." + self.network)):
            bare = name.removeprefix(TASKS).removeprefix(NEAREST)
            if TASKS + bare in self.names:
                return self.ports.get(bare, ())
        return None

    def tasks(self, service: str) -> tuple[Address, ...]:
        """Addresses of the tasks of a service by one of its names; of ``nearest.`` only those."""
        if service.startswith(NEAREST):
            return self.find(service) or ()
        return self.find(TASKS + service.removeprefix(TASKS)) or ()

    def _own(self, name: str) -> tuple[Address, ...] | None:
        found = self.names.get(name)
        if found is not None or not name.startswith(NEAREST):
            return found
        tasks = self.names.get(TASKS + name[len(NEAREST) :])
        if tasks is None:
            return None
        return tuple(address for address in tasks if address in self.near) or tasks


class Claim(IntEnum):
    """How good a claim on a name is; the lowest wins."""

    SERVICE = 0
    SERVICE_ALIAS = 1
    CONTAINER = 2
    ALIAS = 3
    HOSTNAME = 4


_Record = tuple[str, Claim, tuple[Address, ...]]


def zones(snapshot: Snapshot) -> dict[NetworkId, Zone]:
    """The zone of every network of ``snapshot`` except ingress. Pure."""
    members = _members(snapshot)
    return {
        network.id: _zone(network, snapshot, members.get(network.id, []))
        for network in snapshot.networks.values()
        if not network.ingress
    }


def _members(snapshot: Snapshot) -> dict[NetworkId, list[Endpoint]]:
    members: dict[NetworkId, list[Endpoint]] = {}
    for endpoint in snapshot.live_endpoints():
        for network in endpoint.addresses:
            members.setdefault(network, []).append(endpoint)
    return members


def _zone(network: Network, snapshot: Snapshot, members: list[Endpoint]) -> Zone:
    tasks: dict[ServiceId, list[Endpoint]] = {}
    for endpoint in members:
        if endpoint.service is not None:
            tasks.setdefault(endpoint.service, []).append(endpoint)
    records: list[_Record] = []
    pointers: dict[Address, str] = {}
    ports: list[tuple[str, Claim, tuple[ServedPort, ...]]] = []
    for service in snapshot.services.values():
        found = list(_service_records(service, network.id, tasks.get(service.id, [])))
        records += found
        ports += [(name, claim, served_ports(service)) for name, claim, _ in found]
        for vip in vips_of(service, network.id):
            pointers[vip] = f"{service.name}.{network.name}"
    for endpoint in members:
        records += endpoint_records(endpoint, network.id)
        for address in addresses_of(endpoint, network.id):
            pointers[address] = f"{endpoint.name}.{network.name}"
    doubted = {
        address
        for each in members
        if snapshot.doubts(each)
        for address in addresses_of(each, network.id)
    }
    names, best = _settled(records, doubted)
    return Zone(
        network=network.name.lower(),
        subnet=network.subnet,
        names=names,
        pointers={
            address: pointers[address]
            for address in sorted(pointers, key=order)
            if fits(pointers[address])
        },
        ports=_settled_ports(ports, best),
        near={
            address: True
            for endpoint in members
            if endpoint.node == snapshot.self_id
            for address in addresses_of(endpoint, network.id)
        },
        more=network.further,
    )


def _service_records(
    service: Service, network: NetworkId, tasks: list[Endpoint]
) -> Iterator[_Record]:
    aliases = service.aliases.get(network, ())
    vips = vips_of(service, network)
    if not vips and not tasks and not aliases:
        return
    ready = tuple(at for task in tasks if task.ready for at in addresses_of(task, network))
    own = vips or ready
    yield service.name, Claim.SERVICE, own
    yield TASKS + service.name, Claim.SERVICE, ready
    for alias in aliases:
        yield alias, Claim.SERVICE_ALIAS, own
        yield TASKS + alias, Claim.SERVICE_ALIAS, ready


def addresses_of(endpoint: Endpoint, network: NetworkId) -> tuple[Address, ...]:
    """Of an endpoint on a network that it is on, IPv4 first."""
    second = endpoint.addresses6.get(network)
    first = endpoint.addresses[network]
    return (first,) if second is None else (first, second)


def vips_of(service: Service, network: NetworkId) -> tuple[Address, ...]:
    """Of a service, IPv4 first; none: it has none there."""
    first, second = service.vips.get(network), service.vips6.get(network)
    if service.mode != "vip" or first is None:
        return ()
    return (first,) if second is None else (first, second)


def endpoint_records(endpoint: Endpoint, network: NetworkId) -> Iterator[_Record]:
    """The names of an endpoint itself, whether it is ready or not."""
    address = addresses_of(endpoint, network)
    yield endpoint.name, Claim.CONTAINER, address
    yield endpoint.container[:SHORT_ID], Claim.CONTAINER, address
    for alias in endpoint.aliases.get(network, ()):
        yield alias, Claim.ALIAS, address
    yield endpoint.hostname, Claim.HOSTNAME, address


def served_ports(service: Service) -> tuple[ServedPort, ...]:
    """The ports that a service publishes, as its tasks have them: each once, in order."""
    if not service.ports:
        return ()
    found = {ServedPort(port.protocol, port.target, port.name.lower()) for port in service.ports}
    return tuple(sorted(found))


def _settled_ports(
    ports: list[tuple[str, Claim, tuple[ServedPort, ...]]], best: Mapping[str, Claim]
) -> dict[str, tuple[ServedPort, ...]]:
    """The ports of those with the best claim on a name of a service."""
    found: dict[str, set[ServedPort]] = {}
    for given, claim, served in ports:
        name = stored(given)
        if served and name and not name.startswith(TASKS) and best[name] == claim:
            found.setdefault(name, set()).update(served)
    return {name: tuple(sorted(found[name])) for name in sorted(found)}


def _settled(
    records: list[_Record], doubted: Set[Address]
) -> tuple[dict[str, tuple[Address, ...]], dict[str, Claim]]:
    """One set of addresses per name, of those with the best claim; and that claim."""
    best: dict[str, tuple[Claim, set[Address]]] = {}
    for given, claim, addresses in records:
        name = stored(given)
        if not name:
            continue
        holder = best.get(name)
        if holder is None or claim < holder[0]:
            best[name] = (claim, set(addresses))
        elif claim == holder[0]:
            holder[1].update(addresses)
    names = {
        name: tuple(sorted(best[name][1] - doubted or best[name][1], key=order))
        for name in sorted(best)
    }
    return names, {name: claim for name, (claim, _) in best.items()}


@dataclass(frozen=True, slots=True)
class Claimed:
    """One record that has a name."""

    name: str
    claim: Claim
    owner: str
    """Name of the service or of the endpoint."""
    addresses: tuple[Address, ...]


def claims(snapshot: Snapshot, network: NetworkId) -> list[Claimed]:
    """Every record of a network with whose it is, the best claims first; those names go by. Pure.

    The names of a Zone are settled from these very records.
    """
    members = _members(snapshot).get(network, [])
    found: list[Claimed] = []
    for service in snapshot.services.values():
        tasks = [endpoint for endpoint in members if endpoint.service == service.id]
        for given, claim, addresses in _service_records(service, network, tasks):
            found.append(Claimed(stored(given), claim, service.name, addresses))
    for endpoint in members:
        for given, claim, addresses in endpoint_records(endpoint, network):
            found.append(Claimed(stored(given), claim, endpoint.name, addresses))
    return sorted((each for each in found if each.name), key=lambda each: (each.name, each.claim))


def stored(given: str) -> str:
    """A name as zones keep it; empty: it is none."""
    return given.lower().rstrip(".")


def fits(name: str) -> bool:
    """Whether ``name`` can be written in a packet (RFC 1035 section 2.3.4)."""
    return (
        name.isascii()
        and len(name) <= _NAME
        and all(0 < len(label) <= _LABEL for label in name.split("."))
    )
