"""What the overlay networks of a Snapshot look like in the kernel. Pure.

```
 host netns            netns mn-<network>                    container's netns
                       ┌─────────────────────────────┐
 VXLAN's UDP socket ·····vx0 ─┐                      │
 (4789, from vtep)     │      ├─ br0 ─ v<task> ──────┼── eth0 02:42:<address>
 mn-ingress ───────────┼─ vgw ┘                      │
                       └─────────────────────────────┘
 vx0:  FDB  <MAC> -> VTEP       ARP answered from permanent neighbours (proxy), nothing flooded;
                                neighbour solicitation of IPv6, too
 br0:  FDB  <MAC> -> vx0, static
```
The netns is there while a container of this host is on the network; the ingress network's is there
always. What is in a container's and in the host's is in ``ends``.

An address of IPv6 has the MAC of the IPv4 address beside it. An overlay whose packets are smaller
than IPv6 needs has none of it: the kernel takes no address there.

Be aware: the device indexes, the netns and every name are derived from ids, so that a restarted
process finds what it made.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from functools import partial
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import Final

from meshnet.model.differences import touched
from meshnet.model.esp import port_of
from meshnet.model.ids import NetworkId, TaskId, mac_of
from meshnet.model.mesh import INGRESS_LINK
from meshnet.model.paths import Members, Ways, ways_of
from meshnet.model.snapshot import Network, Sandbox, Snapshot
from meshnet.netstate.changes import Netns
from meshnet.netstate.objects import Vxlan
from meshnet.netstate.values import (
    Desired,
    FdbRow,
    NeighbourOn,
    NetnsSpec,
    Veth,
    VxlanSpec,
    kept,
)
from meshnet.overlay.ends import gateway, ipv6_on, of_host, of_sandbox
from meshnet.overlay.esp import Encryption

PREFIX: Final = "mn-"
BRIDGE: Final = "br0"
VXLAN: Final = "vx0"
INGRESS_PEER: Final = "vgw"
_VETH_ENDS: Final = r"v[0-9a-z]{12}|vgw"
_NAME_CHARS: Final = 12
_SMALLEST_MTU6: Final = 1280
"""RFC 8200 section 5."""


def netns_name(network: NetworkId) -> str:
    """Name of the network's namespace."""
    return PREFIX + network[:_NAME_CHARS]


def veth_name(task: TaskId) -> str:
    """Name of the host's end of a container's link."""
    return "v" + task[:_NAME_CHARS]


def desired(snapshot: Snapshot, netns_dir: Path) -> Desired:
    """What should be in each namespace, and the veth pairs between them."""
    return Overlays(netns_dir).of(snapshot)


@dataclass(frozen=True, slots=True)
class _Rows:
    """The rows of one network's VXLAN device."""

    neighbours: frozenset[NeighbourOn] = frozenset()
    fdb: frozenset[FdbRow] = frozenset()


_Remote = tuple[NetworkId, IPv4Address, IPv6Address | None, IPv4Address]
"""(network, overlay addresses, VTEP) of what another node has."""


