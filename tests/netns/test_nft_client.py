"""NftOperations against the kernel: what it writes is what it reads, and strangers' edits heal."""

from __future__ import annotations

import os
import resource
import socket
import subprocess
import uuid
from dataclasses import replace
from pathlib import Path

import pytest

from meshnet.errors import MeshnetError
from meshnet.kernel import netns
from meshnet.kernel.libnftables import MOST_OPEN
from meshnet.kernel.nft import NftOperations
from meshnet.model.ids import NodeId
from meshnet.model.snapshot import Snapshot
from meshnet.nft.objects import Chain, Ruleset, Set

pytestmark = pytest.mark.netns

SNAPSHOT = Snapshot(revision=1, self_id=NodeId("n1"))


def run(*command):
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


class Namespace:
    def __init__(self):
        self.name = f"nftclient-{uuid.uuid4().hex[:8]}"
        self.path = f"/run/netns/{self.name}"
        netns.create(Path(self.path))

    def nft(self, *words):
        return run("ip", "netns", "exec", self.name, "nft", *words)

    def ip(self, *words):
        return run("ip", "-n", self.name, *words)

    def remove(self):
        netns.delete(Path(self.path))


@pytest.fixture
def spaces():
    made = [Namespace(), Namespace()]
    yield made
    for one in made:
        one.remove()


def table(services, *, extra=()):
    """``services``: VIP -> backends."""
    chains = [
        Chain(
            "output", ("ip daddr vmap @vips",), "type nat hook output priority -100; policy accept;"
        )
    ]
    for vip, backends in services.items():
        turn = ", ".join(f"{i} : {backend}" for i, backend in enumerate(backends))
        rule = f"counter dnat to numgen inc mod {len(backends)} map {{ {turn} }}"
        chains.append(Chain(f"svc-{vip}", (rule,)))
    vips = {vip: f"goto svc-{vip}" for vip in services}
    backends = frozenset(address for group in services.values() for address in group)
    sets = (Set("vips", "ipv4_addr : verdict", vips),)
    return Ruleset("ip", "meshnet", (*chains, *extra), sets, backends)


SERVICES = {"10.0.1.2": ("10.0.1.3", "10.0.1.4"), "10.0.1.5": ("10.0.1.6",)}


class Player:
    """One round at a time, as Reconciler plays them."""

    def __init__(self, host, tables):
        self.tables = tables
        self.operations = NftOperations([lambda _: self.tables], host_netns=host.path)

    def plan(self, *, prune=True):
        desired = self.operations.desired(SNAPSHOT)
        return self.operations.plan(desired, self.operations.observe(desired), prune=prune)

    def round(self, *, prune=True):
        changes = self.plan(prune=prune)
        self.operations.apply(changes)
        return changes

    def restarted(self):
        """A new process's view: nothing remembered."""
        other = Player.__new__(Player)
        other.tables = self.tables
        other.operations = NftOperations([lambda _: self.tables], host_netns=self.operations._host)
        return other

    def restart(self):
        """End, and go on as a new process."""
        self.operations.close()
        self.operations = NftOperations([lambda _: self.tables], host_netns=self.operations._host)


@pytest.fixture
def player(spaces):
    made = Player(spaces[0], {None: (table(SERVICES),)})
    yield made
    made.operations.close()


def settled(player):
    """Nothing to do, neither from memory nor read back anew."""
    assert player.plan() == []
    other = player.restarted()
    try:
        assert other.plan() == []
    finally:
        other.operations.close()


def test_what_is_written_is_what_is_read(player):
    assert player.round()
    settled(player)


def test_every_kind_of_element_and_hook_comes_back_as_written(player, spaces):
    spaces[0].ip("link", "add", "eth0", "type", "veth", "peer", "name", "eth9")
    kinds = Ruleset(
        "ip",
        "meshnet",
        (
            Chain("svc", ("counter accept",)),
            Chain("empty"),
            Chain("idle", (), "type filter hook input priority filter + 5; policy drop;"),
            Chain(
                "pre",
                ("meta mark set ether saddr map @entry",),
                "type filter hook prerouting priority mangle;",
            ),
            Chain(
                "many",
                ("tcp dport 80 accept", "udp dport 53 goto svc"),
                "type filter hook forward priority 0; policy accept;",
            ),
        ),
        (
            Set(
                "ports",
                "inet_proto . inet_service : verdict",
                {"tcp . 8080": "goto svc", "17 . 53": "jump svc", "132 . 9": "drop"},
            ),
            Set("entry", "ether_addr : mark", {"02:00:0a:ff:00:0A": "0x1aff000a"}),
            Set("macs", "mark : ether_addr", {"0x1aff000a": "02:00:0a:ff:00:0a"}),
            Set("to", "inet_service : ipv4_addr . inet_service", {"80": "10.0.0.1 . 8080"}),
            Set(
                "nets",
                "ipv4_addr",
                {"10.0.0.0/24": "", "10.1.0.1-10.1.0.5": "", "10.2.0.1/32": ""},
                ("interval",),
            ),
            Set("names", "ifname", {"eth0": ""}),
            Set("triple", "ipv4_addr . inet_proto . inet_service", {"10.0.0.1 . tcp . 80": ""}),
        ),
    )
    out = Ruleset(
        "netdev",
        "meshnet",
        (
            Chain(
                "out",
                ("ether daddr set meta mark map @macs",),
                "type filter hook egress device eth0 priority filter; policy accept;",
            ),
        ),
        (Set("macs", "mark : ether_addr", {"0x1aff000a": "02:00:0a:ff:00:0a"}),),
    )
    player.tables = {None: (kinds, out)}
    assert player.round()
    settled(player)
    spaces[0].ip("link", "del", "eth0")
    spaces[0].ip("link", "add", "eth0", "type", "veth", "peer", "name", "eth9")
    player.round()
    settled(player)
    assert 'device "eth0"' in spaces[0].nft("list", "table", "netdev", "meshnet")


