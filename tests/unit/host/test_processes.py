"""Who may change what root runs; when nobody is left who would start it; ends that do not come."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from meshnet_control.host import processes, starting, stopping, units
from meshnet_control.host.paths import DAEMON, MARK, changeable, pid_file
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
        assert {seen.lost for seen in starting.supervised(started).values()} == {lost}


def test_down_does_not_wait_for_ever_for_a_process_that_even_sigkill_does_not_end(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    monkeypatch.setenv("MESHNET_RUN_DIR", str(tmp_path))
    monkeypatch.setattr(stopping, "_STOPS_S", 0.05)
    monkeypatch.setattr(stopping, "_DIES_S", 0.05)
    sent = []
    with subprocess.Popen([DAEMON, "60"], executable="/usr/bin/sleep") as held:
        pid_file(DAEMON).write_text(f"{held.pid}\n")
        with monkeypatch.context() as kernel:
            kernel.setattr(os, "kill", lambda _, number: sent.append(number))
            with pytest.raises(HostError, match=rf"meshnetd \(process {held.pid}\) does not end"):
                stopping.stop_one(DAEMON)
        held.kill()
    assert {signal.SIGTERM, signal.SIGKILL} < set(sent)
    assert not stopping.stop_one(DAEMON)


def test_down_succeeds_when_a_process_takes_as_long_to_end_as_it_may(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    monkeypatch.setenv("MESHNET_RUN_DIR", str(tmp_path))
    monkeypatch.setattr(stopping, "_STOPS_S", 0.05)
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
        stopping.stop_all(stack)
    assert slow.returncode == -signal.SIGKILL


SYSTEMCTL = """#!/bin/sh
echo "$*" >> {said}
[ "$1" = show ] || exit 0
for name in meshnet-resolver meshnet-manager meshnetd; do
  printf 'Id=%s.service\\nActiveState={state}\\nNRestarts=0\\nStatusText=\\nJob=\\n\\n' $name
done
"""


class Systemd:
    """A stand-in for systemd's command; its units are in a directory of the test."""

    def __init__(self, place: Path) -> None:
        self._said = place / "said"
        self._program = place / "bin" / "systemctl"
        self._program.parent.mkdir()
        self.units(state="active")

    def units(self, *, state: str) -> None:
        self._said.touch()
        self._program.write_text(SYSTEMCTL.format(said=self._said, state=state))
        self._program.chmod(0o755)

    def asked(self) -> list[str]:
        """What it was asked for since the last question."""
        lines = self._said.read_text().splitlines()
        self._said.write_text("")
        return lines

    def restarted(self) -> list[str]:
        """Units that it was asked to start anew since the last question."""
        return [line.split()[-1] for line in self.asked() if line.startswith("restart")]


