"""What is in a host's way, or will soon be: facts of hosts in, findings out. Pure.

Each check is a function of one host's facts and the time; ``compared`` looks at several hosts'
together. What a check does not know it says nothing of.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal

from meshnet_control.api import explain_pb2 as xpb

Level = Literal["warning", "error"]
"""Will be in the way or may be; is in the way now."""

FULL: Final = 0.8
"""What part of a room is taken when it is worth a word."""
CLOCK_S: Final = 2.0
"""How far two clocks may differ; asking takes up to a second or two of it."""
_DAY_S: Final = 86400.0
_SOON_S: Final = 2 * _DAY_S
"""A certificate is renewed when a fifth of its life is left at the latest; that is 18 days."""
WANTED: Final = {
    "ipv4/ip_forward": (
        "1",
        "published ports and containers' way out need it: sysctl -w net.ipv4.ip_forward=1",
    ),
    "ipv4/conf/all/rp_filter": (
        "0 2",
        "strict reverse path filtering drops what comes in through the mesh: "
        "sysctl -w net.ipv4.conf.all.rp_filter=2",
    ),
}
"""Key -> values that are fine, and what to do about others."""
MODULES: Final = {
    "bridge": "overlays need it",
    "veth": "containers on overlays need it",
    "vxlan": "overlays need it",
    "nf_tables": "virtual IPs, published ports and the way out need it",
    "nf_conntrack": "virtual IPs and published ports need it",
    "sctp": "ports of SCTP are not kept for services",
    "esp4": "networks made with --opt encrypted need it",
}
"""Modules, or what is built in under their names, that meshnet uses -> for what."""
OPTIONAL: Final = frozenset({"sctp", "esp4"})
"""Not every cluster uses them."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong.

    Attributes:
        host: where.
        what: a sentence.
        mend: what to do; a command where there is one.
        since: unix seconds; 0: unknown.
        at_least: it was there then, and may have been before.
        about: what of it is the same from look to look; empty: ``what``.
    """

    level: Level
    host: str
    what: str
    mend: str
    since: float = 0.0
    at_least: bool = False
    about: str = ""

    @property
    def subject(self) -> str:
        """By which it is known again."""
        return self.about or self.what


Check = Callable[[xpb.HostFacts, float], Iterator[Finding]]


def examined(facts: Sequence[xpb.HostFacts], began: float, now: float) -> list[Finding]:
    """Everything that is found, errors first, by host.

    Args:
        facts: of each host that was asked.
        began: unix seconds, when they were asked.
        now: when the answers were there.
    """
    found = [
        _dated(finding, host.first_seen.get(finding.subject, host.clock), host.clock)
        for host in facts
        for check in CHECKS
        for finding in check(host, now)
    ]
    found += compared(facts, began, now)
    return sorted(found, key=lambda each: (each.level != "error", each.host, each.what))


def seen(facts: xpb.HostFacts, before: Mapping[str, float], now: float) -> dict[str, float]:
    """What is found of a host -> when it was found first, without a look since that did not."""
    found = (finding.subject for check in CHECKS for finding in check(facts, now))
    return {subject: before.get(subject, now) for subject in found}


def _dated(finding: Finding, first: float, looked: float) -> Finding:
    """With the time of an earlier look that found it, where nothing knows better."""
    if finding.since or first >= looked:
        return finding
    return replace(finding, since=first, at_least=True)


def status(findings: Sequence[Finding]) -> int:
    """For scripts: 0 nothing, 1 warnings, 2 errors."""
    return max(({"warning": 1, "error": 2}[each.level] for each in findings), default=0)


def reaches(facts: xpb.HostFacts, _: float) -> Iterator[Finding]:
    """Ports of other hosts, and packets that must not be cut."""
    for reach in facts.reaches:
        if not reach.why:
            continue
        way = f"{reach.host} ({reach.address})"
        if reach.what.endswith("bytes"):
            yield Finding(
                "error",
                facts.hostname,
                f"no packet of {reach.what} comes to {way} uncut: {reach.why}",
                "a smaller MTU on the way: docker network create "
                "--opt com.docker.network.driver.mtu=N, or a larger one of the link between",
                about=f"{reach.what} to {way}",
            )
        else:
            yield Finding(
                "error",
                facts.hostname,
                f"{reach.what} of {way} is not reached: {reach.why}",
                f"is meshnet up on {reach.host}, and do firewalls between let it through "
                "(docs/firewalls.md)?",
                about=f"{reach.what} to {way}",
            )


def narrow(facts: xpb.HostFacts, _: float) -> Iterator[Finding]:
    """Ways that meshnet has found to be narrow, and bears."""
    for sentence in facts.narrow:
        yield Finding(
            "warning",
            facts.hostname,
            f"{sentence}: overlays on both have a smaller MTU",
            "nothing, or a larger MTU of the link between",
        )


def sysctls(facts: xpb.HostFacts, _: float) -> Iterator[Finding]:
    """Settings that others may have changed."""
    for key, (fine, why) in WANTED.items():
        value = facts.sysctls.get(key, "")
        if value and value not in fine.split():
            what = f"net.{key.replace('/', '.')} is {value}"
            yield Finding("error", facts.hostname, what, why, about=key)


def droppers(facts: xpb.HostFacts, _: float) -> Iterator[Finding]:
    """Firewalls of others: a drop elsewhere cannot be overruled by our rules."""
    for dropper in facts.droppers:
        chain, colon, port = dropper.partition(": ")
        what = f"has a rule that drops {port}" if colon else "drops what it does not accept"
        yield Finding(
            "warning",
            facts.hostname,
            f"nftables chain {chain} is not ours and {what}",
            f"if ports or containers do not answer: nft list chain {chain}; accept there what "
            "docs/firewalls.md lists",
        )


def routes(facts: xpb.HostFacts, _: float) -> Iterator[Finding]:
    """Networks that overlap what the host reaches otherwise."""
    for said in facts.routes_in_way:
        yield Finding(
            "error",
            facts.hostname,
            f"{said}: containers do not reach what is behind it, or the host does not",
            "make the network anew with another --subnet",
        )


def leftovers(facts: xpb.HostFacts, _: float) -> Iterator[Finding]:
    """What an earlier life left."""
    for name in facts.leftovers:
        yield Finding(
            "warning",
            facts.hostname,
            f"namespace {name} is of no network of this cluster",
            f"ip netns delete {name}",
            facts.since.get(name, 0.0),
        )


def certificate(facts: xpb.HostFacts, now: float) -> Iterator[Finding]:
    """That it is renewed in time."""
    ends = facts.certificate_ends
    if ends and ends < now + _SOON_S:
        left = (ends - now) / _DAY_S
        level: Level = "warning" if left > 0 else "error"
        words = f"ends in {left:.1f} days" if left > 0 else f"ended {-left:.1f} days ago"
        yield Finding(
            level,
            facts.hostname,
            f"the node's certificate {words}, and was not renewed",
            "is a manager reached (above)? docker swarm leave --force, then join, is the last way",
            ends if left <= 0 else 0.0,
            about="certificate",
        )


def rooms(facts: xpb.HostFacts, _: float) -> Iterator[Finding]:
    """Everything finite that is nearly taken."""
    for room in facts.rooms:
        if room.most and room.used >= FULL * room.most:
            level: Level = "error" if room.used >= room.most else "warning"
            yield Finding(
                level,
                facts.hostname,
                f"{room.used} of {room.most} {room.what} are taken",
                next((do for word, do in _ROOM.items() if word in room.what), "make room"),
                about=room.what,
            )


def loops(facts: xpb.HostFacts, _: float) -> Iterator[Finding]:
    """Reconcilers whose last round failed."""
    for loop in facts.reconcilers:
        if loop.error:
            yield Finding(
                "error",
                facts.hostname,
                f"{loop.name}: {loop.error}",
                f"it is tried again; meshnet events on {facts.hostname} shows since when",
                about=f"reconciler {loop.name}",
            )


def troubles(facts: xpb.HostFacts, _: float) -> Iterator[Finding]:
    """What the node itself says that it cannot do."""
    for sentence in facts.troubles:
        yield Finding("error", facts.hostname, sentence, f"the log of meshnetd on {facts.hostname}")


def members(facts: xpb.HostFacts, _: float) -> Iterator[Finding]:
    """Who does not answer."""
    for member in facts.members:
        if member.state != "alive":
            name = member.hostname or member.node_id
            yield Finding(
                "error",
                facts.hostname,
                f"{name} is {member.state}",
                f"meshnet status on {name}: is it up, is there a way (docs/firewalls.md)?",
            )


def kernel(facts: xpb.HostFacts, _: float) -> Iterator[Finding]:
    """What the kernel is not able to do."""
    for module in facts.lacks:
        needed = MODULES.get(module, "")
        yield Finding(
            "warning" if module in OPTIONAL else "error",
            facts.hostname,
            f"the kernel has no {module}: {needed}",
            "a kernel that has it, or its package of further modules (Ubuntu: "
            "linux-modules-extra-$(uname -r))",
        )


CHECKS: Final[tuple[Check, ...]] = (
    reaches,
    narrow,
    sysctls,
    droppers,
    routes,
    leftovers,
    certificate,
    rooms,
    loops,
    troubles,
    members,
    kernel,
)


def compared(facts: Sequence[xpb.HostFacts], began: float, now: float) -> Iterator[Finding]:
    """What several hosts say differently; their clocks were read between ``began`` and ``now``."""
    for host in facts:
        off = min(0.0, host.clock - began) + max(0.0, host.clock - now)
        if host.clock and abs(off) > CLOCK_S:
            yield Finding(
                "error",
                host.hostname,
                f"its clock is {off:+.0f} s from that of this host",
                "synchronise clocks: systemctl enable --now systemd-timesyncd (or chrony)",
            )
    versions: defaultdict[str, list[str]] = defaultdict(list)
    for host in facts:
        versions[host.version].append(host.hostname)
    newest = max(versions, default="", key=_numbers)
    for version, hosts in sorted(versions.items()):
        if version != newest:
            for name in hosts:
                yield Finding(
                    "warning",
                    name,
                    f"it runs meshnet {version}, others {newest}",
                    "install the newer version there, then meshnet restart",
                )
    yield from _views(facts)


def _views(facts: Sequence[xpb.HostFacts]) -> Iterator[Finding]:
    """Members that one host knows as alive and another does not know at all."""
    said: defaultdict[str, dict[str, str]] = defaultdict(dict)
    names: dict[str, str] = {}
    for host in facts:
        for member in host.members:
            said[member.node_id][host.hostname] = member.state
            names[member.node_id] = member.hostname or member.node_id
    everybody = {host.hostname for host in facts if host.members}
    for node_id, states in sorted(said.items()):
        unknown = sorted(everybody - states.keys())
        if "alive" in states.values() and unknown:
            knows = next(host for host, state in sorted(states.items()) if state == "alive")
            yield Finding(
                "warning",
                unknown[0],
                f"it does not know {names[node_id]}, which {knows} knows as alive",
                "7946/udp and 7946/tcp between them (docs/firewalls.md); it passes by itself",
            )


_ROOM: Final = {
    "bytes": "free space: docker system prune, or a larger disk",
    "files": "free inodes: docker system prune, or a larger disk",
    "descriptors": "raise LimitNOFILE of meshnetd (systemctl edit meshnetd)",
    "tracked": "sysctl -w net.netfilter.nf_conntrack_max=N, twice what it is",
    "neighbours": "sysctl -w net.ipv4.neigh.default.gc_thresh3=N, twice what it is",
    "addresses": "a network with a larger --subnet, and docker service update --network-add",
}


def _numbers(version: str) -> list[tuple[int, str]]:
    return [(int(part) if part.isdigit() else -1, part) for part in version.split(".")]
