"""Which addresses this node listens on and tells others. Pure.

Source: moby daemon/cluster/listen_addr.go (resolveAdvertiseAddr, resolveSystemAddr).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from ipaddress import AddressValueError, IPv4Address, IPv4Interface

from meshnet.errors import ControlError
from meshnet.model.wellknown import CONTROL_PORT, LARGEST_PORT
from meshnet_control.api.control_pb2 import SwarmInitRequest
from meshnet_control.identity.identity import Identity

Addresses = Sequence[tuple[str, IPv4Interface]]
"""(link, address) of this host, as ``meshnet.kernel.host.local_addresses`` gives them."""


def listen_address(asked: str, local: Addresses) -> tuple[str, int]:
    """``<ip|interface>[:port]`` of ``--listen-addr`` as (IPv4 address, port).

    Raises:
        ControlError: no such interface, no such address, no such port.
    """
    host, port = _split(asked or "0.0.0.0", "listen")  # noqa: S104 - Swarm's default
    if host in {"", "0.0.0.0"}:  # noqa: S104
        return "0.0.0.0", port  # noqa: S104
    return str(_resolve(host, "listen", local)), port


def advertise_address(asked: str, listen: tuple[str, int], local: Addresses) -> tuple[str, int]:
    """The address other nodes reach this one at, as (IPv4 address, port).

    Nothing asked: the listen address when it is one, else this host's only address. The port is
    that it listens on, unless another one is asked for.

    Raises:
        ControlError: nothing to choose from, or several.
    """
    if asked:
        host, port = _split(asked, "advertise", listen[1])
        return str(_resolve(host, "advertise", local, foreign=True)), port
    if listen[0] != "0.0.0.0":  # noqa: S104
        return listen
    if not local:
        raise ControlError(
            "could not find the system's IP address - specify one with --advertise-addr"
        )
    links = list(dict.fromkeys(link for link, _ in local))
    if len(links) > 1:
        first, second = (next(item for item in local if item[0] == link) for link in links[:2])
        raise ControlError(
            "could not choose an IP address to advertise since this system has multiple addresses "
            f"on different interfaces ({first[1].ip} on {first[0]} and {second[1].ip} on "
            f"{second[0]}) - specify one with --advertise-addr"
        )
    if len(local) > 1:
        raise ControlError(
            "could not choose an IP address to advertise since this system has multiple addresses "
            f"on interface {links[0]} ({local[0][1].ip} and {local[1][1].ip}) - specify one with "
            "--advertise-addr"
        )
    return str(local[0][1].ip), listen[1]


def data_path_address(
    asked: str, advertise: str, local: Addresses, others: Sequence[str] = ()
) -> IPv4Address:
    """The underlay address of VXLAN and gossip; one of this host's.

    Nothing asked: what is advertised, when this host has it; else (127.0.0.1, or an address of a
    router before it) the first of ``others`` that it has, else its first.

    Args:
        asked: ``<ip|interface>`` of ``--data-path-addr``.
        advertise: address that other nodes are told.
        local: this host's.
        others: to be preferred, in this order; empty ones, and 0.0.0.0, are none.

    Raises:
        ControlError: what is asked for is none of this host's, or it has none.
    """
    mine = [address.ip for _, address in local]
    if not asked:
        known = {str(address): address for address in reversed(mine)}
        wanted = (known[each] for each in (advertise, *others) if each in known)
        chosen = next(wanted, mine[0] if mine else None)
        if chosen is None:
            raise ControlError(
                "could not find the system's IP address - specify one with --data-path-addr"
            )
        return chosen
    found = _resolve(asked, "data path", local)
    if found not in mine:
        raise ControlError(
            f"{found} is not an address of this host: VXLAN packets cannot be sent from it "
            "- specify a local one with --data-path-addr"
        )
    return found


def elsewhere(who: Identity, asked: SwarmInitRequest, local: Addresses) -> Identity:
    """A node with the addresses that a request gives; the others as they are.

    Raises:
        ControlError: one that cannot be used.
    """
    listen, told, data_path = who.listen_addr, who.advertise_addr, who.data_path_addr
    if asked.listen_addr not in {"", f"0.0.0.0:{CONTROL_PORT}"}:  # what the CLI says for nothing
        host, port = listen_address(asked.listen_addr, local)
        listen = f"{host}:{port}"
    if asked.advertise_addr:
        host, _, said = listen.rpartition(":")
        found = advertise_address(asked.advertise_addr, (host, int(said)), local)
        told = f"{found[0]}:{found[1]}"
    if asked.advertise_addr or asked.data_path_addr:
        said = told.rpartition(":")[0]
        at = data_path_address(asked.data_path_addr, said, local, (data_path,))
        data_path = str(at)
    return replace(
        who,
        listen_addr=listen,
        advertise_addr=told,
        data_path_addr=data_path,
        managers=who.managers if told in who.managers else (told, *who.managers),
    )


def _split(asked: str, what: str, usual: int = CONTROL_PORT) -> tuple[str, int]:
    host, colon, port = asked.rpartition(":")
    if not colon:
        return asked, usual
    if not port.isascii() or not port.isdigit() or not 0 < int(port) <= LARGEST_PORT:
        raise ControlError(f"invalid {what} address {asked!r}: the port must be 1 to 65535")
    return host, int(port)


def _resolve(host: str, what: str, local: Addresses, *, foreign: bool = False) -> IPv4Address:
    try:
        address = IPv4Address(host)
    except AddressValueError:
        of_link = [address.ip for link, address in local if link == host]
        if len(of_link) == 1:
            return of_link[0]
        if of_link:
            raise ControlError(
                f"interface {host} has more than one IPv4 address ({of_link[0]} and {of_link[1]}): "
                f"give the {what} address itself"
            ) from None
        raise ControlError(
            f"{what} address {host!r} is neither an IPv4 address nor an interface of this host"
        ) from None
    if not foreign and all(address != mine.ip for _, mine in local) and not address.is_loopback:
        raise ControlError(f"{what} address {host} is not an address of this host")
    return address
