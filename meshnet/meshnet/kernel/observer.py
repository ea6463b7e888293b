"""Reads network namespaces back: everything a spec speaks of, and nothing it does not.

Be aware: a namespace that is not there is left out of the answer; that is not an error.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from meshnet.errors import MeshnetError, NotFoundError, about
from meshnet.kernel import netns, sysctl
from meshnet.kernel.rtnetlink import Af, Nud
from meshnet.kernel.rtnl import RtnlClient
from meshnet.netstate.changes import Netns
from meshnet.netstate.objects import Neighbour
from meshnet.netstate.values import Desired, NetnsSpec, NetnsState, Observed, RouteSpec


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
        if spec.made and path is not None and not netns.is_netns(Path(path)):
            continue
        try:
            states[path] = _state(rtnl, path, spec)
        except NotFoundError:
            continue
        except MeshnetError as error:
            unreadable[path] = about(error, (path, ""))
    return Observed(states=states, made=made, unreadable=unreadable)


def _state(rtnl: RtnlClient, path: Netns, spec: NetnsSpec) -> NetnsState:
    socket = rtnl.of(path)
    links = socket.links()
    name = {link.index: link.name for link in links}
    neighbours: list[Neighbour] = []
    rows: list[Neighbour] = []
    if spec.neighbours or spec.exact:
        neighbours = [n for n in socket.neighbours(Af.INET) if n.state & Nud.PERMANENT]
    if spec.fdb or spec.exact & spec.vxlans.keys():
        rows = socket.neighbours(Af.BRIDGE)
    routes = socket.routes() if spec.routes or spec.addresses else []
    return NetnsState(
        links={link.name: link for link in links},
        masters={link.name: name[link.master] for link in links if link.master in name},
        addresses=frozenset((name[i], a) for i, a in socket.addresses() if i in name)
        if spec.addresses or spec.exact
        else frozenset(),
        neighbours=frozenset(
            (name[n.index], n.destination, n.mac)
            for n in neighbours
            if n.destination is not None and n.index in name
        ),
        fdb=frozenset(
            (name[row.index], row.mac, row.destination)
            for row in rows
            if row.index in name and _is_ours(row)
        ),
        routes=frozenset(
            RouteSpec(
                name[r.index], r.table, r.destination, r.gateway, source=r.source, local=r.local
            )
            for r in routes
            if r.index in name
        ),
        rules=frozenset(socket.rules()) if spec.rules else frozenset(),
        sysctls=_sysctls(rtnl, path, spec.sysctls),
    )


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
        return {key: sysctl.read(key) for key in wanted}
