"""Our data plane between hosts of a bench bed, made by the product's own Operations.

Each host namespace gets one set of Operations, driven by a Snapshot written here by hand: what
meshnetd does with a Snapshot, without meshnetd.

Be aware: all Operations run in this one thread, which enters namespaces and comes back.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from pathlib import Path

from bench.bed import NETNS, Bed, run
from bench.fabric import Place, vtep
from bench.rounds import BenchError
from meshnet.kernel.nft import NftOperations
from meshnet.model.policy import Policy
from meshnet.model.snapshot import (
    Endpoint,
    Network,
    Node,
    PublishedPort,
    Sandbox,
    Service,
    Snapshot,
)
from meshnet.overlay.operations import OverlayOperations
from meshnet_lb.rules import rulesets

ROUNDS_AT_MOST = 5


def ident(kind: str, number: int = 0) -> str:
    """A 25-character id as Swarm's, told apart in its first 12."""
    return f"{kind}{number:03d}".ljust(25, "0")


@dataclass(frozen=True)
class Cluster:
    """What is on the hosts: containers, and one service that some of them belong to."""

    network: Network
    places: Sequence[Place]
    """All containers; their namespaces exist."""
    backends: Sequence[str]
    """Names of the places that are the service's tasks."""
    vip: IPv4Address | None = None
    ports: tuple[PublishedPort, ...] = ()
    policies: Mapping[IPv4Address, Policy] = field(default_factory=dict)
    """Virtual IPs of further services with the same tasks, and how these are chosen."""
    gateways: Mapping[int, IPv4Address] = field(default_factory=dict)
    """Host number to its address on the ingress network."""

    def seen_from(self, bed: Bed, host: int) -> Snapshot:
        """The Snapshot of host ``host``."""
        hosts = sorted({place.host for place in self.places} | self.gateways.keys())
        key = self.network.id
        service = ident("s")
        others = {
            ident("o", n): Service(ident("o", n), str(policy), vips={key: vip}, policy=policy)
            for n, (vip, policy) in enumerate(self.policies.items())
        }
        tasks = [(place, service) for place in self.places]
        tasks += [(p, other) for other in others for p in self.places if p.name in self.backends]
        return Snapshot(
            revision=1,
            self_id=ident("m", host),
            nodes={
                ident("m", n): Node(
                    ident("m", n),
                    f"h{n}",
                    IPv4Address(vtep(n)),
                    ingress_address=self.gateways.get(n),
                )
                for n in hosts
            },
            networks={key: self.network},
            services={
                service: Service(
                    service,
                    "server",
                    vips={key: self.vip} if self.vip else {},
                    ports=self.ports,
                )
            }
            | others,
            endpoints={
                ident("t", n): Endpoint(
                    task=ident("t", n),
                    name=place.name,
                    node=ident("m", place.host),
                    service=of if place.name in self.backends else None,
                    addresses={key: IPv4Address(place.address)},
                )
                for n, (place, of) in enumerate(tasks)
            },
            sandboxes={
                ident("t", n): Sandbox(
                    task=ident("t", n),
                    netns=bed.path(place.name),
                    networks=(
                        (key, IPv4Interface(f"{place.address}/{self.network.subnet.prefixlen}")),
                    ),
                    gateway_address=None,
                    ports=self.ports if place.name in self.backends else (),
                )
                for n, place in enumerate(self.places)
                if place.host == host
            },
        )


@contextlib.contextmanager
def realised(bed: Bed, cluster: Cluster) -> Iterator[None]:
    """Make ``cluster`` real on the hosts of ``bed`` (``fabric.lan`` was called) until left.

    Raises:
        BenchError: the Operations have not come to rest after a few rounds.
    """
    for place in cluster.places:
        bed.netns(place.name)
    hosts = sorted({place.host for place in cluster.places} | cluster.gateways.keys())
    directory = {host: NETNS / f"{bed.name('n')}{host}" for host in hosts}
    with contextlib.ExitStack() as leaving:
        for host in hosts:
            directory[host].mkdir()
            leaving.callback(_forget, directory[host])
            overlay = OverlayOperations(bed.path(f"h{host}"), directory[host])
            leaving.callback(overlay.close)
            lb = NftOperations([rulesets], host_netns=bed.path(f"h{host}"))
            leaving.callback(lb.close)
            snapshot = cluster.seen_from(bed, host)
            settle(overlay, snapshot)
            settle(lb, snapshot)
        yield


def settle(operations: OverlayOperations | NftOperations, snapshot: Snapshot) -> None:
    """Observe, plan, apply until there is nothing left to do."""
    desired = operations.desired(snapshot)
    for _ in range(ROUNDS_AT_MOST):
        changes = operations.plan(desired, operations.observe(desired), prune=True)
        if not changes:
            return
        operations.apply(changes)
    raise BenchError(f"{operations.name} still wants {len(changes)} changes: {changes[:3]}")


def network(subnet: str, vni: int = 4097, *, ingress: bool = False) -> Network:
    net = IPv4Network(subnet)
    return Network(ident("n", vni), "bench", vni, net, net[1], ingress=ingress)


def _forget(directory: Path) -> None:
    """Unmount and remove the namespaces named in a directory, and it."""
    for name in directory.iterdir():
        run("umount", str(name), check=False)
        name.unlink()
    run("umount", str(directory), check=False)
    directory.rmdir()
