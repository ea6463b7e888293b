"""Whom the kernel leads a connection to, and why just that one: by its maps, as they are. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Final

from meshnet.model.families import Address, Family
from meshnet.model.ids import NetworkId
from meshnet.model.policy import Kind
from meshnet.model.snapshot import Service
from meshnet.netstate.changes import Netns
from meshnet_control.explain.picture import NOTHING, Picture
from meshnet_lb.jhash import slot_of
from meshnet_lb.policies import backends_map, mark_text, memory_map, seed_of, slots_map

_WORDS: Final[Mapping[Kind, str]] = {
    "rr": "one of {}, in turn",
    "random": "one of {}, at random",
    "nearest": "one of {}, in turn, the nearest",
    "weighted": "one of {}, in turn, by weight",
    "source-hash": "one of {}, by the client's address",
    "sticky": "one of {}, where the client went before, else by its address",
}


@dataclass(frozen=True, slots=True)
class Led:
    """What a choice is, and what it should be.

    Attributes:
        found: in words.
        should: in words.
        backends: who may be chosen by what is there.
    """

    found: str
    should: str
    backends: tuple[str, ...]


def led(
    seen: Picture,
    netns: Netns,
    service: Service,
    network: NetworkId,
    client: Address | None,
    family: Family = 4,
) -> Led:
    """Whom connections to a service are led to.

    Args:
        seen: this host.
        netns: where they are led.
        service: that is asked.
        network: of the backends.
        client: who asks; None: anybody.
        family: by which it is asked.
    """
    policy = service.policy
    there, wanted = seen.values(netns, backends_map(service.id, network, policy), family)
    texts = [_said(policy.kind, each) for each in (there, wanted)]
    if client is None or policy.kind not in {"source-hash", "sticky"} or NOTHING in texts:
        return Led(texts[0], texts[1], tuple(_sorted(there)))
    if policy.kind == "sticky":
        memory = memory_map(service.id, network, policy)
        kept = _marked(there, seen.element(netns, memory, str(client), family)[0])
        if kept != NOTHING:
            why = f"{kept}, where {client} went before; of "
            found, should = (why + " ".join(_sorted(each)) for each in (there, wanted))
            return Led(found, should, (kept,))
    slots = slots_map(service.id, network, policy)
    slot = slot_of(client, seen.size(netns, slots, family), seed_of(service.id))
    pair = seen.element(netns, slots, str(slot), family)
    if NOTHING in pair:
        return Led(NOTHING, texts[1], ())
    found, should = pair
    if policy.kind == "sticky":
        found, should = (_marked(there | wanted, mark) for mark in pair)
    return Led(
        f"{found}, by the address of {client}; of {' '.join(_sorted(there))}",
        f"{should}, by the address of {client}; of {' '.join(_sorted(wanted))}",
        (found,),
    )


def _said(kind: Kind, backends: frozenset[str]) -> str:
    return _WORDS[kind].format(" ".join(_sorted(backends))) if backends else NOTHING


def _marked(backends: frozenset[str], mark: str) -> str:
    """The backend that a mark stands for."""
    return next((each for each in _sorted(backends) if mark_text(each) == mark), NOTHING)


def _sorted(addresses: frozenset[str]) -> list[str]:
    return sorted(addresses, key=lambda each: int(ip_address(each)))
