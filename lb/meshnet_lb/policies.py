"""What a service's policy makes of its ready backends: pure.

| ``meshnet.lb`` | a new connection goes to | nft |
|---|---|---|
| ``rr`` | the next backend | ``numgen inc`` over a slot for each (``meshnet_lb.service``) |
| ``random`` | any | ``numgen random`` over the same |
| ``nearest`` | the next one of this node; of all, when it has none | ``rr`` over those |
| ``weighted`` | the next turn, each has as many as its node weighs | ``numgen inc`` over turns |
| ``source-hash`` | the backend of the client's address | ``jhash ip saddr`` over rendezvous slots |
| ``sticky`` | where the client went before, else as ``source-hash`` | a map that forgets |

A client is whoever's address the packet has: outside of containers the client itself, in a
container's namespace the container. Slots are of addresses alone, so all nodes lead a client to one
backend.

``sticky`` remembers a backend by its address, in a map of the kernel's with a time-out that each
new connection of the client begins anew. A map gives a value, and nothing can be looked up by that
directly; so it passes through ``meta priority``, 32 bits of the packet that forwarding and the next
namespace set anew: an IPv4 address itself, a hash of an IPv6 one. Of two backends whose hashes are
one (of 100 once in a million times) one is not chosen. A backend that is chosen no more is not in
``live-…``: the second rule forgets it, the next ones choose again and remember that.

Be aware: one address of many clients (NAT) is one client. Each node remembers by itself: where
backends came since, a client that comes through another node may be led to another one there. Only
65,536 clients of a service are remembered; the others are led by their hash.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final

from meshnet.model.families import Address
from meshnet.model.ids import NetworkId, NodeId, ServiceId
from meshnet.model.policy import Policy
from meshnet.model.snapshot import Node, Service
from meshnet.nft.objects import DYNAMIC, Set
from meshnet_lb.choice import Choice
from meshnet_lb.dialect import IPV4, Dialect
from meshnet_lb.service import chain_name, slots, turn
from meshnet_lb.tables import Table, rendezvous, turns

MOST_CLIENTS: Final = 65_536
"""Clients that one namespace remembers of one service."""
_MARKS: Final = "numgen inc mod 1 : meta priority"
_MARKS_OF_HASHES: Final = (1 << 32) - 2
_HASHED: Final = "hash-"
_MARKED: Final = "mark-"
_KNOWN: Final = "live-"
_STUCK: Final = "stuck-"


def choose(
    service: Service,
    network: NetworkId,
    ready: Sequence[Address],
    where: Callable[[Address], Node | None],
    self_id: NodeId,
    before: Choice | None = None,
    dialect: Dialect = IPV4,
) -> Choice | None:
    """How a service's connections on one network are spread; None: strictly in turn, over all.

    Args:
        service: whose they are.
        network: where.
        ready: its backends there, ascending, at least one.
        where: node of a backend.
        self_id: this node.
        before: the last choice.
        dialect: of the family of ``ready``.
    """
    policy, name = service.policy, chain_name(service.id, network)
    texts = [str(address) for address in ready]
    match policy.kind:
        case "random":
            dice = f"dnat to numgen random mod {len(texts)} map @{name}"
            return Choice((("", dice),), (slots(name, texts, dialect),), name)
        case "nearest":
            near = [str(each) for each in _near(ready, where, self_id)]
            return _in_turn(name, near, dialect)
        case "weighted":
            heavy = {str(each): _weight(policy, where(each)) for each in ready}
            return _in_turn(name, turns(heavy), dialect)
        case "source-hash":
            return _by_client(name, service.id, _table(service.id, texts, before), dialect)
        case "sticky":
            table = _table(service.id, texts, before)
            return _remembering(name, service.id, table, policy.sticky_s, dialect)
        case _:
            return None


def seed_of(service: ServiceId) -> int:
    """What clients of a service are hashed with, so that two services share no pattern."""
    return int.from_bytes(hashlib.blake2b(service.encode(), digest_size=4).digest(), "big")


def backends_map(service: ServiceId, network: NetworkId, policy: Policy) -> str:
    """Name of the map whose values are the backends of a VIP."""
    name = chain_name(service, network)
    return {"source-hash": f"{_HASHED}{name}", "sticky": f"{_KNOWN}{name}"}.get(policy.kind, name)


def slots_map(service: ServiceId, network: NetworkId, policy: Policy) -> str:
    """Name of the map of slots that clients are hashed to; of ``sticky`` its values are marks."""
    return f"{_MARKED if policy.kind == 'sticky' else _HASHED}{chain_name(service, network)}"


def memory_map(service: ServiceId, network: NetworkId, policy: Policy) -> str:
    """Name of the map in which ``sticky`` remembers clients."""
    return f"{_STUCK}{policy.sticky_s}-{chain_name(service, network)}"


def mark_text(address: str) -> str:
    """An address as ``meta priority`` has it, in nft's words (tc(8), "handle")."""
    found = ip_address(address)
    number = int(found)
    if isinstance(found, IPv6Address):  # 0 and the highest have words instead of digits
        digest = hashlib.blake2b(found.packed, digest_size=4).digest()
        number = int.from_bytes(digest, "big") % _MARKS_OF_HASHES + 1
    return f"{number >> 16:x}:{number & 0xFFFF:x}"


