"""Whether chains of others drop the VXLAN packets between two hosts. Pure.

A packet is led through each of their base chains as nf_tables does it: rule by rule, into the
chains that are jumped to. What a match asks is often not known here (an interface, a set, a match
of iptables' own), so an answer is yes, no or perhaps, and so is what becomes of a packet.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, ip_network
from typing import Any, Final

Entry = Mapping[str, Any]
"""Of ``nft -j list table`` (libnftables-json(5))."""
OURS: Final = frozenset({"meshnet", "meshnet_dns"})
IN: Final = frozenset({"prerouting", "input"})
OUT: Final = frozenset({"output", "postrouting"})
_DEEP: Final = 16
"""Jumps that the kernel allows (NFT_JUMP_STACK_SIZE)."""
_FRESH: Final = frozenset({"new", "untracked"})
"""States that VXLAN packets have: each way has a flow of its own, that nothing comes back by."""


@dataclass(frozen=True, slots=True)
class Packet:
    """UDP from a VTEP to another one; the source port is any."""

    source: IPv4Address
    destination: IPv4Address
    port: int


@dataclass(frozen=True, slots=True)
class Drop:
    """Where a packet ends.

    Attributes:
        chain: family, table and name.
        handle: of the rule; 0: the chain's policy.
        sure: it does, whatever is not known here.
    """

    chain: str
    handle: int
    sure: bool


def of_others(listing: Iterable[Entry]) -> set[tuple[str, str]]:
    """Family and name of tables that are not ours and have a chain that can be in the way."""
    return {
        (chain["family"], chain["table"])
        for entry in listing
        if _is_in_way(chain := entry.get("chain", {}), IN | OUT)
    }


def drops(listing: Sequence[Entry], packet: Packet, hooks: frozenset[str]) -> list[Drop]:
    """What drops it, at most one of each base chain at these hooks: a sure one, else the first."""
    rules: dict[tuple[str, ...], list[Entry]] = {}
    for entry in listing:
        rule = entry.get("rule")
        if rule is not None:
            rules.setdefault((rule["family"], rule["table"], rule["chain"]), []).append(rule)
    found = []
    for entry in listing:
        chain = entry.get("chain", {})
        if _is_in_way(chain, hooks):
            walk = _Walk(rules, packet)
            ended = walk.through((chain["family"], chain["table"], chain["name"]), known=True)
            if not ended and chain.get("policy") == "drop":
                walk.drop((chain["family"], chain["table"], chain["name"]), 0, sure=walk.sure)
            found += sorted(walk.drops, key=lambda each: not each.sure)[:1]
    return found


def _is_in_way(chain: Entry, hooks: frozenset[str]) -> bool:
    return (
        chain.get("hook") in hooks
        and chain.get("type") != "nat"
        and chain["family"] in {"ip", "inet"}
        and chain["table"] not in OURS
    )


class _Walk:
    """One packet in one base chain.

    Attributes:
        sure: no rule so far may have accepted the packet.
        drops: where it ends, or may.
    """

    def __init__(self, rules: Mapping[tuple[str, ...], Sequence[Entry]], packet: Packet) -> None:
        self._rules, self._packet = rules, packet
        self._opened = False
        """A rule that names the port may have accepted it: it is meant to be let through."""
        self.sure = True
        self.drops: list[Drop] = []

    def drop(self, chain: tuple[str, ...], handle: int, *, sure: bool) -> None:
        if sure or not self._opened:
            self.drops.append(Drop(" ".join(chain), handle, sure))

    def through(self, chain: tuple[str, ...], *, known: bool, deep: int = 0) -> bool:
        """Whether it surely goes no further; ``known``: it surely came here."""
        for rule in self._rules.get(chain, ()):
            answers = [_matches(each["match"], self._packet) for each in rule["expr"]
                       if "match" in each]  # fmt: skip
            if False in answers:
                continue
            yes = known and None not in answers and not _has_unknown(rule["expr"])
            verdict, to = _verdict(rule["expr"])
            if verdict == "drop":
                self.drop(chain, rule.get("handle", 0), sure=yes and self.sure)
            elif verdict == "accept":
                self._opened = self._opened or _names_port(rule["expr"], self._packet)
            elif verdict in {"jump", "goto"} and deep < _DEEP:
                ended = self.through((*chain[:2], to), known=yes, deep=deep + 1)
                if ended or (verdict == "goto" and yes):
                    return ended
                self.sure = self.sure and verdict == "jump"
                continue
            elif verdict != "return":
                self.sure = self.sure and not any("vmap" in each for each in rule["expr"])
                continue
            if yes:
                return verdict != "return"
            if verdict != "drop":
                self.sure = False
        return False


def _verdict(expr: Sequence[Entry]) -> tuple[str, str]:
    for each in expr:
        for word in ("accept", "return"):
            if word in each:
                return word, ""
        if "drop" in each or "reject" in each or each.get("xt", {}).get("name") == "REJECT":
            return "drop", ""
        for word in ("jump", "goto"):
            if word in each:
                return word, each[word]["target"]
    return "", ""


def _has_unknown(expr: Sequence[Entry]) -> bool:
    """Whether the rule asks something else than a match does: limits, maps, iptables' own."""
    known = {"match", "counter", "accept", "drop", "reject", "return", "jump", "goto", "log"}
    return any(
        not known & each.keys() and each.get("xt", {}).get("type") != "target" for each in expr
    )


