"""What the cluster's settings, and a request to make or join one, must not say.

PURE. Source: swarmkit manager/controlapi/cluster.go validateClusterSpec; moby
daemon/cluster/swarm.go, listen_addr.go and libnetwork overlayutils (data path port).
"""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import AddressValueError, IPv4Address, IPv4Network, IPv6Network
from typing import Final

from meshnet.errors import ControlError
from meshnet.model.families import IpNetwork
from meshnet.model.wellknown import GOSSIP_PORT
from meshnet_control.api.control_pb2 import ClusterSpec, SwarmInitRequest, SwarmJoinRequest
from meshnet_control.controlapi.refusals import invalid, unimplemented

_MIN_CERT_EXPIRY_NS: Final = 3600 * 1_000_000_000
_MIN_HEARTBEAT_NS: Final = 100_000_000
_LONGEST_SUBNET_PREFIX: Final = 29
_DATA_PATH_PORTS: Final = range(1024, 49152)
_MOST_ADDRESSES: Final = 64
_LONGEST_ADDRESS: Final = 255
_NOT_FOR_NETWORKS: Final = tuple(
    IPv4Network(net) for net in ("0.0.0.0/8", "127.0.0.0/8", "224.0.0.0/4", "240.0.0.0/4")
)
"""This network, loopback, multicast, reserved (RFC 6890): no host answers there."""
_NOT_FOR_NETWORKS6: Final = tuple(IPv6Network(net) for net in ("::/8", "fe80::/10", "ff00::/8"))
"""Loopback and IPv4 in other clothes, link-local, multicast (RFC 4291 section 2.4)."""


def check(new: ClusterSpec) -> None:
    """Refuse settings that no cluster can have.

    Raises:
        ControlError: the first thing wrong with them.
    """
    expiry, heartbeat = new.ca_config.node_cert_expiry, new.dispatcher.heartbeat_period
    if expiry and expiry < _MIN_CERT_EXPIRY_NS:
        raise invalid("minimum certificate expiry time is 1h0m0s")
    if heartbeat < 0:
        raise invalid("heartbeat time period cannot be a negative duration")
    if 0 < heartbeat < _MIN_HEARTBEAT_NS:
        raise invalid("heartbeat time period cannot be less than 100ms")
    if new.ca_config.external_cas:
        raise unimplemented(
            "an external CA is not supported by this version of meshnet: leave out --external-ca, "
            "the manager signs the nodes' certificates itself"
        )


def check_init(request: SwarmInitRequest) -> None:
    """Refuse a request from which no cluster can be made.

    Raises:
        ControlError: the first thing wrong with it.
    """
    check(request.spec)
    if request.spec.ca_config.signing_ca_cert or request.spec.ca_config.signing_ca_key:
        raise unimplemented(
            "a CA of yours is not supported at init by this version of meshnet: bring it later, "
            "with 'docker swarm ca --rotate --ca-cert FILE --ca-key FILE'"
        )
    check_availability(request.availability)
    _addresses((request.listen_addr, request.advertise_addr, request.data_path_addr))
    _advertised(request.advertise_addr)
    port = request.data_path_port
    if port and port not in _DATA_PATH_PORTS:
        raise ControlError(f"Datapath port number is not in valid range (1024-49151) : {port}")
    if port == GOSSIP_PORT:
        raise ControlError(f"data path port {port} is gossip's on every node: choose another one")
    if request.subnet_size > _LONGEST_SUBNET_PREFIX:
        raise ControlError(
            f"subnet size is out of range: {request.subnet_size} (at most {_LONGEST_SUBNET_PREFIX})"
        )
    if len(request.default_addr_pool) > _MOST_ADDRESSES:
        raise ControlError(f"a swarm can have at most {_MOST_ADDRESSES} default address pools")
    for said in request.default_addr_pool:
        try:
            pool = IPv4Network(said, strict=False)
        except ValueError:
            raise ControlError(f"invalid base pool {said!r}: not an IPv4 subnet") from None
        if not for_networks(pool):
            raise ControlError(f"invalid base pool {said!r}: no host can have these addresses")


def check_join(request: SwarmJoinRequest) -> None:
    """Refuse a request with which no node can join.

    Raises:
        ControlError: the first thing wrong with it.
    """
    check_availability(request.availability)
    if not request.remote_addrs:
        raise ControlError("at least 1 RemoteAddr is required to join")
    if len(request.remote_addrs) > _MOST_ADDRESSES:
        raise ControlError(f"at most {_MOST_ADDRESSES} RemoteAddrs can be given to join")
    _addresses(
        (
            request.listen_addr,
            request.advertise_addr,
            request.data_path_addr,
            *request.remote_addrs,
        )
    )
    _advertised(request.advertise_addr)


def check_availability(said: str) -> None:
    """Refuse an availability that is none, in any case.

    Raises:
        ControlError: another word than active, pause, drain or none at all.
    """
    if said.lower() not in {"", "active", "pause", "drain"}:
        raise ControlError(f'invalid Availability: "{said}"')


def for_networks(subnet: IpNetwork) -> bool:
    """True when hosts can have addresses of this subnet."""
    if isinstance(subnet, IPv6Network):
        return not any(subnet.overlaps(other) for other in _NOT_FOR_NETWORKS6)
    return not any(subnet.overlaps(other) for other in _NOT_FOR_NETWORKS)


def _addresses(said: Iterable[str]) -> None:
    for address in said:
        if len(address) > _LONGEST_ADDRESS or not address.isprintable() or " " in address:
            raise ControlError(f"invalid address {address[:_LONGEST_ADDRESS]!r}")


def _advertised(said: str) -> None:
    try:
        address = IPv4Address(said.partition(":")[0])
    except AddressValueError:
        return  # the name of an interface
    if address.is_unspecified or address.is_multicast:
        raise ControlError(
            "advertise address must be a non-zero IP address or network interface "
            "(with optional port number)"
        )
