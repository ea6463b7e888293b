"""A lab made as its file says, whatever it was: observe, plan, apply, until nothing is left to do.

Be aware: not locked against a second ``apply`` of the same lab at the same time. What fails leaves
the rest as it is; the next ``apply`` goes on from there.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from meshnet_control.lab import adapter, apply_plan, link_state
from meshnet_control.lab.apply_plan import OUTSIDE, Seen, Step
from meshnet_control.lab.errors import LabError
from meshnet_control.lab.lab import Lab, Report, need_root
from meshnet_control.lab.lab_plan import Change, Make
from meshnet_control.lab.layout import Layout
from meshnet_control.lab.play import Play
from meshnet_control.lab.swarm import JOIN_S

_ROUNDS: Final = 4
"""Machines, then what they turn out to be in; the others are for what fails on the way."""
_STANDING: Final = "docker info -f '{{.Swarm.LocalNodeState}} {{.Swarm.ControlAvailable}}'"
_NODES: Final = "docker node ls --format '{{.ID}} {{.Hostname}} {{.Status}}'"
_ROLES: Final = {"true": "manager", "false": "worker"}


@dataclass(slots=True)
class Applying:
    """One lab that is made as its file says.

    Attributes:
        lab: as it should be.
        before: as it was; its hosts are entered by this.
        report: told of each machine what is done.
    """

    lab: Lab
    before: Lab
    report: Report

    def plan(self) -> list[Step]:
        """What there is to do now, in order.

        Raises:
            LabError: the file cannot be followed without an end of the cluster.
        """
        need_root()
        if self.before.has_vms:
            raise LabError("a lab of virtual machines is up: meshnet lab down")
        return apply_plan.plan(self.lab.layout, self.observe())

    def run(self) -> list[Step]:
        """Do it; what was done.

        Raises:
            LabError: something failed, or the lab does not come to what the file says.
        """
        if any(link.delay_ms for link in self.lab.layout.links.values()):
            link_state.need_delays()
        done: list[Step] = []
        fresh = not self.lab.observe().members
        steps: list[Step] = []
        try:
            for _ in range(_ROUNDS):
                steps = self.plan()
                if not steps:
                    self.lab.settle(self.lab.observe())
                    return done
                for step in steps:
                    self._apply(step)
                    done.append(step)
                self.lab.forget(self.report)
        except BaseException:
            if fresh:
                self.lab.down(self.report)
            raise
        raise LabError(f"the lab is still not as its file says: {'; '.join(map(str, steps))}")

    def observe(self) -> Seen:
        """What is there, read from the kernel and of the engines."""
        machines = self.lab.observe()
        hosts = sorted(machines.members - {self.lab.layout.client.name})
        living = [host for host in hosts if machines.is_whole(host)]
        found = {host: self._standing(host) for host in living}
        standings = {host: role for host, role in found.items() if role is not None}
        manager = next((host for host, role in standings.items() if role == "manager"), None)
        nodes = self._nodes(manager) if manager is not None else []
        return Seen(
            machines,
            standings,
            {host: any(ready for _, name, ready in nodes if name == host) for _, host, _ in nodes},
            self.lab.disks() - {self.lab.layout.client.name},
            adapter.named(self.lab.layout),
            link_state.observe(self.lab.layout) if machines.is_up else {},
        )

    def _apply(self, step: Step) -> None:
        match step:
            case apply_plan.Machines(changes):
                self._machines(changes)
            case apply_plan.Serve(host):
                self.lab.serve(host, self.report)
            case apply_plan.Names(member):
                adapter.name_others(self.lab.layout, member)
            case apply_plan.Init(host):
                self.report(host, "beginning the cluster")
                address = self.lab.layout.machine(host).address.ip
                self._outside(host, f"docker swarm init --advertise-addr {address}")
            case apply_plan.Join(host, role):
                self._join(host, role)
            case apply_plan.SetRole(host, role):
                self.report(host, f"becoming a {role}")
                verb = "promote" if role == "manager" else "demote"
                self._on(self._manager(host), f"docker node {verb} {host}")
                self._until_standing(host, role)
            case apply_plan.Leave(host, alive):
                self._leave(host, alive=alive)
            case apply_plan.SetLinks(links):
                self.report("links", "set")
                link_state.write(self.lab.layout, dict(links))

    def _machines(self, changes: Sequence[Change]) -> None:
        self.lab.settle(self.lab.observe())
        self.lab.hosts.prepare(self.lab.layout, lambda what: self.report("lab", what))
        self.lab.change(changes, self.report)
        made = [change.member for change in changes if isinstance(change, Make)]
        self.lab.each(made, lambda name: self.lab.serve(name, self.report))

    def _join(self, host: str, role: str) -> None:
        self.report(host, f"joining as a {role}")
        manager = self._manager(host)
        token = self._on(manager, f"docker swarm join-token -q {role}")
        address = self.lab.layout.machine(manager).address.ip
        self._outside(host, f"docker swarm join --token {token} {address}:2377")

    def _leave(self, host: str, *, alive: bool) -> None:
        self.report(host, "leaving the cluster")
        manager = self._manager(host)
        if alive:
            if self._standing(host) == "manager":
                self._on(manager, f"docker node demote {host}")
                self._until_standing(host, "worker")
            self._on(host, "docker swarm leave")
        else:
            self._play(manager).attempt(manager, f"docker node demote {host}")
        ids = " ".join(node for node, name, _ in self._nodes(manager) if name == host)
        if ids:
            self._on(manager, f"docker node rm --force {ids}")

    def _outside(self, host: str, command: str) -> None:
        """Run a command that only a host outside of the cluster takes; inside it is done."""
        if self._standing(host) in {OUTSIDE, None}:
            self._on(host, command)

    def _manager(self, other: str) -> str:
        """A manager that is not ``other``.

        Raises:
            LabError: none answers.
        """
        for host in self._hosts():
            if host != other and self._standing(host) == "manager":
                return host
        raise LabError("no manager answers: meshnet lab apply again when one does")

    def _hosts(self) -> Iterator[str]:
        whole = self.lab.observe()
        for layout in (self.lab.layout, self.before.layout):
            yield from (host.name for host in layout.hosts if whole.is_whole(host.name))

    def _standing(self, host: str) -> str | None:
        """Its role, ``OUTSIDE``, or None: it does not answer."""
        try:
            code, said = self._play(host).attempt(host, _STANDING, timeout_s=10)
        except LabError:  # it hangs, or a run that failed half-way has forgotten it
            return None
        state, _, manages = said.strip().rpartition("\n")[2].partition(" ")
        if code != 0:
            return None
        return OUTSIDE if state == "inactive" else _ROLES.get(manages)

    def _nodes(self, manager: str) -> list[tuple[str, str, bool]]:
        code, said = self._play(manager).attempt(manager, _NODES)
        rows = [row.split() for row in said.splitlines()] if code == 0 else []
        return [(row[0], row[1], row[2] == "Ready") for row in rows if len(row) > 2]  # noqa: PLR2004

    def _until_standing(self, host: str, role: str) -> None:
        adapter.wait_for(
            f"{host} to be a {role}",
            lambda: self._standing(host) == role,
            timeout_s=JOIN_S,
            interval_s=0.2,
        )

    def _on(self, host: str, command: str) -> str:
        return self._play(host).quietly(host, command, timeout_s=JOIN_S)

    def _play(self, host: str) -> Play:
        known = {machine.name for machine in self.lab.layout.machines}
        return Play(self.lab if host in known else self.before)


def applying(layout: Layout, text: str, name: str, report: Report) -> Applying:
    """What makes the lab ``layout`` names as a file says.

    Raises:
        LabFileError: what is wrong with the file.
    """
    return Applying(Lab.of_file(layout, text, name), Lab.known(layout), report)
