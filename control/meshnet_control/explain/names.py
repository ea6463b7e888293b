"""Why a name is answered as it is: what a container heard, beside what the zones say. Pure.

The model: three things are put side by side: what the container heard at 127.0.0.11, what the
resolver says that it answers and why, and what it should answer by the newest Snapshot. The last
two are one function's (``meshnet_dns.answer.decide``), with the resolver's zones and with ours.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from ipaddress import ip_address
from typing import Final

from meshnet.model.families import Address, order
from meshnet.model.ids import NetworkId
from meshnet.model.snapshot import Endpoint, Sandbox, Snapshot
from meshnet_control.api import explain_pb2 as xpb
from meshnet_dns.answer import AAAA, A, Decision, Question, Why, decide
from meshnet_dns.explained import Explained, Heard
from meshnet_dns.zone import Claim, Claimed, Zone, claims, zones

_KINDS: Final[Mapping[Claim, str]] = {
    Claim.SERVICE: "service",
    Claim.SERVICE_ALIAS: "alias of a service",
    Claim.CONTAINER: "container",
    Claim.ALIAS: "alias",
    Claim.HOSTNAME: "hostname",
}
_PLAIN: Final[Mapping[Why, str]] = {
    Why.NAME: "{} knows the name",
    Why.POINTER: "the address is on {}, and has a name",
    Why.PORT: "a service on {} publishes that port: its ready tasks",
    Why.NO_PORT: "the service is on {}, and publishes no such port",
    Why.NO_POINTER: "the address is of {} and nobody's: no other server can know it",
    Why.CLASS: "only class IN is served",
}
NOT_HEARD: Final = (
    "nothing was heard at 127.0.0.11: is meshnet-resolver up (meshnet status), and does the "
    "container have our rules (meshnet doctor)?"
)
OTHERWISE: Final = (
    "the container heard something else than meshnet-resolver says: does a program in it, or a "
    "rule of others, answer at 127.0.0.11:53?"
)
BEHIND: Final = (
    "meshnet-resolver does not know what it should yet: see the resolver's line in meshnet status"
)


def question(name: str, number: int) -> Question:
    """As the zones have names."""
    return Question(name.lower().rstrip("."), number)


def answer(
    snapshot: Snapshot,
    of: Endpoint,
    sandbox: Sandbox,
    asked: Question,
    explained: Explained,
    heard: Heard,
) -> xpb.NameAnswer:
    """What a container heard, and why.

    Args:
        snapshot: of this moment.
        of: the container.
        sandbox: its namespace.
        asked: the question.
        explained: what the resolver says of it.
        heard: what the container heard.
    """
    known = zones(snapshot)
    networks = [network for network, _ in sandbox.networks if network in known]
    should = decide(asked, [known[network] for network in networks], sandbox.stack.lower())
    found = xpb.NameAnswer(
        container=of.name,
        result=heard.result,
        records=heard.records,
        seconds=heard.seconds,
        network=explained.network,
        upstreams=explained.upstreams,
        differs=_differs(should, explained, heard, asked),
    )
    by_name = {known[network].network: network for network in networks}
    if explained.network in by_name:
        network = by_name[explained.network]
        found.claims.extend(_record(each) for each in _of_name(snapshot, network, asked.name))
    found.reason = _reason(explained, found.claims, asked, sandbox.stack)
    return found


def addresses(found: xpb.NameAnswer) -> list[Address]:
    """Those that were heard, in their order; what else was heard (the names of CNAMEs) is none."""
    heard: list[Address] = []
    for record in found.records:
        with suppress(ValueError):
            heard.append(ip_address(record))
    return heard


def step(found: xpb.NameAnswer, place: str, otherwise: str = "") -> xpb.Step:
    """An answer as a step of a connection's way.

    Args:
        found: the answer.
        place: the container.
        otherwise: a sentence on what else could be meant, where no address was heard.
    """
    heard = " ".join(found.records) or found.result or "nothing"
    ends = not addresses(found)
    made = xpb.Step(place=place, what=f"name {found.name}", ends=ends)
    made.found = f"{heard}: {found.reason}"
    made.should = "what meshnet-resolver says" if found.differs else made.found
    made.ok, made.mend = not found.differs, " ".join(found.differs)
    if ends and not found.differs:
        made.ok, made.should = False, "an address"
        see = f"see what names there are: meshnet dns dump {place}"
        made.mend = f"{otherwise}; {see}" if otherwise else see
    return made


def dump(
    snapshot: Snapshot,
    held: Mapping[NetworkId, Zone],
    networks: Sequence[NetworkId],
) -> xpb.NamesAnswer:
    """Every name of some networks, as the resolver has it.

    Args:
        snapshot: of this moment.
        held: the resolver's zones.
        networks: in the order in which they are asked.
    """
    should = zones(snapshot)
    found = xpb.NamesAnswer()
    for network in networks:
        zone = held.get(network, should.get(network))
        if zone is None:
            continue
        said = found.networks.add(network=zone.network, subnet=str(zone.subnet))
        said.differs = _zone_differs(held.get(network), should.get(network))
        kinds = {each.name: each for each in reversed(claims(snapshot, network))}
        for name, held_ in sorted(zone.names.items()):
            best = kinds.get(name)
            said.records.add(
                name=name,
                kind=_KINDS[best.claim] if best is not None else "",
                owner=best.owner if best is not None else "",
                addresses=map(str, sorted(held_, key=order)),
            )
    return found


def _zone_differs(held: Zone | None, should: Zone | None) -> str:
    if held == should:
        return ""
    if held is None:
        return "meshnet-resolver has no names of this network: no container here is on it yet"
    return BEHIND


def _differs(should: Decision, explained: Explained, heard: Heard, asked: Question) -> list[str]:
    addresses = should.answer.told if should.answer is not None else ()
    ours = (should.why, should.zone.network if should.zone is not None else "", addresses)
    found = []
    if ours != (explained.why, explained.network, explained.addresses):
        found.append(BEHIND)
    if not heard.result:
        found.append(NOT_HEARD)
    elif (
        explained.why in {Why.NAME, Why.STACK}
        and asked.type in {A, AAAA}
        and not _fits(heard, explained)
    ):
        found.append(OTHERWISE)
    return found


def _fits(heard: Heard, explained: Explained) -> bool:
    """A reply by UDP may be cut: what is in it must be of what is answered."""
    told, whole = set(heard.records), set(explained.addresses)
    return told <= whole and bool(told) == bool(whole)


def _reason(
    explained: Explained, claims_: Sequence[xpb.NameRecord], asked: Question, stack: str
) -> str:
    if explained.why is Why.STACK:
        own = next((each for each in claims_ if each.owner.startswith(f"{stack}_")), None)
        who = own.owner if own is not None else f"of stack {stack}"
        rivals = sorted({each.owner for each in claims_} - {who})
        too = f", before {', '.join(rivals)} there" if rivals else ""
        return f"the service {who} on {explained.network} is of the container's own stack{too}"
    if explained.why is Why.NAME and claims_:
        best = claims_[0]
        others = len({each.owner for each in claims_[1:]} - {best.owner})
        beside = f", before {others} more that claim it" if others else ""
        none = (
            "" if explained.addresses or asked.type not in {A, AAAA} else "; it has no address now"
        )
        return f"the {best.kind} {best.owner} on {explained.network} has that name{beside}{none}"
    if explained.why is Why.FORWARDED:
        whose = "the container's own servers are" if explained.own else "the host's servers are"
        asked_ = whose if explained.upstreams else "there is nobody who may be"
        return f"no network of the container knows the name: {asked_} asked"
    return _PLAIN[explained.why].format(explained.network)


def _of_name(snapshot: Snapshot, network: NetworkId, name: str) -> list[Claimed]:
    """All claims on a name; ``name.<network>`` is the same one."""
    every = claims(snapshot, network)
    found = [each for each in every if each.name == name]
    suffix = "." + snapshot.networks[network].name.lower()
    if not found and name.endswith(suffix):
        return [each for each in every if each.name == name.removesuffix(suffix)]
    return found


def _record(claimed: Claimed) -> xpb.NameRecord:
    return xpb.NameRecord(
        name=claimed.name,
        kind=_KINDS[claimed.claim],
        owner=claimed.owner,
        addresses=map(str, sorted(claimed.addresses, key=order)),
    )
