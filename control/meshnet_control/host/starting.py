"""Who is to run on this host, as systemd or ``meshnet-supervisor`` has it; waited for until ready.

Be aware: a survivor of the processes may be starting a supervisor while we do; one of the two is
second (``TAKEN``) and ends.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Final

from meshnet_control.host import readiness, standby, units
from meshnet_control.host.paths import (
    DAEMON,
    ENDS,
    MANAGER,
    MANAGER_SOCKET,
    RESOLVER,
    SUPERVISOR,
    TAKEN,
    command,
    last_line,
    log_file,
    pid_file,
    pid_of,
    run_dir,
    wanted,
)
from meshnet_control.host.readiness import Look, Seen
from meshnet_control.host.stopping import HostError, stop_one

Say = Callable[[str], None]
"""Told, sentence by sentence, what is waited for."""
_PING_S: Final = 2.0
KEPT: Final = (RESOLVER, MANAGER, DAEMON)
"""In the order of a start."""


def wait(before: Look, look: Callable[[], Look], say: Say, words: Callable[[str], str]) -> None:
    """Wait until all are ready; one that ended meanwhile, or that nobody starts, is an error."""
    began = told = time.monotonic()
    said = ""
    while True:
        looked = time.monotonic()
        if readiness.is_ready(now := look()):
            return
        took_s = time.monotonic() - looked
        before = readiness.least(before, now)
        name = readiness.failed(before, now)
        if name is not None:
            raise HostError(f"{name} does not start: {words(name)}")
        waits, clock = readiness.waiting_for(now), time.monotonic()
        patience = readiness.QUIET_S if waits != said else readiness.AGAIN_S
        if clock - told > patience:
            say(f"waiting for {waits}, {clock - began:.0f} s so far")
            said, told = waits, clock
        time.sleep(readiness.pause_after(took_s))


def all_units() -> Look:
    """Those that are to run, as systemd has them."""
    found = dict(units.look())
    found[DAEMON] = replace(found[DAEMON], ready=found[DAEMON].ready and serves())
    return found


def one_unit(name: str) -> Look:
    """One of them alone."""
    return {name: all_units()[name]}


class Starting:
    """A supervisor that is to run and to start the others.

    Be aware: a survivor may be starting one, too. Ours is second then (``TAKEN``), and is followed
    by another one only if that of the survivor does not come.
    """

    def __init__(self) -> None:
        self._ours: subprocess.Popen[bytes] | None = None
        self._asked: int | None = None

    def look(self) -> Look:
        """See to it that there is one, and that it was asked to start who stays away."""
        supervisor = pid_of(SUPERVISOR)
        if supervisor is None and (self._ours is None or self._ours.poll() == TAKEN):
            self._ours = _spawn_supervisor()
        elif supervisor is not None and supervisor != self._asked:
            with contextlib.suppress(ProcessLookupError):
                os.kill(supervisor, signal.SIGHUP)
            self._asked = supervisor
        return supervised(self._ours)

    def give_up(self) -> None:
        """Stop what we have started, nothing else."""
        if self._ours is not None and self._ours.poll() is None:
            stop_one(SUPERVISOR)


def supervised(started: subprocess.Popen[bytes] | None) -> Look:
    """Those that are to run, as they are kept; ``started``: the supervisor, if it was by us."""
    kept, ends = pid_of(SUPERVISOR) is not None, _ends()
    lost = started is not None and started.poll() not in {None, TAKEN} and not kept
    ready = {
        RESOLVER: listens(run_dir() / "resolver.sock"),
        MANAGER: listens(run_dir() / MANAGER_SOCKET) or standby.waits(run_dir()),
        DAEMON: serves(),
    }
    return {
        name: Seen(
            ready=kept and pid_of(name) is not None and ready[name],
            ends=ends.get(name, 0),
            lost=lost,
            doing=_doing(name),
            spared=1 if name == MANAGER else 0,
        )
        for name in KEPT
        if wanted(name)
    }


def _doing(name: str) -> str:
    """What it said last in its log in this life, without time and logger."""
    with contextlib.suppress(OSError):
        if log_file(name).stat().st_mtime > pid_file(name).stat().st_mtime:
            return last_line(name).split(" ", 4)[-1]
    return ""


def _ends() -> dict[str, int]:
    try:
        found = json.loads((run_dir() / ENDS).read_text())
        return {name: int(end["ends"]) for name, end in found.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def last_words(name: str) -> str:
    """What it said last, or what its supervisor did before that ended."""
    return last_line(SUPERVISOR if pid_of(SUPERVISOR) is None else name)


def serves() -> bool:
    """Whether somebody serves the Engine API; that its socket is held tells nothing."""
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(_PING_S)
        try:
            probe.connect(str(run_dir() / "docker.sock"))
            probe.sendall(b"HEAD /_ping HTTP/1.1\r\nHost: docker\r\n\r\n")
            return probe.recv(1) != b""
        except OSError:
            return False


def _spawn_supervisor() -> subprocess.Popen[bytes]:
    with log_file(SUPERVISOR).open("ab") as log:
        return subprocess.Popen(
            command(SUPERVISOR), stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            start_new_session=True, cwd="/",
        )  # fmt: skip


def listens(path: Path) -> bool:
    """Whether somebody does at this socket."""
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(1)
        try:
            probe.connect(str(path))
        except OSError:
            return False
    return True
