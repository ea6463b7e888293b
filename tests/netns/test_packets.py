"""What goes over the wire between two hosts, and what may come in from it, packet by packet."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack, closing
from ipaddress import IPv4Address
from pathlib import Path

import pytest
from overlay_bed import INGRESS, NET, VNI, OverlayBed, settle, snapshot, two_hosts
from scapy.config import conf
from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import ARP, Ether
from scapy.layers.vxlan import VXLAN
from scapy.packet import Raw
from scapy.sendrecv import sniff

from meshnet.kernel import netns
from meshnet.kernel.iproute import iproute
from meshnet.kernel.nft import NftOperations
from meshnet.model.ids import mac_of as mac_of_address
from meshnet.overlay.operations import OverlayOperations
from meshnet_lb.rules import rulesets

pytestmark = pytest.mark.netns

WAIT_S = 3
"""For one packet that must come."""
TASKS = {11: 1, 21: 2}
PORT = 7777
VALID = 0x08
"""VXLAN's flag I: there is a VNI."""
HERE, THERE = "10.0.1.11", "10.0.1.21"


def mac_of(address):
    return str(mac_of_address(IPv4Address(address)))


def vxlan(network, *, flags=VALID):
    return VXLAN(vni=VNI[network], flags=flags)


class Tap:
    """scapy's socket on one link of one namespace; it hears from its construction on."""

    def __init__(self, path, link):
        with netns.inside(path):
            conf.ifaces.reload()  # scapy knows the links of the namespace that it was loaded in
            self._socket = conf.L2socket(iface=link)

    def close(self):
        self._socket.close()

    def send(self, packet):
        self._socket.send(packet)

    def until(self, matches):
        """All packets up to the first that matches, sent or received."""
        heard = sniff(opened_socket=self._socket, stop_filter=matches, timeout=WAIT_S)
        assert heard, "no packet at all"
        assert matches(heard[-1]), "no such packet"
        return heard

    def first(self, matches):
        """The first packet that matches."""
        return self.until(matches)[-1]


class Wire:
    """Host 1 with a container, and the wire to host 2, from which anything may be sent to it."""

    def __init__(self, bed: OverlayBed, stack: ExitStack):
        self.bed, self._stack = bed, stack
        self.underlay = self.tap(bed.host(2), "u")
        with iproute(bed.host(1)) as ip:
            (link,) = ip.get_links(ifname="u")
            self.mac = link.get("address")

    def tap(self, path, link):
        return self._stack.enter_context(closing(Tap(path, link)))

    def socket(self, name, address=""):
        """A UDP socket in a container."""
        with netns.inside(self.bed.container(name)):
            made = self._stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        made.settimeout(WAIT_S)
        made.bind((address, PORT))
        return made

    def outer(self, *, source="10.99.0.2"):
        """What carries a frame to host 1, up to the VXLAN header."""
        ports = UDP(sport=50000, dport=4789, chksum=0)
        return Ether(dst=self.mac) / IP(src=source, dst="10.99.0.1") / ports

    def inner(self, says, *, source=THERE):
        """A frame from the container on host 2 to that on host 1 (or from who is not there)."""
        frame = Ether(src=mac_of(source), dst=mac_of(HERE))
        return frame / IP(src=source, dst=HERE) / UDP(sport=PORT, dport=PORT) / Raw(says)


@pytest.fixture
def wire(tmp_path: Path) -> Iterator[Wire]:
    """
    Name: wire; Scope: function; Depends: root.

    Two hosts with one container each, wired and with the balancer's rules, and their wire.
    """
    with ExitStack() as stack:
        bed = stack.enter_context(two_hosts(tmp_path))
        for number in (1, 2):
            overlay = OverlayOperations(bed.host(number), bed.netns_dir(number))
            stack.callback(overlay.close)
            rules = NftOperations([rulesets], host_netns=bed.host(number))
            stack.callback(rules.close)
            for operations in (overlay, rules):
                settle(operations, snapshot(bed, number, TASKS))
        yield Wire(bed, stack)


@pytest.mark.parametrize(
    ("network", "here", "there"),
    [(NET, HERE, THERE), (INGRESS, "10.0.0.11", "10.0.0.21")],
    ids=["overlay", "ingress"],
)
def test_a_packet_between_hosts_says_its_network_and_both_pairs_of_addresses(
    wire, network, here, there
):
    wire.socket("11", here).sendto(b"hello", (there, PORT))
    packet = wire.underlay.first(lambda packet: Raw in packet and packet[Raw].load == b"hello")
    outer, header = packet[IP], packet[VXLAN]
    assert (outer.src, outer.dst) == ("10.99.0.1", "10.99.0.2")
    assert (packet[UDP].dport, packet[UDP].chksum) == (4789, 0), "no outer checksum"
    assert (header.vni, int(header.flags)) == (VNI[network], VALID)
    frame = header[Ether]
    assert (frame.src, frame.dst) == (mac_of(here), mac_of(there))
    assert (frame[IP].src, frame[IP].dst, frame[IP].ttl) == (here, there, 64)


