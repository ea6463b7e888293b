"""What makes a client speak that only waits."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as some
from scapy.layers.inet import IP, TCP

from meshnet.kernel.wakeup import segment
from meshnet.nft.flows import Flow

ADDRESSES = some.ip_addresses(v=4).map(str)
PORTS = some.integers(1, 65535)


@given(ADDRESSES, PORTS, ADDRESSES, PORTS)
def test_it_comes_from_whom_the_client_asked_and_is_whole(client, client_port, asked, port):
    flow = Flow("tcp", client, asked, port, "10.0.1.2", client, source_port=client_port)
    made = IP(segment(flow))
    assert (made.src, made[TCP].sport, made.dst, made[TCP].dport) == (
        asked,
        port,
        client,
        client_port,
    )
    assert str(made[TCP].flags) == "FS"
    said = made[TCP].chksum
    del made[TCP].chksum, made.len
    assert IP(bytes(made))[TCP].chksum == said
