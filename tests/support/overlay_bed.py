"""Two hosts on one wire with overlay networks between them, and containers on both."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
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
PREFIX = "mntov"
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
        ping = f"busybox ping -c1 -W1 {address}"
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


def _remove() -> None:
    for name in netns.names(netns.NETNS_DIR, f"{PREFIX}-"):
        netns.delete(netns.NETNS_DIR / name)


def snapshot(bed: OverlayBed, self_number: int, tasks: dict[int, int], **more: object) -> Snapshot:
    """``tasks``: task number -> node number; task n has 10.0.1.n and, on ingress, 10.0.0.n."""
    networks = {
        NET: Network(NET, "net", VNI[NET], IPv4Network("10.0.1.0/24"), IPv4Address("10.0.1.1")),
        INGRESS: Network(
            INGRESS, "ingress", VNI[INGRESS], IPv4Network("10.0.0.0/24"), IPv4Address("10.0.0.1"),
            ingress=True,
        ),
    }  # fmt: skip
    nodes = {
        NODES[n]: Node(
            NODES[n],
            f"h{n}",
            IPv4Address(f"10.99.0.{n}"),
            ingress_address=IPv4Address(f"10.0.0.{200 + n}"),
        )
        for n in NODES
    }
    endpoints = {}
    sandboxes = {}
    for task, node in tasks.items():
        name = TaskId(f"task{task:021d}"[::-1])
        net, mesh = IPv4Address(f"10.0.1.{task}"), IPv4Address(f"10.0.0.{task}")
        endpoints[name] = Endpoint(
            name, f"web.{task}", NODES[node], ServiceId("svc"), {INGRESS: mesh, NET: net}
        )
        if node == self_number:
            sandboxes[name] = Sandbox(
                name,
                bed.container(str(task)),
                ((INGRESS, IPv4Interface(f"{mesh}/24")), (NET, IPv4Interface(f"{net}/24"))),
                IPv4Interface(f"172.18.0.{task}/16"),
            )
    made = Snapshot(
        1, NODES[self_number], nodes, networks, {}, endpoints, sandboxes,
        gwbridge=GWBRIDGE,
    )  # fmt: skip
    return replace(made, **more)  # type: ignore[arg-type]


def settle(operations: Any, wanted: Snapshot) -> int:
    """Plan and apply; then nothing is left to do. The number of changes."""
    desired = operations.desired(wanted)
    changes = operations.plan(desired, operations.observe(desired), prune=wanted.complete)
    operations.apply(changes)
    assert operations.plan(desired, operations.observe(desired), prune=True) == []
    return len(changes)
