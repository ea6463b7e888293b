"""The systemd units: systemd itself reads them, and finds them confined."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from meshnet_control.host import units
from meshnet_control.host.paths import DAEMON, MANAGER, MARK, RESOLVER
from meshnet_control.host.readiness import Seen

ANALYZE = shutil.which("systemd-analyze")
needs_systemd = pytest.mark.skipif(ANALYZE is None, reason="no systemd-analyze here")
EXPOSED = {DAEMON: 5.3, RESOLVER: 3.2, MANAGER: 2.3}
"""At most, of systemd-analyze's 10: what each may do that an ordinary service may not."""
MOUNT_NAMESPACE = (
    "ProtectSystem", "ProtectHome", "PrivateTmp", "PrivateDevices", "PrivateMounts",
    "ProtectKernelTunables", "ProtectKernelModules", "ProtectKernelLogs", "ProtectControlGroups",
    "ProtectHostname", "ProtectProc", "ProcSubset", "ReadWritePaths", "ReadOnlyPaths",
    "InaccessiblePaths", "BindPaths", "TemporaryFileSystem", "RootDirectory", "MountFlags",
)  # fmt: skip
"""Settings that give a unit mounts of its own (systemd.exec(5))."""


@pytest.fixture
def written(tmp_path, monkeypatch):
    """
    Name: written; Scope: function; Depends: tmp_path.

    All units as files, name -> path; their programs are there.
    """
    monkeypatch.setattr("sys.executable", "/bin/sh")
    found = {}
    for name, text in units.texts().items():
        path = tmp_path / f"{name}.service"
        path.write_text(text.replace(f"/bin/{name} ", "/bin/true "))
        found[name] = path
    return found