@pytest.fixture
def systemd(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Systemd]:
    """Name: systemd; Scope: function. It runs both; the Engine API is served."""
    made = Systemd(tmp_path)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
    monkeypatch.setenv("MESHNET_RUN_DIR", str(tmp_path / "run"))
    monkeypatch.setenv("MESHNET_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("MESHNET_ENGINE", "unix:///run/docker.sock")
    monkeypatch.setattr(units, "systemd_runs", lambda: True)
    for name in ("UNITS", "PACKAGED"):
        (tmp_path / name).mkdir()
        monkeypatch.setattr(units, name, tmp_path / name)
    (tmp_path / "run").mkdir()
    with socket.socket(socket.AF_UNIX) as api:
        api.bind(str(tmp_path / "run" / "docker.sock"))
        api.listen()
        threading.Thread(target=_answers, args=(api,), daemon=True).start()
        yield made
        api.shutdown(socket.SHUT_RDWR)  # wakes it up


def _answers(api: socket.socket) -> None:
    """Until it is shut down."""
    with contextlib.suppress(OSError):
        while True:
            client, _ = api.accept()
            with client:
                client.recv(1024)
                client.sendall(b"HTTP/1.1 200 OK\r\n\r\n")


def test_up_install_starts_again_what_runs_by_other_settings_and_nothing_else(
    systemd: Systemd, monkeypatch: pytest.MonkeyPatch
):
    processes.install(lambda _: None)
    assert systemd.restarted() == ["meshnet-resolver.service", "meshnetd.service"]
    processes.install(lambda _: None)
    assert systemd.restarted() == []
    text = (units.UNITS / "meshnetd.service").read_text()
    (units.UNITS / "meshnetd.service").write_text(text.replace("LimitNOFILE=", "LimitNOFILE=1"))
    processes.install(lambda _: None)
    assert systemd.restarted() == ["meshnetd.service"]
    monkeypatch.setenv("MESHNET_ENGINE", "unix:///run/another.sock")
    processes.install(lambda _: None)
    assert systemd.restarted() == ["meshnet-resolver.service", "meshnetd.service"]


def test_an_upgrade_brings_the_units_of_its_version_with_the_settings_they_have(
    systemd: Systemd, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    monkeypatch.setenv("MESHNET_ENGINE", "unix:///run/another.sock")
    units.install()
    monkeypatch.delenv("MESHNET_ENGINE")
    written = {path.name: path.read_text() for path in units.UNITS.iterdir()}
    (units.UNITS / "meshnet-manager.service").unlink()  # the version before had none
    (units.UNITS / "meshnetd.service").write_text(
        written["meshnetd.service"].replace("OOMScoreAdjust=-500", "OOMScoreAdjust=0")
    )
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / MARK).touch()
    systemd.asked()
    processes.restart(lambda _: None)
    assert {path.name: path.read_text() for path in units.UNITS.iterdir()} == written
    asked = systemd.asked()
    assert asked.index("daemon-reload") < asked.index("restart --no-block meshnetd.service")
    assert any(line.startswith("enable") and "meshnet-manager.service" in line for line in asked)


def test_a_unit_that_an_upgrade_brings_is_started_where_it_is_wanted(
    systemd: Systemd, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    runs = ["meshnet-resolver", "meshnetd"]
    monkeypatch.setattr(units, "runs", lambda name: name in runs)
    monkeypatch.setattr(units, "start", lambda: runs.append("meshnet-manager"))
    units.install()
    (units.UNITS / "meshnet-manager.service").unlink()
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / MARK).touch()
    assert processes.restart(lambda _: None) == ["meshnet-resolver", "meshnetd", "meshnet-manager"]
    assert runs == ["meshnet-resolver", "meshnetd", "meshnet-manager"]


def test_units_of_other_directories_stay_as_they_are(
    systemd: Systemd, monkeypatch: pytest.MonkeyPatch
):
    units.install()
    (units.UNITS / "meshnet-manager.service").unlink()
    text = (units.UNITS / "meshnetd.service").read_text()
    monkeypatch.setenv("MESHNET_STATE_DIR", "/elsewhere")
    assert units.renew() == []
    assert (units.UNITS / "meshnetd.service").read_text() == text


def test_what_does_not_run_is_not_started_again_but_started(systemd: Systemd):
    systemd.units(state="inactive")
    assert units.install() == ["meshnet-resolver", "meshnet-manager", "meshnetd"]
    assert not units.runs("meshnetd")


HANGS = """
import os, threading
from meshnet.errors import ControlError
from meshnet_control import daemon
async def hangs(run_dir, engine):
    daemon.asyncio.get_running_loop().run_in_executor(None, threading.Event().wait)
    {end}
os.geteuid = lambda: 0
daemon.clean_up, daemon.CLEANED_S = hangs, 0.3
daemon.main(["--cleanup"])
"""


@pytest.mark.parametrize(
    ("end", "said", "sentence"),
    [
        ('raise ControlError("the kernel hangs")', "", "meshnetd: the kernel hangs"),
        ('return ["removed links: mn-ingress"]', "removed links: mn-ingress\n", ""),
    ],
)
def test_a_clean_up_ends_though_a_thread_of_it_hangs(end, said, sentence):
    script = HANGS.format(end=end)
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=20
    )
    assert done.returncode == 1, "what hangs is told"
    assert done.stdout == said
    assert done.stderr.startswith(sentence)


def test_restart_does_not_wait_for_ever_for_a_supervisor_that_died_meanwhile(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    monkeypatch.setenv("MESHNET_RUN_DIR", str(tmp_path))
    monkeypatch.setattr(stopping, "_STOPS_S", 0.05)
    monkeypatch.setattr(stopping, "_DIES_S", 0.05)
    with subprocess.Popen([DAEMON, "60"], executable="/usr/bin/sleep") as kept:
        pid_file(DAEMON).write_text(f"{kept.pid}\n")
        with pytest.raises(HostError, match=rf"nobody notices that meshnetd .*{kept.pid}"):
            stopping.end_supervised(DAEMON)
    assert kept.returncode == -signal.SIGTERM
