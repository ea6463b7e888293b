"""What a lab's links do to packets, on the real kernel: machines and LANs without engines."""

from __future__ import annotations

import subprocess
from dataclasses import replace

import pytest

from meshnet.kernel import netns, nft
from meshnet.kernel.iproute import iproute
from meshnet_control.lab import adapter, cables, lab_plan, link_rules, link_state
from meshnet_control.lab.errors import LabError
from meshnet_control.lab.lab import Lab
from meshnet_control.lab.lab_file import parsed
from meshnet_control.lab.layout import LAN, Layout
from meshnet_control.lab.topology import Ends, Impairment

pytestmark = pytest.mark.netns
NAME = "mnlinks"
FILE = """
lans: {front: 192.168.60.0/24, back: 192.168.61.0/24}
hosts: {h1: , h2: , h3: {lan: back}}
"""
LINKS = {
    ("h1", "h2"): Impairment(loss=1250, rate=10_000_000),
    ("h1", "h3"): Impairment(down=True),
    ("h2",): Impairment(rate=64_000),
    ("back", "front"): Impairment(loss=1),
}


@pytest.fixture
def layout(tmp_path):
    """
    Name: layout; Scope: function; Depends: nothing.

    Cables, bridges and a router of two LANs; nothing runs on the machines.
    """
    topology = parsed(FILE, "lab.yaml")
    made = Layout(NAME, 3, run_root=tmp_path, state_root=tmp_path, topology=topology)
    (tmp_path / NAME).mkdir()
    try:
        cables.make_router(made)
        for lan in made.lans:
            cables.make_lan(made, lan)
        for machine in made.machines:
            cables.connect(made, machine)
        yield made
    finally:
        for machine in made.machines:
            cables.disconnect(made, machine.name)
        cables.remove_router(made)


def reaches(layout: Layout, one: str, other: str, count: int = 1) -> int:
    """How many of ``count`` pings are answered."""
    address = str(layout.machine(other).address.ip)
    ping = ["busybox", "ping", "-c", str(count), "-W", "1", "-A", "-q", address]
    with netns.inside(cables.path_of(layout, one)):
        said = subprocess.run(ping, capture_output=True, text=True, check=False).stdout
    return int(said.partition(" packets received")[0].rpartition(" ")[2])


def comes_through(layout: Layout, one: str, other: str) -> None:
    """A neighbour that was away is asked for again after a while."""
    what = f"{one} to reach {other}"
    adapter.wait_for(what, lambda: reaches(layout, one, other) == 1, timeout_s=30)


def arrived(layout: Layout, count: int, size: int) -> dict[str, int]:
    """What arrives at h2's port of ``count`` datagrams of h1, sent at once."""
    lan = cables.path_of(layout, LAN)
    counter = (
        "add table bridge count\nadd chain bridge count post { type filter hook postrouting"
        ' priority 10; }\nadd rule bridge count post oifname "h2" ip protocol udp counter\n'
    )
    nft.commit(lan, counter)
    send = (
        "import socket; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n"
        f"for _ in range({count}):"
        f" s.sendto(bytes({size}), ('{layout.machine('h2').address.ip}', 9))"
    )
    with netns.inside(cables.path_of(layout, "h1")), iproute() as ip:
        (eth0,) = ip.link_lookup(ifname="eth0")
        there = layout.machine("h2")
        ip.neigh(
            "add", ifindex=eth0, dst=str(there.address.ip), lladdr=there.mac, state="permanent"
        )
        subprocess.run(["python3", "-c", send], check=True)
    (found,) = [
        part["counter"]
        for entry in nft.listing(lan, "bridge", "count")["nftables"]
        for part in entry.get("rule", {}).get("expr", [])
        if "counter" in part
    ]
    return {"packets": found["packets"], "bytes": found["bytes"]}


