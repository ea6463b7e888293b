"""What links do to packets, as nftables rules, and what rules read back say of links. Pure.

One table of the bridge family in the LANs' namespace, written as a whole. Each rule carries its
meaning in a comment (``h1 h2: loss 10%``), by which it is found again; there are two of each, one
a way::

    a cable               prerouting  iifname h1               postrouting  oifname h1
    two machines, a LAN   prerouting  iifname h1, ether daddr of h2
    two machines, routed  prerouting  iifname h1, ip daddr of h2
    two LANs              prerouting  ip saddr of one, ip daddr of the other

Be aware: a rate is policed, not shaped: what is too much is dropped, as by a switch with a small
buffer. Between two machines of a LAN broadcasts pass, their answers do not. A delay is no rule but
a qdisc (``cables.delay``).

Source: nft(8), "NUMGEN EXPRESSION", "LIMIT STATEMENT"; the kernel's br_netfilter hooks.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, Final

from meshnet_control.lab.layout import Layout
from meshnet_control.lab.topology import (
    HUNDRED_PERCENT,
    Ends,
    Impairment,
    Links,
    ends,
    impairment,
)

TABLE: Final = "meshnet_lab"
_BURST_S: Final = 0.05
_LEAST_BURST: Final = 128 * 1024
"""Bytes: two of the largest packets that a veth passes in one."""
_WAYS: Final = 2


def ruleset(layout: Layout, links: Links) -> str:
    """The text that makes the table what ``links`` say, whatever it was."""
    replaced = f"add table bridge {TABLE}\ndelete table bridge {TABLE}\n"
    rules = [rule for key, link in links.items() for rule in _rules(layout, key, link)]
    if not rules:
        return replaced
    chains = [
        f"add chain bridge {TABLE} {hook} {{ type filter hook {hook} priority 0; }}\n"
        for hook in ("prerouting", "postrouting")
    ]
    return "".join([replaced, f"add table bridge {TABLE}\n", *chains, *rules])


def links(listing: Mapping[str, Any]) -> dict[Ends, Impairment]:
    """What a table says, as ``nft -j`` lists it; a rule that lost its twin says nothing."""
    rules = (entry["rule"] for entry in listing.get("nftables", []) if "rule" in entry)
    found: dict[Ends, Impairment] = {}
    for comment, times in Counter(rule.get("comment", "") for rule in rules).items():
        names, _, words = comment.partition(": ")
        if times != _WAYS or not words:
            continue
        key = ends(names.split())
        found[key] = joined(found.get(key, Impairment()), impairment(words))
    return found


def joined(one: Impairment, other: Impairment) -> Impairment:
    """One link with what either says; what the second says wins."""
    return Impairment(
        other.loss or one.loss,
        other.rate or one.rate,
        other.delay_ms or one.delay_ms,
        other.down or one.down,
    )


def _rules(layout: Layout, key: Ends, link: Impairment) -> Iterator[str]:
    for part in replace(link, delay_ms=0).parts():
        action = _action(impairment(part))
        for hook, match in _matches(layout, key):
            comment = f'comment "{" ".join(key)}: {part}"'
            yield f"add rule bridge {TABLE} {hook} {match} {action} {comment}\n"


def _matches(layout: Layout, key: Ends) -> list[tuple[str, str]]:
    lans = {lan.name: lan.subnet for lan in layout.lans}
    if len(key) > 1 and all(name in lans for name in key):
        one, other = (lans[name] for name in key)
        return [
            ("prerouting", f"ip saddr {here} ip daddr {there}")
            for here, there in ((one, other), (other, one))
        ]
    if len(key) == 1:
        layout.machine(key[0])
        return [("prerouting", f'iifname "{key[0]}"'), ("postrouting", f'oifname "{key[0]}"')]
    one_machine, other_machine = (layout.machine(name) for name in key)
    same = one_machine.lan == other_machine.lan
    return [
        (
            "prerouting",
            f'iifname "{here.name}" '
            + (f"ether daddr {there.mac}" if same else f"ip daddr {there.address.ip}"),
        )
        for here, there in ((one_machine, other_machine), (other_machine, one_machine))
    ]


def _action(part: Impairment) -> str:
    if part.down:
        return "drop"
    if part.loss:
        return f"numgen random mod {HUNDRED_PERCENT} < {part.loss} drop"
    per_s = max(part.rate // 8, 1)
    burst = max(int(per_s * _BURST_S), _LEAST_BURST)
    return f"limit rate over {per_s} bytes/second burst {burst} bytes drop"
