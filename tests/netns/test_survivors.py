"""Any one of the three processes brings back the other two, on a host without systemd.

The real processes over a stand-in for the engine: no cluster, nothing in the kernel.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import ThreadingMixIn, UnixStreamServer

import pytest

from meshnet.process.revival import LOOK_S, living
from meshnet_control.gateway import listener
from meshnet_control.host import processes, standby, stopping
from meshnet_control.host.paths import (
    DAEMON,
    MANAGER,
    MARK,
    RESOLVER,
    SUPERVISOR,
    log_file,
    pid_file,
    run_dir,
    state_dir,
)

pytestmark = pytest.mark.netns

NAMES = (SUPERVISOR, DAEMON, RESOLVER)
BACK_S = 2.0
SERVES_S = 20.0
"""Until a meshnetd that was started serves, on a machine with two busy cores."""


outlives_its_starter = pytest.mark.filterwarnings("ignore:subprocess .* still running")


class Engine(ThreadingMixIn, UnixStreamServer):
    """Answers ``GET /version`` and ``/info`` as an engine without containers."""

    daemon_threads = True


class Answers(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        said = b'{"ApiVersion": "1.41", "Version": "20.10.24", "Name": "h1"}'
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(said)))
        self.end_headers()
        self.wfile.write(said)

    def address_string(self) -> str:
        return "unix"

    def log_message(self, *_: object) -> None:
        pass


class Host:
    """Where the three run."""

    def __init__(self, run_dir: Path) -> None:
        self._run_dir = run_dir

    def pid(self, name: str) -> int | None:
        return living(self._run_dir / f"{name}.pid", name)

    def pids(self) -> dict[str, int | None]:
        return {name: self.pid(name) for name in NAMES}

    def kill(self, *names: str, by: signal.Signals = signal.SIGKILL) -> dict[str, int]:
        """All in one go; who they were."""
        killed = {name: self.pid(name) or 0 for name in names}
        assert all(killed.values())
        for pid in killed.values():
            os.kill(pid, by)
        return killed

    def replaced(self, killed: dict[str, int]) -> bool:
        return all(self.pid(name) not in {None, pid} for name, pid in killed.items())

    def running(self) -> int:
        """Processes of ours that work in this directory, known by an id or not.

        But for meshnet-manager, which stands by or does not yet.
        """
        return len(self.listed("bin/meshnet(d|-resolver|-supervisor)").split())

    def listed(self, name: str) -> str:
        """Their process ids."""
        return subprocess.run(
            ["pgrep", "-f", f"{name} --run-dir {self._run_dir}"],
            capture_output=True, text=True, check=False,
        ).stdout  # fmt: skip


def alive(pid: int) -> bool:
    """Whether it runs: a zombie, whose parent is frozen, has ended."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


def asked_to_end(pid: int) -> bool:
    """Whether SIGTERM waits for a frozen process (proc(5), status, ShdPnd)."""
    pending = Path(f"/proc/{pid}/status").read_text().partition("\nShdPnd:")[2].split()[0]
    return bool(int(pending, 16) & 1 << (signal.SIGTERM - 1))


def until(what: str, condition: Callable[[], bool], within_s: float) -> None:
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, f"{what}: not within {within_s} s"
        time.sleep(0.01)


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Host]:
    """Name: host; Scope: function. All three run; they are ended after the test."""
    engine = Engine(str(tmp_path / "engine.sock"), Answers)
    threading.Thread(target=engine.serve_forever, daemon=True).start()
    monkeypatch.setenv("MESHNET_ENGINE", f"unix://{tmp_path}/engine.sock")
    monkeypatch.setenv("MESHNET_RUN_DIR", str(tmp_path / "run"))
    monkeypatch.setenv("MESHNET_STATE_DIR", str(tmp_path / "state"))
    (tmp_path / "run").mkdir()
    (tmp_path / "state").mkdir()
    program = [str(Path(sys.executable).with_name(SUPERVISOR)), "--run-dir", str(tmp_path / "run")]
    first = subprocess.Popen(
        [*program, "--state-dir", str(tmp_path / "state")],
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        start_new_session=True,
    )  # fmt: skip
    made = Host(tmp_path / "run")
    try:
        until("meshnet serves", processes.serving, SERVES_S)
        until("a manager stands by", lambda: standby.waits(tmp_path / "run"), SERVES_S)
        yield made
    finally:
        down()
        listener.take_back(tmp_path / "state")
        first.wait()
        engine.shutdown()
        engine.server_close()


