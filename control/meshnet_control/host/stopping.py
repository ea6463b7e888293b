"""Ends meshnet's processes on this host, whoever keeps them but systemd, and what they leave.

Be aware: a process that the kernel holds dies later or never; every wait here ends.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import signal
import subprocess
import time
from typing import Final

from meshnet.errors import MeshnetError
from meshnet_control.host import standby
from meshnet_control.host.paths import (
    DAEMON,
    ENDS,
    MANAGER,
    MANAGER_SOCKET,
    RESOLVER,
    SUPERVISOR,
    command,
    pid_file,
    pid_of,
    run_dir,
)

ALL: Final = (SUPERVISOR, DAEMON, MANAGER, RESOLVER)
"""In the order of an end."""
_STOPS_S: Final = 20.0
_DIES_S: Final = 10.0
"""Of SIGKILL; who is inside of the kernel then dies later, or never."""


class HostError(MeshnetError):
    """meshnet cannot do on this host what was asked; the sentence says why."""


def stop_all(stack: contextlib.ExitStack) -> None:
    """Stop all; none can be started again until ``stack`` lets go of the supervisor's lock.

    Raises:
        HostError: another supervisor goes on being started, or one does not end.
    """
    deadline: float | None = None
    locked = not run_dir().is_dir()
    while True:
        stopped = [name for name in ALL if stop_one(name)]
        if locked and not stopped:
            return
        if deadline is None:  # what has been started since is ended within that time
            deadline = time.monotonic() + _STOPS_S
        if time.monotonic() > deadline:
            raise HostError(f"another {SUPERVISOR} goes on being started: try again")
        if not locked:
            lock = pid_file(SUPERVISOR).with_suffix(".lock").open("w")
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                locked = True
                stack.enter_context(lock)
            except BlockingIOError:  # one that a survivor has started and that has no id yet
                lock.close()
                time.sleep(0.02)


def stop_one(name: str) -> bool:
    """Whether there was a process to stop.

    Raises:
        HostError: it does not end, killed or not.
    """
    pid = pid_of(name)
    if pid is not None:
        began = time.monotonic()
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
            os.kill(pid, signal.SIGCONT)  # a frozen one would not hear it
            while pid_of(name) == pid:
                took = time.monotonic() - began
                if took > _STOPS_S + _DIES_S:
                    raise HostError(f"{name} (process {pid}) does not end: the kernel holds it")
                if took > _STOPS_S:
                    os.kill(pid, signal.SIGKILL)
                time.sleep(0.02)
    pid_file(name).unlink(missing_ok=True)
    return pid is not None


def end_supervised(name: str) -> None:
    """Ask it to end, and wait until its supervisor has noticed it.

    Raises:
        HostError: nobody did in the time that an end and the start of a supervisor may take.
    """
    pid = pid_of(name)
    if pid is None:
        return
    began = time.monotonic()
    with contextlib.suppress(FileNotFoundError):
        noted = pid_file(name).read_text()
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
        while pid_file(name).read_text() == noted:
            if time.monotonic() - began > _STOPS_S + _DIES_S:
                raise HostError(f"nobody notices that {name} (process {pid}) ends: meshnet up")
            time.sleep(0.01)


def tidy() -> None:
    """Remove what ended processes leave in the run directory, and that if it is empty."""
    left = [
        "docker.sock",
        "admin.sock",
        "resolver.sock",
        MANAGER_SOCKET,
        standby.SOCKET,
        f"{SUPERVISOR}.lock",
        ENDS,
    ]
    for name in [*left, *(f"{name}.notify" for name in ALL)]:
        (run_dir() / name).unlink(missing_ok=True)
    for dead in run_dir().glob("docker.sock.*"):  # that containers had
        dead.unlink(missing_ok=True)
    shutil.rmtree(run_dir() / "control", ignore_errors=True)  # a manager that was killed left it
    with contextlib.suppress(OSError):  # not there, or it holds what is not ours
        run_dir().rmdir()


def clean_up() -> list[str]:
    """Remove every kernel object of meshnet, by a process of its own; a line for each kind.

    Raises:
        HostError: it could not; its own sentence.
    """
    argv = [*command(DAEMON), "--cleanup"]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        words = done.stderr.strip().splitlines()
        # Its own sentence, if it has said one: where its threads hung may follow.
        said = [line.removeprefix(f"{DAEMON}: ") for line in words if line.startswith(f"{DAEMON}:")]
        last = (said or words or [f"exit {done.returncode}"])[-1]
        raise HostError(f"{DAEMON} --cleanup: {last}")
    return done.stdout.splitlines()