@pytest.mark.parametrize(
    "damage",
    [
        ["flush ruleset"],
        ["flush chain ip meshnet output"],
        ["delete element ip meshnet vips { 10.0.1.2 }"],
        ["add element ip meshnet vips { 10.0.1.9 : drop }"],
        ["insert rule ip meshnet output drop"],
        ["add chain ip meshnet theirs", "add rule ip meshnet theirs jump svc-10.0.1.2"],
        [
            "flush map ip meshnet vips",
            "flush chain ip meshnet svc-10.0.1.2",
            "delete chain ip meshnet svc-10.0.1.2",
        ],
        [
            "flush chain ip meshnet output",
            "delete map ip meshnet vips",
            "add set ip meshnet vips { type ipv4_addr; }",
        ],
    ],
)
def test_a_strangers_edit_is_repaired(player, spaces, damage):
    player.round()
    before = spaces[0].nft("-s", "list", "ruleset")
    spaces[0].nft("; ".join(damage))
    assert spaces[0].nft("-s", "list", "ruleset") != before
    assert player.round()
    settled(player)
    assert "10.0.1.9" not in spaces[0].nft("list", "ruleset")


def test_a_rule_deleted_by_handle_is_repaired(player, spaces):
    player.round()
    listed = spaces[0].nft("-a", "list", "chain", "ip", "meshnet", "svc-10.0.1.2")
    handle = next(line.split()[-1] for line in listed.splitlines() if "dnat" in line)
    spaces[0].nft("delete", "rule", "ip", "meshnet", "svc-10.0.1.2", "handle", handle)
    (change,) = player.round()
    assert "10.0.1.5" not in change.tables[0].text
    settled(player)


def test_a_foreign_table_is_never_touched(player, spaces):
    spaces[0].nft("table ip theirs { set s { type ipv4_addr; } ; chain c { counter; } ; }")
    theirs = spaces[0].nft("list", "table", "ip", "theirs")
    player.round()
    player.tables = {}
    assert player.round()
    assert spaces[0].nft("list", "ruleset") == theirs


def test_an_incomplete_snapshot_deletes_nothing(player, spaces):
    player.round()
    player.tables = {
        None: (table({"10.0.1.5": ("10.0.1.6", "10.0.1.7"), "10.0.1.8": ("10.0.1.9",)}),)
    }
    assert player.round(prune=False)
    assert player.plan(prune=False) == []
    now = spaces[0].nft("list", "ruleset")
    assert "goto svc-10.0.1.2" in now
    assert "10.0.1.9" in now
    assert player.round(prune=True)
    assert "10.0.1.2" not in spaces[0].nft("list", "ruleset")
    settled(player)


def test_a_service_and_a_hook_that_change(player, spaces):
    player.round()
    moved = table({"10.0.1.2": ("10.0.1.3",)})
    first = Chain(
        "output", moved.chains[0].rules, "type nat hook output priority -90; policy accept;"
    )
    value = Set("vips", "ipv4_addr : verdict", {"10.0.1.2": "jump svc-10.0.1.2"})
    player.tables = {None: (replace(moved, chains=(first, *moved.chains[1:]), sets=(value,)),)}
    assert player.round()
    settled(player)
    listed = spaces[0].nft("list", "ruleset")
    assert "priority -90" in listed
    assert "10.0.1.2 : jump svc-10.0.1.2" in listed
    assert "10.0.1.4" not in listed


def test_a_refused_table_holds_up_no_other(player, spaces):
    refused = Ruleset("ip", "meshnet_dns", (Chain("out", ("ip daddr vmap @absent",)),))
    player.tables = {None: (refused, table(SERVICES))}
    with pytest.raises(ExceptionGroup) as caught:
        player.round()
    (error,) = caught.value.exceptions
    assert isinstance(error, MeshnetError)
    assert "ip meshnet_dns" in str(error)
    assert "svc-10.0.1.2" in spaces[0].nft("list", "ruleset")


