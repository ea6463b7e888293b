"""Who may change what root runs; when nobody is left who would start it; ends that do not come."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import tempfile
from pathlib import Path

import pytest

from meshnet_control.host import processes
from meshnet_control.host.paths import DAEMON, changeable, pid_file
from meshnet_control.host.processes import HostError


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: it gives files away")
def test_what_others_may_change_is_found_in_the_directories_above_too():
    assert changeable([Path("/usr/bin/env"), Path("/usr/lib")]) is None
    with tempfile.TemporaryDirectory() as made:
        code = Path(made) / "lib" / "code.py"
        code.parent.mkdir()
        code.touch()
        assert changeable([code]) is None  # /tmp is sticky
        os.chown(code.parent, 65534, 65534)
        assert changeable([code]) == (code.parent, "nobody")
        os.chown(code.parent, 0, 0)
        code.chmod(0o666)
        assert changeable([code]) == (code, "everybody")


@pytest.mark.parametrize(("status", "lost"), [(1, True), (-9, True), (os.EX_TEMPFAIL, False)])
def test_a_supervisor_that_found_another_one_is_no_reason_to_give_up(
    tmp_path, monkeypatch, status, lost
):
    monkeypatch.setenv("MESHNET_RUN_DIR", str(tmp_path))
    monkeypatch.setenv("MESHNET_STATE_DIR", str(tmp_path))
    script = f"exit {status}" if status >= 0 else "kill -9 $$"
    with subprocess.Popen(["sh", "-c", script]) as started:
        started.wait()
        assert {seen.lost for seen in processes._supervised(started).values()} == {lost}


def test_down_does_not_wait_for_ever_for_a_process_that_even_sigkill_does_not_end(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    monkeypatch.setenv("MESHNET_RUN_DIR", str(tmp_path))
    monkeypatch.setattr(processes, "_STOPS_S", 0.05)
    monkeypatch.setattr(processes, "_DIES_S", 0.05)
    sent = []
    with subprocess.Popen([DAEMON, "60"], executable="/usr/bin/sleep") as held:
        pid_file(DAEMON).write_text(f"{held.pid}\n")
        with monkeypatch.context() as kernel:
            kernel.setattr(os, "kill", lambda _, number: sent.append(number))
            with pytest.raises(HostError, match=rf"meshnetd \(process {held.pid}\) does not end"):
                processes._stop(DAEMON)
        held.kill()
    assert {signal.SIGTERM, signal.SIGKILL} < set(sent)
    assert not processes._stop(DAEMON)


def test_down_succeeds_when_a_process_takes_as_long_to_end_as_it_may(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    monkeypatch.setenv("MESHNET_RUN_DIR", str(tmp_path))
    monkeypatch.setattr(processes, "_STOPS_S", 0.05)
    deaf = ["-c", "trap '' TERM; echo; read _"]
    with (
        subprocess.Popen(
            [DAEMON, *deaf], executable="/bin/sh", stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ) as slow,
        contextlib.ExitStack() as stack,
    ):
        assert slow.stdout is not None
        slow.stdout.readline()
        pid_file(DAEMON).write_text(f"{slow.pid}\n")
        processes._stop_all(stack)
    assert slow.returncode == -signal.SIGKILL


def test_restart_does_not_wait_for_ever_for_a_supervisor_that_died_meanwhile(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    monkeypatch.setenv("MESHNET_RUN_DIR", str(tmp_path))
    monkeypatch.setattr(processes, "_STOPS_S", 0.05)
    monkeypatch.setattr(processes, "_DIES_S", 0.05)
    with subprocess.Popen([DAEMON, "60"], executable="/usr/bin/sleep") as kept:
        pid_file(DAEMON).write_text(f"{kept.pid}\n")
        with pytest.raises(HostError, match=rf"nobody notices that meshnetd .*{kept.pid}"):
            processes._end_supervised(DAEMON)
    assert kept.returncode == -signal.SIGTERM