class Overlays:
    """What should be, Snapshot after Snapshot: what did not change is the same object.

    Law: whatever came before, ``of`` a Snapshot is what it is as the first one. One endpoint costs
    the rows of its networks, copied.
    """

    def __init__(self, netns_dir: Path) -> None:
        self._netns_dir = netns_dir
        self._before: Snapshot | None = None
        self._rows: dict[NetworkId, _Rows] = {}
        self._made = Desired({})
        self._ways = Ways({}, ())
        self._members: dict[NetworkId, tuple[frozenset[FdbRow], Members]] = {}
        self._veths_of: object = None
        self._encryption = Encryption()
        self._thin: frozenset[NetworkId] = frozenset()
        """Networks that are too narrow for IPv6."""

    def of(self, snapshot: Snapshot) -> Desired:
        """What should be in each namespace, and the veth pairs between them."""
        networks = _realised(snapshot)
        self._follow(snapshot, frozenset(network.id for network in networks))
        before, self._before = self._before, snapshot
        if before is None or before.nodes is not snapshot.nodes:
            self._ways = ways_of(snapshot.nodes.values())
        mtus = {
            network.id: self._ways.mtu(network, partial(self._on, snapshot, network.id))
            for network in networks
        }
        thin = frozenset(network for network, mtu in mtus.items() if mtu < _SMALLEST_MTU6)
        was_thin, self._thin = self._thin, thin
        specs: dict[Netns, NetnsSpec] = {None: of_host(snapshot, thin)}
        for network in networks:
            path = str(self._netns_dir / netns_name(network.id))
            specs[path] = self._overlay(path, snapshot, network, mtus[network.id])
        alike = before is not None and before.ingress == snapshot.ingress and thin == was_thin
        for task, sandbox in snapshot.sandboxes.items():
            same = alike and before is not None and before.sandboxes.get(task) is sandbox
            same = same and before is not None and _same_networks(sandbox, before, snapshot)
            spec = self._made.specs.get(sandbox.netns) if same else None
            specs[sandbox.netns] = spec if spec is not None else of_sandbox(snapshot, sandbox, thin)
        veths = self._made.veths
        of = (networks, mtus, gateway(snapshot))
        if before is None or before.sandboxes is not snapshot.sandboxes or self._veths_of != of:
            self._veths_of = of
            veths = tuple(_veths(snapshot, self._netns_dir, networks, mtus))
        encrypted = {str(self._netns_dir / netns_name(n.id)) for n in networks if n.encrypted}
        secured = self._encryption.of(snapshot, networks, encrypted)
        self._made = kept(self._made, Desired(specs, veths, secured))
        return self._made

    def _on(self, snapshot: Snapshot, network: NetworkId) -> Members:
        """Where the network is: this node, and those that its rows lead to."""
        fdb, (known, members) = self._rows[network].fdb, self._members.get(network, (None, set()))
        if known is not fdb:
            members = {vtep for _, _, vtep in fdb if vtep is not None}
            self._members[network] = fdb, members
        return members | {snapshot.nodes[snapshot.self_id].vtep}

    def _overlay(self, path: str, snapshot: Snapshot, network: Network, mtu: int) -> NetnsSpec:
        rows = self._rows[network.id]
        made = self._made.specs.get(path)
        port = snapshot.vxlan_port if not network.encrypted else port_of(snapshot.vxlan_port)
        vxlan = Vxlan(network.vni, snapshot.nodes[snapshot.self_id].vtep, port)
        wanted = VxlanSpec(vxlan, mtu, BRIDGE)
        dual = bool(network.subnets6) and network.id not in self._thin
        neighbours = rows.neighbours
        if network.subnets6 and not dual:
            neighbours = frozenset(row for row in neighbours if isinstance(row[1], IPv4Address))
        if made is not None and made.vxlans.get(VXLAN) == wanted and made.dual is dual:
            if made.neighbours is neighbours and made.fdb is rows.fdb:
                return made
            return replace(made, neighbours=neighbours, fdb=rows.fdb)
        return NetnsSpec(
            made=True,
            bridges={BRIDGE: mtu},
            vxlans={VXLAN: wanted},
            neighbours=neighbours,
            fdb=rows.fdb,
            # A new namespace starts with 1, and every frame would walk the IP hooks for nothing.
            sysctls={
                f"bridge/bridge-nf-call-{family}tables": "0" for family in ("ip", "ip6", "arp")
            }
            | (ipv6_on(VXLAN) if dual else {}),
            exact=frozenset({VXLAN}),
            owned=_VETH_ENDS,
            dual=dual,
        )

    def _follow(self, snapshot: Snapshot, networks: frozenset[NetworkId]) -> None:
        """Bring the rows of ``networks`` up to date; those of others are forgotten."""
        before = self._before or replace(snapshot, endpoints={}, nodes={}, networks={})
        same = {n for n in networks & self._rows.keys() if _dual(before, n) == _dual(snapshot, n)}
        new = networks - same
        self._rows = {n: self._rows[n] if n in same else _Rows() for n in networks}
        self._members = {n: known for n, known in self._members.items() if n in networks}
        if new:  # all that is on them has just come
            every = _remotes(snapshot, snapshot.endpoints, new) | _gateways(snapshot)
            self._change(new, frozenset(), every)
        old = networks - new
        tasks = touched(before, snapshot, lambda node: node.vtep)
        was, now = _remotes(before, tasks, old), _remotes(snapshot, tasks, old)
        if before.nodes is not snapshot.nodes or before.ingress != snapshot.ingress:
            was, now = was | _gateways(before), now | _gateways(snapshot)
        self._change(old, was - now, now - was)

    def _change(self, networks: Set[NetworkId], gone: Set[_Remote], fresh: Set[_Remote]) -> None:
        changes: dict[NetworkId, tuple[set[_Remote], set[_Remote]]] = {}
        for side, remotes in enumerate((gone, fresh)):
            for each in remotes:
                if each[0] in networks:
                    changes.setdefault(each[0], (set(), set()))[side].add(each)
        for network, sides in changes.items():
            rows, (out, into) = self._rows[network], map(_rows_of, sides)
            self._rows[network] = _Rows(
                (rows.neighbours - out.neighbours) | into.neighbours,
                (rows.fdb - out.fdb) | into.fdb,
            )


