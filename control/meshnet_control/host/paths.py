"""Where the processes of this host are found: directories, process ids, logs, commands.

A started process leaves its id in the run directory; an id whose process is something else by now
counts for nothing.

Be aware: the supervisor imports this; it stays small.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import stat
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from meshnet.process.revival import living

RESOLVER: Final = "meshnet-resolver"
DAEMON: Final = "meshnetd"
MANAGER: Final = "meshnet-manager"
SUPERVISOR: Final = "meshnet-supervisor"
MANAGER_SOCKET: Final = "manager.sock"
"""In the run directory; root's alone."""
MARK: Final = "manages"
"""In the state directory of a host that is a manager, or in no cluster: meshnet-manager runs."""
PRIVILEGED_MARK: Final = "allows-privileged"
"""In the state directory of a host whose services may be privileged, have devices and GPUs."""
ENDS: Final = "supervisor.json"
"""In the run directory: how the processes ended last."""
TAKEN: Final = 75
"""Exit status of a supervisor that is second: another one runs or is being started."""


def run_dir() -> Path:
    """Where sockets and process ids are."""
    return Path(os.environ.get("MESHNET_RUN_DIR", "/run/meshnet"))


def docker_host() -> str:
    """DOCKER_HOST of meshnet's socket on this host."""
    return f"unix://{run_dir() / 'docker.sock'}"


def state_dir() -> Path:
    """What survives a reboot."""
    return Path(os.environ.get("MESHNET_STATE_DIR", "/var/lib/meshnet"))


def make_dirs() -> None:
    """Make both; docker.sock in the first is for its group, what is in the second for root."""
    run_dir().mkdir(parents=True, exist_ok=True)
    state_dir().mkdir(parents=True, exist_ok=True, mode=0o700)


def command(name: str, programs: Path | None = None) -> list[str]:
    """How the process ``name`` is started, from ``programs`` or where our own programs are."""
    where = programs if programs is not None else Path(sys.executable).parent
    found = [str(where / name), "--run-dir", str(run_dir())]
    return found if name == RESOLVER else [*found, "--state-dir", str(state_dir())]


def changeable(paths: Iterable[Path]) -> tuple[Path, str] | None:
    """The first of ``paths``, or of what they are in, that another user than root may change.

    Returns:
        It and the user's name; None: root's alone. What a sticky directory holds is its owner's.
    """
    for path in paths:
        for each in (path.resolve(), *path.resolve().parents):
            try:
                found = each.stat()
            except OSError:
                continue
            if found.st_uid != 0:
                with contextlib.suppress(KeyError):
                    return each, pwd.getpwuid(found.st_uid).pw_name
                return each, str(found.st_uid)
            if found.st_mode & stat.S_IWOTH and not found.st_mode & stat.S_ISVTX:
                return each, "everybody"
    return None


def pid_of(name: str) -> int | None:
    """The process id of ``name`` while it lives; a zombie does not."""
    return living(pid_file(name), name)


def wanted(name: str) -> bool:
    """Whether the process ``name`` is to run on this host."""
    return name != MANAGER or (state_dir() / MARK).exists()


def pid_file(name: str) -> Path:
    """Where the process id of ``name`` is."""
    return run_dir() / f"{name}.pid"


def log_file(name: str) -> Path:
    """Where ``name`` logs to without systemd."""
    return state_dir() / f"{name}.log"


def last_line(name: str) -> str:
    """The last that ``name`` said in its log."""
    try:
        lines = log_file(name).read_text(errors="replace").strip().splitlines()
    except OSError:
        lines = []
    return lines[-1].removeprefix(f"{name}: ") if lines else "it said nothing"
