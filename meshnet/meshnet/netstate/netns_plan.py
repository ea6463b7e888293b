"""From what is to what should be, for links, addresses, neighbours, FDB rows, routes and sysctls.

Pure. The order is: what is gone first, then namespaces, bridges, VXLAN devices, veth pairs, and
last what stands on links: settings of IPv6, addresses, rows, routes, other settings. A link that
must be made anew takes its addresses and rows with it, so these count as missing. A namespace that
is not there and that we do not make is a container that ended: nothing is planned for it, and for
one that cannot be read only that it is said.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from ipaddress import IPv4Address, ip_network

from meshnet.model.families import order
from meshnet.netstate.changes import (
    AddAddress,
    AddBridge,
    AddFdb,
    AddNeighbour,
    AddNetns,
    AddRoute,
    AddRule,
    AddVeth,
    AddVxlan,
    Change,
    DelAddress,
    DelFdb,
    DelLink,
    DelNeighbour,
    DelNetns,
    DelQdisc,
    Netns,
    NoLearning,
    SetLink,
    SetPort,
    SetSysctl,
    Unreadable,
)
from meshnet.netstate.objects import DOWN_QDISC, LOCAL_TABLE, MAIN_TABLE, NO_QDISC, Link, Port
from meshnet.netstate.values import (
    AddressOn,
    Desired,
    NeighbourOn,
    NetnsSpec,
    NetnsState,
    Observed,
    RouteSpec,
    Veth,
)
from meshnet.patterns import Pattern

_NOTHING = NetnsState()
_LONGEST_NAME = 15
"""Of a link: IFNAMSIZ without its end."""
_NO_SPEC = NetnsSpec()
_REMOTE = Port(learning=False)
"""Of a VXLAN device: what is behind it is said in rows."""
_THOUGH_FORWARDING = "2"
"""Of accept_ra: routers are heard though packets are forwarded (ip-sysctl.rst)."""
_BEFORE_ADDRESSES = "ipv6/"
"""Sysctls without which a link takes no address, or takes others besides."""


def plan(desired: Desired, observed: Observed, *, prune: bool) -> list[Change]:
    """Changes from ``observed`` to ``desired``, in order; ``[]`` when equal.

    Nothing that is unwanted is removed unless ``prune``; what stands in the way of something
    wanted (a VXLAN device with another VNI) is replaced all the same.
    """
    if observed.looked is not None:
        desired = _part(desired, observed.looked)
    specs = dict(sorted(desired.specs.items(), key=lambda item: item[0] or ""))
    states = {path: observed.states.get(path) for path in specs}
    alive = {
        path: (state or _NOTHING)
        for path, state in states.items()
        if path not in observed.unreadable and (state is not None or specs[path].made)
    }
    veths = sorted(
        (v for v in desired.veths if v.netns in alive and v.peer_netns in alive),
        key=lambda v: (v.netns or "", v.name),
    )
    changes: list[Change] = []
    changes += _unwanted(desired, observed, alive) if prune else _in_the_way(desired, observed)
    changes += [
        AddNetns(path) for path, s in states.items() if path and s is None and path in alive
    ]
    fresh: set[tuple[Netns, str]] = set()
    for path, state in alive.items():
        changes += _links_of_others(path, specs[path], state)
        changes += _devices(path, specs[path], state, fresh, prune=prune)
    for veth in veths:
        changes += _veth(veth, alive, fresh, prune=prune)
    for path, state in alive.items():
        lost = frozenset(name for netns, name in fresh if netns == path)
        rest = _without(state, lost)
        if prune:
            changes += _stale(path, specs[path], rest)
        changes += _missing(path, specs[path], rest)
    changes += [Unreadable(path, error) for path, error in observed.unreadable.items()]
    return changes


def _part(desired: Desired, looked: frozenset[Netns]) -> Desired:
    """What concerns these namespaces; of those at the other ends of their veth pairs that alone."""
    veths = tuple(v for v in desired.veths if v.netns in looked or v.peer_netns in looked)
    specs: dict[Netns, NetnsSpec] = {
        path: _NO_SPEC for veth in veths for path in (veth.netns, veth.peer_netns)
    }
    return Desired(specs | {p: s for p, s in desired.specs.items() if p in looked}, veths)


def _in_the_way(desired: Desired, observed: Observed) -> Iterator[Change]:
    """VXLAN devices of an earlier life that have the VNI of a wanted one; a VNI is there once."""
    vnis = {each.vxlan.vni for spec in desired.specs.values() for each in spec.vxlans.values()}
    for made in sorted(observed.made - desired.specs.keys()):
        for name, link in sorted(observed.states.get(made, _NOTHING).links.items()):
            if link.vxlan is not None and link.vxlan.vni in vnis:
                yield DelLink(made, name)


def _unwanted(
    desired: Desired, observed: Observed, alive: Mapping[Netns, NetnsState]
) -> Iterator[Change]:
    """Namespaces and veth ends that nothing wants."""
    wanted_paths = desired.specs.keys()
    for made in sorted(path for path in observed.made if path not in wanted_paths):
        # Namespaces are removed in the background: the VNI is free only when the device is gone,
        # and a container that runs on has its end of a pair until the other one is.
        for name, link in sorted(observed.states.get(made, _NOTHING).links.items()):
            if link.kind in {"vxlan", "veth"}:
                yield DelLink(made, name)
        yield DelNetns(made)
    wanted = {(v.netns, v.name) for v in desired.veths} | {
        (v.peer_netns, v.peer) for v in desired.veths
    }
    for path, state in alive.items():
        said = desired.specs[path].owned
        owned = Pattern(said, longest=_LONGEST_NAME) if said else None
        for name, link in sorted(state.links.items()):
            if owned is None or link.kind != "veth" or (path, name) in wanted:
                continue
            if owned.fits(name):
                yield DelLink(path, name)


def _links_of_others(path: Netns, spec: NetnsSpec, state: NetnsState) -> Iterator[Change]:
    """What we want of links that we do not make."""
    for name, mac in sorted(spec.macs.items()):
        link = state.links.get(name)
        if link is not None and (link.mac != mac or not link.up):
            yield SetLink(path, name, mac=mac if link.mac != mac else None)
    for name in sorted(spec.up):
        link = state.links.get(name)
        if link is not None and not link.up:
            yield SetLink(path, name)


def _devices(
    path: Netns,
    spec: NetnsSpec,
    state: NetnsState,
    fresh: set[tuple[Netns, str]],
    *,
    prune: bool,
) -> Iterator[Change]:
    """Bridges and VXLAN devices."""
    for name, mtu in sorted(spec.bridges.items()):
        link = state.links.get(name)
        if link is not None and link.kind == "bridge":
            if not link.up or _is_mtu_wrong(link, mtu, prune=prune):
                yield SetLink(path, name, mtu=_mtu(link, mtu, prune=prune))
            continue
        if link is not None:
            yield DelLink(path, name)
        fresh.add((path, name))
        yield AddBridge(path, name, mtu)
    for name, vxlan in sorted(spec.vxlans.items()):
        link = state.links.get(name)
        if link is not None and link.vxlan != vxlan.vxlan:
            yield DelLink(path, name)
            link = None
        if link is None:
            fresh.add((path, name))
            yield AddVxlan(path, name, vxlan.mtu, vxlan.vxlan)
        ported = link is not None and state.masters.get(name) == vxlan.master
        if not ported or (path, vxlan.master) in fresh:
            yield SetLink(path, name, mtu=vxlan.mtu, master=vxlan.master)
            yield NoLearning(path, name)
        elif link is not None:
            if not link.up or _is_mtu_wrong(link, vxlan.mtu, prune=prune):
                yield SetLink(path, name, mtu=_mtu(link, vxlan.mtu, prune=prune))
            yield from _port(path, link, _REMOTE, state.links.get(vxlan.master))
        if link is not None:
            yield from _qdisc(path, link)


def _veth(
    veth: Veth,
    alive: Mapping[Netns, NetnsState],
    fresh: set[tuple[Netns, str]],
    *,
    prune: bool,
) -> Iterator[Change]:
    """One pair."""
    end = alive[veth.netns].links.get(veth.name)
    peer = alive[veth.peer_netns].links.get(veth.peer)
    if end is None or peer is None or end.kind != "veth" or peer.kind != "veth":
        if end is not None:
            yield DelLink(veth.netns, veth.name)
        if peer is not None:
            yield DelLink(veth.peer_netns, veth.peer)
        fresh.add((veth.netns, veth.name))
        fresh.add((veth.peer_netns, veth.peer))
        yield AddVeth(
            veth.netns,
            veth.name,
            veth.master,
            veth.mtu,
            veth.peer_netns,
            veth.peer,
            veth.peer_mac,
        )
        yield SetLink(veth.peer_netns, veth.peer)
        return
    ported = not veth.master or (
        alive[veth.netns].masters.get(veth.name) == veth.master
        and (veth.netns, veth.master) not in fresh
    )
    if not (ported and end.up) or _is_mtu_wrong(end, veth.mtu, prune=prune):
        mtu, master = _mtu(end, veth.mtu, prune=prune), "" if ported else veth.master
        yield SetLink(veth.netns, veth.name, mtu=mtu, master=master)
    if ported and veth.master:
        yield from _port(veth.netns, end, Port(), alive[veth.netns].links.get(veth.master))
    if veth.netns is not None:  # what a host's own links have is its administrator's
        yield from _qdisc(veth.netns, end)
    wrong_mac = peer.mac != veth.peer_mac
    if not peer.up or wrong_mac or _is_mtu_wrong(peer, veth.mtu, prune=prune):
        mac = veth.peer_mac if wrong_mac else None
        mtu = _mtu(peer, veth.mtu, prune=prune)
        yield SetLink(veth.peer_netns, veth.peer, mtu=mtu, mac=mac)
        if not peer.up:
            fresh.add((veth.peer_netns, f"{veth.peer} routes"))


def _port(path: Netns, link: Link, wanted: Port, bridge: Link | None) -> Iterator[Change]:
    """A port whose flags others changed. Those of a bridge that is down begin with the bridge."""
    found = link.port
    if found is None:
        return
    if bridge is None or not bridge.up:
        found = replace(found, forwarding=True)
    if found != wanted:
        yield SetPort(path, link.name, wanted, forward=not found.forwarding)


def _qdisc(path: Netns, link: Link) -> Iterator[Change]:
    """What others let frames wait in, or be lost."""
    if link.qdisc not in {"", NO_QDISC, DOWN_QDISC}:
        yield DelQdisc(path, link.name)


def _is_mtu_wrong(link: Link, mtu: int, *, prune: bool) -> bool:
    """Whether a link's MTU is to be changed.

    Without ``prune`` not: what is wanted is the lowest of the nodes that we know of yet.
    """
    return prune and link.mtu != mtu


def _mtu(link: Link, mtu: int, *, prune: bool) -> int | None:
    return mtu if _is_mtu_wrong(link, mtu, prune=prune) else None


def _without(state: NetnsState, lost: frozenset[str]) -> NetnsState:
    """``state`` as it is once the links in ``lost`` are made anew.

    A link that was down has no routes; it is in ``lost`` as ``<name> routes``.
    """
    if not lost:
        return state
    return NetnsState(
        links=state.links,
        masters=state.masters,
        addresses=frozenset(a for a in state.addresses if a[0] not in lost),
        neighbours=frozenset(n for n in state.neighbours if n[0] not in lost),
        fdb=frozenset(f for f in state.fdb if f[0] not in lost),
        routes=frozenset(
            r for r in state.routes if r.name not in lost and f"{r.name} routes" not in lost
        ),
        rules=state.rules,
        sysctls={
            key: value
            for key, value in state.sysctls.items()
            if not any(f"/{name}/" in key for name in lost)
        },
        deaf=state.deaf - lost,
    )


def _stale(path: Netns, spec: NetnsSpec, state: NetnsState) -> Iterator[Change]:
    """Rows on our links that nothing wants, and rows that another value stands in the way of."""
    for name, address in sorted(state.addresses - spec.addresses, key=_address_order):
        if name in spec.exact:
            yield DelAddress(path, name, address)
    wanted = {(name, at) for name, at, _ in spec.neighbours}
    for name, at, _ in sorted(state.neighbours - spec.neighbours, key=_neighbour_order):
        if name in spec.exact and (name, at) not in wanted:
            yield DelNeighbour(path, name, at)
    for row in sorted(state.fdb - spec.fdb, key=str):
        if row[0] in spec.exact:
            yield DelFdb(path, *row)


def _missing(path: Netns, spec: NetnsSpec, state: NetnsState) -> Iterator[Change]:
    # First: with forwarding the kernel drops the routes of those that hear no routers.
    for name in sorted(state.deaf) if spec.advised else ():
        yield SetSysctl(path, f"ipv6/conf/{name}/accept_ra", _THOUGH_FORWARDING)
    yield from _settings(path, spec, state, before_addresses=True)
    for name, address in sorted(spec.addresses - state.addresses, key=_address_order):
        yield AddAddress(path, name, address)
    for name, mac, vtep in sorted(spec.fdb - state.fdb, key=str):
        yield AddFdb(path, name, mac, vtep)
    for name, at, mac in sorted(spec.neighbours - state.neighbours, key=_neighbour_order):
        yield AddNeighbour(path, name, at, mac)
    # A route's gateway is looked up by the rules.
    for rule in sorted(spec.rules - state.rules, key=str):
        yield AddRule(path, rule)
    # A dump does not say onlink; without its address a link has no route.
    there = {replace(route, source=None) for route in state.routes} | state.routes
    for route in sorted([*spec.routes, *_connected(spec, state)], key=_route_order):
        if replace(route, onlink=False) not in there:
            yield AddRoute(
                path,
                route.name,
                route.table,
                route.destination,
                route.gateway,
                route.onlink,
                route.source,
                route.local,
            )
    yield from _settings(path, spec, state, before_addresses=False)


def _settings(
    path: Netns, spec: NetnsSpec, state: NetnsState, *, before_addresses: bool
) -> Iterator[Change]:
    for key, value in sorted(spec.sysctls.items()):
        found = state.sysctls.get(key)
        if key.startswith(_BEFORE_ADDRESSES) is not before_addresses:
            continue
        if found != value and not (found is None and key in spec.if_there):
            yield SetSysctl(path, key, value)


def _connected(spec: NetnsSpec, state: NetnsState) -> Iterator[RouteSpec]:
    """Routes of addresses that are there: somebody may have taken only the routes.

    The kernel makes them when it gets the address and when it brings the link up: to the address
    itself, and to its network, which for a loopback address is all its own
    (net/ipv4/fib_frontend.c, fib_add_ifaddr). Those of IPv6 name no source
    (net/ipv6/addrconf.c, addrconf_prefix_route).
    """
    for name, address in spec.addresses & state.addresses:
        link, network, ip = state.links.get(name), address.network, address.ip
        if link is None or not link.up:
            continue
        source = ip if isinstance(ip, IPv4Address) else None
        yield RouteSpec(name, LOCAL_TABLE, ip_network(ip), None, source=source, local=True)
        if network.prefixlen < network.max_prefixlen:
            table = LOCAL_TABLE if ip.is_loopback else MAIN_TABLE
            yield RouteSpec(name, table, network, None, source=source, local=ip.is_loopback)


def _address_order(on: AddressOn) -> tuple[object, ...]:
    return on[0], *order(on[1])


def _neighbour_order(on: NeighbourOn) -> tuple[object, ...]:
    return on[0], *order(on[1]), on[2]


def _route_order(route: RouteSpec) -> tuple[bool, bool, bool, str]:
    """A gateway is reached by a route that is there, and a source is an address that is."""
    on_link = route.table in {LOCAL_TABLE, MAIN_TABLE}
    address = route.local and route.destination.prefixlen == route.destination.max_prefixlen
    return not address, not on_link, route.gateway is not None, str(route)
