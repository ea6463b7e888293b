"""Packages: meshnet's own installed and upgraded, the engine upgraded, beside traffic.

On the manager, so that all that runs is run anew.
"""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

import pytest
from later_package import later
from vm_cluster import STARTS_S, UNITS, show, until_quiet
from vm_traffic import send, traffic

from meshnet_control.lab.play import Play

pytestmark = [pytest.mark.vm, pytest.mark.timeout(3600)]
CLONE = Path(__file__).parents[2]
EVERY = (*UNITS, "meshnet-manager")
THERE = "/usr/lib/meshnet/bin"


@pytest.fixture(scope="session")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """
    Name: package; Scope: session; Depends: nothing.

    The Debian package of this clone, or that in MESHNET_PACKAGES, a directory.
    """
    there = os.environ.get("MESHNET_PACKAGES")
    made = Path(there) if there else tmp_path_factory.mktemp("packages")
    if not there:
        subprocess.run([CLONE / "packaging" / "build", made], check=True)
    (deb,) = made.glob("*.deb")
    return deb


def installed(play: Play, host: str, *packages: Path) -> float:
    """Seconds that dpkg took for them, on the machine."""
    names = [f"/var/tmp/{number}.deb" for number, _ in enumerate(packages)]  # noqa: S108 - its own
    for name, deb in zip(names, packages, strict=True):
        send(play, host, f"cat > {name}", deb.read_bytes())
    began = time.monotonic()
    dpkg = "DEBIAN_FRONTEND=noninteractive dpkg --install --force-confold"
    play.on(host, f"{dpkg} {' '.join(names)} && rm {' '.join(names)}", timeout_s=900)
    return time.monotonic() - began


def pids(play: Play) -> list[str]:
    return [show(play, "h1", unit, "MainPID") for unit in EVERY]


def test_the_package_takes_over_from_another_installation(play, package):
    """From /opt/meshnet, which stays on the disk; the cluster and its services go on."""
    until_quiet(play)
    with traffic(play, limit_s=STARTS_S) as seen:
        took = installed(play, "h1", package)
        play.show(f"dpkg --install, {package.stat().st_size / 1e6:.0f} MB: {took:.1f} s")
        play.on("h1", "/usr/bin/meshnet up --install", timeout_s=600)
        seen.cause_ends()
    assert seen.lost == {}
    for unit in EVERY:
        assert THERE in play.on("h1", f"systemctl show -P ExecStart {unit}")
    assert play.on("h1", "ls /etc/systemd/system").count("meshnetd.service") == 0
    until_quiet(play)


def test_an_upgrade_of_the_package_loses_nothing(play, package, tmp_path):
    assert THERE in play.on("h1", "systemctl show -P ExecStart meshnetd"), "see the test before"
    until_quiet(play)
    before = pids(play)
    fresh = later(package, tmp_path / "next.deb")
    with traffic(play, inside=("h1",), limit_s=STARTS_S) as seen:
        play.show(f"upgrade: {installed(play, 'h1', fresh):.1f} s")
        seen.cause_ends()
    assert seen.lost == {}
    said = play.on("h1", "dpkg-query -W -f '${db:Status-Status} ${Version}' meshnet")
    assert said.startswith("installed ")
    assert said.strip().endswith("+next")
    assert not set(before) & set(pids(play)), "what runs is what was installed"
    until_quiet(play)


def test_the_engine_is_upgraded_as_unattended_upgrades_does(play, tmp_path):
    """docker.io and containerd: Debian starts containerd anew, and leaves dockerd as it runs."""
    names = ["docker.io", "containerd"]
    subprocess.run(["apt-get", "-qq", "download", *names], check=True, cwd=tmp_path)
    packages = [
        later(deb, tmp_path / f"next-{number}.deb")
        for number, deb in enumerate(sorted(tmp_path.glob("*.deb")))
    ]
    until_quiet(play)
    before = show(play, "h2", "docker", "MainPID")
    with traffic(play, inside=("h1",)) as seen:
        play.show(f"upgrade of the engine: {installed(play, 'h2', *packages):.1f} s")
        seen.cause_ends()
    assert seen.lost == {}
    assert show(play, "h2", "docker", "MainPID") == before
    until_quiet(play)


@pytest.mark.parametrize("unit", UNITS)
def test_systemd_holds_the_sockets_of_a_unit_while_it_is_started_anew(play, unit):
    """FileDescriptorStoreMax= has room for all that is stored, and a restart finds it again."""
    until_quiet(play)
    stored = int(show(play, "h2", unit, "NFileDescriptorStore"))
    most = int(show(play, "h2", unit, "FileDescriptorStoreMax"))
    assert 0 < stored <= most // 2
    play.on("h2", f"systemctl restart {unit}", timeout_s=300)
    until_quiet(play)
    assert int(show(play, "h2", unit, "NFileDescriptorStore")) == stored
