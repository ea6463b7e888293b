"""The next version takes over under load as the package's scripts have it do, and loses nothing.

The hosts run a wheel from an environment of their own. The next version is installed over it while
all daemons run, then ``meshnet restart`` on one host after the other, the manager's among them.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from bench import chaos

pytestmark = [pytest.mark.lab, pytest.mark.timeout(420)]
ROOT = Path(__file__).parents[2]
SOURCES = ("meshnet", "control", "dns", "lb", "packaging", "pyproject.toml", "README.md", "LICENSE")
NEXT = "0.1.0.post1"


def wheel(work: Path, version: str) -> Path:
    """A wheel of these sources under another version."""
    work.mkdir()
    for name in SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, work / name)
        else:
            shutil.copy(ROOT / name, work / name)
    project = (work / "pyproject.toml").read_text()
    (work / "pyproject.toml").write_text(
        project.replace('version = "0.1.0"', f'version = "{version}"')
    )
    pip("wheel", "--no-deps", "--wheel-dir", str(work / "dist"), str(work))
    (made,) = (work / "dist").glob("*.whl")
    return made


def pip(*arguments: str) -> None:
    subprocess.run([sys.executable, "-m", "pip", "--quiet", *arguments], check=True)


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """
    Name: installed; Scope: function; Depends: tmp_path.

    Installs a wheel where the hosts of a lab find it; the libraries are the developers'.
    """
    place = tmp_path / "opt"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", place], check=True)
    libraries = Path(pytest.__file__).parents[1]
    (packages,) = (place / "lib").glob("python3*/site-packages")
    (packages / "libraries.pth").write_text(f"{libraries}\n")
    programs = [str(place / "bin"), str(Path(sys.executable).parent), os.environ["PATH"]]
    monkeypatch.setenv("PATH", ":".join(programs))

    def install(made: Path) -> None:
        python = str(place / "bin" / "python")
        pip("--python", python, "install", "--no-deps", "--force-reinstall", str(made))

    return install


def test_an_upgrade_under_load_loses_no_request(tmp_path, installed, monkeypatch):
    monkeypatch.setattr(chaos, "NAME", "mbupgrade")
    monkeypatch.setattr(chaos, "OUTSIDE_PER_S", 30.0)  # a minute of load, on a busy machine
    monkeypatch.setattr(chaos, "INSIDE_PER_S", 6.0)
    installed(wheel(tmp_path / "old", "0.1.0"))
    following = wheel(tmp_path / "new", NEXT)

    def upgrade(cluster: chaos.Cluster) -> None:
        installed(following)
        for host in chaos.HOSTS:
            cluster.on(host, "meshnet restart")

    with chaos.cluster() as cluster:
        before = {host: tasks(cluster, host) for host in chaos.HOSTS}
        assert {running(cluster, host)["version"] for host in chaos.HOSTS} == {"0.1.0"}
        account = chaos.play_one(cluster, chaos.Fault("upgraded", upgrade))
        assert {running(cluster, host)["version"] for host in chaos.HOSTS} == {NEXT}
        assert {host: tasks(cluster, host) for host in chaos.HOSTS} == before
    assert account.lost == {}
    assert account.excused == 0


def running(cluster: chaos.Cluster, host: str) -> dict[str, object]:
    found: dict[str, object] = json.loads(cluster.on(host, "meshnet status --format json"))
    return found


def tasks(cluster: chaos.Cluster, host: str) -> set[str]:
    return set(cluster.on(host, "docker ps -q").split())
