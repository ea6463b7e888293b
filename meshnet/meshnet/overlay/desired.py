"""What the overlay networks of a Snapshot look like in the kernel. Pure.

```
 host netns            netns mn-<network>                    container's netns
                       ┌─────────────────────────────┐
 VXLAN's UDP socket ·····vx0 ─┐                      │
 (4789, from vtep)     │      ├─ br0 ─ v<task> ──────┼── eth0 02:42:<address>
 mn-ingress ───────────┼─ vgw ┘                      │
                       └─────────────────────────────┘
 vx0:  FDB  <MAC> -> VTEP       ARP answered from permanent neighbours (proxy), nothing flooded
 br0:  FDB  <MAC> -> vx0, static
```
The netns is there while a container of this host is on the network; the ingress network's is there
always. Replies of the routing mesh go back through the node that the request came in on: see
docs/decisions and ``meshnet_lb``; here are the rule, the route and the sysctls they need.

Be aware: the device indexes, the netns and every name are derived from ids, so that a restarted
process finds what it made.
"""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from pathlib import Path
from typing import Final

from meshnet.model.ids import MacAddress, NetworkId, TaskId, mac_of
from meshnet.model.mesh import INGRESS_LINK, MESH_MARK
from meshnet.model.snapshot import Network, Sandbox, Snapshot
from meshnet.netstate.changes import Netns
from meshnet.netstate.objects import STANDARD_RULES, Rule, Vxlan
from meshnet.netstate.values import (
    AddressOn,
    Desired,
    FdbRow,
    NeighbourOn,
    NetnsSpec,
    RouteSpec,
    Veth,
    VxlanSpec,
)

PREFIX: Final = "mn-"
BRIDGE: Final = "br0"
VXLAN: Final = "vx0"
INGRESS_PEER: Final = "vgw"
_VETH_ENDS: Final = r"v[0-9a-z]{12}|vgw"
_NAME_CHARS: Final = 12

RETURN_TABLE: Final = 100
_RETURN_PRIORITY: Final = 100
_RETURN_GATEWAY: Final = IPv4Address("169.254.77.1")
"""Stands for whichever node the request came in on; the frame's MAC is set at egress."""
_RETURN_MAC: Final = MacAddress("02:42:a9:fe:4d:01")
_DEFAULT: Final = IPv4Network("0.0.0.0/0")
_LOOPBACK: Final = "lo"
_LOOPBACK_ADDRESS: Final = IPv4Interface("127.0.0.1/8")
"""The resolver is at 127.0.0.11; the engine gave both to the container."""


def netns_name(network: NetworkId) -> str:
    """Name of the network's namespace."""
    return PREFIX + network[:_NAME_CHARS]


def veth_name(task: TaskId) -> str:
    """Name of the host's end of a container's link."""
    return "v" + task[:_NAME_CHARS]


def desired(snapshot: Snapshot, netns_dir: Path) -> Desired:
    """What should be in each namespace, and the veth pairs between them."""
    specs: dict[Netns, NetnsSpec] = {None: _host(snapshot)}
    for network in _realised(snapshot):
        specs[str(netns_dir / netns_name(network.id))] = _overlay(snapshot, network)
    for sandbox in snapshot.sandboxes.values():
        specs[sandbox.netns] = _sandbox(snapshot, sandbox)
    return Desired(specs, tuple(_veths(snapshot, netns_dir)))


def _realised(snapshot: Snapshot) -> list[Network]:
    used = {
        network for sandbox in snapshot.sandboxes.values() for network, _ in sandbox.networks
    } | {network.id for network in snapshot.networks.values() if network.ingress}
    known = [snapshot.networks[network] for network in sorted(used) if network in snapshot.networks]
    return known if snapshot.self_id in snapshot.nodes else []


