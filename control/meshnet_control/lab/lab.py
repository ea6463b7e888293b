"""The lab's verbs: up, down, kill, start, partition, and the command line to enter a machine.

``applying`` makes one as its file says.

``up`` compares what should be with what is and makes the difference, so it also repairs; machines
are made in parallel. When it fails, what this very run made is removed again. ``down`` removes
every trace.

Be aware: not locked against a second ``up`` of the same lab at the same time.
"""

from __future__ import annotations

import functools
import itertools
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

from meshnet_control.lab import adapter, cables, lab_file, lab_plan, link_state, services
from meshnet_control.lab.errors import LabError
from meshnet_control.lab.hosts import Hosts, Namespaces
from meshnet_control.lab.lab_plan import Change, Desired, Make, Observed, Unmake
from meshnet_control.lab.layout import DEFAULT_NAME, VM_SUBNET, Layout
from meshnet_control.lab.topology import Impairment, ends
from meshnet_control.lab.vms import hosts as vms

Report = Callable[[str, str], None]
"""Told (machine, what it does now) as ``up`` goes on."""


@dataclass(frozen=True, slots=True)
class Lab:
    """One lab on this machine, up or not."""

    layout: Layout
    engine_only: bool = False
    hosts: Hosts = field(default_factory=Namespaces)
    file: str = ""
    """The text of the lab file it is made from; empty: of none."""

    @classmethod
    def of_file(cls, layout: Layout, text: str, name: str) -> Lab:
        """The lab that a file describes, under the name of ``layout``.

        Raises:
            LabFileError: what is wrong with it.
        """
        topology = lab_file.parsed(text, name)
        layout = replace(layout, size=len(topology.hosts), topology=topology)
        return cls(layout, file=text)

    @classmethod
    def current(cls, environ: Mapping[str, str] = os.environ) -> Lab:
        """The lab ``MESHNET_LAB`` names (``mnlab`` unless set), as its last ``up`` left it."""
        return cls.known(Layout(lab_name(environ)))

    @classmethod
    def known(cls, layout: Layout) -> Lab:
        """The lab of that name as its last ``up`` left it; namespaces where there is none.

        Raises:
            LabError: its files are damaged.
        """
        try:
            saved = json.loads(_settings(layout).read_text())
        except ValueError:
            raise LabError(f"{_settings(layout)} is damaged: meshnet lab down") from None
        except FileNotFoundError:
            return cls.of_vms(layout) if vms.processes(layout) else cls(layout)
        file = _file(layout)
        if file.is_file():
            return cls.of_file(layout, file.read_text(), str(file))
        layout = replace(layout, size=saved["hosts"])
        if saved.get("vms"):
            return cls.of_vms(layout, engine_only=saved["engine_only"])
        return cls(layout, engine_only=saved["engine_only"])

    @classmethod
    def remains(cls, layout: Layout) -> Lab:
        """Whatever is left of the lab of that name, to be removed; its files decide nothing."""
        try:
            return cls.known(layout)
        except LabError:
            return cls.of_vms(layout) if vms.processes(layout) else cls(layout)

    @classmethod
    def of_vms(cls, layout: Layout, *, engine_only: bool = False) -> Lab:
        """A lab whose hosts are virtual machines, at the addresses Vagrant's have."""
        return cls(replace(layout, subnet=VM_SUBNET), engine_only=engine_only, hosts=vms.Vms())

    @property
    def has_vms(self) -> bool:
        """Whether its hosts are virtual machines."""
        return isinstance(self.hosts, vms.Vms)

    def observe(self) -> Observed:
        """What is there of it."""
        return self.hosts.observe(self.layout)

    def up(self, report: Report) -> None:
        """Make the lab, or what is missing of it.

        Raises:
            LabError: why not; what this call made is gone again.
        """
        need_root()
        preserved = self.observe()
        try:
            self.settle(preserved)
            self.hosts.prepare(self.layout, lambda what: report("lab", what))
            desired = lab_plan.desired(self.layout)
            self.change(lab_plan.plan(desired, self.observe()), report)
            self.forget(report)
            self.each(desired.members, lambda name: self.serve(name, report))
        except BaseException:
            made = self.observe().members - preserved.members
            if not preserved.members:
                self.down(report)
            else:
                self.each(sorted(made), lambda name: self._remove(name, report))
            raise

    def down(self, report: Report) -> None:
        """Remove the lab and every file of it; nothing there is success."""
        need_root()
        everything = self.observe().members | self.disks()
        self.each(sorted(everything), lambda name: self._remove(name, report))
        self.change(lab_plan.plan(Desired(), self.observe()), report)
        adapter.remove_cgroups(f"/{self.layout.name}")
        for root in (self.layout.run_root, self.layout.state_root):
            adapter.remove_tree(root / self.layout.name)
            if root.is_dir() and not any(root.iterdir()):
                root.rmdir()

    def kill(self, name: str) -> None:
        """Power a host off: all its processes die at once, its namespace goes, its disk stays."""
        need_root()
        self.layout.machine(name)
        if name not in self.observe().members:
            raise LabError(f"{name} is not running")
        self.hosts.unmake(self.layout, name)

    def start(self, name: str, report: Report) -> None:
        """Power a killed host on again, with the disk it had."""
        need_root()
        machine = self.layout.machine(name)
        observed = self.observe()
        if not observed.is_up:
            raise LabError("the lab is not up: meshnet lab up")
        if observed.is_whole(name):
            raise LabError(f"{name} is running already")
        self.hosts.unmake(self.layout, name)
        self.hosts.make(self.layout, machine)
        self.serve(name, report)

    def partition(self, one: str, other: str) -> None:
        """Cut the cable between two machines; both still reach all others."""
        self._cut(one, other, heal=False)

    def heal(self, one: str, other: str) -> None:
        """Undo :meth:`partition`."""
        self._cut(one, other, heal=True)

    def load(self, source: str, report: Report) -> None:
        """Load an image into every engine: a tar file, or an image of this machine's own engine."""
        need_root()
        if Path(source).is_file():
            content = Path(source).read_bytes()
        else:
            content = services.saved_image(source)
        up = self.observe()
        for host in self.layout.hosts:
            if up.is_whole(host.name):
                tags = self.hosts.load(self.layout, host.name, content)
                report(host.name, f"loaded {', '.join(tags)}")

    def command(self, name: str, argv: Sequence[str], *, cwd: str | None = None) -> list[str]:
        """The command line that runs ``argv`` on a machine, with DOCKER_HOST and PATH set for it.

        Raises:
            LabError: no such machine, or it is not running.
        """
        need_root()
        self.layout.machine(name)
        if name not in self.observe().inits:
            hint = "meshnet lab start " + name if self.disks() else "meshnet lab up"
            raise LabError(f"{name} is not running ({hint})")
        socket = "/run/docker.sock" if self.engine_only else "/run/meshnet/docker.sock"
        return self.hosts.enter(self.layout, name, argv, cwd, f"unix://{socket}")

    def socket(self, name: str) -> str:
        """DOCKER_HOST of a host for a command outside of the lab."""
        if not self.layout.machine(name).is_host:
            raise LabError(f"{name} runs no engine")
        socket = "docker.sock" if self.engine_only else "meshnet/docker.sock"
        return self.hosts.socket(self.layout, name, socket)

    def serve(self, name: str, report: Report) -> None:
        """Bring a host to serve, if the machine is one."""
        if self.layout.machine(name).is_host:
            say = functools.partial(report, name)
            self.hosts.serve(self.layout, name, say, engine_only=self.engine_only)
            say("ready")

    def settle(self, found: Observed) -> None:
        """Write down what kind of lab this is, before anything of it is made.

        Raises:
            LabError: one of another kind is up.
        """
        if found.members and Lab.known(self.layout).has_vms != self.has_vms:
            raise LabError("a lab of another kind is up: meshnet lab down")
        settings = _settings(self.layout)
        settings.parent.mkdir(parents=True, exist_ok=True)
        values = {
            "hosts": self.layout.size, "engine_only": self.engine_only, "vms": self.has_vms,
        }  # fmt: skip
        settings.write_text(json.dumps(values))
        if self.file:
            _file(self.layout).write_text(self.file)
        else:
            _file(self.layout).unlink(missing_ok=True)

    def change(self, changes: Sequence[Change], report: Report) -> None:
        """Change machines and LANs, machines in parallel."""
        unmade = [change.member for change in changes if isinstance(change, Unmake)]
        self.each(unmade, lambda name: self.hosts.unmake(self.layout, name))
        for change in changes:
            self._change_lan(change)
        made = [change.member for change in changes if isinstance(change, Make)]

        def make(name: str) -> None:
            report(name, "making")
            self.hosts.make(self.layout, self.layout.machine(name))
            if not self.layout.machine(name).is_host:
                report(name, "ready")

        self.each(made, make)

    def _change_lan(self, change: Change) -> None:
        match change:
            case lab_plan.UnmakeRouter():
                cables.remove_router(self.layout)
            case lab_plan.UnmakeLan(lan):
                cables.remove_lan(self.layout, lan)
            case lab_plan.MakeRouter():
                cables.make_router(self.layout)
            case lab_plan.MakeLan(lan):
                cables.make_lan(self.layout, self.layout.lan(lan))

    def forget(self, report: Report) -> None:
        """Remove the disks of machines that are no part of the lab any more."""
        known = {machine.name for machine in self.layout.machines}
        self.each(sorted(self.disks() - known), lambda name: self._remove(name, report))

    def _remove(self, name: str, report: Report) -> None:
        self.hosts.unmake(self.layout, name)
        for directory in (self.layout.run_dir(name), self.layout.state_dir(name)):
            adapter.remove_tree(directory)
        report(name, "gone")

    def disks(self) -> frozenset[str]:
        """Machines of which files are there."""
        root = self.layout.state_root / self.layout.name
        return (
            frozenset(path.name for path in root.iterdir() if path.is_dir())
            if root.is_dir()
            else frozenset()
        )

    def _cut(self, one: str, other: str, *, heal: bool) -> None:
        need_root()
        key = ends((self.layout.machine(one).name, self.layout.machine(other).name))
        with link_state.changing(self.layout) as links:
            links[key] = replace(links.get(key, Impairment()), down=not heal)

    @staticmethod
    def each(names: Iterable[str], work: Callable[[str], None]) -> None:
        """Do ``work`` for all names in parallel; the first failure is raised in the end."""
        with ThreadPoolExecutor(max_workers=8) as pool:
            for future in [pool.submit(work, name) for name in names]:
                future.result()


def lab_name(environ: Mapping[str, str]) -> str:
    """The lab that commands are about."""
    return environ.get("MESHNET_LAB", DEFAULT_NAME)


def need_root() -> None:
    """Refuse to go on as an ordinary user.

    Raises:
        LabError: the effective user is not root.
    """
    if os.geteuid() != 0:
        command = " ".join(
            itertools.chain(["sudo", shutil.which("meshnet") or sys.argv[0]], sys.argv[1:])
        )
        raise LabError(f"must be run as root (namespaces and links are made): {command}")


def _settings(layout: Layout) -> Path:
    return layout.state_root / layout.name / "lab.json"


def _file(layout: Layout) -> Path:
    return _settings(layout).with_name("lab.yaml")
