"""One cluster of a lab's hosts: the first one begins it, the first few manage it.

Touches the hosts by the commands a user would type. What is there is left as it is: a host that
joined is not joined again, so that ``lab up`` repairs here, too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from meshnet_control.lab.errors import LabError
from meshnet_control.lab.layout import Layout
from meshnet_control.lab.play import Play
from meshnet_control.lab.topology import Role

JOIN_S: Final = 120.0
"""For one host; a second manager has the store moved first."""
_STATE: Final = "docker info --format '{{.Swarm.LocalNodeState}} {{.Swarm.ControlAvailable}}'"


@dataclass(frozen=True, slots=True)
class Join:
    """A host joins as one or the other."""

    host: str
    role: Role


def check(layout: Layout, managers: int) -> None:
    """Refuse a number of managers that a lab cannot have. PURE.

    Raises:
        LabError: it has not so many hosts, or none is to manage.
    """
    if not 1 <= managers <= layout.size:
        raise LabError(f"of {layout.size} hosts 1 to {layout.size} can be managers, not {managers}")


def joins(layout: Layout, managers: int, states: Mapping[str, str]) -> list[Join]:
    """Which hosts join, in order: managers first, one after the other. PURE.

    Args:
        layout: the lab.
        managers: how many of its hosts manage.
        states: of each host in the cluster, as ``docker info`` says it; "inactive": it is in none.

    Raises:
        LabError: see ``check``.
    """
    check(layout, managers)
    _, *others = layout.hosts
    wanted = [
        Join(host.name, "manager" if number <= managers else "worker")
        for number, host in enumerate(others, start=2)
    ]
    return [each for each in wanted if states[each.host].startswith("inactive")]


def form(play: Play, managers: int) -> list[Join]:
    """Make one cluster of the lab; what was done.

    Raises:
        LabError: a command fails, or there are not so many hosts.
    """
    layout = play.lab.layout
    states = {host.name: play.quietly(host.name, _STATE) for host in layout.hosts}
    wanted = joins(layout, managers, states)
    first = layout.hosts[0]
    if states[first.name].startswith("inactive"):
        play.quietly(first.name, f"docker swarm init --advertise-addr {first.address.ip}")
    for each in wanted:
        token = play.quietly(first.name, f"docker swarm join-token -q {each.role}")
        command = f"docker swarm join --token {token} {first.name}:2377"
        play.quietly(each.host, command, timeout_s=JOIN_S)
    return wanted
