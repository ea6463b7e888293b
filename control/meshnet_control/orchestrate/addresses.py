"""Which subnet a network gets, and which address of it is handed out next. Pure.

Addresses go upwards and are not reused at once: the search starts behind the highest address
that is held *or remembered*, and begins again at the bottom when the top is reached. Remembered
are the addresses of dead tasks as long as their records are kept (five a slot): somebody may still
have such an address in a cache. Only when nothing else is free are they given away.

    .1 gateway   .2 held (VIP)   .3 held   .4 dead   .5 held   .6 <- next

A dual stack network has the second family's addresses by the same rules. Its subnet of IPv6 is, if
nobody chose one, a /64 of the cluster's own /48 of unique local addresses (RFC 4193), which follows
from the cluster's id and is written nowhere.

Be aware: there is no stored cursor. What was released and forgotten, and was the highest, comes
again; the data plane forgets connections to a withdrawn address, so this is harmless.
Source: moby libnetwork/ipam (serial allocation), swarmkit manager/allocator/network.go.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from itertools import chain
from typing import Final, Protocol, TypeVar

from meshnet.model.families import Address, Family, IpNetwork
from meshnet_control.api import control_pb2 as pb
from meshnet_control.cluster import vxlan_ids

NO_ADDRESS = "could not find an available IP"
ADDRESS_TAKEN = "Address already in use"
NO_VIP = "could not find an available IP while allocating VIP"
NO_SUBNET = (
    "could not find an available, non-overlapping IPv4 address pool among the defaults "
    "to assign to the network"
)

NO_SUBNET6 = "could not find an available, non-overlapping IPv6 address pool for the network"
DEFAULT_POOL = "10.0.0.0/8"
DEFAULT_SUBNET_SIZE = 24
FIRST_VNI = 4096
"""The ingress network's; the others count up from here."""
LAST_VNI = vxlan_ids.LAST


BLOCK: Final = 8
"""Bits of an address that are looked at together."""
_BYTES4: Final = 4
_SUBNET6: Final = 64
_LOCAL: Final = b"\xfd"
_GLOBAL_ID: Final = 5
"""Bytes (RFC 4193 section 3.1)."""
_N = TypeVar("_N", IPv4Network, IPv6Network)


class Blocks(Protocol):
    """Who has addresses of a network, by blocks of them that follow each other."""

    def numbers(self) -> Sequence[int]:
        """Blocks of which any address may be held or remembered, ascending."""

    def of(self, block: int) -> tuple[Iterable[int], Iterable[int]]:
        """Addresses of a block in use, as numbers, and those of dead tasks."""


