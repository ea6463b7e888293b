"""The table in the host's network namespace: published ports and the way out of containers. Pure.

The model: a connection to any address of this node on a published port is translated to a ready
task of the service, wherever it runs, and leaves through ``mn-ingress``, the node's foot in the
ingress network. Its source stays: the task sees the client, and finds the way back by the MAC of
``mn-ingress`` (``meshnet_lb.sandbox``). Only sources that the task could not answer to are replaced
by the address of ``mn-ingress``: this host's own addresses, 127.0.0.1 among them, and its
containers' addresses on docker_gwbridge, which every host has alike. A port published with
``mode=host`` is translated to the task's address on docker_gwbridge, on the task's node alone.

A port without a ready task is refused before the host's own firewall can drop it silently, once the
Snapshot is complete: until then a task may be ready that we do not know of. The packets of the
VXLAN overlays themselves are not tracked, and taken from the cluster's nodes alone.

Be aware: to a port without tasks a datagram of this host itself fails with EPERM, as in a container
(``meshnet_lb.sandbox``). Localhost works only with ``route_localnet`` set; forwarding needs
``ip_forward``, and no other table may drop in forward (the Engine sets its own FORWARD policy to
DROP when it was it that turned forwarding on). A drop elsewhere cannot be overruled from here.
"""

from __future__ import annotations

from collections.abc import Mapping

from meshnet.model.mesh import INGRESS_LINK
from meshnet.model.snapshot import Gwbridge, Protocol, Snapshot
from meshnet.model.wellknown import VXLAN_PORT
from meshnet.nft.objects import Chain, Ruleset, Set
from meshnet_lb.service import REFUSE, TO_REFUSE, Backends, round_robin

Port = tuple[Protocol, int]
"""Protocol and published port."""

_VNI = "@th,96,24"
"""Bits of the transport header: 8 bytes of UDP and 4 of VXLAN stand before the VNI."""
_TO_PORTS = "fib daddr type local meta l4proto . th dport vmap @ports"


def ruleset(snapshot: Snapshot, ready: Backends) -> Ruleset:
    """What the host's ``table ip meshnet`` holds; ``ready`` is ``service.backends(snapshot)``."""
    rules, closed = _published(snapshot, ready)
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
        *(Chain(_chain_name(port), (rules[port],)) for port in sorted(rules)),
    )
    sets = (
        Set("ports", "inet_proto . inet_service : verdict", dict(sorted(ports.items()))),
        Set("vteps", "ipv4_addr", dict.fromkeys(_other_vteps(snapshot), "")),
    )
    return Ruleset("ip", "meshnet", chains, sets, _led_to(snapshot, ready))


def _published(snapshot: Snapshot, ready: Backends) -> tuple[Mapping[Port, str], frozenset[Port]]:
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
            if port.mode != "ingress":
                continue
            if backends:
                to = round_robin([f"{address} . {port.target}" for address in backends])
                rules[key] = f"meta l4proto {port.protocol} {to}"
            elif snapshot.complete:
                closed.add(key)
    return rules, frozenset(closed - rules.keys())


def _led_to(snapshot: Snapshot, ready: Backends) -> frozenset[str]:
    """Every address that a published port leads to."""
    ingress = snapshot.ingress
    found = {
        str(address)
        for service in snapshot.services.values()
        if ingress and any(port.mode == "ingress" for port in service.ports)
        for address in ready.get((service.id, ingress.id), ())
    }
    for sandbox in snapshot.sandboxes.values():
        if sandbox.gateway_address and any(port.mode == "host" for port in sandbox.ports):
            found.add(str(sandbox.gateway_address.ip))
    return frozenset(found)


def _host_mode(snapshot: Snapshot) -> Mapping[Port, str]:
    """Ports that tasks on this node publish here alone; of two tasks the later id wins."""
    rules: dict[Port, str] = {}
    for sandbox in sorted(snapshot.sandboxes.values(), key=lambda sandbox: sandbox.task):
        for port in sandbox.ports:
            if port.mode == "host" and sandbox.gateway_address is not None:
                rules[port.protocol, port.published] = (
                    f"meta l4proto {port.protocol}"
                    f" dnat to {sandbox.gateway_address.ip}:{port.target}"
                )
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
    received = f"ip daddr {itself.vtep} udp dport {VXLAN_PORT}"
    vnis = ", ".join(map(str, sorted(network.vni for network in snapshot.networks.values())))
    strangers = f"{received} {_VNI} {{ {vnis} }} counter drop"
    return (
        (
            f"{received} ip saddr @vteps notrack accept",
            *((strangers,) if vnis and snapshot.complete else ()),
            f"{received} notrack accept",
        ),
        (f"ip saddr {itself.vtep} udp dport {VXLAN_PORT} notrack accept",),
    )


def _other_vteps(snapshot: Snapshot) -> list[str]:
    others = (node.vtep for id_, node in snapshot.nodes.items() if id_ != snapshot.self_id)
    return [str(vtep) for vtep in sorted(set(others))]


def _key(port: Port) -> str:
    return f"{port[0]} . {port[1]}"


def _chain_name(port: Port) -> str:
    return f"port-{port[0]}-{port[1]}"
