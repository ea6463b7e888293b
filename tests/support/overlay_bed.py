"""Two hosts on one wire with overlay networks between them, and containers on both."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from ipaddress import (
    IPv4Address,
    IPv4Interface,
    IPv4Network,
    IPv6Address,
    IPv6Interface,
    IPv6Network,
)
from pathlib import Path
from typing import Any

from meshnet.kernel import netns
from meshnet.kernel.iproute import iproute
from meshnet.model.ids import NetworkId, NodeId, ServiceId, TaskId, Vni
from meshnet.model.snapshot import Endpoint, Gwbridge, Network, Node, Sandbox, Snapshot

NET = NetworkId("netaaaaaaaaaaaaaaaaaaaaaa")
INGRESS = NetworkId("netiiiiiiiiiiiiiiiiiiiiii")
VNI = {NET: Vni(4097), INGRESS: Vni(4096)}
NODES = {n: NodeId(f"node{n}") for n in (1, 2)}
_OURS = "mntov"
PREFIX = f"{_OURS}{os.getpid()}"
"""Of names of namespaces; another run of these tests has another."""
GWBRIDGE = Gwbridge("docker_gwbridge", IPv4Network("172.18.0.0/16"), IPv4Address("172.18.0.1"))


def sh(command: str) -> str:
    done = subprocess.run(command, shell=True, capture_output=True, text=True, check=False)  # noqa: S602
    assert done.returncode == 0, f"{command}: {done.stderr}"
    return done.stdout


def make_netns(name: str) -> str:
    """A namespace with its loopback up; its path."""
    path = netns.NETNS_DIR / name
    netns.create(path)
    with iproute(str(path)) as ip:
        ip.link("set", index=1, state="up")
    return str(path)


@dataclass
class OverlayBed:
    """Two host namespaces on one wire, and container namespaces."""

    directory: Path

    def host(self, number: int) -> str:
        return f"/run/netns/{PREFIX}-h{number}"

    def netns_dir(self, number: int) -> Path:
        return self.directory / f"h{number}"

    def container(self, name: str) -> str:
        path = f"/run/netns/{PREFIX}-c{name}"
        if not netns.is_netns(Path(path)):
            make_netns(f"{PREFIX}-c{name}")
        return path

    def inside(self, name: str, command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["ip", "netns", "exec", f"{PREFIX}-{name}", "sh", "-c", command],
            capture_output=True,
            text=True,
            check=False,
        )

    def pings(self, name: str, address: str) -> bool:
        ping = f"busybox ping{'6' if ':' in address else ''} -c1 -W1 {address}"
        return any(self.inside(name, ping).returncode == 0 for _ in range(3))


@contextmanager
def two_hosts(directory: Path) -> Iterator[OverlayBed]:
    """The bed; its namespaces, and those of overlays below ``directory``, are gone afterwards."""
    _remove()
    made = OverlayBed(directory)
    try:
        for number in (1, 2):
            make_netns(f"{PREFIX}-h{number}")
        with iproute(made.host(1)) as ip:
            ip.link("add", ifname="u", kind="veth", peer={"ifname": "u", "net_ns_fd": made.host(2)})
        for number in (1, 2):
            with iproute(made.host(number)) as ip:
                (wire,) = ip.link_lookup(ifname="u")
                ip.addr("add", index=wire, address=f"10.99.0.{number}", prefixlen=24)
                ip.link("set", index=wire, state="up")
        yield made
    finally:
        for number in (1, 2):
            for path in made.netns_dir(number).glob("mn-*"):
                netns.delete(path)
        _remove()


@contextmanager
def two_routed_hosts(directory: Path, narrow: int) -> Iterator[OverlayBed]:
    """The same with a router between them, whose way to the second takes ``narrow`` bytes.

    All interfaces of hosts have an MTU of 1500, no error of the router arrives, and fragments do
    not: larger packets are lost without a word.
    """
    with two_hosts(directory) as made:
        router = f"{PREFIX}-r"
        make_netns(router)
        sh(f"ip netns exec {router} sysctl -qw net.ipv4.ip_forward=1")
        sh(f"ip -n {router} addr add 10.98.0.254/32 dev lo")
        sh(f"ip -n {PREFIX}-h1 link del u")
        for number in (1, 2):
            host = f"{PREFIX}-h{number}"
            sh(
                f"ip -n {router} link add r{number} type veth peer name u netns {host};"
                f"ip -n {router} link set r{number} up; ip -n {host} link set u gso_max_segs 1 up;"
                f"ip -n {host} addr add 10.99.0.{number}/32 dev u;"
                f"ip -n {host} route add 10.98.0.254 dev u;"
                f"ip -n {host} route add 10.99.0.0/24 via 10.98.0.254 src 10.99.0.{number};"
                f"ip -n {router} route add 10.99.0.{number} dev r{number}"
            )
        sh(f"ip -n {router} link set r2 mtu {narrow}")
        for place, hook, rule in (
            (router, "output priority 0", "icmp type destination-unreachable drop"),
            (f"{PREFIX}-h2", "prerouting priority -500", "ip frag-off & 0x3fff != 0 drop"),
        ):
            chain = f"chain c {{ type filter hook {hook}; {rule}; }};"
            sh(f"ip netns exec {place} nft 'table ip lossy {{ {chain} }}'")
        yield made


def _remove() -> None:
    """Also what a run that was killed left behind."""
    for name in netns.names(netns.NETNS_DIR, _OURS):
        run = name.removeprefix(_OURS).partition("-")[0]
        if run.isdigit() and (int(run) == os.getpid() or not Path("/proc", run).exists()):
            netns.delete(netns.NETNS_DIR / name)


def snapshot(
    bed: OverlayBed,
    self_number: int,
    tasks: dict[int, int],
    *,
    dual: bool = False,
    mesh6: bool = False,
    **more: object,
) -> Snapshot:
    """``tasks``: task number -> node number; task n has 10.0.1.n and, on ingress, 10.0.0.n.

    ``dual``: and fd00:1::n, those above 20 fd00:2::n; ``mesh6``: and fd00::n on ingress.
    """
    networks = {
        NET: Network(
            NET, "net", VNI[NET], IPv4Network("10.0.1.0/24"), IPv4Address("10.0.1.1"),
            subnets6=(IPv6Network("fd00:1::/64"), IPv6Network("fd00:2::/64")) if dual else (),
        ),
        INGRESS: Network(
            INGRESS, "ingress", VNI[INGRESS], IPv4Network("10.0.0.0/24"), IPv4Address("10.0.0.1"),
            ingress=True, subnets6=(IPv6Network("fd00::/64"),) if mesh6 else (),
        ),
    }  # fmt: skip
    nodes = {
        NODES[n]: Node(
            NODES[n],
            f"h{n}",
            IPv4Address(f"10.99.0.{n}"),
            ingress_address=IPv4Address(f"10.0.0.{200 + n}"),
            ingress_address6=IPv6Address(f"fd00::{200 + n}") if mesh6 else None,
        )
        for n in NODES
    }
    endpoints = {}
    sandboxes = {}
    for task, node in tasks.items():
        name = TaskId(f"task{task:021d}"[::-1])
        net, mesh = IPv4Address(f"10.0.1.{task}"), IPv4Address(f"10.0.0.{task}")
        second = IPv6Address(f"fd00:{2 if task > 20 else 1}::{task}")
        endpoints[name] = Endpoint(
            name, f"web.{task}", NODES[node], ServiceId("svc"), {INGRESS: mesh, NET: net},
            addresses6={
                **({NET: second} if dual else {}),
                **({INGRESS: IPv6Address(f"fd00::{task}")} if mesh6 else {}),
            },
        )  # fmt: skip
        if node == self_number:
            sandboxes[name] = Sandbox(
                name,
                bed.container(str(task)),
                ((INGRESS, IPv4Interface(f"{mesh}/24")), (NET, IPv4Interface(f"{net}/24"))),
                IPv4Interface(f"172.18.0.{task}/16"),
                networks6=(
                    *(((INGRESS, IPv6Interface(f"fd00::{task}/64")),) if mesh6 else ()),
                    *(((NET, IPv6Interface((second, 64))),) if dual else ()),
                ),
            )
    made = Snapshot(
        1, NODES[self_number], nodes, networks, {}, endpoints, sandboxes,
        gwbridge=GWBRIDGE,
    )  # fmt: skip
    return replace(made, **more)  # type: ignore[arg-type]


SETTLES_S = 5.0


def settle(operations: Any, wanted: Snapshot) -> int:
    """Plan and apply; then nothing is left to do. The number of changes.

    A busy kernel tells of a carrier, and makes the routes that follow from it, a moment later: what
    is left then is gone by itself, or by another round.
    """
    desired = operations.desired(wanted)
    changes = operations.plan(desired, operations.observe(desired), prune=wanted.complete)
    operations.apply(changes)
    until = time.monotonic() + SETTLES_S
    while left := operations.plan(desired, operations.observe(desired), prune=True):
        assert time.monotonic() < until, left
        operations.apply(left)
    return len(changes)
