"""The table in the host's network namespace: published ports and the way out of containers. Pure.

The model: a connection to any address of this node on a published port is translated to a ready
task of the service, wherever it runs, and leaves through ``mn-ingress``, the node's foot in the
ingress network. Its source stays: the task sees the client, and finds the way back by the MAC of
``mn-ingress`` (``meshnet_lb.sandbox``). Only sources that the task could not answer to are replaced
by the address of ``mn-ingress``: this host's own addresses, 127.0.0.1 among them, and its
containers' addresses on docker_gwbridge, which every host has alike. A port published with
``mode=host`` is translated to the task's address on docker_gwbridge, on the task's node alone.

A port that a process of this host waited at before it was published stays that process's on this
host (``Snapshot.taken``): a manager, a service of the host, sshd.
A port without a ready task is refused before the host's own firewall can drop it silently, once the
Snapshot is complete: until then a task may be ready that we do not know of. The packets of the
VXLAN overlays themselves are not tracked, and taken from the cluster's nodes alone.

Be aware: to a port without tasks a datagram of this host itself fails with EPERM, as in a container
(``meshnet_lb.sandbox``). Localhost works only with ``route_localnet`` set; forwarding needs
``ip_forward``, and no other table may drop in forward (the Engine sets its own FORWARD policy to
DROP when it was it that turned forwarding on). A drop elsewhere cannot be overruled from here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from ipaddress import IPv4Address
from typing import NamedTuple, TypeAlias

from meshnet.model.ids import ServiceId
from meshnet.model.mesh import INGRESS_LINK
from meshnet.model.snapshot import Gwbridge, Port, PublishedPort, Snapshot
from meshnet.nft.objects import Chain, Ruleset, Set
from meshnet_lb.service import REFUSE, TO_REFUSE, Backends, round_robin

_VNI = "@th,96,24"
"""Bits of the transport header: 8 bytes of UDP and 4 of VXLAN stand before the VNI."""
_TO_PORTS = "fib daddr type local meta l4proto . th dport vmap @ports"


class _Rule(NamedTuple):
    """What translates connections to one port."""

    chain: Chain
    to: frozenset[str]


def _rule(port: Port, text: str, to: Iterable[str]) -> _Rule:
    return _Rule(Chain(_chain_name(port), (text,)), frozenset(to))


_Rules: TypeAlias = dict[tuple[Port, int], tuple[tuple[IPv4Address, ...], _Rule]]
_Texts: TypeAlias = dict[ServiceId, tuple[tuple[IPv4Address, ...], frozenset[str]]]


class Rendered:
    """What leads to published ports, as it was last rendered: a backend costs its service's ports.

    Whatever came before, what is asked for is the same; for the same objects it is the same object.
    """

    def __init__(self) -> None:
        self._rules: _Rules = {}
        self._texts: _Texts = {}
        self._had: tuple[_Rules, _Texts] = {}, {}

    def begin(self) -> None:
        """Another table is made: what was not asked for while the last one was is forgotten."""
        self._had = self._rules, self._texts
        self._rules, self._texts = {}, {}

    def rule(self, port: PublishedPort, backends: tuple[IPv4Address, ...]) -> _Rule:
        """What leads a port to these backends."""
        key: Port = (port.protocol, port.published)
        had = self._had[0].get((key, port.target))
        if had is None or had[0] is not backends:
            to = round_robin([f"{address} . {port.target}" for address in backends])
            rule = _rule(key, f"meta l4proto {port.protocol} {to}", map(str, backends))
            had = (backends, rule)
        self._rules[key, port.target] = had
        return had[1]

    def texts(self, service: ServiceId, backends: tuple[IPv4Address, ...]) -> frozenset[str]:
        """These backends of a service as nft writes them."""
        had = self._had[1].get(service)
        if had is None or had[0] is not backends:
            had = (backends, frozenset(map(str, backends)))
        self._texts[service] = had
        return had[1]


def ruleset(
    snapshot: Snapshot,
    ready: Backends,
    there: frozenset[str] = frozenset(),
    rendered: Rendered | None = None,
) -> Ruleset:
    """What the host's ``table ip meshnet`` holds.

    Args:
        snapshot: of this moment.
        ready: the backends on the ingress network.
        there: addresses of all endpoints on it that may still answer.
        rendered: what the last one was made of.
    """
    rendered = rendered or Rendered()
    rendered.begin()
    rules, closed = _published(snapshot, ready, rendered)
    ports = {_key(port): f"goto {_chain_name(port)}" for port in sorted(rules)}
    ports |= {_key(port): TO_REFUSE for port in sorted(closed)}
    vxlan_in, vxlan_out = _vxlan(snapshot)
    chains = (
        Chain("prerouting", (_TO_PORTS,), "type nat hook prerouting priority -100;"),
        Chain("output", (_TO_PORTS,), "type nat hook output priority -100;"),
        Chain(
            "postrouting",
            _masquerading(snapshot.gwbridge),
            "type nat hook postrouting priority 100;",
        ),
        Chain(
            "raw_in",
            (*vxlan_in, *_guarding(snapshot.gwbridge)),
            "type filter hook prerouting priority -300;",
        ),
        Chain("raw_out", vxlan_out, "type filter hook output priority -300;"),
        REFUSE,
        *(rules[port].chain for port in sorted(rules)),
    )
    sets = (
        Set(
            "ports",
            "inet_proto . inet_service : verdict",
            dict(sorted(ports.items())),
            leads={_key(port): rule.to for port, rule in rules.items() if port[0] == "udp"}
            | {_key(port): frozenset() for port in closed if port[0] == "udp"},
        ),
        Set("vteps", "ipv4_addr", dict.fromkeys(_other_vteps(snapshot), "")),
    )
    led_to, gateways = _led_to(snapshot, ready, rendered), _host_mode_targets(snapshot)
    return Ruleset("ip", "meshnet", chains, sets, led_to | gateways, there | gateways)


def _published(
    snapshot: Snapshot, ready: Backends, rendered: Rendered
) -> tuple[Mapping[Port, _Rule], frozenset[Port]]:
    """The rule of each port that somebody answers, and the ports that nobody answers."""
    rules = dict(_host_mode(snapshot))
    closed: set[Port] = set()
    ingress = snapshot.ingress
    if ingress is None:
        return rules, frozenset()
    itself = snapshot.nodes.get(snapshot.self_id)
    connected = itself is not None and itself.ingress_address is not None
    for service in sorted(snapshot.services.values(), key=lambda service: service.id):
        backends = ready.get((service.id, ingress.id), ()) if connected else ()
        for port in service.ports:
            key: Port = (port.protocol, port.published)
            if port.mode != "ingress" or key in snapshot.taken:
                continue
            if backends:
                rules[key] = rendered.rule(port, backends)
            elif snapshot.complete:
                closed.add(key)
    return rules, frozenset(closed - rules.keys())


def _led_to(snapshot: Snapshot, ready: Backends, rendered: Rendered) -> frozenset[str]:
    """Every address that a port published in the mesh leads to."""
    ingress = snapshot.ingress
    if ingress is None:
        return frozenset()
    led = (
        rendered.texts(service.id, ready.get((service.id, ingress.id), ()))
        for service in snapshot.services.values()
        if any(port.mode == "ingress" for port in service.ports)
    )
    return frozenset[str]().union(*led)


def _host_mode_targets(snapshot: Snapshot) -> frozenset[str]:
    """Addresses on docker_gwbridge that ports of ``mode=host`` lead to."""
    return frozenset(
        str(sandbox.gateway_address.ip)
        for sandbox in snapshot.sandboxes.values()
        if sandbox.gateway_address and any(port.mode == "host" for port in sandbox.ports)
    )


def _host_mode(snapshot: Snapshot) -> Mapping[Port, _Rule]:
    """Ports that tasks on this node publish here alone; of two tasks the later id wins."""
    rules: dict[Port, _Rule] = {}
    for sandbox in sorted(snapshot.sandboxes.values(), key=lambda sandbox: sandbox.task):
        for port in sandbox.ports:
            key: Port = (port.protocol, port.published)
            if port.mode == "host" and sandbox.gateway_address and key not in snapshot.taken:
                to = sandbox.gateway_address.ip
                text = f"meta l4proto {port.protocol} dnat to {to}:{port.target}"
                rules[key] = _rule(key, text, [str(to)])
    return rules


def _masquerading(gwbridge: Gwbridge | None) -> tuple[str, ...]:
    own = f'oifname "{INGRESS_LINK}" fib saddr type local masquerade'
    if gwbridge is None:
        return (own,)
    return (
        own,
        f'ip saddr {gwbridge.subnet} oifname != "{gwbridge.name}" masquerade',
        # A task asks its own node for a port of mode=host: without this the answer would go
        # straight from task to task on the bridge and be nobody's.
        f'oifname "{gwbridge.name}" ct status dnat ip saddr {gwbridge.subnet} masquerade',
        f'oifname "{gwbridge.name}" ct status dnat fib saddr type local masquerade',
    )


def _guarding(gwbridge: Gwbridge | None) -> tuple[str, ...]:
    """``route_localnet`` must not open what listens on 127.0.0.1 to containers.

    Answers to 127.0.0.1 pass: on the wire they still go to the address of the interface.
    """
    bridge = f', "{gwbridge.name}"' if gwbridge is not None else ""
    return (f'ip daddr 127.0.0.0/8 iifname {{ "{INGRESS_LINK}"{bridge} }} drop',)


def _vxlan(snapshot: Snapshot) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """For VXLAN packets that this node's VTEP receives, and for those that it sends.

    The kernel takes a packet of a network from anybody. We take it from the VTEPs of the cluster's
    nodes alone, once the Snapshot is complete and all are known; what other VXLANs of this host,
    which have other VNIs, receive is theirs.

    None of them is tracked: their source port is a hash of the inner flow (RFC 7348 section 5), so
    that tells nothing, and it costs 6 % of the throughput between hosts.
    """
    itself = snapshot.nodes.get(snapshot.self_id)
    if itself is None:
        return (), ()
    received = f"ip daddr {itself.vtep} udp dport {snapshot.vxlan_port}"
    vnis = ", ".join(map(str, sorted(network.vni for network in snapshot.networks.values())))
    strangers = f"{received} {_VNI} {{ {vnis} }} counter drop"
    return (
        (
            f"{received} ip saddr @vteps notrack accept",
            *((strangers,) if vnis and snapshot.complete else ()),
            f"{received} notrack accept",
        ),
        (f"ip saddr {itself.vtep} udp dport {snapshot.vxlan_port} notrack accept",),
    )


def _other_vteps(snapshot: Snapshot) -> list[str]:
    others = (node.vtep for id_, node in snapshot.nodes.items() if id_ != snapshot.self_id)
    return [str(vtep) for vtep in sorted(set(others))]


def _key(port: Port) -> str:
    return f"{port[0]} . {port[1]}"


def _chain_name(port: Port) -> str:
    return f"port-{port[0]}-{port[1]}"
