"""Reads network namespaces back: everything a spec speaks of, and nothing it does not.

``Observer`` remembers what it read of each namespace, so that a change of one of hundreds, or of
one row of thousands, reads what it must.

Be aware: a namespace that is not there is left out of the answer; that is not an error.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Set
from dataclasses import replace
from ipaddress import IPv6Address, IPv6Interface
from pathlib import Path
from typing import Final

from meshnet.errors import MeshnetError, NotFoundError, about
from meshnet.kernel import decode, netns, sysctl
from meshnet.kernel.rtnetlink import RA_PROTOCOL, Af, Nud
from meshnet.kernel.rtnl import RtnlClient
from meshnet.model.families import FAMILIES, Family, Interface
from meshnet.model.since import Since
from meshnet.netstate.changes import (
    AddFdb,
    AddNeighbour,
    AddNetns,
    AddVeth,
    Change,
    DelFdb,
    DelNeighbour,
    DelNetns,
    Netns,
)
from meshnet.netstate.objects import Neighbour, Route
from meshnet.netstate.rows import is_disturbed
from meshnet.netstate.values import Desired, NetnsSpec, NetnsState, Observed, RouteSpec, Veth

_NEIGHBOURS: Final[Mapping[Family, Af]] = {4: Af.INET, 6: Af.INET6}


def observe(rtnl: RtnlClient, desired: Desired, made: frozenset[str]) -> Observed:
    """The state of the namespaces of ``desired``, and the links of those in ``made`` besides.

    A namespace that is there and cannot be read is in ``unreadable``.
    """
    states: dict[Netns, NetnsState] = {}
    unreadable: dict[Netns, MeshnetError] = {}
    specs = dict(desired.specs)
    for old in made:
        specs.setdefault(old, NetnsSpec(made=True))
    for path, spec in specs.items():
        rtnl.give_way()
        if spec.made and path is not None and not netns.is_netns(Path(path)):
            continue
        try:
            states[path] = _state(rtnl, path, spec)
        except NotFoundError:
            continue
        except MeshnetError as error:
            unreadable[path] = about(error, (path, ""))
    return Observed(states=states, made=made, unreadable=unreadable)


Read = Callable[[RtnlClient, Desired, frozenset[str]], Observed]
"""``observe``, or what stands for it."""


class Observer:
    """Reads through one client; what it remembers is as it was when it was read, but for rows.

    Args:
        rtnl: the client.
        read: reads whole namespaces through it.
    """

    def __init__(self, rtnl: RtnlClient, read: Read | None = None) -> None:
        self._rtnl = rtnl
        self._read = read or observe
        self._states: dict[Netns, NetnsState] = {}
        self._wanted: Mapping[Netns, NetnsSpec] = {}

    def is_disturbed(self, path: Netns, body: bytes) -> bool:
        """Whether a row that appeared says that a namespace is not as it was last wanted.

        Any thread may ask: what is looked at is replaced, never changed.

        Args:
            path: of the namespace.
            body: of the kernel's NEWNEIGH.
        """
        spec, family = self._wanted.get(path), body[0]
        if spec is None or family not in {Af.INET, Af.BRIDGE, Af.INET6}:
            return False
        if family == Af.INET6 and not spec.dual:
            return False
        row = decode.neighbour(body)
        if row is None:
            return False
        state = self._states.get(path, NetnsState())
        name = next((each for each, link in state.links.items() if link.index == row.index), None)
        is_fdb = family == Af.BRIDGE
        lasts = bool(row.state & (Nud.PERMANENT | Nud.NOARP if is_fdb else Nud.PERMANENT))
        return is_disturbed(spec, name, row, is_fdb=is_fdb, lasts=lasts)

    def observe(
        self, desired: Desired, made: frozenset[str], since: Since[Desired] | None
    ) -> Observed:
        """As ``observe``; of what is known since the last round only what must be read again.

        Args:
            desired: what should be.
            made: namespaces that we once made.
            since: as in ``meshnet.reconcile.Operations``.
        """
        self._wanted = desired.specs
        if since is None:
            found = self._read(self._rtnl, desired, made)
            self._states = dict(found.states)
            return found
        looked = _differing(desired, since.realised) | since.disturbed
        ends = _other_ends(desired.veths, looked)
        known: dict[Netns, NetnsState] = {}
        read: dict[Netns, NetnsSpec] = {}
        for path, spec in desired.specs.items():
            if path not in looked and path not in ends:
                continue
            had, state = since.realised.specs.get(path), self._states.get(path)
            if path in since.disturbed or had is None or state is None or not _only_rows(had, spec):
                read[path] = spec
            else:
                known[path] = replace(state, neighbours=had.neighbours, fdb=had.fdb)
        gone = made - desired.specs.keys()
        left = frozenset(path for path in made if path in looked or path in gone)
        found = self._read(self._rtnl, Desired(read), left & (read.keys() | gone))
        for path in read:
            self._states.pop(path, None)
        self._states |= found.states
        here = frozenset(path for path in looked if path in desired.specs)
        return Observed(known | {**found.states}, left, found.unreadable, here)

    def changed(self, changes: Iterable[Change]) -> None:
        """These were made: what they were made on is no longer as it was read, but for rows."""
        for change in changes:
            if isinstance(change, AddFdb | DelFdb | AddNeighbour | DelNeighbour):
                continue
            for path in _places(change):
                self._states.pop(path, None)


def _places(change: Change) -> tuple[Netns, ...]:
    match change:
        case AddNetns(path) | DelNetns(path):
            return (path,)
        case AddVeth():
            return change.netns, change.peer_netns
        case _:
            return (change.netns,)


def _differing(desired: Desired, realised: Desired) -> frozenset[Netns]:
    """Namespaces in which something else is wanted than there is."""
    specs = {path for path, spec in desired.specs.items() if realised.specs.get(path) is not spec}
    veths: Set[Veth] = frozenset()
    if desired.veths is not realised.veths:
        veths = frozenset(desired.veths) ^ frozenset(realised.veths)
    ends = {path for veth in veths for path in (veth.netns, veth.peer_netns)}
    return frozenset(specs | ends)


def _other_ends(veths: Iterable[Veth], looked: frozenset[Netns]) -> frozenset[Netns]:
    pairs = [(veth.netns, veth.peer_netns) for veth in veths]
    return frozenset(path for pair in pairs if not looked.isdisjoint(pair) for path in pair)


def _only_rows(had: NetnsSpec, spec: NetnsSpec) -> bool:
    """Whether nothing but neighbours and FDB rows differs; those that are there are as wanted."""
    return had is spec or replace(had, neighbours=spec.neighbours, fdb=spec.fdb) == spec


def _state(rtnl: RtnlClient, path: Netns, spec: NetnsSpec) -> NetnsState:
    socket = rtnl.of(path)
    links = socket.links()
    name = {link.index: link.name for link in links}
    neighbours: list[Neighbour] = []
    rows: list[Neighbour] = []
    families = FAMILIES if spec.dual else FAMILIES[:1]
    if spec.neighbours or spec.exact:
        every = (n for family in families for n in socket.neighbours(_NEIGHBOURS[family]))
        neighbours = [n for n in every if n.state & Nud.PERMANENT]
    if spec.fdb or spec.exact & spec.vxlans.keys():
        rows = socket.neighbours(Af.BRIDGE)
    routes: list[Route] = []
    if spec.routes or spec.addresses:
        routes = [route for family in families for route in socket.routes(family)]
    addresses: list[tuple[int, Interface]] = []
    if spec.addresses or spec.exact:
        addresses = [each for family in families for each in socket.addresses(family)]
    return NetnsState(
        links={link.name: link for link in links},
        masters={link.name: name[link.master] for link in links if link.master in name},
        addresses=frozenset(
            (name[i], a) for i, a in addresses if i in name and not _is_the_kernels(a)
        ),
        neighbours=frozenset(
            (name[n.index], n.destination, n.mac)
            for n in neighbours
            if n.destination is not None and n.index in name
        ),
        fdb=frozenset(
            (name[row.index], row.mac, row.destination)
            for row in rows
            if row.index in name and _is_ours(row) and not isinstance(row.destination, IPv6Address)
        ),
        routes=frozenset(
            RouteSpec(
                name[r.index], r.table, r.destination, r.gateway, source=r.source, local=r.local
            )
            for r in routes
            if r.index in name
        ),
        rules=frozenset(rule for family in families if spec.rules for rule in socket.rules(family)),
        sysctls=_sysctls(rtnl, path, spec.sysctls),
        deaf=_deaf(
            rtnl, path, {name[r.index] for r in routes if _is_advertised(r) and r.index in name}
        )
        if spec.advised
        else frozenset(),
    )


def _is_advertised(route: Route) -> bool:
    """A route that a router's advertisement made."""
    return route.protocol == RA_PROTOCOL


def _deaf(rtnl: RtnlClient, path: Netns, links: Iterable[str]) -> frozenset[str]:
    keys = {f"ipv6/conf/{link}/accept_ra": link for link in links}
    found = _sysctls(rtnl, path, dict.fromkeys(keys, ""))
    return frozenset(keys[key] for key, value in found.items() if value == "1")


def _is_the_kernels(address: Interface) -> bool:
    """A link-local address of IPv6, which it makes from the MAC."""
    return isinstance(address, IPv6Interface) and address.ip.is_link_local


def _is_ours(row: Neighbour) -> bool:
    """A VXLAN device's row to a VTEP, or a static row of its bridge.

    A bridge keeps a permanent row with each port's own address; those are the kernel's.
    """
    if row.master:
        return bool(row.state & Nud.NOARP)
    return row.destination is not None and bool(row.state & Nud.PERMANENT)


def _sysctls(rtnl: RtnlClient, path: Netns, wanted: Mapping[str, str]) -> dict[str, str | None]:
    if not wanted:
        return {}
    with netns.inside(path or rtnl.host_netns):
        for key in wanted:  # first: should it change meanwhile, that is told
            rtnl.watch(sysctl.file(key), path)
        return {key: sysctl.read(key) for key in wanted}
