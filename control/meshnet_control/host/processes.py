"""meshnet's two processes on this host: start, find and stop them; or have systemd do it.

A started process leaves its id in the run directory; an id whose process is something else by now
counts for nothing. Both processes live in a session of their own and outlive the terminal.

Be aware: stopping them leaves the data plane in the kernel, on purpose; ``stop`` removes it as a
last step.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

from meshnet.errors import MeshnetError

RESOLVER = "meshnet-resolver"
DAEMON = "meshnetd"
UNITS = Path("/etc/systemd/system")

_STARTS_S = 30.0
_STOPS_S = 20.0
_LOOKS_S = 0.1
_SETTINGS = ("MESHNET_ENGINE",)
"""Of the environment of ``up --install``, what the units keep; directories are arguments."""
_UNIT = """[Unit]
Description={description}
After=network-online.target docker.service{after}
Wants=network-online.target{wants}

[Service]
{settings}ExecStart={command}
Restart=always
RestartSec=1
KillMode=process

[Install]
WantedBy=multi-user.target
"""


class HostError(MeshnetError):
    """meshnet cannot do on this host what was asked; the sentence says why."""


def run_dir() -> Path:
    """Where sockets and process ids are."""
    return Path(os.environ.get("MESHNET_RUN_DIR", "/run/meshnet"))


def state_dir() -> Path:
    """What survives a reboot."""
    return Path(os.environ.get("MESHNET_STATE_DIR", "/var/lib/meshnet"))


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
    """Whether meshnetd serves the Engine API and the resolver lives."""
    return _listens(run_dir() / "docker.sock") and (_pid(RESOLVER) is not None or _by_systemd())


def start() -> None:
    """Start what is not running yet and wait until the Engine API is served.

    Units that ``install`` wrote are started by systemd.

    Raises:
        HostError: a process ended at once; its last words. What was started is stopped again.
    """
    if _by_systemd():
        _start_units()
        return
    run_dir().mkdir(parents=True, exist_ok=True)
    state_dir().mkdir(parents=True, exist_ok=True, mode=0o700)
    started = {name: _spawn(name) for name in (RESOLVER, DAEMON) if _pid(name) is None}
    deadline = time.monotonic() + _STARTS_S
    try:
        while not _listens(run_dir() / "docker.sock"):
            _need_progress(started, deadline)
            time.sleep(0.03)
        _need_progress(started, deadline)
    except HostError:
        for name in reversed(started):  # a living meshnetd would start the resolver again
            _stop(name)
        raise


def revive_resolver() -> bool:
    """Start the resolver again if one was started, not stopped, and is dead; whether it was so.

    Raises:
        OSError: it cannot be started.
    """
    if not _pid_file(RESOLVER).exists() or _pid(RESOLVER) is not None:
        return False
    _spawn(RESOLVER)
    return True


def run_in_foreground() -> int:
    """Run both until one of them ends or a signal arrives; the exit status of the one that ended.

    ``down`` finds them as it finds started ones. A resolver left over by a process that was killed
    makes room.

    Raises:
        HostError: systemd runs meshnet on this host.
    """
    if _by_systemd():
        raise HostError(f"systemd runs meshnet here: systemctl start {DAEMON}, or meshnet down")
    run_dir().mkdir(parents=True, exist_ok=True)
    state_dir().mkdir(parents=True, exist_ok=True, mode=0o700)
    for name in (DAEMON, RESOLVER):
        _stop(name)
    running: dict[str, subprocess.Popen[bytes]] = {}

    def stop_all(_number: int, _frame: object) -> None:
        for process in running.values():
            process.terminate()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop_all)
    try:
        for name in (RESOLVER, DAEMON):  # in a session of their own: the terminal's ^C is ours
            running[name] = subprocess.Popen(_command(name), start_new_session=True)
            _pid_file(name).write_text(f"{running[name].pid}\n")
        while all(process.poll() is None for process in running.values()):
            time.sleep(_LOOKS_S)
        return max(abs(process.poll() or 0) for process in running.values())
    finally:
        for process in running.values():
            process.terminate()
            process.wait()
        for name in (DAEMON, RESOLVER):  # another resolver, if meshnetd had started one
            _stop(name)


def stop() -> list[str]:
    """Stop both, take the units away if they are ours, and remove every kernel object of meshnet.

    Returns:
        What was stopped and removed, a line for each kind; ``[]``: there was nothing.

    Raises:
        HostError: the clean-up failed; its last words.
    """
    said: list[str] = []
    if _by_systemd():
        units = [f"{name}.service" for name in (DAEMON, RESOLVER)]
        _systemctl("disable", "--now", *units)
        for unit in units:
            (UNITS / unit).unlink(missing_ok=True)
        _systemctl("daemon-reload")
        said.append(f"stopped and removed units: {', '.join(units)}")
    if stopped := [name for name in (DAEMON, RESOLVER) if _stop(name)]:
        said.append(f"stopped processes: {', '.join(stopped)}")
    done = subprocess.run(
        [*_command(DAEMON), "--cleanup"], capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        words = done.stderr.strip().splitlines()
        raise HostError(f"{DAEMON} --cleanup: {words[-1] if words else f'exit {done.returncode}'}")
    for name in ("docker.sock", "admin.sock", "resolver.sock"):
        (run_dir() / name).unlink(missing_ok=True)
    with contextlib.suppress(OSError):  # not there, or it holds what is not ours
        run_dir().rmdir()
    return said + done.stdout.splitlines()


def install() -> None:
    """Write systemd units for both, enable and start them, and wait until the Engine API is served.

    Raises:
        HostError: no systemd here, or it refused; its words.
    """
    if not Path("/run/systemd/system").is_dir():
        raise HostError("systemd does not run here: use meshnet up without --install")
    for name in (DAEMON, RESOLVER):
        _stop(name)
    _write_unit(RESOLVER, "meshnet resolver", after="", wants="")
    _write_unit(
        DAEMON, "meshnet", after=f" {RESOLVER}.service", wants=f" docker.service {RESOLVER}.service"
    )
    _systemctl("daemon-reload")
    _start_units()


def _start_units() -> None:
    _systemctl("enable", "--now", f"{RESOLVER}.service", f"{DAEMON}.service")
    deadline = time.monotonic() + _STARTS_S
    while not _listens(run_dir() / "docker.sock"):
        if time.monotonic() > deadline:
            raise HostError(f"{DAEMON} is not ready: journalctl -u {DAEMON}")
        time.sleep(0.1)


def _write_unit(name: str, description: str, *, after: str, wants: str) -> None:
    settings = "".join(
        f"Environment={key}={value}\n" for key in _SETTINGS if (value := os.environ.get(key))
    )
    text = _UNIT.format(
        description=description, after=after, wants=wants, settings=settings,
        command=" ".join(_command(name)),
    )  # fmt: skip
    (UNITS / f"{name}.service").write_text(text)


def _by_systemd() -> bool:
    return Path("/run/systemd/system").is_dir() and (UNITS / f"{DAEMON}.service").exists()


def _systemctl(*arguments: str) -> None:
    done = subprocess.run(["systemctl", *arguments], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise HostError(f"systemctl {arguments[0]}: {done.stderr.strip()}")


def _command(name: str) -> list[str]:
    command = [str(Path(sys.executable).with_name(name)), "--run-dir", str(run_dir())]
    return command if name == RESOLVER else [*command, "--state-dir", str(state_dir())]


def _spawn(name: str) -> subprocess.Popen[bytes]:
    with _log(name).open("ab") as log:
        started = subprocess.Popen(
            _command(name), stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            start_new_session=True, cwd="/",
        )  # fmt: skip
    _pid_file(name).write_text(f"{started.pid}\n")
    return started


def _need_progress(started: dict[str, subprocess.Popen[bytes]], deadline: float) -> None:
    for name, process in started.items():
        if process.poll() is not None:
            raise HostError(_last_line(name))
    if time.monotonic() > deadline:
        raise HostError(f"{DAEMON} is not ready after {_STARTS_S:.0f} s: {_last_line(DAEMON)}")


def _stop(name: str) -> bool:
    """Whether there was a process to stop."""
    pid = _pid(name)
    if pid is not None:
        deadline = time.monotonic() + _STOPS_S
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
            while _pid(name) is not None:
                if time.monotonic() > deadline:
                    os.kill(pid, signal.SIGKILL)
                time.sleep(0.02)
    _pid_file(name).unlink(missing_ok=True)
    return pid is not None


def _pid(name: str) -> int | None:
    """The process id of ``name`` while it lives; a zombie does not."""
    try:
        pid = int(_pid_file(name).read_text())
        words = Path(f"/proc/{pid}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError, ValueError):
        return None
    return pid if name.encode() in words else None


def _pid_file(name: str) -> Path:
    return run_dir() / f"{name}.pid"


def _log(name: str) -> Path:
    return state_dir() / f"{name}.log"


def _last_line(name: str) -> str:
    lines = _log(name).read_text(errors="replace").strip().splitlines()
    return lines[-1].removeprefix(f"{name}: ") if lines else "it said nothing"


def _listens(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(1)
        try:
            probe.connect(str(path))
        except OSError:
            return False
    return True
