"""What conntrack counts in a container's namespace, read back as ``meshnet lb`` shows it."""

from __future__ import annotations

import time

import pytest

from meshnet.kernel import flow_reader
from meshnet.kernel.nft import commit

pytestmark = pytest.mark.netns
WITHIN_S = 10.0


def test_flows_are_read_with_what_they_counted(bed):
    caller, server = bed.namespace("caller"), bed.namespace("server")
    bed.veth(caller, "eth0", server, "eth0")
    bed.run(f"ip -n {caller} addr add 10.0.1.1/24 dev eth0")
    bed.run(f"ip -n {server} addr add 10.0.1.9/24 dev eth0")
    path = bed.path(caller)
    commit(
        path,
        "add table ip t; add chain ip t out { type nat hook output priority -100; }; "
        "add rule ip t out ip daddr 10.0.1.200 dnat to 10.0.1.9",
    )
    bed.sysctl(caller, "net.netfilter.nf_conntrack_acct=1")
    assert flow_reader.flows([path, "/run/netns/none"]) == ({path: []}, [])
    bed.server(server, 9000, "hello")
    with bed.socket(caller, "10.0.1.200", 9000) as asking:
        asking.sendall(b"?")
        asking.recv(200)
        (flow,) = flow_reader.flows([path])[0][path]
        assert (flow.asked, flow.backend, flow.port) == ("10.0.1.200", "10.0.1.9", 9000)
        assert flow.packets >= 3
        assert flow.octets > 3 * 40
    until = time.monotonic() + WITHIN_S
    while not all(each.ended for each in flow_reader.flows([path])[0][path]):
        assert time.monotonic() < until
        time.sleep(0.05)
