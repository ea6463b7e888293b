"""Swarm-scoped networks: create, inspect, remove, prune, list.

Addresses and the VNI are the allocator's; here a subnet the user chose is checked against every
other network and against the routes of this host and of all nodes, before anything depends on it.

Source: moby daemon/cluster/networks.go; swarmkit manager/controlapi/network.go.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from http import HTTPStatus
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from itertools import combinations
from typing import Any

from meshnet.errors import ControlError
from meshnet.model.families import IpNetwork, overlap
from meshnet.patterns import Pattern
from meshnet_control.api.control_pb2 import (
    Cluster,
    IPAMConfig,
    Network,
    NetworkCreateRequest,
    Node,
    Service,
    ServiceView,
    Task,
)
from meshnet_control.cluster import encryption, gossip_ring, host_routes, node_local
from meshnet_control.cluster.host_routes import NodeRoute
from meshnet_control.controlapi import filters, lookup, network_resource, network_status
from meshnet_control.controlapi.access import Access, written
from meshnet_control.controlapi.refusals import exists, invalid, precondition, unimplemented
from meshnet_control.controlapi.specs import network_checks
from meshnet_control.controlapi.specs.cluster_checks import for_networks
from meshnet_control.controlapi.specs.names import check_dns_name
from meshnet_control.store.index import name_of
from meshnet_control.store.store import Key, Put, Where

_PREDEFINED = frozenset({"bridge", "host", "none", "default"})
_ROOM_BITS = 2
"""Least that a subnet leaves to its hosts: itself, a gateway, a task and, of IPv4, broadcast."""
_WIDEST6 = 32
"""Prefix length; a wider one may hold the cluster's own /48, whence others get theirs."""
_MOST_SUBNETS = 64
MTU_OPTION = "com.docker.network.driver.mtu"
_MTU = Pattern("[0-9]{2,5}", longest=5)
_SMALLEST_MTU, _SMALLEST_MTU6, _LARGEST_MTU = 576, 1280, 65535
"""RFC 791's and RFC 8200's smallest, and IPv4's largest packet."""
PRUNE_FILTERS = ("label", "label!", "until")


