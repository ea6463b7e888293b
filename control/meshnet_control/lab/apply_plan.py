"""From a lab file and a running lab to what makes the lab as the file says. Pure.

The machines are one part (``lab_plan``), the cluster that they form and what the links do are two
others. The order keeps a cluster alive: who is new comes and joins first, then who goes leaves,
then its machine is taken away; a host that moves leaves at its old address and joins at the new.

Law: ``plan`` of what applying it leads to is empty.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from meshnet_control.lab import lab_plan
from meshnet_control.lab.errors import LabError
from meshnet_control.lab.lab_plan import Make, MakeLan, Observed, Unmake, UnmakeLan
from meshnet_control.lab.layout import Layout
from meshnet_control.lab.topology import Ends, Impairment, Links, Role

OUTSIDE = "none"
"""The role of a host that is in no cluster."""
Standing = Role | str


@dataclass(frozen=True, slots=True)
class Seen:
    """A running lab.

    Attributes:
        machines: what the kernel has of it.
        standings: of each host whose engine answers, its role or ``OUTSIDE``.
        nodes: of those a manager lists, whether the node is ready.
        disks: hosts that were here before, and may be in a cluster once they run.
        named: machines that know the names of all others.
        links: what the links do.
    """

    machines: Observed = field(default_factory=Observed)
    standings: Mapping[str, Standing] = field(default_factory=dict)
    nodes: Mapping[str, bool] = field(default_factory=dict)
    disks: frozenset[str] = frozenset()
    named: frozenset[str] = frozenset()
    links: Links = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Machines:
    """Changes of machines and LANs; a host that is made is brought to serve."""

    changes: tuple[lab_plan.Change, ...]

    def __str__(self) -> str:
        return "; ".join(_said(change) for change in self.changes)


@dataclass(frozen=True, slots=True)
class Serve:
    """Start what a host should run."""

    host: str

    def __str__(self) -> str:
        return f"{self.host}: start its engine and meshnetd"


@dataclass(frozen=True, slots=True)
class Names:
    """Tell a machine the names of all others."""

    member: str

    def __str__(self) -> str:
        return f"{self.member}: tell it the names of the others"


@dataclass(frozen=True, slots=True)
class Init:
    """Begin a cluster."""

    host: str

    def __str__(self) -> str:
        return f"{self.host}: begin the cluster"


@dataclass(frozen=True, slots=True)
class Join:
    """A host joins the cluster."""

    host: str
    role: Role

    def __str__(self) -> str:
        return f"{self.host}: join as a {self.role}"


@dataclass(frozen=True, slots=True)
class SetRole:
    """A node is promoted or demoted."""

    host: str
    role: Role

    def __str__(self) -> str:
        return f"{self.host}: {'promote' if self.role == 'manager' else 'demote'}"


@dataclass(frozen=True, slots=True)
class Leave:
    """A host leaves the cluster, by its own word where it still can, and is forgotten there."""

    host: str
    alive: bool = True

    def __str__(self) -> str:
        return f"{self.host}: leave the cluster" if self.alive else f"{self.host}: forget the node"


@dataclass(frozen=True, slots=True)
class SetLinks:
    """All links, as they should be."""

    links: tuple[tuple[Ends, Impairment], ...]
    were: tuple[tuple[Ends, Impairment], ...] = ()

    def __str__(self) -> str:
        now, before = dict(self.links), dict(self.were)
        keys = [*now, *(key for key in before if key not in now)]
        return "; ".join(
            f"link {' '.join(key)}: {now.get(key, Impairment())}"
            for key in keys
            if now.get(key) != before.get(key)
        )


Step = Machines | Serve | Names | Init | Join | SetRole | Leave | SetLinks


def plan(layout: Layout, seen: Seen) -> list[Step]:
    """What to do, in order.

    Raises:
        LabError: the cluster would lose its last manager.
    """
    changes = lab_plan.plan(lab_plan.desired(layout), seen.machines)
    unmade = {change.member for change in changes if isinstance(change, Unmake)}
    hosts = [host.name for host in layout.hosts]
    roles = wanted_roles(layout)
    going = _going(seen, hosts, unmade, in_cluster=bool(roles))
    stay = {host for host, role in seen.standings.items() if role != OUTSIDE} - going
    late = going | unmade
    joins = _joins(roles, seen, stay, late)
    waits = bool(joins) and isinstance(joins[0], Init) and joins[0].host in late
    early = [] if waits else [step for step in joins if step.host not in late]
    promoted = _of(roles, seen, stay, "worker", "manager")
    coming = {step.host for step in early if roles[step.host] == "manager"}
    _need_manager(seen, going, coming.union(promoted))
    fresh = _additions(layout, changes)
    rest = tuple(change for change in changes if change not in fresh)
    steps: list[Step] = [Machines(fresh)] if fresh else []
    steps += [Serve(host) for host in hosts if _sleeps(host, seen) and host not in unmade]
    steps += [Names(member) for member in _unnamed(layout, seen, unmade)]
    steps += early
    steps += [SetRole(host, "manager") for host in promoted]
    steps += [Leave(host, alive=host in seen.standings) for host in sorted(going)]
    steps += [Machines(rest)] if rest else []
    steps += [step for step in joins if step not in early]
    steps += [SetRole(host, "worker") for host in _of(roles, seen, stay, "manager", "worker")]
    if dict(layout.links) != dict(seen.links):
        steps.append(SetLinks(tuple(layout.links.items()), tuple(seen.links.items())))
    return steps


def wanted_roles(layout: Layout) -> dict[str, Role]:
    """The role of each host; none where the file names no manager: there is no cluster then."""
    hosts = layout.topology.hosts if layout.topology is not None else ()
    if not any(host.manager for host in hosts):
        return {}
    return {host.name: "manager" if host.manager else "worker" for host in hosts}


def _going(
    seen: Seen, hosts: Iterable[str], unmade: set[str], *, in_cluster: bool
) -> frozenset[str]:
    """Who leaves: hosts that live and are unmade, and nodes that are no host of the file.

    A host whose cluster the file does not speak of stays in it.
    """
    members = {host for host, role in seen.standings.items() if role != OUTSIDE}
    known = set(hosts)
    gone = {node for node in seen.nodes if node not in known} if in_cluster else set()
    return frozenset((members & unmade) | gone)


def _need_manager(seen: Seen, going: frozenset[str], coming: set[str]) -> None:
    managers = {host for host, role in seen.standings.items() if role == "manager"}
    if managers and not (managers - going) | coming:
        last = ", ".join(sorted(managers))
        raise LabError(
            f"the file moves or removes every manager that there is ({last}), and the cluster "
            "would end: add another manager first, apply, and then change these; or meshnet lab "
            "down"
        )


def _joins(
    roles: Mapping[str, Role], seen: Seen, stay: set[str], late: frozenset[str]
) -> list[Init | Join]:
    """Managers first; a host that was a node before it was powered off comes back by itself."""
    back = seen.disks - seen.standings.keys()
    outside = [host for host in roles if host not in stay and host not in back]
    ordered = sorted(outside, key=lambda host: (roles[host] != "manager", host in late))
    begins = not any(role == "manager" for role in seen.standings.values()) and not back
    steps: list[Init | Join] = [Join(host, roles[host]) for host in ordered]
    if begins and ordered:
        steps[0] = Init(ordered[0])
    return steps


def _of(
    roles: Mapping[str, Role], seen: Seen, stay: set[str], is_: Role, should: Role
) -> list[str]:
    return [
        host
        for host, role in roles.items()
        if host in stay and seen.standings[host] == is_ and role == should
    ]


def _sleeps(host: str, seen: Seen) -> bool:
    return seen.machines.is_whole(host) and host not in seen.standings


def _unnamed(layout: Layout, seen: Seen, unmade: set[str]) -> list[str]:
    return [
        machine.name
        for machine in layout.machines
        if seen.machines.is_whole(machine.name)
        and machine.name not in unmade
        and machine.name not in seen.named
    ]


def _additions(layout: Layout, changes: Iterable[lab_plan.Change]) -> tuple[lab_plan.Change, ...]:
    """What takes nothing away and stands on nothing that is taken away."""
    unmade = {change.member for change in changes if isinstance(change, Unmake)}
    remade = {change.lan for change in changes if isinstance(change, UnmakeLan)}

    def adds(change: lab_plan.Change) -> bool:
        match change:
            case Make(member):
                return member not in unmade and layout.machine(member).lan not in remade
            case MakeLan(lan):
                return lan not in remade
            case lab_plan.MakeRouter():
                return True
        return False

    return tuple(change for change in changes if adds(change))


def _said(change: lab_plan.Change) -> str:
    match change:
        case Unmake(member):
            return f"{member}: power off and unplug"
        case Make(member):
            return f"{member}: make and plug in"
        case UnmakeLan(lan):
            return f"LAN {lan}: remove"
        case MakeLan(lan):
            return f"LAN {lan}: make"
        case lab_plan.MakeRouter():
            return "router: make"
        case _:
            return "router: remove"
