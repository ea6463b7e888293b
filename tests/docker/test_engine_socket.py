"""docker.sock in a container, as the kernel has it: whatever dies, it is the gateway's socket."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from aiohttp import ClientSession, UnixConnector

from meshnet_control.agent.engine_socket import inspected, lent, lent_path
from meshnet_control.gateway.listener import Listener, lend, take_back

pytestmark = [pytest.mark.docker, pytest.mark.timeout(120)]

SOCK = "/var/run/docker.sock"
GIVEN = {
    "Binds": [f"{SOCK}:{SOCK}:ro"],
    "Mounts": [
        {"Type": "bind", "Source": "/run/docker.sock", "Target": "/x.sock", "ReadOnly": True}
    ],
}  # fmt: skip


async def started(engine, name, socket):
    """A container that has docker.sock twice."""
    body = lent({"Image": "busybox:latest", "HostConfig": GIVEN, "Labels": {}}, socket)
    async with ClientSession("http://docker", connector=UnixConnector(str(engine.socket))) as http:
        made = await http.post(f"/containers/create?name={name}", json=body)
        assert made.status == 201, await made.text()
        begun = await http.post(f"/containers/{name}/start")
        assert begun.status == 204, await begun.text()


def mounts():
    """Of this process."""
    return Path("/proc/self/mountinfo").read_text()


def inodes(engine, name):
    """Of both files in a container, as ``ls`` sees them."""
    lines = engine.docker("exec", name, "ls", "-li", SOCK, "/x.sock").splitlines()
    assert all(line.split()[1].startswith("s") for line in lines), lines
    return {int(line.split()[0]) for line in lines}


async def test_a_container_has_the_socket_that_is_served_now(engine, run_dir):
    state, path = run_dir / "state", run_dir / "docker.sock"
    file = lent_path(state)
    # After a boot: the engine starts its containers, meshnetd is not there yet.
    file.parent.mkdir(parents=True)
    file.touch()
    opened = []
    try:
        await started(engine, "booted", file)
        assert engine.docker("exec", "booted", "ls", "-l", SOCK).startswith("-")
        opened.append(Listener(lending=True).open(path, None))
        lend(path, state)
        assert inodes(engine, "booted") == {path.stat().st_ino}
        await started(engine, "later", file)
        assert inodes(engine, "later") == {path.stat().st_ino}
        # Everybody who held it has died: the next one makes another.
        opened.pop().close()
        before = path.stat().st_ino
        opened.append(Listener(lending=True).open(path, None))
        assert path.stat().st_ino != before
        lend(path, state)
        lend(path, state)
        for name in ("booted", "later"):
            assert inodes(engine, name) == {path.stat().st_ino}
        # Somebody has removed its file: containers made from now on have it.
        opened.pop().close()
        path.unlink()
        opened.append(Listener(lending=True).open(path, None))
        lend(path, state)
        await started(engine, "last", file)
        assert inodes(engine, "last") == {path.stat().st_ino}
        [found] = json.loads(engine.docker("inspect", "last"))
        shown = inspected(found)
        assert shown["HostConfig"]["Binds"] == GIVEN["Binds"]
        assert shown["HostConfig"]["Mounts"] == GIVEN["Mounts"]
        points = {point["Destination"]: point for point in shown["Mounts"]}
        assert points[SOCK] == {
            "Type": "bind", "Source": SOCK, "Destination": SOCK, "Mode": "ro", "RW": False,
            "Propagation": "rprivate",
        }  # fmt: skip
        assert points["/x.sock"]["Source"] == "/run/docker.sock"
    finally:
        for each in opened:
            each.close()
        take_back(state)
    assert file.is_file()
    assert str(run_dir) not in mounts()


async def test_a_socket_that_was_held_is_taken_up_and_no_other(run_dir):
    path = run_dir / "docker.sock"
    first = Listener().open(path, None)
    first.listen()
    inode = path.stat().st_ino
    stranger = Listener().open(run_dir / "other.sock", None)
    held = {"docker.sock": (stranger.detach(), first.detach()), "unknown": ()}
    second = Listener(None, held).open(path, None)
    assert path.stat().st_ino == inode
    second.close()
    # One whose file is another by now is not.
    third = Listener().open(path, None)
    path.unlink()
    path.touch()
    fourth = Listener(None, {"docker.sock": (third.detach(),)}).open(path, None)
    assert path.is_socket()
    fourth.close()
