"""Whoever watches a namespace hears of changes in it, and follows a path that leads elsewhere."""

from __future__ import annotations

import asyncio
import os
import subprocess

import pytest

from meshnet.kernel import netns
from meshnet.kernel.events import Watchers
from meshnet.kernel.file_events import REMOVED, WRITTEN, FileEvents
from meshnet.kernel.sysctl import file

pytestmark = pytest.mark.netns


@pytest.fixture
def path():
    """
    Name: path; Scope: function; Depends: nothing.

    The path of a namespace that is gone after the test.
    """
    where = netns.NETNS_DIR / f"mnev{os.getpid()}"
    netns.create(where)
    yield where
    netns.delete(where)


def up(path):
    """Its loopback comes up, by somebody else: pyroute2 has an event loop of its own."""
    subprocess.run(["ip", "-n", path.name, "link", "set", "lo", "up"], check=True)


def sysctl(path, setting):
    subprocess.run(["ip", "netns", "exec", path.name, "sysctl", "-qw", setting], check=True)


async def until(holds):
    async with asyncio.timeout(30):
        while not holds():  # noqa: ASYNC110 - a condition of the kernel's, not of ours
            await asyncio.sleep(0.01)


async def quiet(heard):
    """What the kernel tells of new links comes up to a second after them."""
    told = True
    async with asyncio.timeout(30):
        while told:
            heard.clear()
            await asyncio.sleep(1.2)
            told = bool(heard)


async def test_a_change_in_the_namespace_is_told(path):
    heard: list[str] = []
    watchers = Watchers(lambda reason, _: heard.append(reason))
    try:
        watchers.watch([str(path)])
        up(path)
        await until(lambda: heard)
    finally:
        watchers.close()


@pytest.mark.parametrize(
    "key", ["net.ipv4.conf.lo.rp_filter", "net.ipv4.conf.all.rp_filter", "net.ipv4.ip_forward"]
)
async def test_a_sysctl_of_routing_is_told(path, key):
    sysctl(path, f"{key}=0")
    heard: list[str] = []
    watchers = Watchers(lambda reason, _: heard.append(reason))
    try:
        watchers.watch([str(path)])
        sysctl(path, f"{key}=1")
        await until(lambda: heard)
    finally:
        watchers.close()


def said(path, *command):
    """What a tool of iproute2 prints in the namespace."""
    argv = [command[0], "-n", path.name, *command[1].split()]
    return subprocess.run(argv, capture_output=True, text=True, check=True).stdout


GOES = {
    "ip neigh {} fd00::2 lladdr 02:00:00:00:00:02 dev port": True,
    "ip neigh {} ff02::2 lladdr 33:33:00:00:00:02 nud noarp dev port": False,
    "ip addr {} fec0::5/64 dev port": True,
    "ip addr {} fe80::5/64 dev port": False,
    "ip neigh {} 10.9.9.3 lladdr 02:00:00:00:00:03 dev port": True,
    "bridge fdb {} 02:00:00:00:00:04 dev port master static": True,
}


@pytest.fixture
def port(path):
    """
    Name: port; Scope: function; Depends: path.

    A bridge that forgets after a second what it has learnt, and a port of it.
    """
    said(path, "ip", "link add br0 type bridge ageing_time 100 forward_delay 0")
    said(path, "ip", "link add port master br0 type veth peer name far")
    for link in ("br0", "port", "far"):
        said(path, "ip", f"link set {link} up")


@pytest.mark.usefixtures("port")
@pytest.mark.parametrize(
    "command", ["bridge link set dev port isolated on", "tc qdisc add dev port root pfifo limit 9"]
)
async def test_what_is_set_on_a_port_is_told(path, command):
    heard: list[str] = []
    watchers = Watchers(lambda reason, _: heard.append(reason))
    try:
        watchers.watch([str(path)])
        await quiet(heard)
        said(path, *command.split(maxsplit=1))
        await until(lambda: heard)
    finally:
        watchers.close()


@pytest.mark.usefixtures("port")
@pytest.mark.parametrize(("command", "is_told"), GOES.items())
async def test_neighbours_and_rows_that_somebody_takes_away_are_told(path, command, is_told):
    tool, _, what = command.partition(" ")
    said(path, tool, what.format("add"))
    heard: list[str] = []
    watchers = Watchers(lambda reason, _: heard.append(reason))
    try:
        watchers.watch([str(path)])
        await quiet(heard)
        said(path, tool, what.format("del"))
        await asyncio.sleep(0.2)
        assert bool(heard) == is_told
    finally:
        watchers.close()


@pytest.mark.usefixtures("port")
async def test_a_row_that_the_bridge_has_forgotten_is_not_told(path):
    said(path, "bridge", "fdb add 02:00:00:00:00:05 dev port master dynamic")
    heard: list[str] = []
    watchers = Watchers(lambda reason, _: heard.append(reason))
    try:
        watchers.watch([str(path)])
        await until(lambda: "02:00:00:00:00:05" not in said(path, "bridge", "fdb show dev port"))
        await asyncio.sleep(0.2)
        assert not heard
    finally:
        watchers.close()


async def test_files_that_are_written_or_taken_away_are_told_until_it_is_closed(path, tmp_path):
    heard: list[object] = []  # of one write the kernel may tell in two parts
    written = FileEvents(WRITTEN, heard.append)
    names = FileEvents(REMOVED, heard.append)
    try:
        with netns.inside(str(path)):
            written.watch(file("ipv4/conf/lo/route_localnet"), str(path))
            written.watch(file("ipv4/conf/none/route_localnet"), None)
        names.watch(tmp_path, None)
        sysctl(path, "net.ipv4.conf.lo.route_localnet=1")
        await until(lambda: heard)
        assert set(heard) == {frozenset({str(path)})}
        (tmp_path / "name").touch()
        (tmp_path / "name").unlink()
        await until(lambda: frozenset({None}) in heard)
        assert set(heard) == {frozenset({str(path)}), frozenset({None})}
    finally:
        written.close()
        names.close()
    written.watch(tmp_path, None)


async def test_a_path_that_leads_elsewhere_is_told_and_followed(path):
    heard: list[str] = []
    watchers = Watchers(lambda reason, _: heard.append(reason))
    try:
        watchers.watch([str(path)])
        netns.delete(path)
        watchers.look()
        assert heard == [f"{path} leads to another namespace or to none"]
        netns.create(path)
        watchers.look()
        heard.clear()
        up(path)
        await until(lambda: heard)
    finally:
        watchers.close()


async def test_what_the_left_namespace_held_is_free(path):
    """Its VXLAN device stays in the way of another with the same number as long as it lives."""
    watchers = Watchers(lambda _reason, _where: None)
    add = f"link add mnev0 netns {path.name} type vxlan id 7001 dstport 47891"

    def made():
        return (
            subprocess.run(["ip", *add.split()], capture_output=True, check=False).returncode == 0
        )

    try:
        watchers.watch([str(path)])
        assert made()
        netns.delete(path)
        netns.create(path)
        watchers.look()
        await until(made)
    finally:
        watchers.close()
