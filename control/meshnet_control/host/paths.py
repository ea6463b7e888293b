"""Where the processes of this host are found: directories, process ids, logs, commands.

A started process leaves its id in the run directory; an id whose process is something else by now
counts for nothing.

Be aware: the supervisor imports this; it stays small.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Final

RESOLVER: Final = "meshnet-resolver"
DAEMON: Final = "meshnetd"
SUPERVISOR: Final = "meshnet-supervisor"
ENDS: Final = "supervisor.json"
"""In the run directory: how the processes ended last."""


def run_dir() -> Path:
    """Where sockets and process ids are."""
    return Path(os.environ.get("MESHNET_RUN_DIR", "/run/meshnet"))


def state_dir() -> Path:
    """What survives a reboot."""
    return Path(os.environ.get("MESHNET_STATE_DIR", "/var/lib/meshnet"))


def make_dirs() -> None:
    """Make both; docker.sock in the first is for its group, what is in the second for root."""
    run_dir().mkdir(parents=True, exist_ok=True)
    state_dir().mkdir(parents=True, exist_ok=True, mode=0o700)


def command(name: str) -> list[str]:
    """How the process ``name`` is started."""
    found = [str(Path(sys.executable).with_name(name)), "--run-dir", str(run_dir())]
    return found if name == RESOLVER else [*found, "--state-dir", str(state_dir())]


def pid_of(name: str) -> int | None:
    """The process id of ``name`` while it lives; a zombie does not."""
    try:
        pid = int(pid_file(name).read_text())
        words = Path(f"/proc/{pid}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError, ValueError):
        return None
    return pid if name.encode() in words else None


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
