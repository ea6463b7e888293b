"""The table in the host's network namespace: published ports and the way out of containers. Pure.

The model: a connection to any address of this node on a published port is translated to a ready
task of the service, wherever it runs, and leaves through ``mn-ingress``, the node's foot in the
ingress network; ``meshnet_lb.policies`` says to which task. Its source stays: the task sees the
client, and finds the way back by the MAC of ``mn-ingress`` (``meshnet_lb.sandbox``). Only sources
that the task could not answer to are replaced by the address of ``mn-ingress``: this host's own
addresses, 127.0.0.1 among them, and its containers' addresses on docker_gwbridge, which every host
has alike. A port published with ``mode=host`` is translated to the task's address on
docker_gwbridge, on the task's node alone.

A port that a process of this host waited at before it was published stays that process's on this
host (``Snapshot.taken``): a manager, a service of the host, sshd.
A port without a ready task is refused before the host's own firewall can drop it silently, once the
Snapshot is complete: until then a task may be ready that we do not know of. The packets of the
VXLAN overlays themselves are not tracked, and taken from the cluster's nodes alone.

On a dual stack ingress network ``table ip6 meshnet`` is there, too, of the same make: the mesh of
IPv6. VXLAN goes by IPv4, and so do docker_gwbridge and ``mode=host``.

Be aware: localhost works only with ``route_localnet`` set, of IPv6 with a route (``overlay``);
forwarding needs ``ip_forward``, and no other table may drop in forward (the Engine sets its own
FORWARD policy to DROP when it was it that turned forwarding on). A drop elsewhere cannot be
overruled from here. Nothing forwards what comes from a link-local address of IPv6, so who asks at
one is refused by the host itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from meshnet.model.esp import port_of
from meshnet.model.ids import ServiceId
from meshnet.model.mesh import INGRESS_LINK
from meshnet.model.snapshot import Gwbridge, Port, Service, Snapshot
from meshnet.nft.objects import Chain, Ruleset, Set
from meshnet_lb.choice import Choice
from meshnet_lb.dialect import IPV4, Dialect
from meshnet_lb.published import Backends, PublishedPorts, Rule, Terms, rule
from meshnet_lb.service import refuse

VTEPS = "vteps"
"""The set of the other nodes' VTEPs; each element counts what came from there."""
_VNI = "@th,96,24"
"""Bits of the transport header: 8 bytes of UDP and 4 of VXLAN stand before the VNI."""


class HostTable:
    """What the host's table ``meshnet`` of one family holds, Snapshot after Snapshot."""

    def __init__(self, dialect: Dialect = IPV4) -> None:
        self._dialect = dialect
        self._ports = PublishedPorts()
        self._vteps: tuple[object, Set] = (None, Set(VTEPS, "ipv4_addr", counts=True))

    def ruleset(
        self,
        snapshot: Snapshot,
        services: Mapping[ServiceId, Service],
        backends: Backends,
        choices: Mapping[ServiceId, Choice] = MappingProxyType({}),
    ) -> Ruleset:
        """The table of this Snapshot.

        Args:
            snapshot: of this moment.
            services: those with published ports.
            backends: who is on the ingress network.
            choices: how backends are chosen, of services that do not take strict turns.
        """
        dialect, ports, first = self._dialect, self._ports, self._dialect is IPV4
        itself = snapshot.nodes.get(snapshot.self_id)
        connected = itself is not None and dialect.gateway(itself) is not None
        terms = Terms(connected, snapshot.complete, dialect.taken(snapshot))
        ports.follow(services, backends, _host_mode(snapshot) if first else {}, terms, choices)
        to_ports = f"{dialect.local} meta l4proto . th dport vmap @ports"
        bridge = snapshot.gwbridge if first else None
        chains = (
            Chain("prerouting", (to_ports,), "type nat hook prerouting priority -100;"),
            Chain("output", (to_ports,), "type nat hook output priority -100;"),
            Chain("postrouting", _masquerading(bridge), "type nat hook postrouting priority 100;"),
            *(_raw(snapshot) if first else ()),
            refuse(dialect),
            *ports.chains(),
        )
        gateways = _host_mode_targets(snapshot) if first else None
        led_to = ports.led_to | gateways if gateways else ports.led_to
        there = backends.there | gateways if gateways else backends.there
        avoided = frozenset(str(each) for some in backends.doubted.values() for each in some)
        sets = (ports.ports, *((self._of(snapshot),) if first else ()), *ports.sets())
        return Ruleset(dialect.table, "meshnet", chains, sets, led_to, there, avoided)

    def _of(self, snapshot: Snapshot) -> Set:
        """The other hosts' VTEPs."""
        nodes, had = self._vteps
        if nodes is not snapshot.nodes:
            others = dict.fromkeys(_other_vteps(snapshot), "")
            made = Set(VTEPS, "ipv4_addr", others, counts=True)
            self._vteps = (snapshot.nodes, had if had == made else made)
        return self._vteps[1]