def address_of(mark: str) -> str:
    """The IPv4 address whose ``mark_text`` this is."""
    high, _, low = mark.partition(":")
    return str(IPv4Address(int(high or "0", 16) << 16 | int(low or "0", 16)))


def _near(
    ready: Sequence[Address], where: Callable[[Address], Node | None], self_id: NodeId
) -> Sequence[Address]:
    places = [(address, where(address)) for address in ready]
    return [each for each, node in places if node is not None and node.id == self_id] or ready


def _weight(policy: Policy, node: Node | None) -> int:
    """By what the service says of its host, by what its node says, or 1."""
    if node is None:
        return 1
    own = 1 if node.weight is None else node.weight
    return dict(policy.weights).get(node.hostname, own)


def _in_turn(name: str, addresses: Sequence[str], dialect: Dialect) -> Choice:
    return Choice((("", turn(len(addresses), name)),), (slots(name, addresses, dialect),), name)


def _table(service: ServiceId, backends: Sequence[str], before: Choice | None) -> Table:
    return rendezvous(service, backends, before.table if before is not None else None)


def _hash(service: ServiceId, table: Table, dialect: Dialect) -> str:
    client = f"{dialect.table} saddr"
    return f"jhash {client} mod {len(table.owners)} seed {seed_of(service):#010x}"


def _by_client(name: str, service: ServiceId, table: Table, dialect: Dialect) -> Choice:
    owners = {str(slot): owner for slot, owner in enumerate(table.owners)}
    typeof = f"numgen inc mod 1 : {dialect.table} daddr"
    map_ = Set(f"{_HASHED}{name}", f"integer : {dialect.type}", owners, typeof=typeof)
    to = f"dnat to {_hash(service, table, dialect)} map @{map_.name}"
    return Choice((("", to),), (map_,), map_.name, table)


def _remembering(
    name: str, service: ServiceId, table: Table, seconds: int, dialect: Dialect
) -> Choice:
    marks = {backend: mark_text(backend) for backend in sorted(table.backends)}
    owners = {str(slot): marks[owner] for slot, owner in enumerate(table.owners)}
    hashed = Set(f"{_MARKED}{name}", "integer : classid", owners, typeof=_MARKS)
    live = Set(
        f"{_KNOWN}{name}",
        f"classid : {dialect.type}",
        {mark: backend for backend, mark in marks.items()},
    )
    stuck = Set(
        f"{_STUCK}{seconds}-{name}",
        f"{dialect.type} : classid",
        flags=(DYNAMIC, "timeout"),
        timeout_s=seconds,
        size=MOST_CLIENTS,
    )
    source = f"{dialect.table} saddr"
    client = f"@{stuck.name} {{ {source} : meta priority }}"
    to = f"dnat to meta priority map @{live.name}"
    steps = (
        (f"meta priority set {source} map @{stuck.name} update {client} ", to),
        (f"delete {client}", ""),
        (f"meta priority set {_hash(service, table, dialect)} map @{hashed.name}", ""),
        (f"add {client}", ""),
        ("", to),
    )
    return Choice(steps, (hashed, live, stuck), live.name, table)
