"""Hosts that are virtual machines: the adapter to QEMU and ssh.

A machine is the process whose environment says ``MESHNET_LAB_VM=lab/h1``; killing it is a power
cut. Its port is a tap on the lab's bridge.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from meshnet_control.lab import adapter, cables, images
from meshnet_control.lab.errors import LabError
from meshnet_control.lab.hosts import Namespaces, Say
from meshnet_control.lab.lab_plan import Observed
from meshnet_control.lab.layout import Layout, Machine
from meshnet_control.lab.topology import CLIENT
from meshnet_control.lab.vms import image, machine, monitor, seed

MARKER: Final = "MESHNET_LAB_VM"
_BOOTS_S: Final = 300.0
"""Seconds of a processor that a boot may take; without KVM it takes some 90."""
_WAITS_S: Final = 1800.0
_CONNECTS_S: Final = 60.0
_STEP_S: Final = 1800.0
"""A bound and no guess at the speed of an emulated machine."""
_LOADED: Final = "Loaded image: "


class Vms:
    """Hosts that are virtual machines; the client is a namespace."""

    def __init__(self) -> None:
        self._namespaces = Namespaces()
        self._making = threading.Lock()

    def prepare(self, layout: Layout, say: Say) -> None:
        """Make the image of all machines and the key that opens them."""
        image.build(say)
        key = machine.key(layout)
        if not key.exists():
            key.parent.mkdir(parents=True, exist_ok=True)
            adapter.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)])

    def observe(self, layout: Layout) -> Observed:
        """Read what is there; a machine is a process and a port."""
        found = self._namespaces.observe(layout)
        running = frozenset(processes(layout))
        return replace(
            found,
            namespaces=found.namespaces | running,
            inits=found.inits | running,
            booted=found.booted | running,
        )

    def make(self, layout: Layout, machine: Machine) -> None:
        """Power a machine on; it has not booted when this returns.

        Raises:
            LabError: QEMU's own words.
        """
        if machine.is_host:
            self._power_on(layout, machine)
        else:
            self._namespaces.make(layout, machine)

    def unmake(self, layout: Layout, member: str) -> None:
        """Cut a machine's power."""
        if member == CLIENT:
            self._namespaces.unmake(layout, member)
            return
        if machine.control_socket(layout, member).exists():
            _quietly(machine.kept_connection(layout, layout.machine(member), "exit"))
            machine.control_socket(layout, member).unlink(missing_ok=True)
        pid = processes(layout).get(member)
        if pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            gone = f"{member}: QEMU to end"
            adapter.wait_for(gone, lambda: member not in processes(layout), timeout_s=20)
        cables.disconnect(layout, member)

    def serve(self, layout: Layout, name: str, say: Say, *, engine_only: bool) -> None:
        """Wait for the boot; load images, install and start meshnet where that was not done yet.

        Raises:
            LabError: one of these failed or took too long.
        """
        say("booting")
        self.wait(layout, name)
        say("engine")
        ready = "systemctl start docker && docker version"
        adapter.run(self._shell(layout, name, ready), timeout_s=_STEP_S)
        if not adapter.run(self._shell(layout, name, "docker images -q meshnet/tools:1")).strip():
            say("images")
            self.load(layout, name, images.build())
        if not engine_only:
            say("meshnetd")
            up = "meshnet up --install --no-context"
            adapter.run(self._shell(layout, name, up), timeout_s=_STEP_S)

    def enter(
        self, layout: Layout, name: str, argv: Sequence[str], cwd: str | None, docker_host: str
    ) -> list[str]:
        """The ssh command that runs ``argv`` on the machine as root.

        Raises:
            LabError: it is not running.
        """
        if name == CLIENT:
            return self._namespaces.enter(layout, name, argv, cwd, docker_host)
        if name not in processes(layout):
            raise LabError(f"{name} is not running")
        environment = {"DOCKER_HOST": docker_host} if docker_host else {}
        terminal = sys.stdin is not None and sys.stdin.isatty() and sys.stdout.isatty()
        target = layout.machine(name)
        return machine.ssh(layout, target, argv, environment, terminal=terminal)

    def load(self, layout: Layout, name: str, archive: bytes) -> list[str]:
        """Load images into the machine's engine; their tags.

        Raises:
            LabError: the docker CLI's words.
        """
        try:
            done = subprocess.run(
                self._shell(layout, name, "docker load"),
                input=archive, capture_output=True, check=False, timeout=_STEP_S,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            raise LabError(f"{name}: docker load: no end after {_STEP_S:.0f} s") from None
        if done.returncode != 0:
            raise LabError(f"{name}: docker load: {done.stderr.decode().strip()}")
        lines = done.stdout.decode().splitlines()
        return [line.removeprefix(_LOADED) for line in lines if line.startswith(_LOADED)]

    def socket(self, layout: Layout, name: str, path: str) -> str:
        """Refuse: a machine's sockets are its own."""
        typed = f"meshnet lab exec {name} -- docker …"
        raise LabError(f"{name} is a virtual machine, its sockets are its own: {typed}")

    def _shell(self, layout: Layout, name: str, command: str) -> list[str]:
        return self.enter(layout, name, ["sh", "-c", command], None, "")

    def _power_on(self, layout: Layout, host: Machine) -> None:
        run_dir, state_dir = layout.run_dir(host.name), layout.state_dir(host.name)
        run_dir.mkdir(parents=True, exist_ok=True)
        state_dir.mkdir(parents=True, exist_ok=True)
        with self._making:  # the image and the key are made once
            common = image.build(lambda _what: None)
            files = machine.Files(
                common.kernel, common.initrd,
                state_dir / "disk.qcow2", state_dir / "seed.tar", state_dir / "console",
                monitor.socket_of(layout, host.name),
            )  # fmt: skip
            if not files.disk.exists():
                self._make_disks(layout, host, common, files)
        cables.plug_tap(layout, host)
        command = machine.qemu(layout, host, files, accelerator())
        inside = ["nsenter", f"--net={cables.lan_path(layout)}", *command]
        with (state_dir / "qemu.log").open("wb") as log:
            started = subprocess.Popen(
                inside, env={**os.environ, MARKER: layout.marker(host.name)},
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, cwd="/",
            )  # fmt: skip
        try:
            started.wait(0.5)
        except subprocess.TimeoutExpired:
            adapter.leave_running(started)
            return
        said = (state_dir / "qemu.log").read_text().strip().splitlines()
        raise LabError(f"{host.name}: QEMU ended: {said[-1] if said else 'it said nothing'}")

    def _make_disks(
        self, layout: Layout, host: Machine, common: image.Image, files: machine.Files
    ) -> None:
        public = machine.key(layout).with_suffix(".pub").read_text()
        content = seed.files(layout, host, public, image.project_files(common))
        files.seed.write_bytes(images.layer(content))
        unfinished = files.disk.with_suffix(".new")
        adapter.run(
            ["qemu-img", "create", "-q", "-f", "qcow2", "-b", str(common.disk), "-F", "raw",
             str(unfinished)]
        )  # fmt: skip
        unfinished.rename(files.disk)

    def wait(self, layout: Layout, name: str) -> None:
        """Wait until the machine answers ssh, and keep a connection to it.

        Raises:
            LabError: it went off, or does not answer.
        """
        console = layout.state_dir(name) / "console"
        host = layout.machine(name)

        def answers() -> bool:
            pid = processes(layout).get(name)
            if pid is None:
                raise LabError(f"{name} went off while it booted: see {console}")
            if processor_s(pid) - before > _BOOTS_S:
                raise LabError(f"{name} does not answer ssh: see {console}")
            if _quietly(machine.kept_connection(layout, host, "check")):
                return True
            machine.control_socket(layout, name).unlink(missing_ok=True)
            return _quietly(machine.keep_connection(layout, host))

        before = processor_s(processes(layout).get(name, 0))
        what = f"{name} to answer ssh (its console: {console})"
        adapter.wait_for(what, answers, timeout_s=_WAITS_S, interval_s=0.5)


def processes(layout: Layout) -> dict[str, int]:
    """Machines that are powered on, with the process id of their QEMU."""
    return adapter.marked(
        layout, MARKER, lambda entry: (entry / "comm").read_text().startswith("qemu-system")
    )


def _quietly(argv: Sequence[str]) -> bool:
    """Whether a command did it; it may leave a process that holds its output."""
    null = subprocess.DEVNULL
    try:
        done = subprocess.run(
            argv, stdin=null, stdout=null, stderr=null, check=False, timeout=_CONNECTS_S
        )
    except subprocess.TimeoutExpired:
        return False
    return done.returncode == 0


def processor_s(pid: int) -> float:
    """Seconds of a processor that a process has had (proc_pid_stat(5), utime and stime)."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def accelerator() -> str:
    """What runs machines on this computer: ``kvm`` or ``tcg``, which is twenty times slower."""
    text = Path("/proc/cpuinfo").read_text()
    flags = next((line for line in text.splitlines() if line.startswith("flags")), "")
    opens = os.access("/dev/kvm", os.R_OK | os.W_OK)
    return machine.accelerator(frozenset(flags.split()), kvm_opens=opens)
