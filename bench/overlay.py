"""Throughput of one TCP stream from container to container on another host, through VXLAN.

The peer is the same VXLAN made by hand. Both beds stand at the same time; only one carries traffic.
"""

from __future__ import annotations

from bench import fabric, ours
from bench.bed import Bed
from bench.fabric import Place
from bench.rounds import Goal, Line, interleave

PLACES = (Place("a", 1, "10.0.1.2"), Place("b", 2, "10.0.1.3"))
PORT = 5201
SECONDS = 1
ROUNDS = 25


def measure() -> list[Line]:
    cluster = ours.Cluster(ours.network("10.0.1.0/24"), PLACES, backends=())
    with Bed("o") as mine, Bed("p") as peer:
        fabric.lan(mine, 2)
        fabric.lan(peer, 2)
        fabric.static_overlay(peer, PLACES)
        with ours.realised(mine, cluster):
            for bed in (mine, peer):
                bed.serve("b", PORT, iperf=True)
            seen = interleave(
                {
                    "meshnet": lambda: mine.gbps("a", PLACES[1].address, PORT, SECONDS),
                    "static": lambda: peer.gbps("a", PLACES[1].address, PORT, SECONDS),
                },
                ROUNDS,
            )
    return [
        Line(
            "overlay throughput across hosts, against a hand-made static VXLAN",
            Goal(0.95, at_least=True),
            seen["meshnet"],
            seen["static"],
            "Gbit/s",
        )
    ]