class Networks:
    """The swarm-scoped networks of a cluster."""

    def __init__(self, access: Access) -> None:
        self._access = access

    async def select(self, wanted: filters.Filters) -> list[dict[str, Any]]:
        """Networks that match, as Engine JSON."""
        services, tasks = await self._users()
        return [
            network_resource.resource(n)
            for n in await self._access.all(Network)
            if network_resource.matches(
                n, wanted, used=network_resource.users(n, services, tasks) is not None
            )
        ]

    async def search(self, reference: str, *, exact: bool) -> list[Network]:
        """Networks that a reference may mean, as ``search``."""
        return search(await self._access.all(Network), reference, exact=exact)

    async def services(self) -> list[ServiceView]:
        """Every service with what a network's ``verbose`` says of it: name, VIPs and ports."""
        return [
            ServiceView(
                id=service.id,
                name=service.spec.name,
                virtual_ips=service.endpoint.virtual_ips,
                ports=service.endpoint.ports,
            )
            for service in await self._access.all(Service)
        ]

    async def status(self, network: Network) -> dict[str, Any]:
        """How many of a network's addresses are in use, in the form of ``GET /networks/{id}``."""
        there = Where(networks=frozenset({network.id}), brief=True)
        return network_status.status(
            network,
            await self._access.all(Service),
            await self._access.all(Task, there),
            await self._access.all(Node),
        )

    @written
    async def create(self, request: NetworkCreateRequest, local_names: Iterable[str]) -> str:
        """Make a network and return its id.

        Args:
            request: as the client sent it.
            local_names: names of the engine's own networks, which are taken too.

        Raises:
            ControlError: the request is refused, or its name or subnet is taken.
        """
        self._check(request)
        others = await self._access.all(Network)
        if request.name in {n.spec.name for n in others} | set(local_names):
            raise ControlError(
                f"network with name {request.name} already exists", HTTPStatus.CONFLICT
            )
        present = next((n for n in others if n.spec.ingress), None)
        if request.ingress and present is not None:
            raise exists(f"ingress network ({present.id}) is already present")
        if request.driver not in node_local.DRIVERS:
            network_checks.check_vxlan_id(request, others)
            nodes = await self._access.all(Node)
            network_checks.check_encrypted_ingress(request, nodes)
            routes = list(host_routes.of(nodes))
            for config in request.ipam.config:
                self._check_subnet(_subnet(config.subnet), others, routes)
        network = network_resource.to_spec(request)
        network.id = self._access.new_id()
        await self._put(network)
        return str(network.id)

    async def _put(self, network: Network) -> None:
        """With the first encrypted network the cluster gets keys for it."""
        if not encryption.is_encrypted(network):
            await self._access.put(network)
            return
        (cluster,) = await self._access.all(Cluster)
        if cluster.esp_keys:
            await self._access.put(network)
            return
        keyed = Cluster()
        keyed.CopyFrom(cluster)
        gossip_ring.begin(keyed, gossip_ring.OVERLAYS, self._access.wall(), self._access.rng)
        expect: dict[Key, int] = {
            (Cluster, cluster.id): cluster.version.index,
            (Network, network.id): 0,
        }
        await self._access.store.commit([Put(network), Put(keyed)], expect=expect)

    @written
    async def remove(self, network: Network) -> None:
        """Remove a network that nothing uses.

        Raises:
            ControlError: in use, and by whom (400).
        """
        await self.refuse_used(network)
        await self._access.delete([network])

    async def refuse_used(self, network: Network) -> None:
        """Refuse a network that a service or task uses.

        Raises:
            ControlError: in use, and by whom (400).
        """
        services, tasks = await self._users()
        user = network_resource.users(network, services, tasks)
        if user is not None:
            raise precondition(
                f"ingress network cannot be removed because {user} depends on it"
                if network.spec.ingress
                else f"network {network.id} is in use by {user}"
            )

    @written
    async def prune(self, raw_filters: str | None) -> list[str]:
        """Remove every network that nothing uses, the ingress network excepted; their names.

        Raises:
            ControlError: a filter that is not understood.
        """
        wanted = filters.parse(raw_filters, PRUNE_FILTERS)
        if "until" in wanted:
            return []  # Docker compares with the creation time; keeping them is the safe side
        services, tasks = await self._users()
        unused = [
            n
            for n in await self._access.all(Network)
            if not n.spec.ingress
            and network_resource.users(n, services, tasks) is None
            and filters.labels(wanted.get("label"), n.spec.labels)
            and not (wanted.get("label!") and filters.labels(wanted["label!"], n.spec.labels))
        ]
        await self._access.delete(unused)
        return [n.spec.name for n in unused]

    async def _users(self) -> tuple[list[Service], list[Task]]:
        return await self._access.all(Service), await self._access.all(Task)

    def _check(self, request: NetworkCreateRequest) -> None:
        if request.name in _PREDEFINED:
            raise ControlError(
                f"operation is not permitted on predefined {request.name} network",
                HTTPStatus.FORBIDDEN,
            )
        check_dns_name(request.name)
        _check_configuration(request)
        if request.driver in node_local.DRIVERS:
            for config in request.ipam.config:
                _check_local(config)
            return
        if request.driver not in {"", "overlay"}:
            raise unimplemented(
                f"swarm-scoped networks with driver {request.driver} are not supported "
                "by this version of meshnet: leave out --scope swarm, or use -d overlay"
            )
        network_checks.check(request)
        if request.HasField("enable_ipv4") and not request.enable_ipv4:
            raise unimplemented(
                "overlay networks without IPv4 are not supported by this version of meshnet: "
                "leave out --ipv4=false"
            )
        if request.ipam.driver not in {"", "default"}:
            raise unimplemented(
                f"IPAM driver {request.ipam.driver} is not supported by this version of meshnet: "
                "leave out --ipam-driver"
            )
        mtu = request.options.get(MTU_OPTION)
        least = _SMALLEST_MTU6 if request.enable_ipv6 else _SMALLEST_MTU
        if mtu is not None and not (_MTU.fits(mtu) and least <= int(mtu) <= _LARGEST_MTU):
            raise invalid(f"invalid {MTU_OPTION} {mtu!r}: must be {least} to {_LARGEST_MTU}")
        if len(request.ipam.config) > _MOST_SUBNETS:
            raise invalid(f"ipam configuration: at most {_MOST_SUBNETS} subnets")
        for config in request.ipam.config:
            _check_config(config, dual=request.enable_ipv6)
        _check_apart(request.ipam.config)

    def _check_subnet(
        self, subnet: IpNetwork | None, others: list[Network], routes: Iterable[NodeRoute]
    ) -> None:
        if subnet is None:
            return
        for other in others:
            for config in other.ipam_options.configs or other.spec.ipam_options.configs:
                taken = _subnet(config.subnet)
                if taken is not None and overlap(taken, subnet):
                    raise invalid(
                        f"subnet {subnet} overlaps with {taken} of network {other.spec.name}"
                    )
        route = self._access.conflicting_route(str(subnet))
        if route is not None:
            raise invalid(f"subnet {subnet} overlaps with the route {route} of this host")
        elsewhere = host_routes.overlapping(subnet, routes)
        if elsewhere is not None:
            raise invalid(f"subnet {subnet} overlaps with {elsewhere}")


def search(networks: Sequence[Network], reference: str, *, exact: bool) -> list[Network]:
    """Networks that a reference may mean. PURE.

    Args:
        networks: those there are.
        reference: id, name, or prefix of an id.
        exact: leave prefixes out, so that a local network of that name comes first.
    """
    found = lookup.search(networks, reference, name_of)
    if exact:
        return [n for n in found if reference in {n.id, n.spec.name}]
    return found


