"""The packages, built once, and a Debian without anything in which they are installed."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCKER = """Package: docker-ce
Version: 99
Architecture: all
Maintainer: nobody <nobody@localhost>
Description: stands for Docker's own package, which comes from elsewhere
"""


def as_this_machine_asks() -> list[str]:
    """The settings of apt that decide whether a mirror is reached and believed."""
    dumped = subprocess.run(["apt-config", "dump"], capture_output=True, text=True, check=True)
    wanted = ("Acquire::Check-", "Acquire::http::", "Acquire::https::")
    return [f"--aptopt={line}" for line in dumped.stdout.splitlines() if line.startswith(wanted)]


def sources() -> list[str]:
    """The file that names this machine's mirrors of Debian; none: mmdebstrap's own choice."""
    found = [Path("/etc/apt/sources.list.d/debian.sources"), Path("/etc/apt/sources.list")]
    return [str(path) for path in found if path.exists() and path.stat().st_size][:1]


class Root:
    """A Debian in a directory, entered with namespaces of its own but the network's."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def run(self, *argv: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a program in it; nothing of this process's environment is there."""
        enter = ["unshare", "--mount", "--pid", "--fork", f"--root={self.path}", "--mount-proc"]
        clean = ["env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "LC_ALL=C.UTF-8"]
        done = subprocess.run(
            [*enter, *clean, "DEBIAN_FRONTEND=noninteractive", *argv],
            capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        if check:
            assert done.returncode == 0, f"{argv}: {done.stdout[-2000:]} {done.stderr[-2000:]}"
        return done

    def dpkg(self, *argv: str) -> str:
        return self.run("dpkg", *argv).stdout


@pytest.fixture(scope="session")
def built(tmp_path_factory) -> Path:
    """
    Name: built; Scope: session; Depends: nothing.

    A directory with the wheel, the Debian package and wheels/, as ./dev package makes it;
    MESHNET_PACKAGES names one that is there already.
    """
    if found := os.environ.get("MESHNET_PACKAGES"):
        return Path(found).resolve()
    path: Path = tmp_path_factory.mktemp("packages")
    subprocess.run([ROOT / "packaging" / "build", path], check=True)
    return path


@pytest.fixture(scope="session")
def debian(built, tmp_path_factory) -> Iterator[Root]:
    """
    Name: debian; Scope: session; Depends: built.

    The packages that meshnet asks for and those that look at it, from this machine's own sources;
    an empty package stands for Docker's.
    """
    path = tmp_path_factory.mktemp("debian")
    stub = tmp_path_factory.mktemp("docker-ce")
    (stub / "DEBIAN").mkdir()
    (stub / "DEBIAN" / "control").write_text(DOCKER)
    subprocess.run(["dpkg-deb", "--build", stub, path / "docker-ce.deb"], check=True)
    needs = subprocess.run(
        ["dpkg-deb", "--field", *built.glob("*.deb"), "Depends"],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    wanted = [
        name.split(" ")[0] for name in needs.strip().split(", ") if not name.startswith("docker.io")
    ]
    looking = ["bash", "fish", "man-db", "pipx", "python3-venv", "zsh"]
    subprocess.run(
        ["mmdebstrap", "--quiet", "--variant=apt", f"--include={','.join({*wanted, *looking})}",
         '--aptopt=Apt::Install-Recommends "false"', f"--customize-hook=copy-in {built} /root",
         f"--customize-hook=copy-in {path / 'docker-ce.deb'} /root",
         f"--customize-hook=mv $1/root/{built.name} $1/root/packages", *as_this_machine_asks(),
         platform.freedesktop_os_release()["VERSION_CODENAME"], path / "root", *sources()],
        check=True,
    )  # fmt: skip
    root = Root(path / "root")
    root.dpkg("--install", "/root/docker-ce.deb")
    yield root
    subprocess.run(["rm", "-rf", "--one-file-system", path], check=True)