class Addresses:
    """The addresses of one network while a step hands some out; blocks are read as they are met.

    Args:
        config: the network's allocated configuration, subnet and gateway set.
        blocks: who has which; those of dead tasks are given away last.
    """

    def __init__(self, config: pb.IPAMConfig, blocks: Blocks) -> None:
        self.subnet: IpNetwork = ip_network(config.subnet, strict=False)
        space = ip_network(config.ip_range, strict=False) if config.ip_range else self.subnet
        first, last = int(space.network_address), int(space.broadcast_address)
        reserved = {int(self.subnet.network_address), int(self.subnet.broadcast_address)}
        gateway = config.gateway or str(self.subnet[1])
        reserved |= {number_of(a) for a in (gateway, *config.auxiliary_addresses.values())}
        self._first, self._last = first, last
        self._held, self._remembered = reserved, set[int]()
        self._blocks, self._read = blocks, set[int]()
        self.exhausted = False
        """There was none left; none has come back since."""
        self._worn = False
        """The same of those that are not remembered."""
        self._next = max((n for n in reserved if first <= n < last), default=first - 1) + 1
        for block in reversed(blocks.numbers()):
            if block << BLOCK >= last:
                continue
            if (block + 1) << BLOCK <= first:
                break
            inside = [number for number in self._of(block) if first <= number < last]
            self._next = max([self._next, *(number + 1 for number in inside)])
            if inside:
                break

    def _of(self, block: int) -> set[int]:
        """Addresses of a block that somebody has or had."""
        self._read.add(block)
        held, remembered = map(set, self._blocks.of(block))
        self._held |= held
        self._remembered |= remembered
        return held | remembered

    def _meet(self, number: int) -> bool:
        """Whether an address is held."""
        if number >> BLOCK not in self._read:
            self._of(number >> BLOCK)
        return number in self._held

    def take(self) -> str | None:
        """The next free address, as ``10.0.1.2/24``; None when every one is held."""
        return self.take_fresh() or self.take_any()

    def take_fresh(self) -> str | None:
        """The next free address that is not a dead task's, either; None when there is none."""
        if self._worn:
            return None
        behind = range(self._next, self._last + 1)
        walk = chain(behind, range(self._first, self._next))
        number = next((n for n in walk if not self._meet(n) and n not in self._remembered), None)
        self._worn = number is None
        return self._took(number)

    def take_any(self) -> str | None:
        """The lowest free address; None when every one is held."""
        if self.exhausted:
            return None
        every = range(self._first, self._last + 1)
        number = next((n for n in every if not self._meet(n)), None)
        self.exhausted = number is None
        return self._took(number)

    def _took(self, number: int | None) -> str | None:
        if number is None:
            return None
        self._held.add(number)
        self._next = number + 1
        return self._text(number)

    def take_this(self, address: str) -> str | None:
        """A certain address, as ``10.0.1.2/24``; None when it is held, or not in the subnet."""
        number = number_of(address)
        if self._meet(number) or ip_address(address) not in self.subnet:
            return None
        self._held.add(number)
        return self._text(number)

    def _text(self, number: int) -> str:
        at: Address = self.subnet[number - int(self.subnet.network_address)]
        return f"{at}/{self.subnet.prefixlen}"

    def give_back(self, address: str) -> None:
        """Undo a ``take`` of the same step."""
        self._held.discard(number_of(address))
        self.exhausted = self._worn = False


class Subnets:
    """The subnets of one network while a step hands addresses out: filled in their order.

    An address of a dead task is given away when no subnet has another one.

    Args:
        configs: the network's allocated configuration.
        blocks: who has which address, of all of them.
    """

    def __init__(self, configs: Iterable[pb.IPAMConfig], blocks: Blocks) -> None:
        self._each = [Addresses(config, blocks) for config in configs]

    @property
    def exhausted(self) -> bool:
        """There was none left in any; none has come back since."""
        return all(each.exhausted for each in self._each)

    def take(self) -> str | None:
        """As of ``Addresses``."""
        for each in self._each:
            if (found := each.take_fresh()) is not None:
                return found
        return next((found for each in self._each if (found := each.take_any()) is not None), None)

    def take_this(self, address: str) -> str | None:
        """As of ``Addresses``."""
        found = (each.take_this(address) for each in self._each)
        return next(filter(None, found), None)

    def give_back(self, address: str) -> None:
        """Undo a ``take`` of the same step."""
        at = ip_address(address.partition("/")[0])
        for each in self._each:
            if at in each.subnet:
                each.give_back(address)


def number_of(address: str) -> int:
    """An address, plain or with a prefix length, as a number.

    No two of a network have one: what is below 2^32 in IPv6 is no host's address.
    """
    plain = address.partition("/")[0]
    parts = plain.split(".")
    if len(parts) == _BYTES4:
        return int.from_bytes(bytes(map(int, parts)), "big")
    return int(ip_address(plain))


def family_of(address: str) -> Family:
    """Of an address or subnet."""
    return 6 if ":" in address else 4


def configs_of(network: pb.Network, family: Family) -> list[pb.IPAMConfig]:
    """The allocated configuration of a family."""
    every = network.ipam_options.configs
    return [each for each in every if family_of(each.subnet) == family]