def _check_configuration(request: NetworkCreateRequest) -> None:
    """What networks of nodes' own may be asked for with, in libnetwork's words.

    Raises:
        ControlError: the first thing that is wrong (403).

    Source: moby libnetwork network.go validateConfiguration, controller.go NewNetwork.
    """
    local, given = request.driver in node_local.DRIVERS, request.config_from.network
    if request.config_only:
        raise ControlError(
            "configuration network can only contain network specific fields. Network operator "
            "fields like [ ingress | internal | attachable | scope ] are not supported.",
            HTTPStatus.FORBIDDEN,
        )
    if given and not local:
        raise invalid(
            "an overlay network is the same on every node: leave out --config-from, or name the "
            "driver of a network that each node makes for itself (-d macvlan)"
        )
    if local and request.ingress:
        words = "Ingress network can only be global scope network"
        raise ControlError(words, HTTPStatus.FORBIDDEN)
    if not given:
        return
    ipam = request.ipam
    if (
        request.labels
        or request.enable_ipv6
        or ipam.driver not in {"", "default"}
        or ipam.options
        or ipam.config
    ):
        raise ControlError(
            "user specified configurations are not supported if the network depends on a "
            "configuration network",
            HTTPStatus.FORBIDDEN,
        )
    if request.options:
        raise ControlError(
            "network driver options are not supported if the network depends on a configuration "
            "network",
            HTTPStatus.FORBIDDEN,
        )


def _subnet(said: str) -> IpNetwork | None:
    return ip_network(said, strict=False) if said else None


def _check_config(config: IPAMConfig, *, dual: bool) -> None:
    """Refuse an address range that is none, or lies outside its subnet.

    Only the form the allocator keeps is let in: what one leader cannot read, none can.

    Raises:
        ControlError: the first thing that is wrong (400).
    """
    subnet = _exact("subnet", config.subnet)
    if subnet is not None and not for_networks(subnet):
        raise invalid(f"ipam configuration: no host can have the addresses of subnet {subnet}")
    if subnet is not None and not isinstance(subnet, IPv4Network) and not dual:
        raise invalid(f"ipam configuration: subnet {subnet} is of IPv6: --ipv6 must be given, too")
    if isinstance(subnet, IPv6Network) and subnet.prefixlen < _WIDEST6:
        raise invalid(
            f"ipam configuration: subnet {subnet} is too wide: of IPv6 it must be /{_WIDEST6} "
            "or longer"
        )
    if subnet is not None and subnet.max_prefixlen - subnet.prefixlen < _ROOM_BITS:
        raise invalid(f"ipam configuration: subnet {subnet} has no room for a gateway and a task")
    inside = _exact("ip-range", config.ip_range)
    if inside is not None and (subnet is None or not _within(inside, subnet)):
        raise invalid(f"ipam configuration: range {config.ip_range} is not in the subnet")
    named = [("gateway", config.gateway)] if config.gateway else []
    named += [("auxiliary address", address) for address in config.auxiliary_addresses.values()]
    for what, said in named:
        try:
            address = ip_address(said.replace("%", "/"))  # a zone is of one host
        except ValueError:
            raise invalid(f"ipam configuration: invalid {what} {_on_a_line(said)}") from None
        if subnet is None or address not in subnet:
            raise invalid(f"ipam configuration: {what} {said} is not in the subnet")
        if address in {subnet.network_address, subnet.broadcast_address}:
            raise invalid(f"ipam configuration: {what} {said} names the subnet, not a host in it")


def _within(inside: IpNetwork, subnet: IpNetwork) -> bool:
    return overlap(inside, subnet) and inside.prefixlen >= subnet.prefixlen


def _check_local(config: IPAMConfig) -> None:
    """Refuse what is no address range, of IPv4 or IPv6; whether it suits a host is its engine's.

    Raises:
        ControlError: the first thing that is wrong (400).
    """
    ranges = {"subnet": config.subnet, "ip-range": config.ip_range}
    for what, said in ranges.items():
        _parsed(what, said, partial(ip_network, strict=False))
    for said in (config.gateway, *config.auxiliary_addresses.values()):
        _parsed("address", said, ip_address)


def _parsed(what: str, said: str, parse: Callable[[str], object]) -> None:
    try:
        if said:
            parse(said)
    except ValueError:
        raise invalid(f"ipam configuration: invalid {what} {_on_a_line(said)}") from None


def _exact(what: str, said: str) -> IpNetwork | None:
    """A range written with its network address and its length, in Docker 28's words."""
    try:
        found = _subnet(said.replace("%", "/"))  # a zone is of one host
    except ValueError:
        raise invalid(f"ipam configuration: invalid {what} {_on_a_line(said)}") from None
    if found is not None and said != str(found):
        raise invalid(f"ipam configuration: invalid {what} {said}: it should be {found}")
    return found


def _on_a_line(said: str) -> str:
    return said if said.isprintable() else repr(said)


def _check_apart(configs: Sequence[IPAMConfig]) -> None:
    subnets = [found for config in configs if (found := _subnet(config.subnet)) is not None]
    for one, other in combinations(subnets, 2):
        if overlap(one, other):
            raise invalid(f"ipam configuration: subnets {one} and {other} overlap")