def test_the_router_leads_between_lans_and_what_is_there_is_read_back(layout):
    for other in ("h2", "h3", "client"):
        comes_through(layout, "h1", other)
    seen = adapter.observe(layout)
    assert seen.lans == {lan.name: lan.gateway for lan in layout.lans}
    assert seen.ports == {"h1": "front", "h2": "front", "h3": "back", "client": "front"}
    assert seen.addresses == {machine.name: machine.address for machine in layout.machines}
    whole = replace(seen, inits=frozenset(seen.ports), booted=frozenset(seen.ports))
    assert lab_plan.plan(lab_plan.desired(layout), whole) == []
    cables.remove_lan(layout, "front")
    assert adapter.observe(layout).ports["h1"] == ""


def test_links_are_read_back_as_they_were_written(layout):
    link_state.write(layout, LINKS)
    assert link_state.observe(layout) == LINKS
    link_state.write(layout, {})
    assert link_state.observe(layout) == {}
    assert nft.listing(cables.path_of(layout, LAN), "bridge", link_rules.TABLE) == {}


def test_half_a_link_is_none(layout):
    link_state.write(layout, {("h1", "h3"): Impairment(down=True)})
    table = f"bridge {link_rules.TABLE} prerouting"
    handles = [
        entry["rule"]["handle"]
        for entry in nft.listing(cables.path_of(layout, LAN), "bridge", link_rules.TABLE)[
            "nftables"
        ]
        if "rule" in entry
    ]
    nft.commit(cables.path_of(layout, LAN), f"delete rule {table} handle {handles[0]}\n")
    assert link_state.observe(layout) == {}


@pytest.mark.parametrize(
    ("key", "lost", "left"),
    [
        (("h1", "h2"), ("h1", "h2"), ("h1", "h3")),
        (("h1", "h3"), ("h3", "h1"), ("h1", "h2")),
        (("h2",), ("h2", "h3"), ("h1", "h3")),
        (("back", "front"), ("h2", "h3"), ("h1", "h2")),
    ],
)
def test_what_is_down_is_down_and_nothing_else(layout, key, lost, left):
    link_state.write(layout, {key: Impairment(down=True)})
    assert reaches(layout, *lost) == 0
    assert reaches(layout, *lost[::-1]) == 0
    comes_through(layout, *left)
    link_state.write(layout, {})
    comes_through(layout, *lost)


def test_some_packets_are_lost(layout):
    link_state.write(layout, {("h1", "h2"): Impairment(loss=5000)})
    packets = arrived(layout, 400, 10)["packets"]
    assert 100 < packets < 300
    comes_through(layout, "h1", "h3")


def test_a_partition_leaves_the_rest_of_a_link_as_it_is(layout):
    lab = Lab(layout)
    with link_state.changing(layout) as links:
        links["h1", "h2"] = Impairment(loss=100)
    lab.partition("h2", "h1")
    assert link_state.observe(layout) == {("h1", "h2"): Impairment(loss=100, down=True)}
    lab.heal("h1", "h2")
    assert link_state.observe(layout) == {("h1", "h2"): Impairment(loss=100)}


def test_a_rate_drops_what_is_more(layout):
    link_state.write(layout, {("h1",): Impairment(rate=1_000_000)})
    # 4 MB at once, of which the burst passes and not much more: 128 KiB and 125 kB a second.
    assert 100_000 < arrived(layout, 4000, 1000)["bytes"] < 3_000_000


def test_a_delay_is_there_or_refused_before_anything_is_changed(layout):
    wanted: dict[Ends, Impairment] = {
        ("h1",): Impairment(delay_ms=30),
        ("h2",): Impairment(down=True),
    }
    kernel = subprocess.run(
        ["unshare", "-n", "tc", "qdisc", "add", "dev", "lo", "root", "netem", "delay", "1ms"],
        capture_output=True,
        check=False,
    )
    if kernel.returncode != 0:
        with pytest.raises(LabError, match="cannot delay packets, as it has no sch_netem"):
            link_state.write(layout, wanted)
        assert link_state.observe(layout) == {}
        return
    link_state.write(layout, wanted)
    assert link_state.observe(layout) == wanted
    link_state.write(layout, {})
    assert link_state.observe(layout) == {}
