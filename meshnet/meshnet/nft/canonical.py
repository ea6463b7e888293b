"""One text for one thing: elements, types and hooks as nft means them, however they were written.

The model: nftables has many spellings of one value (``0xa`` and ``10``, ``tcp`` and ``6``,
``02:0:0:0:0:A``), and libnftables gives JSON values back (``{"concat": ["tcp", 80]}``). Both are
brought to the same text here, so that comparing wanted with observed is comparing strings, and the
same text can be put into a transaction. Source: libnftables-json(5), nft(8).

Be aware: service names (``http``) stay as written, as resolving them reads a file; write numbers.
Interval keys are compared as written after this; overlapping intervals that the kernel would merge
are not merged here.
"""

from __future__ import annotations

from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address
from typing import Any, cast

from meshnet.patterns import Pattern

Json = Any
"""A value that ``json.loads`` made of libnftables' output."""

PROTOCOLS = {1: "icmp", 6: "tcp", 17: "udp", 47: "gre", 50: "esp", 58: "icmpv6", 132: "sctp"}
"""Protocol numbers that nft has names for, the ones that can matter to us (IANA)."""
PRIORITIES = {
    "raw": -300,
    "mangle": -150,
    "dstnat": -100,
    "filter": 0,
    "security": 50,
    "srcnat": 100,
}
"""Names of chain priorities in the families ip, ip6, inet and netdev (nft(8), table 6)."""

_NO_BRACES = str.maketrans('{},"', "    ")
_HOOK = Pattern(
    r"type\s+(?P<type>\w+)\s+hook\s+(?P<hook>\w+)\s+"
    r"(?:devices?\s*=?\s*(?P<devices>\{[^}]*\}|\"?[^\s\"]+\"?)\s+)?"
    r"priority\s+(?P<name>[a-z]+)?\s*(?P<offset>[+-]?\s*\d+)?\s*;?"
    r"(?:\s*policy\s+(?P<policy>\w+)\s*;?)?\s*",
    longest=4096,
)
_NUMBER = Pattern("0x[0-9a-fA-F]+|[1-9][0-9]*|0", longest=64)


@lru_cache(maxsize=256)
def type_text(text: str) -> str:
    """Nft's own spacing of a type: ``inet_proto . inet_service : verdict``."""
    return " : ".join(" . ".join(_parts(side)) for side in text.split(":"))


def element(type_: str, key: str, value: str = "") -> tuple[str, str]:
    """Canonical key and value ("" in a plain set) of an element written in nft's syntax.

    Raises:
        ValueError: The text is no element of this type.
    """
    key_type, _, value_type = type_text(type_).partition(" : ")
    return _joined(key_type, key), _joined(value_type, value) if value_type else ""


def json_type(described: Json) -> str:
    """The type of a set or map in a listing: ``{"type": ["ipv4_addr"], "map": "verdict"}``.

    What was declared by ``typeof`` is listed by its type, from nftables 1.1.2 on by its expression.
    """
    sides = [described["type"], *([described["map"]] if "map" in described else [])]
    texts = [" . ".join(side) if isinstance(side, list) else _type(side) for side in sides]
    return type_text(" : ".join(texts))


def _type(side: Json) -> str:
    match side:
        case {"typeof": {"numgen": _}}:
            return "integer"
        case {"typeof": {"payload": {"protocol": "ip", "field": "daddr"}}}:
            return "ipv4_addr"
        case {"typeof": {"payload": {"protocol": "ip6", "field": "daddr"}}}:
            return "ipv6_addr"
        case {"typeof": {"meta": {"key": "priority"}}}:
            return "classid"
        case _:
            return str(side)


def json_element(type_: str, item: Json) -> tuple[str, str]:
    """Canonical key and value of one entry of ``elem`` in a listing; counters are ignored.

    ``type_`` is as given by ``json_type``.
    """
    key_type, _, value_type = type_.partition(" : ")
    if not value_type:
        return _of_json(key_type, item), ""
    key, value = item
    return _of_json(key_type, key), _of_json(value_type, value)


