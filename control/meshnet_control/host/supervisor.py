"""``meshnet-supervisor``: keeps meshnet's other processes alive where there is no systemd.

```
 meshnet-supervisor ──starts──> meshnet-resolver ─┐ sd_notify: ready, alive, hold these sockets
                    ──starts──> meshnet-manager ──┤   on a manager: where MARK is
                    ──starts──> meshnetd ─────────┤
       <── one socket for each, in the run dir ───┘
```
However a process ended, killed, crashed or asked to (SIGTERM), it is started again at once, one
that goes on ending at ever longer intervals; one that gives no sign of life is aborted (its stacks
go to its log), then killed. It does what a systemd unit with ``Type=notify``, ``WatchdogSec=``,
``Restart=always`` and ``FileDescriptorStoreMax=`` does, so that both processes need to know nothing
of it.

Be aware: only who ends the supervisor (SIGTERM, as ``meshnet down`` does) ends the two for good.
One that fails before it was ever ready ends the supervisor too: ``meshnet up`` says why. Its own
death ends nothing: one of the two starts another, which goes on with the processes that are there.
An id file of a process, empty or not, says that it is to run.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import json
import os
import resource
import select
import signal
import socket
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from meshnet.process import limits
from meshnet.process.revival import Revival
from meshnet_control.host import supervision
from meshnet_control.host.paths import (
    DAEMON,
    ENDS,
    MANAGER,
    RESOLVER,
    SUPERVISOR,
    TAKEN,
    command,
    last_line,
    log_file,
    make_dirs,
    pid_file,
    pid_of,
    run_dir,
    wanted,
)
from meshnet_control.host.supervision import Life

ENDS_S: Final = {DAEMON: 15.0, MANAGER: 10.0, RESOLVER: 3.0}
"""Seconds to end after SIGTERM; all have a shorter limit of their own."""
_HIGH: Final = 16384
"""Held descriptors are above; below is room for those that a process inherits (3, 4, …)."""
_MOST_HELD: Final = 8000
_FIRST: Final = 3
_RIGHTS: Final = 253
"""Descriptors of one message at most (SCM_MAX_FD)."""


def say(text: str) -> None:
    """One line of the log; a log that cannot be written (a full disk) is no reason to end."""
    when = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    line = f"time={when} level=info from={SUPERVISOR} msg={json.dumps(text)}\n"
    with contextlib.suppress(OSError, ValueError):
        os.write(sys.stderr.fileno(), line.encode())


class Process:
    """One supervised process and what it had us hold."""

    def __init__(self, name: str, watchdog_s: float, revival: Revival, *, foreground: bool) -> None:
        self.name = name
        self._revival = revival
        self.life: Life | None = None
        self.ever_ready = False
        self.start_at: float | None = None
        self.failures = 0
        self.pid = 0
        self._foreground = foreground
        self._watchdog_s = watchdog_s
        self._pidfd = -1
        self._held: dict[str, list[int]] = {}
        path = pid_file(name).with_suffix(".notify")
        path.unlink(missing_ok=True)
        self._address = str(path)
        self.notices = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        before = os.umask(0o177)
        try:
            self.notices.bind(self._address)
        finally:
            os.umask(before)

    @property
    def descriptors(self) -> list[int]:
        """What to wait for: messages, and the end."""
        found = [self.notices.fileno()]
        return found if self._pidfd < 0 else [*found, self._pidfd]

    @property
    def due_at(self) -> float | None:
        """When something is to be done even if nothing happens."""
        if self.life is None:
            return self.start_at
        return supervision.overdue_at(self.life, self._watchdog_s)

    def adopt(self, now: float) -> bool:
        """Go on with a process that another supervisor started; whether there is one."""
        pid = pid_of(self.name)
        if pid is None:
            return False
        with contextlib.suppress(ProcessLookupError):
            self._pidfd = os.pidfd_open(pid)
            self.pid, self.ever_ready = pid, True
            self.life = supervision.told(supervision.begun(now), {"READY": "1"}, now)
        return self.life is not None

    def start(self, now: float) -> None:
        """Start it with what is held for it.

        Raises:
            OSError: it cannot be started.
        """
        argv = command(self.name)
        names = [name for name, descriptors in self._held.items() for _ in descriptors]
        held = [descriptor for descriptors in self._held.values() for descriptor in descriptors]
        environ = dict(os.environ)
        environ["NOTIFY_SOCKET"] = self._address
        environ["WATCHDOG_USEC"] = str(round(self._watchdog_s * 1e6))
        environ |= self._revival.environ()
        environ["LISTEN_FDS"], environ["LISTEN_FDNAMES"] = str(len(held)), ":".join(names)
        actions: list[tuple[int, int, str, int, int] | tuple[int, int, int]] = [
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0)
        ]
        if not self._foreground:
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT
            actions += [
                (os.POSIX_SPAWN_OPEN, 1, str(log_file(self.name)), flags, 0o600),
                (os.POSIX_SPAWN_DUP2, 1, 2),
            ]
        actions += [(os.POSIX_SPAWN_DUP2, fd, _FIRST + at) for at, fd in enumerate(held)]
        self.pid = os.posix_spawn(
            argv[0], argv, environ, file_actions=actions, setsid=True, setsigmask=[],
            setsigdef=[signal.SIGPIPE],
        )  # fmt: skip
        self._pidfd = os.pidfd_open(self.pid)
        self.start_at = None
        self.life = supervision.begun(now, self.failures)
        pid_file(self.name).write_text(f"{self.pid}\n")

    def send(self, number: signal.Signals) -> None:
        """Send it a signal, if it lives."""
        if self.life is not None:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, number)

    def ended(self, wait_s: float = 0.0) -> tuple[Life, int | None] | None:
        """Its life and exit status if it has ended within ``wait_s``; it is no more then."""
        if self.life is None:
            return None
        poll = select.poll()
        poll.register(self._pidfd, select.POLLIN)
        if not poll.poll(wait_s * 1000):
            return None
        self.hear(time.monotonic())  # its last words
        status: int | None = None
        with contextlib.suppress(ChildProcessError):  # one that was adopted
            status = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        os.close(self._pidfd)
        life, self.life, self._pidfd = self.life, None, -1
        return life, status

    def hear(self, now: float) -> None:
        """Take all messages that wait."""
        while True:
            try:
                datagram, descriptors, _, _ = socket.recv_fds(
                    self.notices, supervision.MOST_BYTES, _RIGHTS
                )
            except OSError:
                return
            for descriptor in descriptors:
                os.set_inheritable(descriptor, False)  # noqa: FBT003 - its only form
            message = supervision.parsed(datagram)
            name = message.get("FDNAME", "")
            if message.get("FDSTOREREMOVE") == "1":
                self._release(name)
            elif message.get("FDSTORE") == "1":
                self._hold(name, descriptors)
                descriptors = []
            for descriptor in descriptors:
                os.close(descriptor)
            if self.life is not None:
                self.life = supervision.told(self.life, message, now)
                self.ever_ready = self.ever_ready or self.life.ready

    def overdue(self, now: float) -> None:
        """Abort it if it is silent, kill it if it was aborted."""
        life = self.life
        if life is None or now < supervision.overdue_at(life, self._watchdog_s):
            return
        if life.aborted is None:
            say(f"{self.name} (process {self.pid}) gives no sign of life: it is aborted")
        self.send(signal.SIGABRT if life.aborted is None else signal.SIGKILL)
        self.life = supervision.aborted(life, now)

    def _hold(self, name: str, descriptors: Sequence[int]) -> None:
        self._release(name)
        if sum(map(len, self._held.values())) + len(descriptors) > _MOST_HELD:
            say(f"{self.name}: more than {_MOST_HELD} descriptors are not held")
        else:
            self._held[name] = [_moved_up(descriptor) for descriptor in descriptors]
        for descriptor in descriptors:
            os.close(descriptor)

    def _release(self, name: str) -> None:
        for descriptor in self._held.pop(name, ()):
            os.close(descriptor)

    def close(self) -> None:
        """Hold and hear nothing any more."""
        for name in list(self._held):
            self._release(name)
        self.notices.close()
        Path(self._address).unlink(missing_ok=True)


class Supervisor:
    """The processes, from the start to SIGTERM.

    Args:
        names: of the processes; started in this order, ended in the other.
        watchdog_s: seconds without a sign of life, then a process is hung.
        foreground: log where we do.
        revived: a survivor started us: whom the one before us ended on purpose stays away.
    """

    def __init__(
        self, names: Sequence[str], watchdog_s: float, *, foreground: bool, revived: bool
    ) -> None:
        again = Revival(
            (*command(SUPERVISOR), *names), str(run_dir()), str(log_file(SUPERVISOR)), SUPERVISOR,
            tuple(names),
        )  # fmt: skip
        self._processes = [
            Process(name, watchdog_s, again, foreground=foreground) for name in names
        ]
        self._revived = revived
        self._path = pid_file(SUPERVISOR).with_name(ENDS)
        self.failed = ""
        self._ends: dict[str, dict[str, str | float | int]] = _read(self._path)
        self._signals, theirs = socket.socketpair()
        for end in (self._signals, theirs):
            end.settimeout(0)
        self._wakes = theirs
        signal.set_wakeup_fd(theirs.fileno(), warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, lambda _number, _frame: None)

    def run(self) -> int:
        """Supervise until SIGTERM or SIGINT (0), or until one cannot be started (1).

        Raises:
            OSError: a process cannot be started at all.
        """
        try:
            for process in self._processes:
                if not self._revived:
                    pid_file(process.name).touch()
            for process in self._processes:
                self._take_up(process)
            while not self._asked_to_end():
                for process in self._processes:
                    process.hear(time.monotonic())
                    if not self._look_after(process):
                        return 1
                self._wait()
        finally:
            self._end()
        return 0

    def _take_up(self, process: Process) -> None:
        now = time.monotonic()
        # meshnet-manager is no reason to give up: it says to meshnetd what it cannot do.
        process.ever_ready = self._revived or process.name == MANAGER
        if process.adopt(now) or not wanted(process.name):
            return
        if not self._revived:
            process.start(now)
        elif process.name == MANAGER or pid_file(process.name).exists():
            process.start_at = now  # what cannot be started now is tried again

    def _wait(self) -> None:
        poll = select.poll()
        poll.register(self._signals, select.POLLIN)
        for process in self._processes:
            for descriptor in process.descriptors:
                poll.register(descriptor, select.POLLIN)
        dues = [process.due_at for process in self._processes if process.due_at is not None]
        now = time.monotonic()
        poll.poll(max(0.0, min(dues) - now) * 1000 + 1 if dues else None)

    def _asked_to_end(self) -> bool:
        try:
            numbers = self._signals.recv(64)
        except BlockingIOError:
            return False
        if signal.SIGHUP in numbers:
            for process in self._processes:
                if process.life is None and wanted(process.name):
                    process.start_at = time.monotonic()
        return signal.SIGTERM in numbers or signal.SIGINT in numbers

    def _look_after(self, process: Process) -> bool:
        """Start it when it is time to, notice its end and its silence; False: it cannot start."""
        now = time.monotonic()
        process.overdue(now)
        found = process.ended()
        if found is not None:
            life, status = found
            self._note(process, life, status)
            if not process.ever_ready and not supervision.was_asked(life, status):
                self.failed = process.name
                return False
            process.failures = supervision.failures_after(life, now)
            process.start_at = now + supervision.pause_after(process.failures)
        if process.life is None and not wanted(process.name):
            process.start_at = None
            pid_file(process.name).unlink(missing_ok=True)
        if process.life is None and process.start_at is not None and process.start_at <= now:
            try:
                process.start(now)
                say(f"{process.name} was started: process {process.pid}")
            except OSError as error:
                say(f"{process.name} cannot be started: {error}")
                process.failures += 1
                process.start_at = now + supervision.pause_after(process.failures + 1)
        return True

    def _note(self, process: Process, life: Life, status: int | None) -> None:
        how = supervision.end_of(status)
        lived = time.monotonic() - life.began
        say(f"{process.name} (process {process.pid}): {how} after {lived:.1f} s")
        before = self._ends.get(process.name, {}).get("ends", 0)
        self._ends[process.name] = {
            "end": how, "at": time.time(), "ends": int(before) + 1,
        }  # fmt: skip
        with contextlib.suppress(OSError):  # a full disk is no reason to let a process be dead
            self._path.write_text(json.dumps(self._ends))

    def _end(self) -> None:
        """End all, meshnetd first, and wait for them; the bound of each is ``ENDS_S``."""
        for process in reversed(self._processes):
            process.send(signal.SIGTERM)
            if process.life is not None and process.ended(ENDS_S[process.name]) is None:
                say(f"{process.name} did not end within {ENDS_S[process.name]:.0f} s: killed")
                process.send(signal.SIGKILL)
                process.ended(ENDS_S[process.name])
            pid_file(process.name).unlink(missing_ok=True)
            process.close()
        self._signals.close()
        self._wakes.close()
        self._path.unlink(missing_ok=True)


def _moved_up(descriptor: int) -> int:
    """A copy of ``descriptor`` out of the way of those that are inherited."""
    most, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, min(_HIGH, most // 2))


def _read(path: Path) -> dict[str, dict[str, str | float | int]]:
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run until SIGTERM or SIGINT; exit status 1: a process could not be started; ``TAKEN``."""
    parser = argparse.ArgumentParser(prog=SUPERVISOR, description="Keeps meshnet's processes.")
    parser.add_argument("--run-dir", type=Path, help="sockets and process ids")
    parser.add_argument("--state-dir", type=Path, help="logs")
    parser.add_argument("--foreground", action="store_true", help="log to standard error")
    parser.add_argument("--lock", type=int, help="descriptor of our lock, if it is taken already")
    parser.add_argument("names", nargs="*", metavar="process", help="those to keep (all)")
    asked = parser.parse_args(arguments)
    names = asked.names or [MANAGER, RESOLVER, DAEMON]
    if DAEMON in names and MANAGER not in names:  # revived by who was started by an older version
        names.insert(0, MANAGER)
    if unknown := set(names) - ENDS_S.keys():
        parser.error(f"no process of ours: {', '.join(sorted(unknown))}")
    for key, value in (("RUN", asked.run_dir), ("STATE", asked.state_dir)):
        if value is not None:
            os.environ[f"MESHNET_{key}_DIR"] = str(value)
    make_dirs()
    revived = asked.lock is not None
    path = pid_file(SUPERVISOR).with_suffix(".lock")
    with os.fdopen(asked.lock, "w") if revived else path.open("w") as lock:
        os.set_inheritable(lock.fileno(), False)  # noqa: FBT003 - its only form
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            parser.exit(TAKEN, f"{SUPERVISOR}: another one runs\n")
        raise SystemExit(_supervise(names, foreground=asked.foreground, revived=revived))


def _supervise(names: Sequence[str], *, foreground: bool, revived: bool) -> int:
    limits.raise_descriptors()
    os.chdir("/")
    watchdog_s = float(os.environ.get("MESHNET_WATCHDOG_S", supervision.WATCHDOG_S))
    supervisor = Supervisor(names, watchdog_s, foreground=foreground, revived=revived)
    try:
        pid_file(SUPERVISOR).write_text(f"{os.getpid()}\n")  # signals are heard from here on
        status = supervisor.run()
    except OSError as error:
        say(f"{error}")
        status = 1
    finally:
        pid_file(SUPERVISOR).unlink(missing_ok=True)
    if supervisor.failed and not foreground:
        print(last_line(supervisor.failed), file=sys.stderr)  # noqa: T201 - why up failed
    return status


if __name__ == "__main__":
    main()
