"""meshnet's processes on this host: start, find and stop them; or have systemd do it.

Without systemd ``meshnet-supervisor`` starts the others and keeps them alive.
All live in sessions of their own and outlive the terminal.

Be aware: stopping them leaves the data plane in the kernel, on purpose; ``stop`` removes it as a
last step.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import meshnet
from meshnet.errors import MeshnetError
from meshnet_control.host import readiness, unit_ends, units
from meshnet_control.host.paths import (
    DAEMON,
    ENDS,
    MANAGER,
    MANAGER_SOCKET,
    RESOLVER,
    SUPERVISOR,
    TAKEN,
    changeable,
    command,
    last_line,
    log_file,
    make_dirs,
    pid_file,
    pid_of,
    run_dir,
    state_dir,
    wanted,
)
from meshnet_control.host.readiness import Look, Seen

__all__ = ["run_dir", "state_dir"]

Say = Callable[[str], None]
"""Told, sentence by sentence, what is waited for."""

_KEPT = (RESOLVER, MANAGER, DAEMON)
"""In the order of a start."""
_ALL = (SUPERVISOR, DAEMON, MANAGER, RESOLVER)
"""In the order of an end."""
_STOPS_S = 20.0
_DIES_S = 10.0
"""Of SIGKILL; who is inside of the kernel then dies later, or never."""


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
    """Whether meshnetd serves the Engine API, and the resolver and who keeps them live."""
    kept = units.installed() or all(pid_of(name) is not None for name in (SUPERVISOR, RESOLVER))
    return kept and _serves()


def manages() -> bool:
    """Whether meshnet-manager runs, and has the store open."""
    return _listens(run_dir() / MANAGER_SOCKET)


def runs() -> bool:
    """Whether anything runs that has this node's state in memory, or is about to be started."""
    return (
        any(pid_of(name) is not None for name in (SUPERVISOR, DAEMON, MANAGER))
        or any(units.runs(name) for name in (DAEMON, MANAGER))
        or _serves()
        or manages()
    )


def start(say: Say) -> None:
    """Start what is not running yet and wait until the Engine API is served, however long it takes.

    Units that ``install`` or a package wrote are started by systemd.

    Raises:
        HostError: a process could not be started; its last words. What was started is stopped.
    """
    if units.installed():
        before = units.look()
        units.start()
        _wait(before, _units, say, units.last_words)
        return
    make_dirs()
    before, starting = _supervised(None), _Starting()
    try:
        _wait(before, starting.look, say, _last_words)
    except HostError:
        starting.give_up()
        raise


def restart(say: Say) -> list[str]:
    """Have what runs be run anew by the code that is on disk now, one after the other.

    The resolver goes first: what keeps it holds its sockets, and meshnetd is there for it. A
    process that does not come up ends it there: the others go on as they are.

    Returns:
        What was started anew; ``[]``: nothing runs here.

    Raises:
        MeshnetError: one could not be started again; its last words.
    """
    if units.installed():
        run = [name for name in _KEPT if units.runs(name)]
        for name in run:
            before = units.look()
            units.restart(name)
            _wait(before, partial(_unit, name), say, units.last_words)
        return run
    if all(pid_of(name) is None for name in _ALL):
        return []
    kept = [name for name in _KEPT if wanted(name)]
    for name in kept:
        _end_supervised(name)
        _wait(_supervised(None), _Starting().look, say, _last_words)
    supervisor = pid_of(SUPERVISOR)
    if supervisor is not None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(supervisor, signal.SIGKILL)  # asked to end, it would end all
        while pid_of(SUPERVISOR) == supervisor:
            time.sleep(0.01)
    _wait(_supervised(None), _Starting().look, say, _last_words)
    return [*kept, SUPERVISOR]


def run_in_foreground() -> int:
    """Supervise all until a signal arrives, logging to standard error; the exit status.

    ``down`` finds them as it finds started ones. What a process that was killed left makes room.

    Raises:
        HostError: systemd runs meshnet on this host, or what runs does not end.
    """
    if units.installed():
        raise HostError(f"systemd runs meshnet here: systemctl start {DAEMON}, or meshnet down")
    make_dirs()
    with contextlib.ExitStack() as stack:
        _stop_all(stack)
    argv = [*command(SUPERVISOR), "--foreground"]
    os.execv(argv[0], argv)  # noqa: S606 - no shell is needed


def stop() -> list[str]:
    """Stop all, take the units away if they are ours, and remove every kernel object of meshnet.

    Returns:
        What was stopped and removed, a line for each kind; ``[]``: there was nothing.

    Raises:
        MeshnetError: a step failed, in its own words; the steps after it were done all the same.
    """
    said: list[str] = []
    errors: list[MeshnetError] = []
    if units.installed():
        with _later(errors):
            if removed := units.remove():
                said.append(f"stopped units: {', '.join(removed)}")
    lived = [name for name in _ALL if pid_of(name) is not None]
    with contextlib.ExitStack() as stack:
        with _later(errors):
            _stop_all(stack)
        if lived:
            said.append(f"stopped processes: {', '.join(lived)}")
        with _later(errors):
            said += _clean_up()
        _tidy()
    if errors:
        raise HostError("; ".join(map(str, errors)))
    return said


