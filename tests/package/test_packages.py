"""The wheel and the Debian package, each in a Debian in which nothing else is."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from later_package import later

ROOT = Path(__file__).parents[2]

pytestmark = [pytest.mark.package, pytest.mark.timeout(600)]
DEVELOPERS = {"mypy", "ruff", "pytest", "hypothesis", "grpcio-tools", "scapy", "click-man"}
PROGRAMS = ("meshnet", "meshnetd", "meshnet-manager", "meshnet-resolver", "meshnet-supervisor")
PIPX = ("env", "PIPX_HOME=/opt/pipx", "PIPX_BIN_DIR=/usr/local/bin", "pipx")
STATE = "var/lib/meshnet/state.json"


@pytest.fixture(scope="module")
def package(built, debian):
    """
    Name: package; Scope: module; Depends: built, debian.

    The Debian package, installed by dpkg, so that every dependency is one that it names.
    """
    (deb,) = built.glob("*.deb")
    debian.dpkg("--install", f"/root/packages/{deb.name}")
    return deb


@pytest.fixture(scope="module")
def wheel(built, debian):
    """
    Name: wheel; Scope: module; Depends: built, debian.

    The wheel, installed by pipx as README says, without an index and a compiler.
    """
    (made,) = built.glob("*.whl")
    asked = "--no-index --only-binary=:all: --find-links=/root/packages/wheels"
    debian.run(*PIPX, "install", f"--pip-args={asked}", f"/root/packages/{made.name}")
    return "/opt/pipx/venvs/meshnet"


def test_the_package_is_what_the_command_says_it_is(debian, package):
    version = subprocess.run(
        ["dpkg-deb", "--field", package, "Version"], capture_output=True, text=True, check=True
    ).stdout.strip()
    assert debian.run("meshnet", "--version").stdout == f"meshnet, version {version}\n"


@pytest.mark.parametrize("program", PROGRAMS)
def test_every_program_starts_from_the_package(debian, package, program):
    said = debian.run(f"/usr/lib/meshnet/bin/{program}", "--help").stdout
    assert said.lower().startswith("usage:")


@pytest.mark.parametrize("program", PROGRAMS)
def test_every_program_starts_from_the_wheel(debian, wheel, program):
    assert debian.run(f"/usr/local/bin/{program}", "--help").stdout.lower().startswith("usage:")


def test_both_bring_the_page_of_the_dashboard(debian, wheel, package):
    page = ROOT / "control/meshnet_control/dashboard/page"
    parts = {path.name for path in page.iterdir() if path.is_file()}
    assert "index.html" in parts
    for place in ("usr/lib/meshnet", wheel.removeprefix("/")):
        found = (debian.path / place).rglob("meshnet_control/dashboard/page/*")
        assert {path.name for path in found} == parts


def test_a_host_needs_neither_compiler_nor_developers_tools(debian, wheel, package):
    assert debian.run("sh", "-c", "command -v gcc cc", check=False).stdout == ""
    listed = debian.run(*PIPX, "runpip", "meshnet", "list", "--format=freeze").stdout
    assert not DEVELOPERS & {line.split("==")[0].lower() for line in listed.splitlines()}
    for name in DEVELOPERS:
        assert not list((debian.path / "usr/lib/meshnet").rglob(f"{name.replace('-', '_')}-*"))


def test_only_root_may_change_what_root_runs(debian, package):
    for path in (debian.path / "usr/lib/meshnet").rglob("*"):
        found = path.lstat()
        assert (found.st_uid, found.st_gid) == (0, 0), path
        assert path.is_symlink() or not found.st_mode & 0o022, path


def test_every_library_is_there(debian, package):
    libraries = [
        f"/{path.relative_to(debian.path)}"
        for path in (debian.path / "usr/lib/meshnet").rglob("*.so*")
    ]
    assert libraries
    said = debian.run("ldd", *libraries).stdout
    assert "not found" not in said


def test_systemd_understands_the_units_and_finds_the_programs(debian, package):
    analyze = shutil.which("systemd-analyze")
    assert analyze is not None
    for name in ("meshnetd", "meshnet-manager", "meshnet-resolver"):
        unit = f"/usr/lib/systemd/system/{name}.service"
        done = subprocess.run(
            [analyze, "verify", f"--root={debian.path}", "--man=no", "--recursive-errors=no", unit],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert [line for line in done.stderr.splitlines() if name in line] == []
        text = (debian.path / unit.lstrip("/")).read_text()
        assert f"ExecStart=/usr/lib/meshnet/bin/{name} --run-dir /run/meshnet" in text
        assert (debian.path / f"usr/lib/meshnet/bin/{name}").exists()


def test_what_up_would_write_is_what_the_package_brought(debian, package):
    ask = (
        "from meshnet_control.host import units\n"
        "for name, text in units.texts().items():\n"
        "    assert (units.PACKAGED / f'{name}.service').read_text() == text, name\n"
    )
    debian.run("/usr/lib/meshnet/bin/python3", "-c", ask)


@pytest.mark.parametrize("page", ["meshnet", "meshnet-up", "meshnet-lab-exec"])
def test_a_manual_page_is_shown(debian, package, page):
    done = debian.run("man", "--warnings", "--pager=cat", page)
    assert done.stderr == ""
    assert page.replace("-", " ") in done.stdout.replace("-", " ").lower()
    assert "SYNOPSIS" in done.stdout


@pytest.mark.parametrize(
    ("shell", "path"),
    [
        ("bash", "bash-completion/completions/meshnet"),
        ("zsh", "zsh/vendor-completions/_meshnet"),
        ("fish", "fish/vendor_completions.d/meshnet.fish"),
    ],
)
def test_a_shell_understands_its_completion(debian, package, shell, path):
    done = debian.run(shell, "-n", f"/usr/share/{path}")
    assert done.stdout + done.stderr == ""


def test_bash_completes_a_command(debian, package):
    script = (
        "source /usr/share/bash-completion/completions/meshnet\n"
        "COMP_WORDS=(meshnet re); COMP_CWORD=1\n"
        '_meshnet_completion meshnet && echo "${COMPREPLY[@]}"'
    )
    words = debian.run("bash", "-c", script).stdout.split()
    assert words == ["rebalance", "restart", "restore"]


def test_an_upgrade_leaves_the_state_alone_a_removal_too_and_a_purge_does_not(
    debian, package, tmp_path
):
    """Last in this file: nothing is installed after it."""
    state = debian.path / STATE
    state.parent.mkdir(parents=True, exist_ok=True)
    state.write_text("who it is")
    later(package, tmp_path / "next.deb").replace(debian.path / "root" / "next.deb")
    debian.dpkg("--install", "/root/next.deb")
    assert "ii  meshnet" in debian.run("dpkg", "-l", "meshnet").stdout
    assert debian.run("dpkg-query", "-W", "-f", "${Version}", "meshnet").stdout.endswith("+next")
    assert state.read_text() == "who it is"
    debian.dpkg("--remove", "meshnet")
    assert state.read_text() == "who it is"
    assert not (debian.path / "usr/bin/meshnet").is_symlink()
    assert not (debian.path / "usr/lib/meshnet").exists()
    debian.dpkg("--purge", "meshnet")
    assert not state.parent.exists()