def test_flows_between_the_same_hosts_differ_in_the_outer_port(wire):
    """Routers and network cards spread flows by it (RFC 7348 section 5)."""
    ports = set()
    with netns.inside(wire.bed.container("11")):
        flows = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(16)]
    for number, flow in enumerate(flows):
        with flow:
            flow.sendto(b"%d" % number, (THERE, PORT))
            said = b"%d" % number
            packet = wire.underlay.first(lambda p, said=said: VXLAN in p and p[Raw].load == said)
            ports.add(packet[UDP].sport)
    assert len(ports) > 8


def test_arp_for_a_container_elsewhere_is_answered_at_home(wire):
    with closing(Tap(wire.bed.container("11"), "eth1")) as eth1:
        wire.socket("11").sendto(b"first", (THERE, PORT))
        answer = eth1.first(lambda packet: ARP in packet and packet[ARP].op == 2)
    assert (answer[ARP].psrc, answer[ARP].hwsrc) == (THERE, mac_of(THERE))
    assert (answer[ARP].pdst, answer[ARP].hwdst) == (HERE, mac_of(HERE))
    seen = wire.underlay.until(lambda p: Raw in p and p[Raw].load == b"first")
    assert not [packet for packet in seen if VXLAN in packet and ARP in packet[VXLAN]]


@pytest.mark.parametrize(
    ("mac", "address"),
    [
        ("ff:ff:ff:ff:ff:ff", "10.0.1.255"),
        ("01:00:5e:00:00:fb", "224.0.0.251"),
        (mac_of("10.0.1.99"), "10.0.1.99"),
    ],
    ids=["broadcast", "multicast", "unknown"],
)
def test_what_is_for_everybody_or_nobody_stays_at_home(wire, mac, address):
    eth1 = wire.tap(wire.bed.container("11"), "eth1")
    question = ARP(psrc=HERE, hwsrc=mac_of(HERE), pdst="10.0.1.99")
    frame = Ether(src=mac_of(HERE), dst=mac) / IP(src=HERE, dst=address)
    eth1.send(frame / UDP(sport=PORT, dport=PORT) / Raw(b"stray"))
    eth1.send(Ether(src=mac_of(HERE), dst="ff:ff:ff:ff:ff:ff") / question)
    wire.socket("11").sendto(b"last", (THERE, PORT))
    seen = wire.underlay.until(lambda p: Raw in p and p[Raw].load == b"last")
    inner = [packet[VXLAN][Ether] for packet in seen if VXLAN in packet]
    assert [(frame.dst, frame[Raw].load) for frame in inner] == [(mac_of(THERE), b"last")]


def _bad(wire):
    """What is wrong with it -> the packet."""
    outer, good = wire.outer(), vxlan(NET)
    whole = bytes(wire.inner(b"cut off"))
    return {
        "no valid VNI (flag I is 0)": outer / vxlan(NET, flags=0) / wire.inner(b"flags"),
        "unknown flags": outer / vxlan(NET, flags=0x88) / wire.inner(b"unknown"),
        "another format (GPE)": outer / vxlan(NET, flags=0x0C) / wire.inner(b"gpe"),
        "another network's VNI": outer / vxlan(INGRESS) / wire.inner(b"ingress"),
        "nobody's VNI": outer / VXLAN(vni=99, flags=VALID) / wire.inner(b"vni"),
        "no frame": outer / good,
        "half an Ethernet header": outer / good / Raw(whole[:8]),
        "half an IP header": outer / good / Raw(whole[:24]),
        "half a datagram": outer / good / Raw(whole[:-4]),
        "half a VXLAN header": outer / Raw(bytes(good)[:5]),
        "garbage": outer / Raw(bytes(range(200))),
        "from an address that is no VTEP": (
            wire.outer(source="10.99.0.77") / good / wire.inner(b"stranger")
        ),
    }


def test_malformed_vxlan_reaches_no_container(wire):
    hears = wire.socket("11")
    for what, packet in _bad(wire).items():
        wire.underlay.send(packet)
        wire.underlay.send(wire.outer() / vxlan(NET) / wire.inner(b"good"))
        assert hears.recv(100) == b"good", what
