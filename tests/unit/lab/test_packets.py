"""Frames as lines: what is in them, and what it is called."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.dns import DNS, DNSQR
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.l2 import ARP, Ether
from scapy.layers.vxlan import VXLAN
from scapy.utils import rdpcap

from meshnet_control.lab import packets
from meshnet_control.lab.packets import Decoder, Names

DECODER = Decoder()
NAMES = Names(
    {"192.168.50.11": "h1", "192.168.50.12": "h2"},
    {4097: "shop", 4098: "other"},
    {("shop", "10.0.1.3"): "web.1", ("shop", "10.0.1.2"): "web (VIP)", ("other", "10.0.1.9"): "x"},
)
ETHER = Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02")
OUTER = ETHER / IP(src="192.168.50.11", dst="192.168.50.12")


def wrapped(inner, vni: int = 4097):
    return OUTER / UDP(sport=50_000, dport=4789) / VXLAN(vni=vni) / ETHER / inner


LINES = [
    (wrapped(IP(src="10.0.1.9", dst="10.0.1.3") / TCP(sport=4000, dport=80, flags="S")),
     "h1 → h2  VXLAN 4097 shop  10.0.1.9 → 10.0.1.3 web.1  TCP 4000 → 80 [S]"),
    (wrapped(IP(src="10.0.1.3", dst="10.0.1.9") / TCP(sport=80, dport=4000, flags="PA") / b"four"),
     "h1 → h2  VXLAN 4097 shop  10.0.1.3 web.1 → 10.0.1.9  TCP 80 → 4000 [PA] 4 bytes"),
    (wrapped(IP(src="10.9.0.1", dst="10.9.0.2") / ICMP(), vni=9),
     "h1 → h2  VXLAN 9 ?  10.9.0.1 → 10.9.0.2  ICMP echo-request"),
    (wrapped(ARP(psrc="10.0.1.3", pdst="10.0.1.2")),
     "h1 → h2  VXLAN 4097 shop  10.0.1.3 web.1  ARP who has 10.0.1.2 web (VIP)?"),
    (OUTER / UDP(sport=7946, dport=7946) / b"abc", "h1 → h2  UDP 7946 → 7946 3 bytes"),
    (OUTER / TCP(sport=2377, dport=9999, flags="A"), "h1 → h2  TCP 2377 → 9999 [A]"),
    (OUTER / UDP(sport=5, dport=53) / DNS(qd=DNSQR(qname="web")), "h1 → h2  DNS Qry b'web.'"),
    (ETHER / IP(src="1.2.3.4", dst="192.168.50.12", frag=3, proto=17) / b"xxxxxxxx",
     "1.2.3.4 → h2  fragment at 24"),
    (ETHER / IP(src="1.2.3.4", dst="192.168.50.12", proto=89) / b"x", "1.2.3.4 → h2  protocol 89"),
]  # fmt: skip


@pytest.mark.parametrize(("frame", "line"), LINES)
def test_a_frame_is_a_line(frame, line):
    assert DECODER.line(bytes(frame), NAMES) == line


@given(st.binary(max_size=200), st.integers(0, 99))
def test_no_frame_is_too_strange_for_a_line(garbage, cut):
    whole = bytes(LINES[0][0])
    for frame in (garbage, whole[:cut] + garbage):
        assert "\n" not in DECODER.line(frame, NAMES)


def test_words_choose():
    line = "h1 → h2  VXLAN 4097 shop  10.0.1.9 → 10.0.1.3 web.1  TCP 4000 → 80 [S]"
    assert packets.wanted(line, ())
    assert packets.wanted(line, ("vxlan", "WEB.1", "!7946"))
    assert not packets.wanted(line, ("vxlan", "web.2"))
    assert not packets.wanted(line, ("!shop",))


def test_names_are_what_docker_prints():
    task = "web.1." + "3iu3hmx2glgepudr5fz691wcd"
    found = packets.overlays([
        {
            "Name": "shop",
            "Options": {"com.docker.network.driver.overlay.vxlanid_list": "4097"},
            "Containers": {"09e0": {"Name": "mine", "IPv4Address": "10.0.1.9/24"}},
            "Services": {
                "web": {"VIP": "10.0.1.2", "Tasks": [{"Name": task, "EndpointIP": "10.0.1.3"}]},
                "rr": {"VIP": "", "Tasks": None},
            },
        },
        {"Name": "idle", "Options": None, "Containers": None, "Services": None},
    ])  # fmt: skip
    assert found.networks == {4097: "shop"}
    assert found.endpoints == {
        ("shop", "10.0.1.9"): "mine",
        ("shop", "10.0.1.2"): "web (VIP)",
        ("shop", "10.0.1.3"): "web.1",
    }


def test_what_is_written_is_read_by_others(tmp_path):
    writer = packets.writer(tmp_path / "f.pcap")
    writer.write_packet(bytes(LINES[0][0]), sec=1_700_000_000, usec=5)
    writer.close()
    (read,) = rdpcap(str(tmp_path / "f.pcap"))
    assert bytes(read) == bytes(LINES[0][0])
    assert float(read.time) == pytest.approx(1_700_000_000.000005)
