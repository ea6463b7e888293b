"""Whatever somebody breaks on a host is told, and put right, without waiting for the resync.

One host of two, wired as a node's reconcilers wire it, by their own loop and their own events; no
round is made by time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, ExitStack
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest
from overlay_bed import GWBRIDGE, NET, PREFIX, OverlayBed, sh, snapshot, two_hosts

from meshnet.gwbridge.operations import GwbridgeOperations
from meshnet.kernel.events import NFT_CHANGED, Watchers
from meshnet.kernel.file_events import REMOVED, WRITTEN, FileEvents
from meshnet.kernel.nft import NftOperations
from meshnet.kernel.thread import KernelThread
from meshnet.model.ids import mac_of
from meshnet.overlay.desired import netns_name, veth_name
from meshnet.overlay.operations import OverlayOperations
from meshnet.reconcile import Reconciler
from meshnet_lb.rules import rulesets

pytestmark = pytest.mark.netns

TASKS = {11: 1, 12: 1, 21: 2}
NEVER_S = 3600.0
WAIT_S = 3.0
"""For what must come by itself."""
THERE = IPv4Address("10.0.1.21")
IN = {"host": "ip netns exec {host}", "task": "ip netns exec {task}", "net": "nsenter --net={net}"}
DAMAGE = {
    "host": (
        "sh -c 'for port in {ports}; do ip link del $port; done'",
        "ip link set {port} down",
        "ip link set {port} nomaster",
        "ip addr flush dev docker_gwbridge",
        "ip link set docker_gwbridge down",
        "ip link del mn-ingress",
        "sysctl -qw net.ipv4.ip_forward=0",
        "sysctl -qw net.ipv4.conf.mn-ingress.rp_filter=1",
        "sysctl -qw net.ipv4.conf.mn-ingress.route_localnet=0",
        "sysctl -qw net.ipv4.conf.docker_gwbridge.route_localnet=0",
        "nft flush ruleset",
        "nft flush chain ip meshnet raw_in",
        "nft insert rule ip meshnet raw_in drop",
        "nft add chain ip meshnet theirs '{{ type filter hook input priority 0; policy drop; }}'",
        "nft add element ip meshnet vteps '{{ 10.99.0.77 }}'",
    ),
    "task": (
        "ip link del eth0",
        "ip link del eth2",
        "ip link set eth1 down",
        "ip link set eth1 mtu 1000",
        "ip link set eth1 address 02:00:00:00:00:07",
        "ip addr flush dev eth1",
        "ip addr add 10.0.1.99/24 dev eth1",
        "ip route flush table 100",
        "ip route del default",
        "ip rule del fwmark 0x10000000/0x10000000",
        "ip neigh flush nud permanent dev eth0",
        "ip neigh add 10.0.0.77 lladdr 02:00:00:00:00:09 dev eth0 nud permanent",
        "ip neigh replace 169.254.77.1 lladdr 02:00:00:00:00:09 dev eth0 nud permanent",
        "ip neigh replace 10.0.1.21 lladdr 02:00:00:00:00:09 dev eth1 nud permanent",
        "sysctl -qw net.ipv4.tcp_fwmark_accept=0",
        "sysctl -qw net.ipv4.conf.eth0.rp_filter=1",
        "nft flush ruleset",
        "nft delete table netdev meshnet",
        "nft insert rule ip meshnet balance drop",
        "nft insert rule netdev meshnet egress drop",
        "nft add element ip meshnet targets '{{ tcp . 9 }}'",
        "nft delete element ip meshnet gateways {{ {gateway} }}",
    ),
    "net": (
        "ip link del vx0",
        "ip link del br0",
        "ip link set vx0 nomaster",
        "ip link set vx0 down",
        "ip link set vx0 mtu 1000",
        "ip link set br0 down",
        "ip link set {veth} nomaster",
        "ip link set {veth} down",
        "bridge fdb del {mac} dev vx0 dst 10.99.0.2 self",
        "bridge fdb del {mac} dev vx0 master",
        "ip neigh flush nud permanent dev vx0",
        "sysctl -qw net.bridge.bridge-nf-call-iptables=1",
        "bridge fdb append {mac} dev vx0 dst 10.99.0.77 self permanent",
        "bridge fdb replace {mac} dev vx0 dst 10.99.0.77 self permanent",
        "bridge fdb replace {mac} dev vx0 dst 10.99.0.77 self dynamic",
        "bridge fdb add 02:00:00:00:00:09 dev vx0 dst 10.99.0.2 self permanent",
        "bridge fdb replace {mac} dev {veth} master static",
        "ip neigh replace {there} lladdr 02:00:00:00:00:09 dev vx0 nud permanent",
        "ip neigh replace {there} lladdr 02:00:00:00:00:09 dev vx0 nud reachable",
        "ip neigh replace {there} lladdr {mac} dev vx0 nud stale",
        "ip neigh add 10.0.1.99 lladdr 02:00:00:00:00:09 dev vx0 nud permanent",
    ),
}


class Host:
    """Host 1 with its reconcilers and what wakes them.

    Made outside an event loop, as pyroute2 has one of its own.
    """

    def __init__(self, bed: OverlayBed):
        self.bed = bed
        self.path = bed.host(1)
        name = f"{PREFIX}-h1"
        sh(
            f"ip -n {name} link add {GWBRIDGE.name} type bridge;"
            f" ip -n {name} addr add {GWBRIDGE.gateway}/16 dev {GWBRIDGE.name};"
            f" ip -n {name} link set {GWBRIDGE.name} up"
        )
        self.wanted = snapshot(bed, 1, TASKS)
        self.net = bed.netns_dir(1) / netns_name(NET)
        boxes = [*self.wanted.sandboxes]
        self.words = {
            "host": name,
            "task": f"{PREFIX}-c11",
            "net": self.net,
            "port": "g" + boxes[0][:12],
            "ports": " ".join("g" + task[:12] for task in boxes),
            "veth": veth_name(boxes[0]),
            "mac": mac_of(THERE),
            "there": THERE,
            "gateway": mac_of(IPv4Address("10.0.0.202")),
        }

    def kinds(self, watch=lambda *_: None):
        """A set of Operations."""
        return (
            OverlayOperations(self.path, self.bed.netns_dir(1), watch=watch),
            GwbridgeOperations(self.path, watch=watch),
            NftOperations([rulesets], host_netns=self.path),
        )

    async def live(self, scene: Callable[[], Awaitable[None]]) -> None:
        """Play a scene beside the reconcilers."""
        async with AsyncExitStack() as stack:
            thread = KernelThread()

            def changed(reason, where) -> None:
                if where is not None:  # what is the host here is a namespace with a name
                    where = {self.at(path) for path in where}
                for each in made:
                    at_once = each.operations.chooses and reason == NFT_CHANGED
                    each.poke(reason, netns=where, at_once=at_once)

            kinds: tuple[Any, ...] = ()
            watchers = Watchers(
                changed, lambda path, row: kinds[0].is_disturbed(self.at(path), row)
            )
            stack.callback(watchers.close)
            written = FileEvents(WRITTEN, lambda where: changed("a sysctl was written", where))
            stack.callback(written.close)
            names = FileEvents(REMOVED, lambda _: watchers.look())
            stack.callback(names.close)
            kinds = self.kinds(written.watch)
            for each in kinds:
                stack.callback(each.close)
            made = [Reconciler(each, thread, resync_s=NEVER_S) for each in kinds]
            running = [asyncio.ensure_future(each.run()) for each in made]
            for each in made:
                each.submit(self.wanted)
            await asyncio.gather(*(each.applied(1) for each in made))
            watchers.watch([self.path, str(self.net), *(s.netns for s in self.boxes)])
            names.watch(self.net.parent, None)
            for each in made:
                each.poke("watched from here on")
            self.made = made
            await self.rests()
            await scene()
            for each in running:
                each.cancel()
            await asyncio.gather(*running, return_exceptions=True)
            thread.shutdown()

    @property
    def boxes(self):
        return self.wanted.sandboxes.values()

    def at(self, path):
        """What is the host here is a namespace with a name."""
        return None if path == self.path else path

    async def rests(self) -> None:
        """Returns when what was done last has been looked at, and nobody is about to look."""
        before = None
        while before != (before := [each.status.rounds for each in self.made]):  # noqa: ASYNC110
            await asyncio.sleep(0.3)  # six times the longest that a look is put off

    async def put_right(self) -> None:
        """Returns when nothing is left to do, as somebody else sees it."""
        with ExitStack() as stack:
            kinds = self.kinds()
            for each in kinds:
                stack.callback(each.close)

            def left():
                found = []
                for each in kinds:
                    wanted = each.desired(self.wanted)
                    found += each.plan(wanted, each.observe(wanted), prune=True)
                return found

            async with asyncio.timeout(WAIT_S):
                while await asyncio.to_thread(left):  # noqa: ASYNC110 - a condition of the kernel's
                    await asyncio.sleep(0.01)


@pytest.fixture
def host(tmp_path: Path):
    """
    Name: host; Scope: function; Depends: root.

    A host with two tasks on an overlay, on the ingress network and on docker_gwbridge.
    """
    with two_hosts(tmp_path) as bed:
        yield Host(bed)


@pytest.mark.timeout(120)
@pytest.mark.parametrize("where", DAMAGE)
def test_any_damage_is_told_and_put_right(host, where):
    async def scene():
        for damage in DAMAGE[where]:
            command = f"{IN[where]} {damage}".format(**host.words)
            await host.rests()
            await asyncio.to_thread(sh, command)
            try:
                await host.put_right()
            except TimeoutError:
                pytest.fail(f"nobody put right: {command}")

    asyncio.run(host.live(scene))


def test_a_network_s_namespace_that_loses_its_name_is_made_again(host):
    async def scene():
        sh(f"umount {host.net}; rm {host.net}")
        await host.put_right()

    asyncio.run(host.live(scene))
