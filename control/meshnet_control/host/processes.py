"""meshnet's processes on this host: start, find and stop them; or have systemd do it.

Without systemd ``meshnet-supervisor`` starts meshnetd and meshnet-resolver and keeps them alive.
All live in sessions of their own and outlive the terminal.

Be aware: stopping them leaves the data plane in the kernel, on purpose; ``stop`` removes it as a
last step.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

from meshnet.errors import MeshnetError
from meshnet_control.host import units
from meshnet_control.host.paths import (
    DAEMON,
    ENDS,
    RESOLVER,
    SUPERVISOR,
    command,
    last_line,
    log_file,
    make_dirs,
    pid_file,
    pid_of,
    run_dir,
    state_dir,
)

__all__ = ["run_dir", "state_dir"]

_STARTS_S = 60.0
_STOPS_S = 20.0
_DIES_S = 0.5
"""A process that was killed is gone by then."""


class HostError(MeshnetError):
    """meshnet cannot do on this host what was asked; the sentence says why."""


def engine() -> str:
    """The Docker Engine's socket, as DOCKER_HOST writes it."""
    return os.environ.get("MESHNET_ENGINE", "unix:///run/docker.sock")


def need_root() -> None:
    """Refuse to go on as an ordinary user.

    Raises:
        HostError: the effective user is not root.
    """
    if os.geteuid() != 0:
        raise HostError(f"must be run as root: sudo {' '.join(sys.argv)}")


def need_engine() -> None:
    """Refuse to go on without a Docker Engine, in Docker's words.

    Raises:
        HostError: nothing listens on the engine's socket.
    """
    if not _listens(Path(engine().removeprefix("unix://"))):
        raise HostError(
            f"Cannot connect to the Docker daemon at {engine()}. Is the docker daemon running?"
        )


def serving() -> bool:
    """Whether meshnetd serves the Engine API, and the resolver and who keeps both live."""
    kept = units.installed() or all(pid_of(name) is not None for name in (SUPERVISOR, RESOLVER))
    return kept and _listens(run_dir() / "docker.sock")


def start() -> None:
    """Start what is not running yet and wait until the Engine API is served.

    Units that ``install`` wrote are started by systemd.

    Raises:
        HostError: a process could not be started; its last words. What was started is stopped.
    """
    if units.installed():
        units.start(str(run_dir() / "docker.sock"), _STARTS_S)
        return
    make_dirs()
    started: subprocess.Popen[bytes] | None = None
    supervisor = pid_of(SUPERVISOR)
    if supervisor is None:
        started = _spawn_supervisor()
    else:
        os.kill(supervisor, signal.SIGHUP)
    deadline = time.monotonic() + _STARTS_S
    while not serving():
        if started is not None and started.poll() is not None and pid_of(SUPERVISOR) is None:
            raise HostError(last_line(SUPERVISOR))
        if time.monotonic() > deadline:
            if started is not None:
                _stop(SUPERVISOR)
            raise HostError(f"{DAEMON} is not ready after {_STARTS_S:.0f} s: {last_line(DAEMON)}")
        time.sleep(0.03)


def revive_supervisor() -> bool:
    """Start the supervisor again if one was started, not ended, and is dead; whether it was so.

    One that is frozen (SIGSTOP) while the resolver is dead is as good as dead, and is killed first.

    Raises:
        OSError: it cannot be started.
    """
    if not pid_file(SUPERVISOR).exists():
        return False
    pid = pid_of(SUPERVISOR)
    if pid is not None:
        if not (is_frozen(pid) and pid_file(RESOLVER).exists() and pid_of(RESOLVER) is None):
            return False
        os.kill(pid, signal.SIGKILL)
        deadline = time.monotonic() + _DIES_S
        while pid_of(SUPERVISOR) is not None and time.monotonic() < deadline:
            time.sleep(0.01)
    _spawn_supervisor()
    return True


