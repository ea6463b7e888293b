"""What a lab needs of its hosts, whatever they are; and hosts that are namespaces.

The outside client is a namespace in every lab.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Protocol

from meshnet_control.lab import adapter, images, services
from meshnet_control.lab.errors import LabError
from meshnet_control.lab.lab_plan import Observed
from meshnet_control.lab.layout import Layout, Machine

Say = Callable[[str], None]
"""Told what a host does now."""


class Hosts(Protocol):
    """The hosts of a lab of one kind."""

    def prepare(self, layout: Layout, say: Say) -> None:
        """Make what all of them stand on."""

    def observe(self, layout: Layout) -> Observed:
        """Read what is there of the lab."""

    def make(self, layout: Layout, machine: Machine) -> None:
        """Power a machine on, with the disk that it had."""

    def unmake(self, layout: Layout, member: str) -> None:
        """Power a machine off at once, and take its cables away; gone already is success."""

    def serve(self, layout: Layout, name: str, say: Say, *, engine_only: bool) -> None:
        """Wait until the host serves: its engine with the lab's images, and meshnet."""

    def enter(
        self, layout: Layout, name: str, argv: Sequence[str], cwd: str | None, docker_host: str
    ) -> list[str]:
        """The command line that runs ``argv`` on the host.

        Raises:
            LabError: it is not running.
        """

    def load(self, layout: Layout, name: str, archive: bytes) -> list[str]:
        """Load images into the host's engine; their tags."""

    def socket(self, layout: Layout, name: str, path: str) -> str:
        """DOCKER_HOST, for a command of this machine, of a socket under the host's /run.

        Raises:
            LabError: there is no such way.
        """


def where(cwd: str | None) -> str:
    """The directory a command runs in: the caller's where the machine has it too, else /."""
    return cwd if cwd is not None and Path(cwd).is_dir() and not cwd.startswith("/run") else "/"


def scripts_path() -> str:
    """PATH of this process, the directory of meshnet's own commands in it."""
    scripts = str(Path(sys.executable).parent)
    path = os.environ.get("PATH", os.defpath)
    return path if scripts in path.split(":") else f"{scripts}:{path}"


class Namespaces:
    """Hosts that are namespaces of this machine and share its kernel and its files."""

    @cached_property
    def _archive(self) -> bytes:
        return images.build()

    def prepare(self, layout: Layout, say: Say) -> None:
        """Make the images, once for all."""
        _ = self._archive

    def observe(self, layout: Layout) -> Observed:
        """Read what is there of the lab."""
        return adapter.observe(layout)

    def make(self, layout: Layout, machine: Machine) -> None:
        """Make a namespace and its first process."""
        adapter.make(layout, machine)

    def unmake(self, layout: Layout, member: str) -> None:
        """End all processes at once and remove the namespace."""
        adapter.unmake(layout, member)

    def serve(self, layout: Layout, name: str, say: Say, *, engine_only: bool) -> None:
        """Start the engine and meshnetd unless they run."""
        pid = adapter.inits(layout)[name]
        say("engine")
        services.ensure_engine(layout, name, pid)
        say("images")
        self.load(layout, name, self._archive)
        if not engine_only:
            say("meshnetd")
            command = self.enter(layout, name, services.MESHNET_UP, None, "")
            services.ensure_meshnet(layout, name, command)

    def enter(
        self, layout: Layout, name: str, argv: Sequence[str], cwd: str | None, docker_host: str
    ) -> list[str]:
        """The command line that runs ``argv`` in the namespaces of the host.

        Raises:
            LabError: it is not running.
        """
        pid = adapter.inits(layout).get(name)
        if pid is None:
            raise LabError(f"{name} is not running")
        env = {"PATH": scripts_path()}
        if layout.machine(name).is_host:
            env["DOCKER_HOST"] = docker_host
            env["MESHNET_STATE_DIR"] = str(layout.state_dir(name) / "meshnet")
        return adapter.enter(pid, argv, env, cwd=where(cwd))

    def load(self, layout: Layout, name: str, archive: bytes) -> list[str]:
        """Load images into the host's engine; their tags."""
        return images.load(archive, self.socket(layout, name, "docker.sock"))

    def socket(self, layout: Layout, name: str, path: str) -> str:
        """The host's /run is a directory of this machine."""
        return f"unix://{layout.run_dir(name) / path}"
