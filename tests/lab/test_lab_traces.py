"""What a lab leaves on the machine: everything it needs while it is up, nothing afterwards.

Engines only: these tests are about namespaces, links, tables, processes, mounts, cgroups and files.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from meshnet.kernel import netns
from meshnet.kernel.iproute import iproute, link_names
from meshnet_control.lab import adapter, cables
from meshnet_control.lab.errors import LabError
from meshnet_control.lab.lab import Lab
from meshnet_control.lab.layout import Layout

pytestmark = [pytest.mark.lab, pytest.mark.timeout(120)]
NAME = "mntrace"
MEMBERS = {"h1", "h2", "client"}


def output(*argv: str) -> list[str]:
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    return done.stdout.splitlines()


def traces() -> set[str]:
    """Everything on this machine that is ours by name, and every link and table of the root."""
    found = {f"netns {name}" for name in netns.names(netns.NETNS_DIR, NAME)}
    found |= {f"link {name}" for name in link_names()}
    found |= {f"nft {line}" for line in output("nft", "list", "tables")}
    mounts = Path("/proc/mounts").read_text().splitlines()
    # The directory of names is mounted on itself once in a boot, as ip-netns(8) does, and stays;
    # in it are the namespaces of whoever else is at work.
    others = re.compile(rf"{netns.NETNS_DIR}(/(?!{NAME}).*)?")
    found |= {f"mount {line}" for line in mounts if not others.fullmatch(line.split()[1])}
    found |= {f"cgroup {path}" for path in Path("/sys/fs/cgroup").rglob(f"{NAME}*")}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
                marked = f"{adapter.MARKER}={NAME}/".encode() in (entry / "environ").read_bytes()
            except (FileNotFoundError, ProcessLookupError, PermissionError):
                continue
            if marked or NAME in line:
                found.add(f"process {entry.name} {line}")
    for root in ("/run", "/var/lib", "/etc", "/var/run"):
        found |= {f"file {path}" for path in Path(root).rglob("meshnet-lab/*") if NAME in str(path)}
    return found


def need_no_more_than(before: set[str]) -> None:
    """The kernel takes a namespace apart after its last user: give it a moment."""
    left = traces() - before
    deadline = time.monotonic() + 5
    while left and time.monotonic() < deadline:
        time.sleep(0.1)
        left = traces() - before
    assert left == set()


def quiet(_name: str, _what: str) -> None:
    pass


@pytest.fixture
def lab():
    """
    Name: lab; Scope: function; Depends: nothing.

    A lab of two hosts that is not up, and that is gone after the test.
    """
    made = Lab(Layout(NAME, 2), engine_only=True)
    made.down(quiet)
    yield made
    made.down(quiet)


def test_down_leaves_nothing_behind(lab):
    before = traces()
    lab.up(quiet)
    assert traces() > before
    docker = ("docker", "run", "-d", "-p", "8080:80", "meshnet/web:1")
    container = adapter.run(lab.command("h1", docker)).strip()
    assert container
    said = adapter.run(lab.command("client", ["curl", "-s", "http://h1:8080/"]))
    assert said == f"web:1 {container[:12]} sees 192.168.50.100\n"
    lab.down(quiet)
    need_no_more_than(before)


def test_a_failed_up_leaves_nothing_behind(lab, tmp_path, monkeypatch):
    broken = tmp_path / "dockerd"
    broken.write_text("#!/bin/sh\necho 'failed to start daemon: no storage' >&2\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    before = traces()
    with pytest.raises(LabError, match=r"^h\d: dockerd ended: failed to start daemon: no storage$"):
        lab.up(quiet)
    need_no_more_than(before)


def test_a_failed_up_leaves_a_lab_that_was_there(lab, tmp_path, monkeypatch):
    lab.up(quiet)
    first = adapter.inits(lab.layout)
    broken = tmp_path / "dockerd"
    broken.write_text("#!/bin/sh\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with pytest.raises(LabError, match="h3: dockerd ended"):
        Lab(Layout(NAME, 3), engine_only=True).up(quiet)
    assert adapter.inits(lab.layout) == first
    assert not lab.layout.state_dir("h3").exists()


DAMAGES = ("namespace", "process", "port", "bridge", "lan", "engine", "run files", "state files")


def delete_link(path: str, name: str) -> None:
    with iproute(path) as ip:
        ip.link("del", index=ip.link_lookup(ifname=name)[0])


@pytest.fixture(scope="module")
def shared():
    """
    Name: shared; Scope: module; Depends: nothing.

    One lab for all tests of damages; each leaves it whole.
    """
    made = Lab(Layout("mndamage", 2), engine_only=True)
    made.up(quiet)
    yield made
    made.down(quiet)


@pytest.mark.parametrize("damage", DAMAGES)
def test_up_over_a_half_removed_lab_repairs_it(shared, damage):
    lab = shared
    pids = adapter.inits(lab.layout)
    lan = cables.path_of(lab.layout, "lan")
    match damage:
        case "namespace":
            netns.delete(netns.NETNS_DIR / lab.layout.netns("h1"))
        case "process":
            os.kill(pids["h1"], signal.SIGKILL)
        case "port":
            delete_link(lan, "h1")
        case "bridge":
            delete_link(lan, "br0")
        case "lan":
            cables.remove_router(lab.layout)
        case "engine":
            adapter.run(
                adapter.enter(pids["h1"], ["sh", "-c", "kill -9 $(cat /run/docker.pid)"], {})
            )
        case "run files":
            shutil.rmtree(lab.layout.run_root / lab.layout.name)
        case "state files":
            shutil.rmtree(lab.layout.state_root / lab.layout.name)
    lab.up(quiet)
    assert adapter.observe(lab.layout).members == MEMBERS
    for host in ("h1", "h2"):
        said = adapter.run(
            lab.command("client", ["sh", "-c", f"getent ahostsv4 {host} && echo known"])
        )
        assert "known" in said
        assert adapter.run(lab.command(host, ["docker", "images", "-q", "meshnet/web:1"])).strip()
        adapter.run(["docker", "-H", lab.socket(host), "version"])
    with iproute(lan) as ip:
        (bridge,) = ip.link_lookup(ifname="br0")
        assert {link.get("ifname") for link in ip.get_links(master=bridge)} == MEMBERS


def test_up_twice_changes_nothing(lab):
    lab.up(quiet)
    first = adapter.inits(lab.layout)
    lab.up(quiet)
    assert adapter.inits(lab.layout) == first


def test_fewer_hosts_removes_the_others(lab):
    lab.up(quiet)
    smaller = Lab(Layout(NAME, 1), engine_only=True)
    smaller.up(quiet)
    assert adapter.observe(lab.layout).members == {"h1", "client"}
    assert not lab.layout.state_dir("h2").exists()


def test_a_killed_host_is_silent_and_comes_back_with_its_disk(lab):
    lab.up(quiet)
    run = ["docker", "run", "-d", "--name", "web", "--restart", "always"]
    adapter.run(lab.command("h1", [*run, "--network", "host", "meshnet/web:1"]))
    lab.kill("h1")
    ask = ["curl", "-sS", "-m", "2", "http://h1/"]
    with pytest.raises(LabError, match=r"curl: \((7|28)\)"):
        adapter.run(lab.command("client", ask))
    with pytest.raises(LabError, match="h1 is not running"):
        lab.command("h1", ["true"])
    lab.start("h1", quiet)

    def answers() -> bool:
        asked = subprocess.run(lab.command("client", ask), capture_output=True, check=False)
        return asked.stdout.startswith(b"web:1 h1 sees")

    adapter.wait_for("the container to be back", answers, timeout_s=15)


def test_a_partition_cuts_two_machines_and_heals(lab):
    lab.up(quiet)
    adapter.run(lab.command("h2", ["docker", "run", "-d", "--network", "host", "meshnet/web:1"]))
    ask = ["curl", "-s", "-m", "1", "--retry", "3", "--retry-connrefused", "http://h2/"]
    once = ["curl", "-s", "-m", "1", "http://h2/"]
    assert "sees" in adapter.run(lab.command("client", ask))
    lab.partition("client", "h2")
    with pytest.raises(LabError):
        adapter.run(lab.command("client", once))
    assert "sees" in adapter.run(lab.command("h1", ask))
    lab.heal("client", "h2")
    assert "sees" in adapter.run(lab.command("client", ask))
