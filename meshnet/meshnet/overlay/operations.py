"""The overlay networks as a reconciler sees them (``meshnet.reconcile.Operations``).

Before ``mn-ingress`` is made the host's routes are looked at: the ingress network's connected route
would take the way to whatever is behind one that it overlaps. Then the host does not take part in
the mesh and says so, every round, until one of the two is another.

Encrypted overlays fail closed: what makes the kernel encrypt is there before their links, and goes
after them; on a host whose kernel cannot encrypt nothing of them is made.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from meshnet.errors import KernelError, MeshnetError, SubnetTakenError, about
from meshnet.kernel import changer, host, netns, observer
from meshnet.kernel.rtnl import RtnlClient, Watch, watch_nothing
from meshnet.kernel.xfrm import XfrmClient
from meshnet.model.families import IpNetwork, order
from meshnet.model.mesh import INGRESS_LINK
from meshnet.model.since import Since
from meshnet.model.snapshot import Snapshot
from meshnet.netstate import esp_plan
from meshnet.netstate import netns_plan as netstate
from meshnet.netstate.changes import AddVeth, DelLink, DelNetns
from meshnet.netstate.changes import Change as NetnsChange
from meshnet.netstate.esp import DelPolicy, EspChange, EspState
from meshnet.netstate.values import Desired, NetnsSpec, NetnsState
from meshnet.netstate.values import Observed as NetnsObserved
from meshnet.overlay.desired import PREFIX, VXLAN, Overlays


@dataclass(frozen=True, slots=True)
class Observed:
    """Links and rows; while there is no ``mn-ingress`` also the host's (destination, link)s."""

    netns: NetnsObserved
    routes: tuple[tuple[IpNetwork, str], ...] = ()
    esp: EspState | None = None
    """What of ours XFRM has; None: it was not looked at."""


@dataclass(frozen=True, slots=True)
class Refuse:
    """Say that the ingress network cannot be on this host."""

    subnet: IpNetwork
    route: tuple[IpNetwork, str]


@dataclass(frozen=True, slots=True)
class Encrypt:
    """Bring XFRM about, for overlays that have these namespaces."""

    changes: tuple[EspChange, ...]
    namespaces: frozenset[str] = frozenset()


Change: TypeAlias = NetnsChange | Refuse | Encrypt


def plan(desired: Desired, observed: Observed, *, prune: bool) -> list[Change]:
    """Changes from ``observed`` to ``desired``; ``[]`` when equal. Pure."""
    changes = _plan_links(desired, observed, prune=prune)
    if observed.esp is None:
        return changes
    esp = esp_plan.plan(desired.esp, observed.esp, prune=prune)
    if desired.esp is None:
        return [*changes, Encrypt(tuple(esp))] if esp else changes
    last = tuple(each for each in esp if isinstance(each, DelPolicy))
    first = tuple(each for each in esp if not isinstance(each, DelPolicy))
    if first:
        changes.insert(0, Encrypt(first, desired.esp.namespaces))
    return [*changes, Encrypt(last)] if last else changes


def _plan_links(desired: Desired, observed: Observed, *, prune: bool) -> list[Change]:
    refused = _refused(desired, observed)
    if refused is None:
        return [*netstate.plan(desired, observed.netns, prune=prune)]
    specs = dict(desired.specs)
    specs[None] = NetnsSpec(owned=specs[None].owned)
    veths = tuple(veth for veth in desired.veths if veth.peer != INGRESS_LINK)
    return [*netstate.plan(Desired(specs, veths), observed.netns, prune=prune), refused]


def _refused(desired: Desired, observed: Observed) -> Refuse | None:
    own = (address for on, address in desired.specs[None].addresses if on == INGRESS_LINK)
    for address in sorted(own, key=order):
        route = host.conflicting_route(address.network, observed.routes)
        if route is not None:
            return Refuse(address.network, route)
    return None