def down() -> None:
    """``meshnet down`` but for the kernel, in which there is docker.sock's mount alone."""
    with contextlib.ExitStack() as stack:
        stopping.stop_all(stack)


@pytest.mark.parametrize("survivor", NAMES)
def test_a_survivor_brings_back_the_other_two_and_none_of_them_twice(host: Host, survivor: str):
    kept = host.pid(survivor)
    killed = host.kill(*(name for name in NAMES if name != survivor))
    until("the other two", lambda: host.replaced(killed), BACK_S)
    until("meshnet serves", processes.serving, SERVES_S)
    assert host.pid(survivor) == kept
    assert host.running() == len(NAMES)


@pytest.mark.parametrize("by", [signal.SIGKILL, signal.SIGTERM])
@pytest.mark.parametrize("killed", [DAEMON, RESOLVER])
def test_a_frozen_supervisor_goes_on_when_one_it_keeps_has_ended(
    host: Host, killed: str, by: signal.Signals
):
    supervisor = host.pid(SUPERVISOR)
    assert supervisor is not None
    os.kill(supervisor, signal.SIGSTOP)
    before = host.kill(killed, by=by)
    until("it ended", lambda: not alive(before[killed]), SERVES_S)
    until("another one", lambda: host.replaced(before), BACK_S)
    assert host.pid(SUPERVISOR) == supervisor, "it holds the sockets"


@pytest.mark.parametrize("asked", [DAEMON, RESOLVER])
def test_who_was_asked_to_end_by_somebody_else_is_back_at_once(host: Host, asked: str):
    others = {name: pid for name, pid in host.pids().items() if name != asked}
    before = host.kill(asked, by=signal.SIGTERM)
    until("it ended", lambda: not alive(before[asked]), SERVES_S)
    until("another one", lambda: host.replaced(before), BACK_S)
    until("meshnet serves", processes.serving, SERVES_S)
    assert {name: host.pid(name) for name in others} == others


def test_who_was_asked_to_end_is_back_though_the_supervisor_died_with_it(host: Host):
    killed = host.kill(DAEMON, by=signal.SIGTERM) | host.kill(SUPERVISOR)
    until("it ended", lambda: not alive(killed[DAEMON]), SERVES_S)
    until("both", lambda: host.replaced(killed), BACK_S)
    until("meshnet serves", processes.serving, SERVES_S)
    assert host.running() == len(NAMES)


def test_whom_a_supervisor_ended_stays_away_though_it_died_before_it_ended_the_other(host: Host):
    resolver, supervisor = host.pid(RESOLVER), host.pid(SUPERVISOR)
    assert resolver is not None
    assert supervisor is not None
    os.kill(resolver, signal.SIGSTOP)  # it is ended last
    os.kill(supervisor, signal.SIGTERM)
    until("the resolver is asked to end", lambda: asked_to_end(resolver), SERVES_S)
    assert not pid_file(DAEMON).exists()
    os.kill(supervisor, signal.SIGKILL)
    os.kill(resolver, signal.SIGCONT)
    until("the resolver ended too", lambda: not alive(resolver), SERVES_S)
    time.sleep(2 * LOOK_S + 1)
    assert host.pid(DAEMON) is None


@outlives_its_starter
def test_a_supervisor_that_died_at_its_start_is_followed_by_one_that_starts_the_rest(
    host: Host,
):
    down()
    log_file(DAEMON).unlink()
    os.mkfifo(log_file(DAEMON))  # the start of meshnetd stops here, in a child that has its lock
    program = str(Path(sys.executable).with_name(SUPERVISOR))
    with subprocess.Popen([program], stderr=subprocess.DEVNULL, start_new_session=True) as first:
        children = Path(f"/proc/{first.pid}/task/{first.pid}/children")
        try:
            until("it starts both", lambda: len(children.read_text().split()) > 1, SERVES_S)
            until("the resolver keeps it", lambda: host.pid(RESOLVER) is not None, SERVES_S)
        finally:
            unborn = set(map(int, children.read_text().split())) - {host.pid(RESOLVER)}
            first.kill()
            first.wait()
            for pid in unborn:
                os.kill(pid, signal.SIGKILL)
            log_file(DAEMON).unlink()
    until("meshnet serves", processes.serving, SERVES_S)
    assert host.running() == len(NAMES)


@pytest.mark.parametrize("survivor", NAMES)
def test_nobody_comes_back_after_down(host: Host, survivor: str):
    host.kill(*(name for name in NAMES if name != survivor))
    down()
    time.sleep(2 * LOOK_S + 1)
    assert host.running() == 0
    assert host.pids() == dict.fromkeys(NAMES)