def test_namespaces_are_apart_and_may_vanish(player, spaces):
    host, sandbox = spaces
    player.tables = {None: (table(SERVICES),), sandbox.path: (table({"10.9.0.1": ("10.9.0.2",)}),)}
    assert {change.netns for change in player.round()} == {None, sandbox.path}
    settled(player)
    assert "10.9.0.1" not in host.nft("list", "ruleset")
    assert "10.0.1.2" not in sandbox.nft("list", "ruleset")
    player.tables = {None: (), sandbox.path: (table({"10.9.0.1": ("10.9.0.3",)}),)}
    changes = player.plan()
    sandbox.remove()
    player.operations.apply(changes)
    assert player.plan() == []
    assert host.nft("list", "ruleset") == ""


def test_a_path_that_is_used_again_is_another_namespace(player, spaces):
    sandbox = spaces[1]
    player.tables = {sandbox.path: (table(SERVICES),)}
    player.round()
    sandbox.remove()
    netns.create(Path(sandbox.path))
    assert player.round()
    assert "svc-10.0.1.2" in sandbox.nft("list", "ruleset")
    settled(player)


@pytest.mark.parametrize("restart", [False, True])
def test_udp_flows_to_a_withdrawn_backend_are_forgotten(player, spaces, restart):
    host = spaces[0]
    host.ip("link", "set", "lo", "up")
    for address in ("10.0.1.2", "10.0.1.3", "10.0.1.4"):
        host.ip("address", "add", f"{address}/32", "dev", "lo")
    player.tables = {None: (table({"10.0.1.2": ("10.0.1.3",)}),)}
    player.round()
    with netns.inside(host.path):
        client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        servers = {}
        for address in ("10.0.1.3", "10.0.1.4"):
            servers[address] = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            servers[address].bind((address, 5000))
            servers[address].settimeout(2)
    with client, servers["10.0.1.3"], servers["10.0.1.4"]:
        client.sendto(b"one", ("10.0.1.2", 5000))
        assert servers["10.0.1.3"].recv(10) == b"one"
        if restart:
            player.restart()
        player.tables = {None: (table({"10.0.1.2": ("10.0.1.4",)}),)}
        if restart:
            player.round(prune=False)  # before all is known, as after every start
        (change,) = player.round()
        assert change.stale.gone == {"10.0.1.3"}
        client.sendto(b"two", ("10.0.1.2", 5000))
        assert servers["10.0.1.4"].recv(10) == b"two"
    settled(player)


def many(count, last):
    services = {
        f"10.{1 + i // 250}.0.{1 + i % 250}": (f"10.100.{i // 250}.{1 + i % 250}", "10.101.0.1")
        for i in range(count)
    }
    services["10.1.0.1"] = last
    return {None: (table(services),)}


def test_one_service_of_a_thousand(player, spaces):
    player.tables = many(1000, ("10.102.0.1",))
    player.round()
    for last in (("10.102.0.2",), ("10.102.0.2", "10.102.0.3"), ("10.102.0.3",)):
        player.tables = many(1000, last)
        changes = player.plan()
        player.operations.apply(changes)
        assert len(changes[0].tables[0].commands) == 2
    spaces[0].nft("add table ip theirs")
    player.round()
    settled(player)


def test_descriptors_beyond_1024_end_no_process_and_a_namespace_costs_one(player, spaces):
    made = [Namespace() for _ in range(6)]
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (4096, hard))
    others = [os.open("/dev/null", os.O_RDONLY) for _ in range(2000)]
    try:
        before = len(list(Path("/proc/self/fd").iterdir()))
        tables = (table(SERVICES),)
        player.tables = {None: tables} | {one.path: tables for one in made}
        player.round()  # more namespaces than stay open
        assert player.plan() == []
        assert len(list(Path("/proc/self/fd").iterdir())) - before <= len(made) + 1 + MOST_OPEN
        for space in made:
            assert "svc-10.0.1.2" in space.nft("list", "ruleset")
    finally:
        for one in others:
            os.close(one)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for space in made:
            space.remove()


def test_without_a_low_descriptor_nftables_is_an_error_and_not_the_end(spaces):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (4096, hard))
    others = [os.open("/dev/null", os.O_RDONLY) for _ in range(1100)]
    made = Player(spaces[0], {None: (table(SERVICES),)})
    try:
        with pytest.raises(ExceptionGroup) as caught:
            made.round()
        (error,) = caught.value.exceptions
        assert isinstance(error, MeshnetError)
        assert "below 1024" in str(error)
        for one in others[:20]:
            os.close(one)
        del others[:20]
        made.round()
        settled(made)
    finally:
        made.operations.close()
        for one in others:
            os.close(one)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_one_namespace_that_cannot_be_listed_holds_up_no_other(player, spaces, tmp_path):
    loop = tmp_path / "loop"
    loop.symlink_to("loop")
    player.tables = {None: (table(SERVICES),), str(loop): (table(SERVICES),)}
    with pytest.raises(ExceptionGroup) as caught:
        player.round()
    (error,) = caught.value.exceptions
    assert isinstance(error, MeshnetError)
    assert error.about == {(str(loop), "")}
    assert "svc-10.0.1.2" in spaces[0].nft("list", "ruleset")