class OverlayOperations:
    """Realises the overlay networks that containers of this host are on.

    Args:
        host_netns: path of the namespace that stands for the host; None: the process's own.
        netns_dir: where the networks' namespaces are named.
        give_way, watch: as in ``RtnlClient``.
        on_life: as in ``XfrmClient``.
    """

    name = "overlay"
    chooses = False

    def __init__(
        self,
        host_netns: str | None = None,
        netns_dir: Path = netns.NETNS_DIR,
        give_way: Callable[[], None] = lambda: None,
        watch: Watch = watch_nothing,
        on_life: Callable[[bytes], None] = lambda _: None,
    ) -> None:
        self._rtnl = RtnlClient(host_netns, give_way, watch)
        self._observer = observer.Observer(self._rtnl)
        self._netns_dir = netns_dir
        self._overlays = Overlays(netns_dir)
        self._xfrm = XfrmClient(host_netns, on_life)

    def desired(self, snapshot: Snapshot) -> Desired:
        """See ``meshnet.overlay.desired``."""
        return self._overlays.of(snapshot)

    def observe(self, desired: Desired, since: Since[Desired] | None = None) -> Observed:
        """Read the namespaces back.

        Raises:
            KernelError: the host's routes cannot be read, or what is encrypted where any is.
        """
        made = frozenset(
            str(self._netns_dir / name) for name in netns.names(self._netns_dir, PREFIX)
        )
        self._rtnl.keep({path for path in desired.specs if path is not None} | made)
        found = self._observer.observe(desired, made, since)
        esp = self._encryption(desired) if _is_looked_at(desired, since) else None
        if found.looked is not None and None not in found.looked:
            return Observed(found, esp=esp)
        if INGRESS_LINK in found.states.get(None, NetnsState()).links:
            return Observed(found, esp=esp)
        return Observed(found, tuple(host.host_routes(self._rtnl)), esp)

    def _encryption(self, desired: Desired) -> EspState | None:
        """What of ours XFRM has; where nothing is to be encrypted it may be silent (None)."""
        try:
            return self._xfrm.observe()
        except KernelError:
            if desired.esp is not None:
                raise
            return None

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
        failed: list[Exception] = []
        closed: frozenset[str] = frozenset()
        links: list[NetnsChange] = []
        ends: list[Encrypt] = []
        for each in changes:
            if isinstance(each, Refuse):
                error = SubnetTakenError(str(each.subnet), f"{each.route[0]} dev {each.route[1]}")
                failed.append(about(error, (None, INGRESS_LINK)))
            elif not isinstance(each, Encrypt):
                links.append(each)
            elif each.namespaces:
                try:
                    self._xfrm.apply(each.changes)
                except (MeshnetError, ExceptionGroup) as error:
                    failed.append(_of_overlays(error, each.namespaces))
                    closed = each.namespaces
            else:
                ends.append(each)
        made = _without(links, closed)
        self._observer.changed(made)
        try:
            changer.apply(self._rtnl, made)
        except ExceptionGroup as group:
            failed.append(group)
        for each in ends if not failed else ():
            self._xfrm.apply(each.changes)
        if failed:
            raise ExceptionGroup("overlay", failed)

    def close(self) -> None:
        """Close the sockets; the networks stay."""
        self._rtnl.close()
        self._xfrm.close()


def _is_looked_at(desired: Desired, since: Since[Desired] | None) -> bool:
    """Whether XFRM may be otherwise than it should be."""
    return since is None or None in since.disturbed or since.realised.esp is not desired.esp


def _without(changes: Sequence[NetnsChange], closed: frozenset[str]) -> list[NetnsChange]:
    """Those that make nothing of overlays that would be in clear, nor need what is not made."""
    ends = {
        (each.peer_netns, each.peer)
        for each in changes
        if isinstance(each, AddVeth) and each.netns in closed
    }

    def is_kept_from(change: NetnsChange) -> bool:
        if isinstance(change, DelLink | DelNetns):
            return False
        where, name = getattr(change, "netns", None), getattr(change, "name", "")
        return where in closed or getattr(change, "path", None) in closed or (where, name) in ends

    return [each for each in changes if not is_kept_from(each)]


def _of_overlays(error: Exception, namespaces: frozenset[str]) -> Exception:
    """The same error; what is on these overlays waits for it, and nothing else."""
    group = error if isinstance(error, ExceptionGroup) else ExceptionGroup("encryption", [error])
    places = [(path, VXLAN) for path in sorted(namespaces)]
    for each in group.exceptions:
        if isinstance(each, MeshnetError):
            about(each, *places)
    return group
