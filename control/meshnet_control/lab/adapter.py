"""The lab's adapter to this machine: reads what is there, runs commands, makes machines.

A machine of the lab is a network namespace under /run/netns plus a first process (tini) in mount,
pid and uts namespaces of its own. Killing that process kills everything in the machine at once,
containers included; its mounts go with it. It is found again by ``MESHNET_LAB_MACHINE`` in its
environment, never by a file that might be stale.

Be aware: mount propagation is private (unshare(1)), so nothing a machine mounts is seen outside.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from meshnet_control.lab import cables
from meshnet_control.lab.errors import LabError
from meshnet_control.lab.lab_plan import Observed
from meshnet_control.lab.layout import LAN, Layout, Machine

MARKER = "MESHNET_LAB_MACHINE"
_RESOLV = "nameserver 127.0.0.1\n"
"""Nobody answers there, and the kernel says so at once: a lab has no DNS to wait for."""
_INIT = """set -e
[ ! -e /etc/resolv.conf ] || mount --bind "$4" /etc/resolv.conf
mount --bind "$1" /run
mount --bind "$2" /etc/hosts
hostname "$3"
touch /run/booted
exec tini -- sleep infinity
"""


def run(argv: Sequence[str], *, stdin: str | None = None, timeout_s: float = 60.0) -> str:
    """Run a command to its end and return what it printed.

    Raises:
        LabError: it could not be started, failed or took too long; the sentence ends in its own
        last line.
    """
    try:
        done = subprocess.run(
            argv, input=stdin, capture_output=True, text=True, timeout=timeout_s, check=False
        )
    except FileNotFoundError:
        raise LabError(f"{argv[0]}: command not found (./dev setup installs it)") from None
    except subprocess.TimeoutExpired:
        raise LabError(f"{' '.join(argv)}: no end after {timeout_s:.0f} s") from None
    if done.returncode != 0:
        said = (done.stderr or done.stdout).strip().splitlines()
        raise LabError(f"{' '.join(argv)}: {said[-1] if said else f'exit {done.returncode}'}")
    return done.stdout


def wait_for(what: str, condition: object, *, timeout_s: float, interval_s: float = 0.02) -> None:
    """Poll a callable until it is true.

    Raises:
        LabError: it was not true in time.
    """
    if not callable(condition):
        raise TypeError(what)
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            raise LabError(f"{what}: not after {timeout_s:.0f} s")
        time.sleep(interval_s)


def inits(layout: Layout) -> dict[str, int]:
    """Members whose first process lives, with its process id.

    Source: NSpid in proc_pid_status(5): a first process is the one with id 1 in the innermost of
    two.
    """
    return marked(layout, MARKER, lambda entry: _namespace_ids(entry)[1:] == ["1"])


def marked(layout: Layout, variable: str, wanted: Callable[[Path], bool]) -> dict[str, int]:
    """Members of a lab, with the id of the process whose environment names them.

    Args:
        layout: the lab.
        variable: says ``lab/member``.
        wanted: whether a process's directory in /proc is one to look at.
    """
    prefix = f"{variable}={layout.name}/".encode()
    found: dict[str, int] = {}
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(FileNotFoundError, ProcessLookupError, PermissionError):
            for setting in (entry / "environ").read_bytes().split(b"\0"):
                if setting.startswith(prefix) and wanted(entry):
                    found[setting[len(prefix) :].decode()] = int(entry.name)
    return found


def _namespace_ids(process: Path) -> list[str]:
    for line in (process / "status").read_text().splitlines():
        if line.startswith("NSpid:"):
            return line.split()[1:]
    return []


def observe(layout: Layout) -> Observed:
    """Read from the kernel what is there of this lab."""
    pids = inits(layout)
    namespaces = cables.namespaces(layout)
    return Observed(
        namespaces=namespaces,
        inits=frozenset(pids),
        booted=frozenset(name for name, pid in pids.items() if _has_directories(layout, name, pid)),
        ports=cables.ports(layout),
        lans=cables.lans(layout),
        addresses={name: cables.address(layout, name) for name in namespaces - {LAN}},
    )


def _has_directories(layout: Layout, member: str, pid: int) -> bool:
    """Whether nobody removed the machine's directories under its feet."""
    try:
        same = layout.run_dir(member).samefile(f"/proc/{pid}/root/run")
    except FileNotFoundError:
        return False
    return same and (layout.state_dir(member) / "hosts").exists()


def named(layout: Layout) -> frozenset[str]:
    """Machines that know the names of all machines of the layout."""
    text = layout.hosts_file()

    def knows(member: str) -> bool:
        file = layout.state_dir(member) / "hosts"
        return file.is_file() and file.read_text() == text

    return frozenset(machine.name for machine in layout.machines if knows(machine.name))


