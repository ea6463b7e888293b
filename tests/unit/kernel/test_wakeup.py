"""What makes a client speak that only waits."""

from __future__ import annotations

from ipaddress import ip_address

from hypothesis import given
from hypothesis import strategies as some
from scapy.layers.inet import IP, TCP
from scapy.layers.inet6 import IPv6

from meshnet.kernel.wakeup import segment
from meshnet.nft.flows import Flow

FAMILIES = {4: IP, 6: IPv6}
FOUR, SIX = some.ip_addresses(v=4).map(str), some.ip_addresses(v=6).map(str)
ENDS = some.tuples(FOUR, FOUR, some.just(4)) | some.tuples(SIX, SIX, some.just(6))
PORTS = some.integers(1, 65535)


@given(ENDS, PORTS, PORTS)
def test_it_comes_from_whom_the_client_asked_and_is_whole(ends, client_port, port):
    client, asked, version = ends
    flow = Flow("tcp", client, asked, port, "10.0.1.2", client, source_port=client_port)
    made = FAMILIES[version](segment(flow))
    ends = ip_address(made.src), ip_address(made.dst)
    assert ends == (ip_address(asked), ip_address(client))
    assert (made[TCP].sport, made[TCP].dport) == (port, client_port)
    assert str(made[TCP].flags) == "FS"
    said = made[TCP].chksum
    del made[TCP].chksum
    if version == 4:
        del made.len
    assert FAMILIES[version](bytes(made))[TCP].chksum == said