def is_frozen(pid: int) -> bool:
    """Whether a process was stopped by a signal and not continued (proc_pid_stat(5), ``T``)."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (OSError, IndexError):
        return False
    return state == "T"


def run_in_foreground() -> int:
    """Supervise both until a signal arrives, logging to standard error; the exit status.

    ``down`` finds them as it finds started ones. What a process that was killed left makes room.

    Raises:
        HostError: systemd runs meshnet on this host.
    """
    if units.installed():
        raise HostError(f"systemd runs meshnet here: systemctl start {DAEMON}, or meshnet down")
    make_dirs()
    for name in (SUPERVISOR, DAEMON, RESOLVER):
        _stop(name)
    argv = [*command(SUPERVISOR), "--foreground"]
    os.execv(argv[0], argv)  # noqa: S606 - no shell is needed


def stop() -> list[str]:
    """Stop all, take the units away if they are ours, and remove every kernel object of meshnet.

    Returns:
        What was stopped and removed, a line for each kind; ``[]``: there was nothing.

    Raises:
        HostError: the clean-up failed; its last words.
    """
    said: list[str] = []
    if units.installed():
        said.append(f"stopped and removed units: {', '.join(units.remove())}")
    lived = [name for name in (SUPERVISOR, DAEMON, RESOLVER) if pid_of(name) is not None]
    while lived and [name for name in (SUPERVISOR, DAEMON, RESOLVER) if _stop(name)]:
        pass  # meshnetd may have started a supervisor, and that a process
    if lived:
        said.append(f"stopped processes: {', '.join(lived)}")
    done = subprocess.run(
        [*command(DAEMON), "--cleanup"], capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        words = done.stderr.strip().splitlines()
        raise HostError(f"{DAEMON} --cleanup: {words[-1] if words else f'exit {done.returncode}'}")
    left = ["docker.sock", "admin.sock", "resolver.sock", f"{SUPERVISOR}.lock", ENDS]
    for name in [*left, f"{DAEMON}.notify", f"{RESOLVER}.notify"]:
        (run_dir() / name).unlink(missing_ok=True)
    shutil.rmtree(run_dir() / "control", ignore_errors=True)  # a manager that was killed left it
    with contextlib.suppress(OSError):  # not there, or it holds what is not ours
        run_dir().rmdir()
    return said + done.stdout.splitlines()


def install() -> None:
    """Write systemd units for both, enable and start them, and wait until the Engine API is served.

    Raises:
        MeshnetError: no systemd here, or it refused; its words.
    """
    if not units.systemd_runs():
        raise HostError("systemd does not run here: use meshnet up without --install")
    for name in (SUPERVISOR, DAEMON, RESOLVER):
        _stop(name)
    make_dirs()
    units.install()
    units.start(str(run_dir() / "docker.sock"), _STARTS_S)


def last_ends(now: float) -> dict[str, str]:
    """Process -> how it ended last and when; empty where none did, or where systemd knows.

    Args:
        now: unix seconds.
    """
    try:
        ends = json.loads((run_dir() / ENDS).read_text())
        return {
            name: f"{end['end']} {max(0.0, now - end['at']):.0f} s ago, {end['ends']} in all"
            for name, end in ends.items()
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def _spawn_supervisor() -> subprocess.Popen[bytes]:
    with log_file(SUPERVISOR).open("ab") as log:
        return subprocess.Popen(
            command(SUPERVISOR), stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            start_new_session=True, cwd="/",
        )  # fmt: skip


def _stop(name: str) -> bool:
    """Whether there was a process to stop."""
    pid = pid_of(name)
    if pid is not None:
        deadline = time.monotonic() + _STOPS_S
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
            while pid_of(name) == pid:
                if time.monotonic() > deadline:
                    os.kill(pid, signal.SIGKILL)
                time.sleep(0.02)
    pid_file(name).unlink(missing_ok=True)
    return pid is not None


def _listens(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(1)
        try:
            probe.connect(str(path))
        except OSError:
            return False
    return True