@lru_cache(maxsize=256)
def hook(text: str | None) -> str:
    """Facts of a base chain in one text, ``nat output -100 accept``; "" for None.

    Raises:
        ValueError: The text is not what stands in a base chain's braces.
    """
    if text is None:
        return ""
    found = _HOOK.match(text.strip())
    if found is None or not (found["name"] or found["offset"]):
        raise ValueError(f"not a hook: {text!r}")
    priority = PRIORITIES[found["name"]] if found["name"] else 0
    priority += int((found["offset"] or "0").replace(" ", ""))
    devices = found["devices"].translate(_NO_BRACES).split()
    return _hook_facts(found["type"], found["hook"], priority, found["policy"], devices)


def json_hook(described: Json) -> str:
    """The same text for a chain of a listing; "" when it is no base chain."""
    if "hook" not in described:
        return ""
    device = described.get("dev", [])
    devices = device if isinstance(device, list) else [device]
    priority, policy = int(described["prio"]), described.get("policy")
    return _hook_facts(described["type"], described["hook"], priority, policy, devices)


def turns(listing: Json) -> frozenset[str]:
    """Addresses that rules of a listing (``table``'s JSON) choose from, by turns or by client.

    Those are the backends; what ``dnat`` sends to one address is no business of a choice.
    """
    found: set[str] = set()
    maps = (entry["map"] for entry in listing if "map" in entry)
    named = {made["name"]: made.get("elem", ()) for made in maps}
    for entry in listing:
        for statement in entry.get("rule", {}).get("expr", ()):
            to = (statement.get("dnat") or {}).get("addr") if isinstance(statement, dict) else None
            choice = to.get("map", {}) if isinstance(to, dict) else {}
            if not choice:
                continue
            data = choice["data"]
            slots = named.get(data[1:], ()) if isinstance(data, str) else data["set"]
            for _, value in slots:
                found.add(str(value["concat"][0] if isinstance(value, dict) else value))
    return frozenset(found)


def _hook_facts(
    type_: str, hook_: str, priority: int, policy: str | None, devices: list[str]
) -> str:
    return " ".join((type_, hook_, str(priority), policy or "accept", *sorted(devices)))


def _parts(concatenated: str) -> list[str]:
    spaced = " ".join(concatenated.split())
    return [part.strip() for part in f" {spaced} ".split(" . ")]


def _joined(type_: str, text: str) -> str:
    types, parts = type_.split(" . "), _parts(text)
    if len(types) != len(parts):
        raise ValueError(f"not a {type_}: {text!r}")
    return " . ".join(_atom(kind, part) for kind, part in zip(types, parts, strict=True))


def _of_json(type_: str, value: Json) -> str:
    if isinstance(value, dict):
        if "elem" in value:
            return _of_json(type_, value["elem"]["val"])
        if "concat" in value:
            types = type_.split(" . ")
            return " . ".join(map(_of_json, types, cast("list[Json]", value["concat"])))
        if "prefix" in value:
            return _atom(type_, f"{value['prefix']['addr']}/{value['prefix']['len']}")
        if "range" in value:
            first, last = value["range"]
            return f"{_of_json(type_, first)}-{_of_json(type_, last)}"
        ((name, body),) = value.items()
        return f"{name} {body['target']}" if body else str(name)
    return _atom(type_, str(value))


def _atom(kind: str, text: str) -> str:  # noqa: PLR0911 - one line for each type of nft
    if kind != "verdict" and "-" in text and kind != "ifname":
        return "-".join(_atom(kind, end.strip()) for end in text.split("-", 1))
    match kind:
        case "ipv4_addr" if "/" in text:
            network = IPv4Network(text)
            return (
                str(network.network_address)
                if network.prefixlen == network.max_prefixlen
                else (str(network))
            )
        case "ipv4_addr":
            return str(IPv4Address(text))
        case "ipv6_addr":
            return str(IPv6Address(text))
        case "ether_addr":
            return ":".join(f"{int(byte, 16):02x}" for byte in text.split(":"))
        case "mark":
            return f"{int(text, 0):#010x}"
        case "inet_proto":
            return PROTOCOLS.get(int(text), text) if text.isdigit() else text.lower()
        case "ifname":
            return '"{}"'.format(text.strip('"'))
        case "verdict":
            return " ".join(text.split())
        case _:
            return str(int(text, 0)) if _NUMBER.fits(text) else text
