"""New connections and throughput from outside through a port published on every host.

Ours keeps the client's address; the peer is Docker's layout rebuilt by hand, with its sandbox and
SNAT. Before anything is timed it is checked which client address the tasks see, on either side.
"""

from __future__ import annotations

from ipaddress import IPv4Address

from bench import fabric, ours
from bench.bed import Bed
from bench.fabric import Place, vtep
from bench.rounds import BenchError, Goal, Line, interleave
from meshnet.model.snapshot import PublishedPort

HOSTS = 3
PUBLISHED, TARGET = 8080, 9000
PUBLISHED_IPERF, TARGET_IPERF = 8081, 5201
TASKS = {host: f"10.255.1.{host}" for host in range(1, HOSTS + 1)}
GATEWAYS = {host: IPv4Address(f"10.255.0.{host + 1}") for host in range(1, HOSTS + 1)}
CLIENT = vtep(100)


def measure() -> list[Line]:
    # Connections take turns over a task per host; the one stream goes to the task of another host.
    lines = []
    for tasks, iperf in ((TASKS, False), ({2: TASKS[2]}, True)):
        published, target = (PUBLISHED_IPERF, TARGET_IPERF) if iperf else (PUBLISHED, TARGET)
        cluster = ours.Cluster(
            ours.network("10.255.0.0/16", 4096, ingress=True),
            [Place(f"t{host}", host, address) for host, address in tasks.items()],
            backends=[f"t{host}" for host in tasks],
            ports=(PublishedPort("tcp", target, published),),
            gateways=GATEWAYS,
        )
        with Bed("m") as mine, Bed("k") as peer:
            for bed in (mine, peer):
                fabric.lan(bed, HOSTS, client=True)
            fabric.docker_mesh(peer, HOSTS, tasks, published, target)
            with ours.realised(mine, cluster):
                for bed in (mine, peer):
                    for host in tasks:
                        bed.serve(f"t{host}", target, iperf=iperf)
                if not iperf:
                    _check(mine, peer)
                lines.append(_line(mine, peer, published, iperf=iperf))
    return lines


def _check(mine: Bed, peer: Bed) -> None:
    seen = mine.peers_seen("x", vtep(1), PUBLISHED)
    if seen != {CLIENT}:
        raise BenchError(f"tasks see {sorted(seen)} for the client {CLIENT}")
    if CLIENT in peer.peers_seen("x", vtep(1), PUBLISHED):
        raise BenchError("the peer does no SNAT")


def _line(mine: Bed, peer: Bed, published: int, *, iperf: bool) -> Line:
    def figure(bed: Bed) -> float:
        if iperf:
            return bed.gbps("x", vtep(1), published)
        return bed.rate("x", vtep(1), published, 0.5)

    seen = interleave(
        {"meshnet": lambda: figure(mine), "docker's layout": lambda: figure(peer)},
        rounds=15,
    )
    what = "throughput" if iperf else "new connections"
    return Line(
        f"{what} through the mesh, client's address kept, against Docker's layout with SNAT",
        Goal(0.95, at_least=True),
        seen["meshnet"],
        seen["docker's layout"],
        "Gbit/s" if iperf else "conn/s",
    )