def _stop_all(stack: contextlib.ExitStack) -> None:
    """Stop all; none can be started again until ``stack`` lets go of the supervisor's lock.

    Raises:
        HostError: another supervisor goes on being started, or one does not end.
    """
    deadline: float | None = None
    locked = not run_dir().is_dir()
    while True:
        stopped = [name for name in _ALL if _stop(name)]
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


def _tidy() -> None:
    """Remove what ended processes leave in the run directory, and that if it is empty."""
    left = [
        "docker.sock",
        "admin.sock",
        "resolver.sock",
        MANAGER_SOCKET,
        f"{SUPERVISOR}.lock",
        ENDS,
    ]
    for name in [*left, *(f"{name}.notify" for name in _KEPT)]:
        (run_dir() / name).unlink(missing_ok=True)
    shutil.rmtree(run_dir() / "control", ignore_errors=True)  # a manager that was killed left it
    with contextlib.suppress(OSError):  # not there, or it holds what is not ours
        run_dir().rmdir()


def install(say: Say) -> None:
    """Have systemd start all, now and after each boot, and wait until the Engine API is served.

    One that runs by other settings than its unit has now is started again, the resolver first.

    Raises:
        MeshnetError: no systemd here, or it refused; its words.
    """
    if not units.systemd_runs():
        raise HostError("systemd does not run here: use meshnet up without --install")
    code = [Path(command(DAEMON)[0]).parent, Path(meshnet.__file__), Path(__file__)]
    if (found := changeable(code)) is not None:
        path, who = found
        say(
            f"root is to run what {who} may change: {path}; install meshnet where only root writes"
            " (the package, or pipx with PIPX_HOME=/opt/pipx)"
        )
    with contextlib.ExitStack() as stack:
        _stop_all(stack)
    make_dirs()
    for name in units.install():
        if units.runs(name):  # by what its unit said before
            before = units.look()
            units.restart(name)
            _wait(before, partial(_unit, name), say, units.last_words)
    start(say)


def last_ends(now: float) -> dict[str, str]:
    """Process -> how it ended last and when; empty where none did.

    Args:
        now: unix seconds.
    """
    if units.installed():
        found = {name: unit_ends.last_end(unit_ends.read(f"{name}.service"), now) for name in _KEPT}
        return {name: how for name, how in found.items() if how is not None}
    try:
        ends = json.loads((run_dir() / ENDS).read_text())
        return {
            name: f"{end['end']} {max(0.0, now - end['at']):.0f} s ago, {end['ends']} in all"
            for name, end in ends.items()
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def _wait(before: Look, look: Callable[[], Look], say: Say, words: Callable[[str], str]) -> None:
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


def _units() -> Look:
    found = dict(units.look())
    found[DAEMON] = replace(found[DAEMON], ready=found[DAEMON].ready and _serves())
    return found


def _unit(name: str) -> Look:
    return {name: _units()[name]}


class _Starting:
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
        return _supervised(self._ours)

    def give_up(self) -> None:
        """Stop what we have started, nothing else."""
        if self._ours is not None and self._ours.poll() is None:
            _stop(SUPERVISOR)


def _supervised(started: subprocess.Popen[bytes] | None) -> Look:
    """Those that are to run, as they are kept; ``started``: the supervisor, if it was by us."""
    kept, ends = pid_of(SUPERVISOR) is not None, _ends()
    lost = started is not None and started.poll() not in {None, TAKEN} and not kept
    ready = {
        RESOLVER: _listens(run_dir() / "resolver.sock"),
        MANAGER: _listens(run_dir() / MANAGER_SOCKET),
        DAEMON: _serves(),
    }
    return {
        name: Seen(
            ready=kept and pid_of(name) is not None and ready[name],
            ends=ends.get(name, 0),
            lost=lost,
            doing=_doing(name),
        )
        for name in _KEPT
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


def _last_words(name: str) -> str:
    return last_line(SUPERVISOR if pid_of(SUPERVISOR) is None else name)


def _end_supervised(name: str) -> None:
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


@contextlib.contextmanager
def _later(errors: list[MeshnetError]) -> Iterator[None]:
    try:
        yield
    except MeshnetError as error:
        errors.append(error)


def _clean_up() -> list[str]:
    argv = [*command(DAEMON), "--cleanup"]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        words = done.stderr.strip().splitlines()
        # Its own sentence, if it has said one: where its threads hung may follow.
        said = [line.removeprefix(f"{DAEMON}: ") for line in words if line.startswith(f"{DAEMON}:")]
        last = (said or words or [f"exit {done.returncode}"])[-1]
        raise HostError(f"{DAEMON} --cleanup: {last}")
    return done.stdout.splitlines()


def _serves() -> bool:
    return _listens(run_dir() / "docker.sock")


def _spawn_supervisor() -> subprocess.Popen[bytes]:
    with log_file(SUPERVISOR).open("ab") as log:
        return subprocess.Popen(
            command(SUPERVISOR), stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            start_new_session=True, cwd="/",
        )  # fmt: skip


def _stop(name: str) -> bool:
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


def _listens(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(1)
        try:
            probe.connect(str(path))
        except OSError:
            return False
    return True
