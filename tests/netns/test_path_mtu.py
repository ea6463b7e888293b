"""Ways that take less than the interfaces at their ends: found, and borne by overlays."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from contextlib import suppress
from dataclasses import replace
from functools import partial

import pytest
from overlay_bed import NET, NODES, settle, snapshot, two_routed_hosts

from meshnet.kernel import netns
from meshnet.kernel.iproute import iproute
from meshnet.model.ids import NodeId
from meshnet.model.paths import mtu_of
from meshnet.overlay.operations import OverlayOperations
from meshnet_control.cluster import gossip_records
from meshnet_control.dataplane.path_mtu import SOON_S
from meshnet_control.node.path_prober import PathProber, asked

pytestmark = pytest.mark.netns

TASKS = {11: 1, 21: 2}
NARROW = 1380
BIG = bytes(400_000)


@pytest.fixture
def bed(tmp_path):
    with two_routed_hosts(tmp_path, NARROW) as made:
        yield made


@pytest.fixture
def overlays(bed):
    made = {n: OverlayOperations(bed.host(n), bed.netns_dir(n)) for n in (1, 2)}
    yield made
    for operations in made.values():
        operations.close()


async def said_by(bed, number):
    """What a node says after it looked twice, as gossip's record."""
    told: list[dict[NodeId, int]] = []

    def ask(searches):
        with netns.inside(bed.host(number)):
            asked(searches)

    prober = PathProber(lambda: snapshot(bed, number, {}), told.append, ask)
    for now in (0.0, SOON_S):
        await prober.look(partial(float, now))
    return gossip_records.encode_node(1500, told[-1] if told else {})


async def said(bed):
    """What both say."""
    told = await asyncio.gather(*(said_by(bed, number) for number in NODES))
    return dict(zip(NODES.values(), told, strict=True))


def with_words(made, words):
    """The Snapshot with what nodes say of themselves."""
    nodes = dict(made.nodes)
    for node, record in words.items():
        mtu, narrow = gossip_records.decode_node(record)
        nodes[node] = replace(nodes[node], underlay_mtu=mtu, narrow=narrow)
    return replace(made, nodes=nodes)


class Sink:
    """Counts what comes to a port in a container."""

    def __init__(self, path):
        with netns.inside(path):
            self._listening = socket.create_server(("", 7000))
        self._listening.settimeout(60)
        self.got = 0
        self._thread = threading.Thread(target=self._take, daemon=True)
        self._thread.start()

    def _take(self):
        with suppress(OSError), self._listening.accept()[0] as taken:
            taken.settimeout(60)
            while some := taken.recv(1 << 16):
                self.got += len(some)

    def has(self, wanted, within_s):
        ends = time.monotonic() + within_s
        while self.got < wanted and time.monotonic() < ends:
            time.sleep(0.05)
        return self.got >= wanted

    def close(self):
        self._listening.close()
        self._thread.join(5)


def push(sending):
    with suppress(OSError):
        sending.sendall(BIG)


def test_a_connection_that_hangs_on_a_narrow_way_goes_on_once_it_is_found(bed, overlays):
    for number, operations in overlays.items():
        settle(operations, snapshot(bed, number, TASKS))
    assert bed.pings("c11", "10.0.1.21")
    sink = Sink(bed.container("21"))
    try:
        with netns.inside(bed.container("11")):
            sending = socket.create_connection(("10.0.1.21", 7000), 5)
        with sending:
            sending.settimeout(None)
            pushing = threading.Thread(target=push, args=[sending], daemon=True)
            pushing.start()
            assert not sink.has(1, 1.0), "no large packet comes through, and nobody says so"
            words = asyncio.run(said(bed))
            assert gossip_records.decode_node(words[NODES[1]]) == (1500, ((NODES[2], NARROW),))
            for number, operations in overlays.items():
                wanted = with_words(snapshot(bed, number, TASKS), words)
                assert mtu_of(wanted, wanted.networks[NET]) == NARROW - 50
                settle(operations, wanted)
            for task in TASKS:
                with iproute(bed.container(str(task))) as ip:
                    assert ip.get_links(ifname="eth1")[0].get("mtu") == NARROW - 50
            assert sink.has(len(BIG), 30), "the same connection"
            pushing.join(5)
    finally:
        sink.close()


def test_a_wide_way_is_found_to_be_wide(bed):
    bed.inside("r", "ip link set r2 mtu 1500")
    for record in asyncio.run(said(bed)).values():
        assert gossip_records.decode_node(record) == (1500, ())