def _host_mode_targets(snapshot: Snapshot) -> frozenset[str]:
    """Addresses on docker_gwbridge that ports of ``mode=host`` lead to."""
    return frozenset(
        str(sandbox.gateway_address.ip)
        for sandbox in snapshot.sandboxes.values()
        if sandbox.gateway_address and any(port.mode == "host" for port in sandbox.ports)
    )


def _host_mode(snapshot: Snapshot) -> Mapping[Port, Rule]:
    """Ports that tasks on this node publish here alone; of two tasks the later id wins."""
    rules: dict[Port, Rule] = {}
    for sandbox in sorted(snapshot.sandboxes.values(), key=lambda sandbox: sandbox.task):
        for port in sandbox.ports:
            key: Port = (port.protocol, port.published)
            if port.mode == "host" and sandbox.gateway_address and key not in snapshot.taken:
                to = sandbox.gateway_address.ip
                text = f"meta l4proto {port.protocol} dnat to {to}:{port.target}"
                rules[key] = rule(key, (text,), frozenset([str(to)]))
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


def _raw(snapshot: Snapshot) -> tuple[Chain, ...]:
    """Before conntrack: of IPv4 alone."""
    vxlan_in, vxlan_out = _vxlan(snapshot)
    return (
        Chain(
            "raw_in",
            (*vxlan_in, *_guarding(snapshot.gwbridge)),
            "type filter hook prerouting priority -300;",
        ),
        Chain("raw_out", vxlan_out, "type filter hook output priority -300;"),
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
    clear = sorted(each.vni for each in snapshot.networks.values() if not each.encrypted)
    strangers = f"{received} {_VNI} {{ {', '.join(map(str, clear))} }} counter drop"
    esp_in, esp_out = _encrypted(snapshot, str(itself.vtep))
    return (
        (
            *esp_in,
            f"{received} ip saddr @{VTEPS} notrack accept",
            *((strangers,) if clear and snapshot.complete else ()),
            f"{received} notrack accept",
        ),
        (*esp_out, f"ip saddr {itself.vtep} udp dport {snapshot.vxlan_port} notrack accept"),
    )


def _encrypted(snapshot: Snapshot, vtep: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The same for encrypted overlays, while there are any.

    What makes the kernel encrypt are policies of XFRM (``meshnet.overlay.esp``); what did not come
    out of ESP, or is not to leave in it, is dropped here though somebody took them away.
    """
    if not any(network.encrypted for network in snapshot.networks.values()):
        return (), ()
    port = f"udp dport {port_of(snapshot.vxlan_port)}"
    return (
        (
            f"ip daddr {vtep} {port} meta ipsec missing counter drop",
            f"ip daddr {vtep} {port} ip saddr @{VTEPS} notrack accept",
            f"ip daddr {vtep} {port} notrack accept",
        ),
        (
            f"ip saddr {vtep} {port} rt ipsec missing counter drop",
            f"ip saddr {vtep} {port} notrack accept",
        ),
    )


def _other_vteps(snapshot: Snapshot) -> list[str]:
    others = (node.vtep for id_, node in snapshot.nodes.items() if id_ != snapshot.self_id)
    return [str(vtep) for vtep in sorted(set(others))]