@outlives_its_starter
def test_meshnet_manager_is_started_where_it_is_wanted_and_ends_nobody(host: Host):
    """It fails at each start, as it cannot stand by; it is tried until it is not to be."""
    down()
    in_the_way, said = run_dir() / standby.SOCKET, log_file(MANAGER)
    in_the_way.mkdir(parents=True)
    program = str(Path(sys.executable).with_name(SUPERVISOR))
    with subprocess.Popen([program], stderr=subprocess.DEVNULL, start_new_session=True) as first:
        try:
            until("it was tried", lambda: str(in_the_way) in said.read_text(), SERVES_S)
            until("meshnet serves", processes.serving, SERVES_S)
            (state_dir() / MARK).unlink()
            until("it stays away", lambda: not pid_file(MANAGER).exists(), SERVES_S)
            assert host.pid(SUPERVISOR) == first.pid
            assert all(host.pids().values())
        finally:
            in_the_way.rmdir()
            down()


@outlives_its_starter
def test_restart_leaves_one_of_each_all_of_them_new(host: Host):
    before = host.pids()
    assert processes.restart(print) == [RESOLVER, MANAGER, DAEMON, SUPERVISOR]
    assert all(host.pids()[name] not in {None, before[name]} for name in NAMES)
    until("one of each", lambda: host.running() == len(NAMES), BACK_S)


@outlives_its_starter
def test_who_starts_a_supervisor_while_a_survivor_does_waits_for_that_one(host: Host):
    down()
    lock = pid_file(SUPERVISOR).with_suffix(".lock")
    with ThreadPoolExecutor(1) as pool, lock.open("w") as taken:
        fcntl.flock(taken, fcntl.LOCK_EX)
        said = log_file(SUPERVISOR)
        said.touch()
        starting = pool.submit(processes.start, print)
        until("ours is second", lambda: "another one runs" in said.read_text(), SERVES_S)
        time.sleep(0.2)
        fcntl.flock(taken, fcntl.LOCK_UN)
        starting.result(SERVES_S)
    assert processes.serving()
    until("one of each", lambda: host.running() == len(NAMES), BACK_S)


def test_up_in_the_foreground_waits_until_the_one_that_a_survivor_starts_can_be_stopped(
    host: Host,
):
    down()
    script = "from meshnet_control.host import processes; processes.run_in_foreground()"
    argv = [sys.executable, "-c", script]
    with pid_file(SUPERVISOR).with_suffix(".lock").open("w") as taken:
        fcntl.flock(taken, fcntl.LOCK_EX)
        running = subprocess.Popen(argv, stderr=subprocess.DEVNULL, start_new_session=True)
        with pytest.raises(subprocess.TimeoutExpired):
            running.wait(3)
    try:
        until("meshnet serves", processes.serving, SERVES_S)
    finally:
        running.terminate()
        running.wait()


def test_a_supervisor_hears_whoever_has_found_its_id(host: Host):
    down()
    os.mkfifo(pid_file(SUPERVISOR))  # its start stops here, at the id, until somebody reads
    program = [str(Path(sys.executable).with_name(SUPERVISOR)), DAEMON]
    with subprocess.Popen(program, stderr=subprocess.DEVNULL, start_new_session=True) as starting:
        try:
            until("it hears", lambda: catches(starting.pid, signal.SIGHUP), SERVES_S)
        finally:
            pid_file(SUPERVISOR).read_text()
            starting.terminate()


def catches(pid: int, number: signal.Signals) -> bool:
    """Whether a process has a handler of its own for a signal (proc_pid_status(5), SigCgt)."""
    status = Path(f"/proc/{pid}/status").read_text()
    caught = next(line for line in status.splitlines() if line.startswith("SigCgt:"))
    return bool(int(caught.split()[1], 16) >> (number - 1) & 1)


STARTS_WITHOUT_MESHNETD = """
import sys
sys.executable = sys.argv.pop()
from meshnet_control.host import supervisor
supervisor.main()
"""


def test_a_supervisor_that_cannot_start_one_leaves_none_running(host: Host, tmp_path: Path):
    down()
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in (RESOLVER, MANAGER):
        (programs / name).symlink_to(Path(sys.executable).with_name(name))
    argv = [sys.executable, "-c", STARTS_WITHOUT_MESHNETD, str(programs / "python")]
    done = subprocess.run(argv, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 1
    assert DAEMON in done.stderr
    assert host.running() == 0
