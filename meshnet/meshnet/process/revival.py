"""A survivor brings back who keeps it alive, where that is ``meshnet-supervisor``.

```
 supervisor ── MESHNET_REVIVAL ──> those it keeps   how another one is started
            <─ dead? lock it, start it ─┘ four times a second   it adopts who lives, starts who died
```
Each of them looks, so that any one brings back the others. A lock that is taken
before the start and handed to the started keeps two from running. A supervisor that was ended on
purpose has left no process id: nobody starts it again. systemd does not die and tells nothing.

Be aware: a supervisor that is frozen (SIGSTOP) while one it keeps is dead is made to go on
(SIGCONT), not replaced: it holds the sockets that the next one is to have.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

VARIABLE: Final = "MESHNET_REVIVAL"
LOOK_S: Final = 0.25
LONGEST_PAUSE_S: Final = 60.0
_PROGRAM: Final = 3
"""Words of a command line that may name the program: an interpreter and its option come before."""
_PROC: Final = Path("/proc")
_MOMENTS: Final = 20
_MOMENT_S: Final = 0.001
_DEAD: Final = frozenset({"Z", "X", ""})
STEADY_S: Final = 60.0
"""One that has lived that long is as good as new."""


@dataclass(frozen=True, slots=True)
class Revival:
    """How a supervisor is found and started again.

    Attributes:
        argv: its command; ``--lock`` and the lock's descriptor are added.
        run_dir: where process ids and the lock are.
        log: file that it logs to.
        name: of the supervisor, as its files are called.
        keeps: names of the processes that it keeps.
    """

    argv: tuple[str, ...]
    run_dir: str
    log: str
    name: str
    keeps: tuple[str, ...]

    def environ(self) -> dict[str, str]:
        """What a supervisor adds to the environment of those it starts."""
        return {VARIABLE: json.dumps(asdict(self))}

    def pid_file(self, name: str) -> Path:
        """Where the id of the process ``name`` is."""
        return Path(self.run_dir, f"{name}.pid")

    @property
    def lock(self) -> Path:
        """Whoever has locked it is, or starts, the supervisor."""
        return Path(self.run_dir, f"{self.name}.lock")


def told(environ: Mapping[str, str] = os.environ) -> Revival | None:
    """How our supervisor is started again; None: we have none that could die."""
    try:
        said = json.loads(environ[VARIABLE])
        return Revival(
            tuple(map(str, said["argv"])), str(said["run_dir"]), str(said["log"]),
            str(said["name"]), tuple(map(str, said["keeps"])),
        )  # fmt: skip
    except (LookupError, ValueError, TypeError):
        return None


@dataclass(slots=True)
class Pace:
    """How often to look: at ever longer intervals when a supervisor goes on dying. Pure.

    Attributes:
        last: when one was started last, or we were; seconds of a monotonic clock.
    """

    last: float
    restarts: int = 0

    def pause_s(self, now: float) -> float:
        """Seconds until the next look."""
        return pause_after(self.restarts) if now - self.last < STEADY_S else LOOK_S

    def started(self, now: float) -> None:
        """One was started, or could not be."""
        self.restarts = self.restarts + 1 if now - self.last < STEADY_S else 0
        self.last = now


def pause_after(restarts: int) -> float:
    """Seconds until the next look, after so many restarts in a row. Pure."""
    return float(min(LOOK_S * 2 ** min(restarts, 16), LONGEST_PAUSE_S))


def living(path: Path, name: str, proc: Path = _PROC) -> int | None:
    """The id in a file while its process lives and is called ``name``; a zombie does not.

    Be aware: who starts a process goes on a moment before that has a command line (execve(2)).
    """
    try:
        pid = int(path.read_text())
        words = _command(pid, proc)
        for _ in range(_MOMENTS):
            if words != [b""] or _state(pid, proc) in _DEAD:
                break
            time.sleep(_MOMENT_S)
            words = _command(pid, proc)
    except (FileNotFoundError, ProcessLookupError, ValueError):
        return None
    return pid if name.encode() in map(os.path.basename, words[:_PROGRAM]) else None


def is_frozen(pid: int) -> bool:
    """Whether a process was stopped by a signal and not continued."""
    return _state(pid) == "T"


def _command(pid: int, proc: Path) -> list[bytes]:
    return (proc / str(pid) / "cmdline").read_bytes().split(b"\0")


def _state(pid: int, proc: Path = _PROC) -> str:
    """As proc_pid_stat(5) has it; empty: there is none."""
    try:
        return (proc / str(pid) / "stat").read_text().rpartition(")")[2].split()[0]
    except (OSError, IndexError):
        return ""


def revive(revival: Revival) -> bool:
    """Start the supervisor again if one was started, not ended, and is dead; whether it was so.

    One that is frozen while a process it keeps is dead is made to go on.

    Raises:
        OSError: it cannot be started.
    """
    _reap()
    path = revival.pid_file(revival.name)
    if not path.exists() or not _is_dead(revival, path):
        return False
    with contextlib.suppress(BlockingIOError), revival.lock.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # or else: somebody is starting it
        if path.exists():  # meshnet down removes it first
            _start(revival, lock.fileno())
            return True
    return False


def _is_dead(revival: Revival, path: Path) -> bool:
    pid = living(path, revival.name)
    if pid is not None and is_frozen(pid) and any(_died(revival, name) for name in revival.keeps):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)
    return pid is None


def _died(revival: Revival, name: str) -> bool:
    path = revival.pid_file(name)
    return path.exists() and living(path, name) is None


def _start(revival: Revival, lock: int) -> None:
    os.set_inheritable(lock, True)  # noqa: FBT003 - its only form
    argv = [*revival.argv, "--lock", str(lock)]
    log = os.O_WRONLY | os.O_APPEND | os.O_CREAT
    _STARTED.add(
        os.posix_spawn(
            argv[0], argv, os.environ, setsid=True, setsigmask=[], setsigdef=[signal.SIGPIPE],
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                (os.POSIX_SPAWN_OPEN, 1, revival.log, log, 0o600),
                (os.POSIX_SPAWN_DUP2, 1, 2),
            ],
        )
    )  # fmt: skip


_STARTED: Final[set[int]] = set()


def _reap() -> None:
    """Let those of our supervisors that have ended be gone."""
    for pid in tuple(_STARTED):
        with contextlib.suppress(ChildProcessError):
            if os.waitpid(pid, os.WNOHANG)[0] == 0:
                continue
        _STARTED.discard(pid)