def _names_port(expr: Sequence[Entry], packet: Packet) -> bool:
    return any(
        _field(each["match"]) == "dport" and _matches(each["match"], packet) is True
        for each in expr
        if "match" in each
    )


def _field(match: Entry) -> str:
    left = match["left"]
    for kind, key in (("payload", "field"), ("meta", "key"), ("ct", "key")):
        if isinstance(left, dict) and isinstance(left.get(kind), dict):
            return str(left[kind].get(key, ""))
    return ""


def _matches(match: Entry, packet: Packet) -> bool | None:
    """Whether the packet is what a match asks for; None: that is not known here."""
    field, right, op = _field(match), match["right"], match["op"]
    protocol = match["left"].get("payload", {}).get("protocol") if field else ""
    if protocol in {"tcp", "sctp", "dccp", "icmp", "ip6", "icmpv6"}:
        return False
    if field == "state":
        return _fresh(op, set(_each(right)))
    value: object
    match (protocol, field):
        case ("ip", "saddr"):
            value = packet.source
        case ("ip", "daddr"):
            value = packet.destination
        case ("udp" | "th", "dport"):
            value = packet.port
        case ("ip", "protocol") | (None, "l4proto"):
            value = "udp"
        case (None, "nfproto"):
            value = "ipv4"
        case (None, "iifname" | "iif" | "oifname" | "oif"):
            return op == "!=" if right == "lo" else None
        case _:
            return None
    answers = [_is(value, each) for each in _each(right)]
    hit = True if True in answers else None if None in answers else False
    if op in {"==", "in"}:
        return hit
    return None if op != "!=" or hit is None else not hit


def _fresh(op: str, states: set[object]) -> bool | None:
    if op not in {"==", "in"}:
        return None
    if states >= _FRESH:
        return True
    return None if states & _FRESH else False


def _each(right: Any) -> Iterator[Any]:  # noqa: ANN401 - a value, a set or a list of values
    if isinstance(right, dict) and "set" in right:
        right = right["set"]
    yield from right if isinstance(right, list) else [right]


def _is(value: object, said: Any) -> bool | None:  # noqa: ANN401 - as nft says it
    try:
        if isinstance(said, dict) and "prefix" in said:
            prefix = said["prefix"]
            return value in ip_network(f"{prefix['addr']}/{prefix['len']}", strict=False)
        if isinstance(said, dict) and "range" in said:
            first, last = said["range"]
            if isinstance(value, IPv4Address):
                return IPv4Address(first) <= value <= IPv4Address(last)
            return isinstance(value, int) and int(first) <= value <= int(last)
        if isinstance(value, IPv4Address):
            return value == IPv4Address(said)
        if isinstance(said, type(value)):
            return value == said
    except (ValueError, TypeError):
        pass
    return None