def _remotes(snapshot: Snapshot, tasks: Iterable[TaskId], networks: Set[NetworkId]) -> set[_Remote]:
    """What of these tasks on these networks is on other nodes; no two have one address."""
    found: set[_Remote] = set()
    for task in tasks:
        endpoint = snapshot.endpoints.get(task)
        node = snapshot.nodes.get(endpoint.node) if endpoint is not None else None
        if endpoint is not None and node is not None and node.id != snapshot.self_id:
            for network, address in endpoint.addresses.items():
                if network in networks:
                    # What a peer says of a network without IPv6 is never read back there.
                    second = endpoint.addresses6.get(network) if _dual(snapshot, network) else None
                    found.add((network, address, second, node.vtep))
    return found


def _dual(snapshot: Snapshot, network: NetworkId) -> bool:
    known = snapshot.networks.get(network)
    return known is not None and bool(known.subnets6)


def _gateways(snapshot: Snapshot) -> set[_Remote]:
    """Gateways of the other nodes on the ingress network."""
    ingress = snapshot.ingress
    if ingress is None:
        return set()
    dual = bool(ingress.subnets6)
    return {
        (ingress.id, node.ingress_address, node.ingress_address6 if dual else None, node.vtep)
        for node in snapshot.nodes.values()
        if node.id != snapshot.self_id and node.ingress_address is not None
    }


def _rows_of(remotes: Iterable[_Remote]) -> _Rows:
    macs = [(mac_of(address), address, second, vtep) for _, address, second, vtep in remotes]
    return _Rows(
        frozenset(
            (VXLAN, at, mac) for mac, *addresses, _ in macs for at in addresses if at is not None
        ),
        frozenset((VXLAN, mac, to) for mac, _, _, vtep in macs for to in (vtep, None)),
    )


def _realised(snapshot: Snapshot) -> list[Network]:
    used = {
        network for sandbox in snapshot.sandboxes.values() for network, _ in sandbox.networks
    } | {network.id for network in snapshot.networks.values() if network.ingress}
    known = [snapshot.networks[network] for network in sorted(used) if network in snapshot.networks]
    return known if snapshot.self_id in snapshot.nodes else []


def _same_networks(sandbox: Sandbox, before: Snapshot, now: Snapshot) -> bool:
    """Its networks are what they were."""
    if before.networks is now.networks:
        return True
    return all(before.networks.get(on) == now.networks.get(on) for on, _ in sandbox.networks)


def _veths(
    snapshot: Snapshot,
    netns_dir: Path,
    networks: Sequence[Network],
    mtus: Mapping[NetworkId, int],
) -> Iterator[Veth]:
    own = gateway(snapshot)
    paths = {network.id: str(netns_dir / netns_name(network.id)) for network in networks}
    for network in networks:
        if network.ingress and own is not None:
            mac = mac_of(own.ip)
            yield Veth(
                paths[network.id], INGRESS_PEER, BRIDGE, mtus[network.id], None, INGRESS_LINK, mac
            )
    for task, sandbox in snapshot.sandboxes.items():
        for number, (on, address) in enumerate(sandbox.networks):
            if on in paths:
                yield Veth(
                    netns=paths[on],
                    name=veth_name(task),
                    master=BRIDGE,
                    mtu=mtus[on],
                    peer_netns=sandbox.netns,
                    peer=sandbox.interface(number),
                    peer_mac=mac_of(address.ip),
                )
