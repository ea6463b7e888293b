"""What one host sends another over VXLAN is what the other counts, by who it came from."""

from __future__ import annotations

from contextlib import ExitStack

import pytest
from overlay_bed import NODES, PREFIX, settle, sh, snapshot, two_hosts

from meshnet.kernel.nft import NftOperations, commit
from meshnet.overlay.operations import OverlayOperations
from meshnet_control.node import looking
from meshnet_lb import rules

pytestmark = pytest.mark.netns
TASKS = {11: 1, 21: 2}


@pytest.fixture
def wired(tmp_path):
    """Name: wired; Scope: function. The bed, its hosts' snapshots, and the tables' operations."""
    with two_hosts(tmp_path) as bed, ExitStack() as stack:
        snapshots = {number: snapshot(bed, number, TASKS) for number in (1, 2)}
        tables = {}
        for number, wanted in snapshots.items():
            host = bed.host(number)
            overlay = OverlayOperations(host, bed.netns_dir(number))
            tables[number] = NftOperations([rules.rulesets], host_netns=host)
            for each in (overlay, tables[number]):
                stack.callback(each.close)
                settle(each, wanted)
        yield bed, snapshots, tables


def traffic(bed, snapshots, number):
    return looking.traffic(snapshots[number], bed.netns_dir(number), bed.host(number))


def test_each_host_counts_what_came_from_the_other(wired):
    bed, snapshots, _ = wired
    before = traffic(bed, snapshots, 2)
    (link,) = before.links
    assert link.node == NODES[1]
    assert {each.network for each in before.overlays} == {"net", "ingress"}
    assert bed.pings("c11", "10.0.1.21")
    after = traffic(bed, snapshots, 2)
    assert after.at > before.at
    (now,) = after.links
    assert now.packets == link.packets + 1
    assert now.bytes == link.bytes + 84 + 50, "echo(8) of 56 bytes and RFC 7348's own headers"
    counted = {each.network: each for each in after.overlays}
    assert (counted["net"].received_packets, counted["net"].sent_packets) == (1, 1)
    assert counted["ingress"].received_packets == 0
    assert traffic(bed, snapshots, 1).links[0].packets == 1, "the answer, on the way back"


def test_a_set_that_did_not_count_is_written_anew_and_does(wired):
    bed, snapshots, tables = wired
    host = bed.host(2)
    commit(host, "delete table ip meshnet")
    settle(tables[2], snapshots[2])
    sh(f"nsenter --net={host} nft list set ip meshnet vteps | grep -q counter")
    listed = sh(f"nsenter --net={host} nft list table ip meshnet")
    bare = listed.replace("\t\tcounter\n", "").replace(" counter packets 0 bytes 0", "")
    assert bare.count("vteps {") == 1
    commit(host, f"delete table ip meshnet\n{bare}")
    assert not traffic(bed, snapshots, 2).links
    assert settle(tables[2], snapshots[2]) > 0
    assert bed.pings("c11", "10.0.1.21")
    assert traffic(bed, snapshots, 2).links[0].packets == 1


def test_a_host_without_overlays_has_no_traffic(wired):
    bed, snapshots, _ = wired
    nowhere = f"/run/netns/{PREFIX}-c11"
    found = looking.traffic(snapshots[1], bed.directory / "none", nowhere)
    assert (list(found.links), list(found.overlays)) == ([], [])
