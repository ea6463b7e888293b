"""The lab's verbs: up, down, kill, start, partition, and the command line to enter a machine.

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

from meshnet_control.lab import adapter, cables, services
from meshnet_control.lab.errors import LabError
from meshnet_control.lab.hosts import Hosts, Namespaces
from meshnet_control.lab.lab_plan import Desired, Make, MakeLan, Observed, Unmake, UnmakeLan, plan
from meshnet_control.lab.layout import DEFAULT_NAME, VM_SUBNET, Layout
from meshnet_control.lab.vms import hosts as vms

Report = Callable[[str, str], None]
"""Told (machine, what it does now) as ``up`` goes on."""


@dataclass(frozen=True, slots=True)
class Lab:
    """One lab on this machine, up or not."""

    layout: Layout
    engine_only: bool = False
    hosts: Hosts = field(default_factory=Namespaces)

    @classmethod
    def current(cls, environ: Mapping[str, str] = os.environ) -> Lab:
        """The lab ``MESHNET_LAB`` names (``mnlab`` unless set), as its last ``up`` left it."""
        return cls.known(Layout(environ.get("MESHNET_LAB", DEFAULT_NAME)))

    @classmethod
    def known(cls, layout: Layout) -> Lab:
        """The lab of that name as its last ``up`` left it; namespaces where there is none."""
        try:
            saved = json.loads(_settings(layout).read_text())
        except FileNotFoundError:
            return cls.of_vms(layout) if vms.processes(layout) else cls(layout)
        layout = replace(layout, size=saved["hosts"])
        if saved.get("vms"):
            return cls.of_vms(layout, engine_only=saved["engine_only"])
        return cls(layout, engine_only=saved["engine_only"])

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
            self._settle(preserved)
            self.hosts.prepare(self.layout, lambda what: report("lab", what))
            desired = Desired(tuple(machine.name for machine in self.layout.machines))
            self._converge(desired, report)
            stale = self._known_by_files() - set(desired.members)
            self._each(sorted(stale), lambda name: self._remove(name, report))
            self._each(desired.members, lambda name: self._serve(name, report))
        except BaseException:
            made = self.observe().members - preserved.members
            if not preserved.members:
                self.down(report)
            else:
                self._each(sorted(made), lambda name: self._remove(name, report))
            raise

    def down(self, report: Report) -> None:
        """Remove the lab and every file of it; nothing there is success."""
        need_root()
        everything = self.observe().members | self._known_by_files()
        self._each(sorted(everything), lambda name: self._remove(name, report))
        self._converge(Desired(), report)
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
        if not observed.bridge:
            raise LabError("the lab is not up: meshnet lab up")
        if observed.is_whole(name):
            raise LabError(f"{name} is running already")
        self.hosts.unmake(self.layout, name)
        self.hosts.make(self.layout, machine)
        self._serve(name, report)

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
            hint = "meshnet lab start " + name if self._known_by_files() else "meshnet lab up"
            raise LabError(f"{name} is not running ({hint})")
        socket = "/run/docker.sock" if self.engine_only else "/run/meshnet/docker.sock"
        return self.hosts.enter(self.layout, name, argv, cwd, f"unix://{socket}")

    def socket(self, name: str) -> str:
        """DOCKER_HOST of a host for a command outside of the lab."""
        if not self.layout.machine(name).is_host:
            raise LabError(f"{name} runs no engine")
        socket = "docker.sock" if self.engine_only else "meshnet/docker.sock"
        return self.hosts.socket(self.layout, name, socket)

    def _serve(self, name: str, report: Report) -> None:
        if self.layout.machine(name).is_host:
            say = functools.partial(report, name)
            self.hosts.serve(self.layout, name, say, engine_only=self.engine_only)
            say("ready")

    def _settle(self, found: Observed) -> None:
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

    def _converge(self, desired: Desired, report: Report) -> None:
        changes = plan(desired, self.observe())
        unmade = [change.member for change in changes if isinstance(change, Unmake)]
        self._each(unmade, lambda name: self.hosts.unmake(self.layout, name))
        for change in changes:
            if isinstance(change, UnmakeLan):
                cables.remove_lan(self.layout)
            elif isinstance(change, MakeLan):
                cables.make_lan(self.layout)
        made = [change.member for change in changes if isinstance(change, Make)]

        def make(name: str) -> None:
            report(name, "making")
            self.hosts.make(self.layout, self.layout.machine(name))
            if not self.layout.machine(name).is_host:
                report(name, "ready")

        self._each(made, make)

    def _remove(self, name: str, report: Report) -> None:
        self.hosts.unmake(self.layout, name)
        for directory in (self.layout.run_dir(name), self.layout.state_dir(name)):
            adapter.remove_tree(directory)
        report(name, "gone")

    def _known_by_files(self) -> frozenset[str]:
        root = self.layout.state_root / self.layout.name
        return (
            frozenset(path.name for path in root.iterdir() if path.is_dir())
            if root.is_dir()
            else frozenset()
        )

    def _cut(self, one: str, other: str, *, heal: bool) -> None:
        need_root()
        cables.cut(self.layout, self.layout.machine(one), self.layout.machine(other), heal=heal)

    @staticmethod
    def _each(names: Iterable[str], work: Callable[[str], None]) -> None:
        """Do ``work`` for all names in parallel; the first failure is raised in the end."""
        with ThreadPoolExecutor(max_workers=8) as pool:
            for future in [pool.submit(work, name) for name in names]:
                future.result()


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
