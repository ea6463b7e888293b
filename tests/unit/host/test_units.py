"""The systemd units: systemd itself reads them, and finds them confined."""

from __future__ import annotations

import re
import shutil
import subprocess

import pytest

from meshnet_control.host import units
from meshnet_control.host.paths import DAEMON, RESOLVER

ANALYZE = shutil.which("systemd-analyze")
needs_systemd = pytest.mark.skipif(ANALYZE is None, reason="no systemd-analyze here")
EXPOSED = {DAEMON: 5.3, RESOLVER: 3.2}
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

    Both units as files, name -> path; their programs are there.
    """
    monkeypatch.setattr("sys.executable", "/bin/sh")
    found = {}
    for name, text in units.texts().items():
        path = tmp_path / f"{name}.service"
        path.write_text(text.replace(f"/bin/{name} ", "/bin/true "))
        found[name] = path
    return found


@needs_systemd
@pytest.mark.parametrize("name", [DAEMON, RESOLVER])
def test_systemd_understands_every_line(written, name):
    done = subprocess.run(
        [str(ANALYZE), "verify", "--man=no", "--recursive-errors=no", str(written[name])],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert [line for line in done.stderr.splitlines() if name in line] == []


@needs_systemd
@pytest.mark.parametrize("name", [DAEMON, RESOLVER])
def test_systemd_finds_it_confined(written, name):
    done = subprocess.run(
        [str(ANALYZE), "security", "--offline=yes", "--no-pager", str(written[name])],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    level = re.search(r"exposure level for .*: ([\d.]+)", done.stdout)
    assert level is not None, done.stderr
    assert float(level[1]) <= EXPOSED[name]


@pytest.mark.parametrize("name", [DAEMON, RESOLVER])
def test_one_that_dies_or_hangs_is_started_again_whatever_happened_before(name):
    text = units.texts()[name]
    for line in ("Type=notify", "Restart=always", "StartLimitIntervalSec=0", "LimitNOFILE=1048576"):
        assert line in text.splitlines()
    assert re.search(r"^WatchdogSec=\d+$", text, re.MULTILINE)
    pause = re.search(r"^RestartSec=(\d+)ms$", text, re.MULTILINE)
    assert pause is not None
    assert int(pause[1]) <= 200


def test_systemd_holds_the_resolvers_sockets():
    assert "FileDescriptorStoreMax=8000" in units.texts()[RESOLVER].splitlines()


def test_what_meshnetd_mounts_is_seen_by_the_engine():
    settings = {line.partition("=")[0] for line in units.texts()[DAEMON].splitlines()}
    assert not settings & set(MOUNT_NAMESPACE)


def test_a_run_directory_below_run_is_made_at_each_boot(monkeypatch):
    monkeypatch.setenv("MESHNET_RUN_DIR", "/run/meshnet")
    for text in units.texts().values():
        assert "RuntimeDirectory=meshnet\nRuntimeDirectoryPreserve=yes\n" in text
    monkeypatch.setenv("MESHNET_RUN_DIR", "/srv/run")
    for text in units.texts().values():
        assert "RuntimeDirectory" not in text