def _overlay(snapshot: Snapshot, network: Network) -> NetnsSpec:
    mtu = snapshot.mtu_of(network)
    remote = snapshot.remote_macs(network.id)
    neighbours: set[NeighbourOn] = set()
    fdb: set[FdbRow] = set()
    for mac, (address, vtep) in remote.items():
        neighbours.add((VXLAN, address, mac))
        fdb |= {(VXLAN, mac, vtep), (VXLAN, mac, None)}
    local = snapshot.nodes[snapshot.self_id].vtep
    return NetnsSpec(
        made=True,
        bridges={BRIDGE: mtu},
        vxlans={VXLAN: VxlanSpec(Vxlan(network.vni, local), mtu, BRIDGE)},
        neighbours=frozenset(neighbours),
        fdb=frozenset(fdb),
        # A new namespace starts with 1, and every frame would walk the IP hooks for nothing.
        sysctls={f"bridge/bridge-nf-call-{family}tables": "0" for family in ("ip", "ip6", "arp")},
        exact=frozenset({VXLAN}),
        owned=_VETH_ENDS,
    )


def _sandbox(snapshot: Snapshot, sandbox: Sandbox) -> NetnsSpec:
    addresses: set[AddressOn] = set()
    routes: set[RouteSpec] = set()
    rules = set(STANDARD_RULES)
    neighbours: set[NeighbourOn] = set()
    sysctls: dict[str, str] = {}
    for number, (network, address) in enumerate(sandbox.networks):
        name = f"eth{number}"
        addresses.add((name, address))
        if network in snapshot.networks and snapshot.networks[network].ingress:
            routes.add(RouteSpec(name, RETURN_TABLE, _DEFAULT, _RETURN_GATEWAY, onlink=True))
            rules.add(Rule(MESH_MARK, MESH_MARK, RETURN_TABLE, _RETURN_PRIORITY))
            neighbours.add((name, _RETURN_GATEWAY, _RETURN_MAC))
            sysctls |= {
                "ipv4/tcp_fwmark_accept": "1",
                "ipv4/conf/all/rp_filter": "0",
                f"ipv4/conf/{name}/rp_filter": "0",
            }
    return NetnsSpec(
        addresses=frozenset(addresses | {(_LOOPBACK, _LOOPBACK_ADDRESS)}),
        neighbours=frozenset(neighbours),
        routes=frozenset(routes),
        rules=frozenset(rules),
        sysctls=sysctls,
        exact=frozenset(name for name, _ in addresses),
        up=frozenset({_LOOPBACK}),
    )


def _host(snapshot: Snapshot) -> NetnsSpec:
    gateway = _gateway(snapshot)
    if gateway is None:
        return NetnsSpec(owned=INGRESS_LINK)
    return NetnsSpec(
        addresses=frozenset({(INGRESS_LINK, gateway)}),
        sysctls={
            "ipv4/ip_forward": "1",
            f"ipv4/conf/{INGRESS_LINK}/rp_filter": "2",
            # 127.0.0.1:<published port>: the packet leaves lo with a loopback source.
            f"ipv4/conf/{INGRESS_LINK}/route_localnet": "1",
        },
        exact=frozenset({INGRESS_LINK}),
        owned=INGRESS_LINK,
    )


def _gateway(snapshot: Snapshot) -> IPv4Interface | None:
    """This node's address on the ingress network."""
    network, node = snapshot.ingress, snapshot.nodes.get(snapshot.self_id)
    if network is None or node is None or node.ingress_address is None:
        return None
    return IPv4Interface((node.ingress_address, network.subnet.prefixlen))


def _veths(snapshot: Snapshot, netns_dir: Path) -> Iterator[Veth]:
    for network in _realised(snapshot):
        path = str(netns_dir / netns_name(network.id))
        mtu = snapshot.mtu_of(network)
        gateway = _gateway(snapshot)
        if network.ingress and gateway is not None:
            mac = mac_of(gateway.ip)
            yield Veth(path, INGRESS_PEER, BRIDGE, mtu, None, INGRESS_LINK, mac)
        for task, sandbox in snapshot.sandboxes.items():
            for number, (on, address) in enumerate(sandbox.networks):
                if on == network.id:
                    yield Veth(
                        netns=path,
                        name=veth_name(task),
                        master=BRIDGE,
                        mtu=mtu,
                        peer_netns=sandbox.netns,
                        peer=f"eth{number}",
                        peer_mac=mac_of(address.ip),
                    )
