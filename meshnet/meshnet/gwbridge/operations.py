"""docker_gwbridge's ports and rules as a reconciler sees them (``meshnet.reconcile``)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from operator import is_
from typing import TypeAlias

from meshnet.errors import MeshnetError, about
from meshnet.gwbridge import desired as wanted
from meshnet.kernel import changer, observer
from meshnet.kernel.iptables import Firewall, FirewallError
from meshnet.kernel.rtnl import RtnlClient, Watch, watch_nothing
from meshnet.model.since import Since
from meshnet.model.snapshot import Snapshot
from meshnet.netstate import netns_plan as netstate
from meshnet.netstate.changes import Change as NetnsChange
from meshnet.netstate.values import Desired as NetnsDesired
from meshnet.netstate.values import Observed as NetnsObserved
from meshnet.netstate.values import kept


@dataclass(frozen=True, slots=True)
class Desired:
    """Links and addresses, and the rules at the head of DOCKER-USER, and of FORWARD of IPv6."""

    netns: NetnsDesired
    rules: tuple[str, ...]
    rules6: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Observed:
    """What of it is there."""

    netns: NetnsObserved
    rules: tuple[str, ...]
    rules6: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class SetRules:
    """Make these the head of DOCKER-USER, or of FORWARD of IPv6."""

    rules: tuple[str, ...]
    second: bool = False


Change: TypeAlias = NetnsChange | SetRules


def plan(desired: Desired, observed: Observed, *, prune: bool) -> list[Change]:
    """Changes from ``observed`` to ``desired``; ``[]`` when equal. Pure."""
    changes: list[Change] = []
    if desired.rules != observed.rules and (desired.rules or prune):
        changes.append(SetRules(desired.rules))
    if desired.rules6 != observed.rules6 and (desired.rules6 or prune):
        changes.append(SetRules(desired.rules6, second=True))
    changes += netstate.plan(desired.netns, observed.netns, prune=prune)
    return changes


class GwbridgeOperations:
    """Gives containers their way out.

    Args:
        host_netns: path of the namespace that stands for the host; None: the process's own.
        give_way, watch: as in ``RtnlClient``.
    """

    name = "gwbridge"
    chooses = False

    def __init__(
        self,
        host_netns: str | None = None,
        give_way: Callable[[], None] = lambda: None,
        watch: Watch = watch_nothing,
    ) -> None:
        self._rtnl = RtnlClient(host_netns, give_way, watch)
        self._observer = observer.Observer(self._rtnl)
        self._firewall = Firewall(host_netns)
        self._firewall6 = Firewall(host_netns, "ip6tables")
        self._looks6 = True
        self._made: Desired | None = None
        self._made_of: tuple[object, ...] = ()

    def desired(self, snapshot: Snapshot) -> Desired:
        """See ``meshnet.gwbridge.desired``."""
        of = (snapshot.sandboxes, snapshot.gwbridge, snapshot.nodes, snapshot.networks)
        if self._made is not None and all(map(is_, of, self._made_of)):
            return self._made
        self._made_of = of
        fresh = Desired(
            wanted.desired(snapshot),
            wanted.forward_rules(snapshot),
            wanted.forward_rules6(snapshot),
        )
        if self._made is not None:
            fresh = replace(fresh, netns=kept(self._made.netns, fresh.netns))
        if fresh != self._made:
            self._made = fresh
        return self._made

    def observe(self, desired: Desired, since: Since[Desired] | None = None) -> Observed:
        """Read links, addresses, routes and rules back.

        Raises:
            MeshnetError: they cannot be read.
        """
        self._rtnl.keep({path for path in desired.netns.specs if path is not None})
        of_netns = None if since is None else Since(since.realised.netns, since.disturbed)
        return Observed(
            netns=self._observer.observe(desired.netns, frozenset(), of_netns),
            rules=self._firewall.rules(),
            rules6=self._rules6(desired),
        )

    def _rules6(self, desired: Desired) -> tuple[str, ...]:
        """Those of IPv6; where none are wanted they are looked for once."""
        if not (desired.rules6 or self._looks6):
            return ()
        try:
            found = self._firewall6.rules()
        except FirewallError:
            if desired.rules6:
                raise
            found = ()  # a host without the command has no such rules
        self._looks6 = bool(desired.rules6 or found)
        return found

    def plan(self, desired: Desired, observed: Observed, *, prune: bool) -> list[Change]:
        """See ``plan``."""
        return plan(desired, observed, prune=prune)

    def apply(self, changes: Sequence[Change]) -> None:
        """Make the changes.

        Raises:
            ExceptionGroup: of the MeshnetErrors of those that failed.
        """
        failed: list[Exception] = []
        links: list[NetnsChange] = []
        for change in changes:
            if not isinstance(change, SetRules):
                links.append(change)
                continue
            try:
                firewall = self._firewall6 if change.second else self._firewall
                firewall.set_rules(change.rules)
            except MeshnetError as error:
                failed.append(about(error, (None, "")))
        self._observer.changed(links)
        try:
            changer.apply(self._rtnl, links)
        except ExceptionGroup as group:
            failed.append(group)
        if failed:
            raise ExceptionGroup("docker_gwbridge", failed)

    def close(self) -> None:
        """Close the sockets; ports and rules stay."""
        self._rtnl.close()
        self._firewall.close()
        self._firewall6.close()
