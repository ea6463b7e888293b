"""A survivor starts the supervisor again: once, only when it is dead, never when it was ended."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshnet.process.revival import (
    LONGEST_PAUSE_S,
    LOOK_S,
    STEADY_S,
    Pace,
    Revival,
    is_frozen,
    living,
    pause_after,
    revive,
    told,
)

PROGRAM = """#!/bin/sh
echo $$ > {pid}
echo $$ > {started}
read _ < {stays}
"""


@given(st.integers(min_value=0, max_value=10_000))
def test_pauses_grow_and_are_bounded(restarts):
    assert LOOK_S <= pause_after(restarts) <= pause_after(restarts + 1) <= LONGEST_PAUSE_S


def test_one_that_goes_on_dying_is_looked_after_less_often_until_it_has_lived_long():
    pace = Pace(0.0)
    pauses = []
    for at in range(5):
        pauses.append(pace.pause_s(at))
        pace.started(at)
    assert pauses == [LOOK_S * 2**n for n in range(5)]
    assert pace.pause_s(4 + STEADY_S) == LOOK_S
    pace.started(4 + STEADY_S)
    assert pace.pause_s(4 + STEADY_S) == LOOK_S


def test_what_a_supervisor_says_is_read_and_nothing_else():
    said = Revival(("/bin/x", "--run-dir", "/r"), "/r", "/s/log", "x", ("a", "b"))
    assert told(said.environ()) == said
    for odd in ({}, *({"MESHNET_REVIVAL": text} for text in ("", "[]", "{}", "7", "{", "null"))):
        assert told(odd) is None


def test_a_process_that_only_speaks_of_another_is_not_that_one(tmp_path):
    path = tmp_path / "kept.pid"
    with subprocess.Popen(["cat", "-", "-u", "--", "/bin/kept"], stdin=subprocess.PIPE) as other:
        path.write_text(str(other.pid))
        assert living(path, "kept") is None
        assert living(path, "cat") == other.pid
        other.kill()
    path.write_text(str(other.pid))
    assert living(path, "cat") is None


def test_a_process_that_was_just_started_lives(tmp_path, monkeypatch):
    """At the first look it has no command line yet; a moment later it has."""
    path, process = tmp_path / "kept.pid", tmp_path / "proc" / "7"
    path.write_text("7")
    process.mkdir(parents=True)
    (process / "stat").write_text("7 (kept) S 1")
    (process / "cmdline").write_bytes(b"")
    execve = (process / "cmdline").write_bytes
    monkeypatch.setattr("time.sleep", lambda _: execve(b"\0".join([b"kept", b"60", b""])))
    assert living(path, "kept", tmp_path / "proc") == 7


class Bed:
    """A supervisor's place: what is started says its process id, and stays until ``stays`` ends."""

    def __init__(self, directory: Path) -> None:
        program = directory / "supervisor"
        self._started, stays = directory / "started", directory / "stays"
        os.mkfifo(self._started)
        os.mkfifo(stays)
        self._open = os.open(stays, os.O_RDWR)
        names = {"pid": directory / "supervisor.pid", "started": self._started, "stays": stays}
        program.write_text(PROGRAM.format(**names))
        program.chmod(0o755)
        log = str(directory / "log")
        self.revival = Revival((str(program),), str(directory), log, "supervisor", ("kept",))
        self.pid_file = names["pid"]
        self.kept = directory / "kept.pid"

    def started(self) -> int:
        """The id of the one that was started; waits for it."""
        return int(self._started.read_text())

    def close(self) -> None:
        os.close(self._open)


@pytest.fixture
def bed(tmp_path: Path) -> Iterator[Bed]:
    """Name: bed; Scope: function. A place of a supervisor; what was started ends with it."""
    made = Bed(tmp_path)
    yield made
    made.close()


def end(pid: int) -> None:
    with_pidfd = os.pidfd_open(pid)
    os.kill(pid, signal.SIGKILL)
    os.waitid(os.P_PIDFD, with_pidfd, os.WEXITED | os.WNOWAIT)
    os.close(with_pidfd)


def test_one_that_was_never_started_or_was_ended_is_let_be(bed: Bed):
    assert not revive(bed.revival)


def test_a_dead_one_is_started_once_however_many_look_and_again_when_it_dies(bed: Bed):
    bed.pid_file.write_text(f"{2**22 + 1}\n")
    for _ in range(2):
        assert revive(bed.revival)
        assert not revive(bed.revival), "it has no id yet, but it has the lock"
        pid = bed.started()
        assert not revive(bed.revival)
        end(pid)


@pytest.mark.timeout(10)
def test_a_frozen_one_goes_on_when_one_that_it_keeps_is_dead(bed: Bed):
    bed.pid_file.write_text("0\n")
    assert revive(bed.revival)
    pid = bed.started()
    try:
        os.kill(pid, signal.SIGSTOP)
        os.waitpid(pid, os.WUNTRACED)
        assert not revive(bed.revival)
        assert is_frozen(pid), "those that it keeps live"
        bed.kept.write_text(f"{2**22 + 1}\n")
        assert not revive(bed.revival)
        os.waitpid(pid, os.WCONTINUED)
        assert not is_frozen(pid)
    finally:
        end(pid)


def test_a_process_is_frozen_from_sigstop_until_sigcont():
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as process:
        try:
            assert not is_frozen(process.pid)
            process.send_signal(signal.SIGSTOP)
            os.waitpid(process.pid, os.WUNTRACED)
            assert is_frozen(process.pid)
            process.send_signal(signal.SIGCONT)
            os.waitpid(process.pid, os.WCONTINUED)
            assert not is_frozen(process.pid)
        finally:
            process.kill()
    assert not is_frozen(process.pid)