def name_others(layout: Layout, member: str) -> None:
    """Tell a machine the names of all, without a boot: the file is the one it has mounted."""
    (layout.state_dir(member) / "hosts").write_text(layout.hosts_file())


def make(layout: Layout, machine: Machine) -> None:
    """Make a machine: its namespace, its cable to the LAN and its first process.

    Raises:
        MeshnetError: something failed; what was made so far stays for :func:`unmake`.
    """
    cables.connect(layout, machine)
    _boot(layout, machine)


def _boot(layout: Layout, machine: Machine) -> None:
    run_dir, state_dir = layout.run_dir(machine.name), layout.state_dir(machine.name)
    if run_dir.exists():
        shutil.rmtree(run_dir)  # /run is empty after a boot
    run_dir.mkdir(parents=True)
    (run_dir / "lock").mkdir()
    state_dir.mkdir(parents=True, exist_ok=True)
    hosts = state_dir / "hosts"
    hosts.write_text(layout.hosts_file())
    resolv = state_dir / "resolv.conf"
    resolv.write_text(_RESOLV)
    enter = ["nsenter", f"--net={cables.path_of(layout, machine.name)}"]
    own = ["unshare", "--mount", "--uts", "--pid", "--fork", "--mount-proc"]
    with (state_dir / "init.log").open("wb") as log:
        started = subprocess.Popen(
            [*enter, *own, "sh", "-c", _INIT, "init", str(run_dir), str(hosts), machine.name,
             str(resolv)],
            env={**os.environ, MARKER: layout.marker(machine.name)},
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, cwd="/",
        )  # fmt: skip

    def booted() -> bool:
        if started.poll() is not None:
            said = (state_dir / "init.log").read_text().strip().splitlines()
            raise LabError(
                f"{machine.name} did not boot: {said[-1] if said else 'no reason given'}"
            )
        return (run_dir / "booted").exists()

    wait_for(f"{machine.name} to boot", booted, timeout_s=10)
    leave_running(started)


def leave_running(process: subprocess.Popen[bytes]) -> None:
    """Let a process outlive us; while we live ourselves, take its exit status when it ends."""
    threading.Thread(target=process.wait, daemon=True).start()


def unmake(layout: Layout, member: str) -> None:
    """Stop a machine at once, remove its namespace, port and cgroups; gone already is success."""
    pid = inits(layout).get(member)
    thaw(layout.cgroup(member))
    if pid is not None:
        _kill(pid)
    cables.disconnect(layout, member)
    remove_cgroups(layout.cgroup(member))


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return

    def gone() -> bool:
        try:
            return "\nState:\tZ" in Path(f"/proc/{pid}/status").read_text()
        except (FileNotFoundError, ProcessLookupError):
            return True

    wait_for(f"process {pid} to end", gone, timeout_s=20)


def thaw(parent: str) -> None:
    """Let all in a cgroup run: who is frozen, as by ``docker pause``, cannot die under v1."""
    for top in _tops(parent):
        for name, word in (("freezer.state", "THAWED"), ("cgroup.freeze", "0")):
            for file in top.rglob(name):
                with suppress(OSError):  # it is being removed
                    file.write_text(word)


def remove_cgroups(parent: str) -> None:
    """Remove an empty cgroup and all below it, in every hierarchy (v1) or the one (v2)."""
    for top in _tops(parent):

        def removed(top: Path = top) -> bool:
            for directory, _, _ in os.walk(top, topdown=False):
                try:
                    Path(directory).rmdir()
                except OSError:
                    return False  # a killed process is still on its way out
            return not top.exists()

        wait_for(f"cgroup {top} to be empty", removed, timeout_s=10)


def _tops(parent: str) -> list[Path]:
    """Directories of a cgroup: one for each hierarchy that has it."""
    root = Path("/sys/fs/cgroup")
    return [root / parent.lstrip("/"), *root.glob(f"*/{parent.lstrip('/')}")]


def remove_tree(path: Path) -> None:
    """Remove a directory and everything in it; gone already is success.

    Raises:
        LabError: something in it is still in use after some seconds.
    """

    def removed() -> bool:
        try:
            shutil.rmtree(path)
        except FileNotFoundError:
            return not path.exists()
        except OSError:
            return False  # a mount of a machine that died a moment ago
        return True

    wait_for(f"{path} to be removable", removed, timeout_s=10, interval_s=0.1)


def enter(pid: int, argv: Sequence[str], env: Mapping[str, str], *, cwd: str = "/") -> list[str]:
    """The command line that runs ``argv`` inside the machine whose first process is ``pid``."""
    settings = [f"{key}={value}" for key, value in env.items()]
    inside = ["nsenter", "-t", str(pid), "-m", "-n", "-p", "-u", "--"]
    return [*inside, "env", "-C", cwd, *settings, *argv]
