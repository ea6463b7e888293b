"""The overlay networks as a reconciler sees them (``meshnet.reconcile.Operations``).

Before ``mn-ingress`` is made the host's routes are looked at: the ingress network's connected route
would take the way to whatever is behind one that it overlaps. Then the host does not take part in
the mesh and says so, every round, until one of the two is another.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from ipaddress import IPv4Interface, IPv4Network
from pathlib import Path
from typing import TypeAlias

from meshnet.errors import SubnetTakenError, about
from meshnet.kernel import changer, host, netns, observer
from meshnet.kernel.rtnl import RtnlClient, Watch, watch_nothing
from meshnet.model.mesh import INGRESS_LINK
from meshnet.model.since import Since
from meshnet.model.snapshot import Snapshot
from meshnet.netstate import netns_plan as netstate
from meshnet.netstate.changes import Change as NetnsChange
from meshnet.netstate.values import Desired, NetnsState
from meshnet.netstate.values import Observed as NetnsObserved
from meshnet.overlay.desired import PREFIX, Overlays


@dataclass(frozen=True, slots=True)
class Observed:
    """Links and rows; while there is no ``mn-ingress`` also the host's (destination, link)s."""

    netns: NetnsObserved
    routes: tuple[tuple[IPv4Network, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Refuse:
    """Say that the ingress network cannot be on this host."""

    subnet: IPv4Network
    route: tuple[IPv4Network, str]


Change: TypeAlias = NetnsChange | Refuse


def plan(desired: Desired, observed: Observed, *, prune: bool) -> list[Change]:
    """Changes from ``observed`` to ``desired``; ``[]`` when equal. Pure."""
    refused = _refused(desired, observed)
    if refused is None:
        return [*netstate.plan(desired, observed.netns, prune=prune)]
    specs = dict(desired.specs)
    specs[None] = replace(specs[None], addresses=frozenset(), sysctls={}, exact=frozenset())
    veths = tuple(veth for veth in desired.veths if veth.peer != INGRESS_LINK)
    return [*netstate.plan(Desired(specs, veths), observed.netns, prune=prune), refused]


def _refused(desired: Desired, observed: Observed) -> Refuse | None:
    for name, address in desired.specs[None].addresses:
        if name == INGRESS_LINK and isinstance(address, IPv4Interface):
            route = host.conflicting_route(address.network, observed.routes)
            return None if route is None else Refuse(address.network, route)
    return None


class OverlayOperations:
    """Realises the overlay networks that containers of this host are on.

    Args:
        host_netns: path of the namespace that stands for the host; None: the process's own.
        netns_dir: where the networks' namespaces are named.
        give_way, watch: as in ``RtnlClient``.
    """

    name = "overlay"
    chooses = False

    def __init__(
        self,
        host_netns: str | None = None,
        netns_dir: Path = netns.NETNS_DIR,
        give_way: Callable[[], None] = lambda: None,
        watch: Watch = watch_nothing,
    ) -> None:
        self._rtnl = RtnlClient(host_netns, give_way, watch)
        self._observer = observer.Observer(self._rtnl)
        self._netns_dir = netns_dir
        self._overlays = Overlays(netns_dir)

    def desired(self, snapshot: Snapshot) -> Desired:
        """See ``meshnet.overlay.desired``."""
        return self._overlays.of(snapshot)

    def observe(self, desired: Desired, since: Since[Desired] | None = None) -> Observed:
        """Read the namespaces back.

        Raises:
            KernelError: the host's routes cannot be read.
        """
        made = frozenset(
            str(self._netns_dir / name) for name in netns.names(self._netns_dir, PREFIX)
        )
        self._rtnl.keep({path for path in desired.specs if path is not None} | made)
        found = self._observer.observe(desired, made, since)
        if found.looked is not None and None not in found.looked:
            return Observed(found)
        if INGRESS_LINK in found.states.get(None, NetnsState()).links:
            return Observed(found)
        return Observed(found, tuple(host.host_routes(self._rtnl)))

    def is_disturbed(self, path: str | None, row: bytes) -> bool:
        """Whether somebody else made a row there (``Observer.is_disturbed``)."""
        return self._observer.is_disturbed(path, row)

    def plan(self, desired: Desired, observed: Observed, *, prune: bool) -> list[Change]:
        """See ``plan``."""
        return plan(desired, observed, prune=prune)

    def apply(self, changes: Sequence[Change]) -> None:
        """Make the changes.

        Raises:
            ExceptionGroup: of the MeshnetErrors of those that failed or were refused.
        """
        failed: list[Exception] = [
            about(
                SubnetTakenError(str(each.subnet), f"{each.route[0]} dev {each.route[1]}"),
                (None, INGRESS_LINK),
            )
            for each in changes
            if isinstance(each, Refuse)
        ]
        made = [each for each in changes if not isinstance(each, Refuse)]
        self._observer.changed(made)
        try:
            changer.apply(self._rtnl, made)
        except ExceptionGroup as group:
            failed.append(group)
        if failed:
            raise ExceptionGroup("overlay", failed)

    def close(self) -> None:
        """Close the sockets; the networks stay."""
        self._rtnl.close()