@needs_systemd
@pytest.mark.parametrize("name", EXPOSED)
def test_systemd_understands_every_line(written, name):
    done = subprocess.run(
        [str(ANALYZE), "verify", "--man=no", "--recursive-errors=no", str(written[name])],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert [line for line in done.stderr.splitlines() if name in line] == []


@needs_systemd
@pytest.mark.parametrize("name", EXPOSED)
def test_systemd_finds_it_confined(written, name):
    done = subprocess.run(
        [str(ANALYZE), "security", "--offline=yes", "--no-pager", str(written[name])],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    level = re.search(r"exposure level for .*: ([\d.]+)", done.stdout)
    assert level is not None, done.stderr
    assert float(level[1]) <= EXPOSED[name]


@pytest.mark.parametrize("name", EXPOSED)
def test_one_that_dies_or_hangs_is_started_again_whatever_happened_before(name):
    text = units.texts()[name]
    for line in (
        "Type=notify",
        "Restart=always",
        "StartLimitIntervalSec=0",
        "LimitNOFILE=1048576",
        "LimitCORE=0",
    ):
        assert line in text.splitlines()
    assert re.search(r"^WatchdogSec=\d+$", text, re.MULTILINE)
    pause = re.search(r"^RestartSec=(\d+)ms$", text, re.MULTILINE)
    assert pause is not None
    assert int(pause[1]) <= 200


def test_systemd_holds_the_resolvers_sockets():
    assert "FileDescriptorStoreMax=8000" in units.texts()[RESOLVER].splitlines()


def test_systemd_holds_the_socket_that_containers_have():
    assert "FileDescriptorStoreMax=8" in units.texts()[DAEMON].splitlines()


def test_what_meshnetd_mounts_is_seen_by_the_engine():
    settings = {line.partition("=")[0] for line in units.texts()[DAEMON].splitlines()}
    assert not settings & set(MOUNT_NAMESPACE)


def test_meshnet_manager_starts_on_managers_alone(monkeypatch):
    monkeypatch.setenv("MESHNET_STATE_DIR", "/srv/state")
    said = units.texts()
    assert f"ConditionPathExists=/srv/state/{MARK}" in said[MANAGER].splitlines()
    assert "Condition" not in said[DAEMON] + said[RESOLVER]


def test_a_run_directory_below_run_is_made_at_each_boot(monkeypatch):
    monkeypatch.setenv("MESHNET_RUN_DIR", "/run/meshnet")
    for text in units.texts().values():
        assert "RuntimeDirectory=meshnet\nRuntimeDirectoryPreserve=yes\n" in text
    monkeypatch.setenv("MESHNET_RUN_DIR", "/srv/run")
    for text in units.texts().values():
        assert "RuntimeDirectory" not in text


SHOWN = """Id=meshnet-resolver.service
NRestarts=0
StatusText=serving
ActiveState={resolver}

Id=meshnetd.service
NRestarts={ends}
StatusText={doing}
ActiveState={daemon}
Job={job}
"""


def daemon(**said):
    text = SHOWN.format(**{"resolver": "active", "ends": 0, "doing": "", "job": ""} | said)
    return units.seen(units.properties(text))[DAEMON]


def test_a_slow_start_is_seen_with_what_it_does():
    found = daemon(daemon="activating", doing="asking the Docker Engine what it is", job=17)
    assert found == Seen(ready=False, doing="asking the Docker Engine what it is")


def test_one_that_failed_and_is_to_be_tried_again_has_ended():
    assert daemon(daemon="activating", ends=2) == Seen(ready=False, ends=2)


@pytest.mark.parametrize("state", ["inactive", "failed"])
def test_one_that_nobody_starts_is_lost_and_one_that_waits_for_its_turn_is_not(state):
    assert daemon(daemon=state, job="0").lost
    assert not daemon(daemon=state, job=17).lost


def test_a_manager_that_systemd_is_not_asked_for_yet_comes():
    """meshnetd has written MARK, and its word to systemd takes a slow host a second."""
    away = Seen(ready=False, lost=True)
    found = units.asked_for({MANAGER: away, DAEMON: away})
    assert found == {MANAGER: Seen(ready=False), DAEMON: away}


def test_one_that_is_about_to_be_restarted_is_not_ready():
    assert daemon(daemon="active").ready
    assert not daemon(daemon="active", job=18).ready


SYSTEMCTL = """#!/bin/sh
for name in meshnet-resolver meshnet-manager meshnetd; do
  printf 'Id=%s.service\nNRestarts=0\nStatusText=\nActiveState=active\nJob=\n\n' $name
done
"""


def test_meshnet_manager_is_waited_for_on_managers_alone(systemd, monkeypatch):
    monkeypatch.setenv("MESHNET_STATE_DIR", str(systemd))
    (systemd / "bin/systemctl").unlink()
    (systemd / "bin/systemctl").write_text(SYSTEMCTL)
    (systemd / "bin/systemctl").chmod(0o755)
    assert set(units.look()) == {DAEMON, RESOLVER}
    (systemd / MARK).touch()
    assert set(units.look()) == {DAEMON, MANAGER, RESOLVER}


@pytest.fixture
def systemd(tmp_path, monkeypatch):
    """
    Name: systemd; Scope: function; Depends: tmp_path.

    Directories of units, and a systemctl that does nothing.
    """
    for name in ("UNITS", "PACKAGED"):
        (tmp_path / name).mkdir()
        monkeypatch.setattr(units, name, tmp_path / name)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/systemctl").symlink_to("/bin/true")
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    return tmp_path


def test_what_a_package_brought_is_not_written_again(systemd):
    for name, text in units.texts().items():
        (systemd / "PACKAGED" / f"{name}.service").write_text(text)
    (systemd / "UNITS" / "meshnetd.service").write_text("of an earlier installation")
    units.install()
    assert list((systemd / "UNITS").iterdir()) == []


def test_settings_that_the_package_does_not_have_are_written_over_it(systemd, monkeypatch):
    for name, text in units.texts().items():
        (systemd / "PACKAGED" / f"{name}.service").write_text(text)
    monkeypatch.setenv("MESHNET_ENGINE", "unix:///run/other.sock")
    units.install()
    written = (systemd / "UNITS" / "meshnetd.service").read_text()
    assert "Environment=MESHNET_ENGINE=unix:///run/other.sock" in written


def test_a_packages_units_name_its_programs_wherever_they_are_built():
    for name, text in units.texts(Path("/usr/lib/meshnet/bin")).items():
        assert f"ExecStart=/usr/lib/meshnet/bin/{name} " in text


@pytest.mark.parametrize(
    ("script", "stops"),
    [
        ("echo stopping; exit 1", True),
        ("echo running", False),
        ("echo degraded; exit 1", False),
        ("echo offline; exit 1", False),
        ("exec sleep 60", False),
        (None, False),
    ],
    ids=["reboot", "running", "degraded", "no systemd", "no answer", "no systemctl"],
)
def test_a_host_that_goes_down_is_told_from_a_daemon_that_does(
    tmp_path, monkeypatch, script, stops
):
    if script is not None:
        (tmp_path / "systemctl").write_text(f"#!/bin/sh\n[ $1 = is-system-running ] && {script}\n")
        (tmp_path / "systemctl").chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    else:
        monkeypatch.setenv("PATH", str(tmp_path))
    assert units.host_stops() is stops