def subnet_for(
    cluster: pb.Cluster | None,
    networks: Iterable[pb.Network],
    routes: Iterable[IpNetwork] = (),
) -> IPv4Network | None:
    """The next subnet of the cluster's pools that overlaps no network's; None: none is left.

    The search starts behind the newest subnet given by us (highest VNI; one that was asked for
    tells no age) and goes round; a subnet that was asked for is only stepped over.

    Args:
        cluster: its pools.
        networks: those there are.
        routes: of the nodes. What one leads to is stepped over, unless nothing else is left.
    """
    pools = (cluster.default_addr_pool if cluster else ()) or (DEFAULT_POOL,)
    size = (cluster.subnet_size if cluster else 0) or DEFAULT_SUBNET_SIZE
    spaces = [IPv4Network(pool, strict=False) for pool in pools]
    return _next_subnet(spaces, size, networks, routes)


def subnet6_for(
    cluster: pb.Cluster | None,
    networks: Iterable[pb.Network],
    routes: Iterable[IpNetwork] = (),
) -> IPv6Network | None:
    """The next /64 of the cluster's own addresses, by the same rules; None: none is left."""
    spaces = [own_space(cluster.id if cluster else "")]
    return _next_subnet(spaces, _SUBNET6, networks, routes)


def own_space(cluster_id: str) -> IPv6Network:
    """The /48 of a cluster: ``fd`` and 40 bits that follow from its id (RFC 4193)."""
    digest = hashlib.sha256(cluster_id.encode()).digest()[:_GLOBAL_ID]
    return IPv6Network((_LOCAL + digest + bytes(10), 48))


def _next_subnet(
    spaces: list[_N], size: int, networks: Iterable[pb.Network], routes: Iterable[IpNetwork]
) -> _N | None:
    family, of = spaces[0].version, type(spaces[0])
    taken: list[_N] = []
    newest: tuple[tuple[bool, int], _N] | None = None
    for network in networks:
        for config in network.ipam_options.configs or network.spec.ipam_options.configs:
            if not config.subnet or family_of(config.subnet) != family:
                continue
            subnet = of(config.subnet, strict=False)
            taken.append(subnet)
            ours = not any(
                asked.subnet and family_of(asked.subnet) == family
                for asked in network.spec.ipam_options.configs
            )
            age = vxlan_ids.wanted(network) is None, network.vni
            if ours and (newest is None or age > newest[0]):
                newest = age, subnet
    after = newest[1] if newest else None
    start = next((i for i, s in enumerate(spaces) if after and after.subnet_of(s)), None)
    behind: list[int] = []
    later: list[_N] = []
    if start is not None and after is not None:
        behind = [int(after.broadcast_address) + 1] + [0] * (len(spaces) - start - 1)
        later = spaces[start:]
    every = taken.copy()
    every.extend(route for route in routes if isinstance(route, of))
    for avoided in (every, taken):
        found: _N | None = _first_free(later, size, avoided, behind) or _first_free(
            spaces, size, avoided
        )
        if found is not None:
            return found
    return None


def _first_free(
    spaces: list[_N], size: int, taken: list[_N], behind: Iterable[int] = ()
) -> _N | None:
    """The first free subnet, looking only behind the given start in each space."""
    starts = chain(behind, iter(lambda: 0, 1))
    for space, start in zip(spaces, starts, strict=False):
        step = 1 << (space.max_prefixlen - size)
        at = max(int(space.network_address), -(-start // step) * step)
        while at + step - 1 <= int(space.broadcast_address):
            subnet = type(space)((at, size))
            block = next((t for t in taken if t.overlaps(subnet)), None)
            if block is None:
                return subnet
            at = max(at + step, -(-(int(block.broadcast_address) + 1) // step) * step)
    return None


def vni_for(last: int, networks: Mapping[str, pb.Network]) -> int | None:
    """The next VNI: one above the highest ever given, from the bottom again after 2^24 - 1.

    One that a user asked for is stepped over.

    Args:
        last: the highest given so far (Cluster.LastVNI), 0: none.
        networks: the networks there are.
    """
    wanted = {network.id: vxlan_ids.wanted(network) for network in networks.values()}
    used = {vni for network in networks.values() for vni in (network.vni, wanted[network.id])}
    ours = (network.vni for network in networks.values() if wanted[network.id] is None)
    above = max(last, FIRST_VNI, *ours) + 1
    walk = chain(range(above, LAST_VNI + 1), range(FIRST_VNI + 1, LAST_VNI + 1))
    return next((number for number in walk if number not in used), None)
