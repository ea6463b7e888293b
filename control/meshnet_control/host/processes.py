"""meshnet's processes on this host: start, find and stop them; or have systemd do it.

Without systemd ``meshnet-supervisor`` starts the others and keeps them alive.
All live in sessions of their own and outlive the terminal.

Be aware: stopping them leaves the data plane in the kernel, on purpose; ``stop`` removes it as a
last step.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import meshnet
from meshnet.errors import MeshnetError
from meshnet_control.host import unit_ends, units
from meshnet_control.host.paths import (
    DAEMON,
    ENDS,
    MANAGER,
    MANAGER_SOCKET,
    PRIVILEGED_MARK,
    RESOLVER,
    SUPERVISOR,
    changeable,
    command,
    make_dirs,
    pid_of,
    run_dir,
    state_dir,
    wanted,
)
from meshnet_control.host.starting import (
    KEPT,
    Say,
    Starting,
    all_units,
    last_words,
    listens,
    one_unit,
    serves,
    supervised,
    wait,
)
from meshnet_control.host.stopping import (
    ALL,
    HostError,
    clean_up,
    end_supervised,
    stop_all,
    tidy,
)

__all__ = ["HostError", "run_dir", "state_dir"]


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
    if not listens(Path(engine().removeprefix("unix://"))):
        raise HostError(
            f"Cannot connect to the Docker daemon at {engine()}. Is the docker daemon running?"
        )


def serving() -> bool:
    """Whether meshnetd serves the Engine API, and the resolver and who keeps them live."""
    kept = units.installed() or all(pid_of(name) is not None for name in (SUPERVISOR, RESOLVER))
    return kept and serves()


def allow_privileged(*, allow: bool) -> bool:
    """Let services ask for more of this host, or no more; whether that is something else."""
    make_dirs()
    mark = state_dir() / PRIVILEGED_MARK
    changes = mark.exists() is not allow
    if allow:
        mark.touch(mode=0o600)
    else:
        mark.unlink(missing_ok=True)
    return changes


def manages() -> bool:
    """Whether meshnet-manager runs, and has the store open."""
    return listens(run_dir() / MANAGER_SOCKET)


def runs() -> bool:
    """Whether anything runs that has this node's state in memory, or is about to be started."""
    return (
        any(pid_of(name) is not None for name in (SUPERVISOR, DAEMON, MANAGER))
        or any(units.runs(name) for name in (DAEMON, MANAGER))
        or serves()
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
        wait(before, all_units, say, units.last_words)
        return
    make_dirs()
    before, starting = supervised(None), Starting()
    try:
        wait(before, starting.look, say, last_words)
    except HostError:
        starting.give_up()
        raise


def restart(say: Say) -> list[str]:
    """Have what runs be run anew by the code that is on disk now, one after the other.

    The resolver goes first: what keeps it holds its sockets, and meshnetd is there for it. A
    process that does not come up ends it there: the others go on as they are. Units become those
    of that code, and one that it brings is started where it is wanted.

    Returns:
        What was started anew; ``[]``: nothing runs here.

    Raises:
        MeshnetError: one could not be started again; its last words.
    """
    if units.installed():
        fresh = units.renew()
        run = [name for name in KEPT if units.runs(name)]
        for name in run:
            before = units.look()
            units.restart(name)
            wait(before, partial(one_unit, name), say, units.last_words)
        away = [name for name in fresh if run and wanted(name) and not units.runs(name)]
        if away:
            start(say)
        return [*run, *away]
    if all(pid_of(name) is None for name in ALL):
        return []
    kept = [name for name in KEPT if wanted(name)]
    for name in kept:
        end_supervised(name)
        wait(supervised(None), Starting().look, say, last_words)
    supervisor = pid_of(SUPERVISOR)
    if supervisor is not None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(supervisor, signal.SIGKILL)  # asked to end, it would end all
        while pid_of(SUPERVISOR) == supervisor:
            time.sleep(0.01)
    wait(supervised(None), Starting().look, say, last_words)
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
        stop_all(stack)
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
    lived = [name for name in ALL if pid_of(name) is not None]
    with contextlib.ExitStack() as stack:
        with _later(errors):
            stop_all(stack)
        if lived:
            said.append(f"stopped processes: {', '.join(lived)}")
        with _later(errors):
            said += clean_up()
        tidy()
    if errors:
        raise HostError("; ".join(map(str, errors)))
    return said


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
        stop_all(stack)
    make_dirs()
    for name in units.install():
        if units.runs(name):  # by what its unit said before
            before = units.look()
            units.restart(name)
            wait(before, partial(one_unit, name), say, units.last_words)
    start(say)


def last_ends(now: float) -> dict[str, str]:
    """Process -> how it ended last and when; empty where none did.

    Args:
        now: unix seconds.
    """
    if units.installed():
        found = {name: unit_ends.last_end(unit_ends.read(f"{name}.service"), now) for name in KEPT}
        return {name: how for name, how in found.items() if how is not None}
    try:
        ends = json.loads((run_dir() / ENDS).read_text())
        return {
            name: f"{end['end']} {max(0.0, now - end['at']):.0f} s ago, {end['ends']} in all"
            for name, end in ends.items()
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


@contextlib.contextmanager
def _later(errors: list[MeshnetError]) -> Iterator[None]:
    try:
        yield
    except MeshnetError as error:
        errors.append(error)
