"""Frames for people: who sent what to whom, through which overlay. scapy takes them apart.

    h1 → h3  VXLAN 4097 shop  10.0.1.6 tools.1 → 10.0.1.4 web.2  TCP 40212 → 80 [S]

Be aware: scapy is an extra of this package, as hosts do not need it, and takes a second to load.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from meshnet_control.lab.errors import LabError

VXLAN_PORT: Final = 4789
_HEAD: Final = 14
"""Bytes of a frame of Ethernet that carries nothing."""


@dataclass(frozen=True, slots=True)
class Names:
    """What addresses and VNIs are called.

    Attributes:
        machines: address on a LAN -> machine.
        networks: VNI -> overlay network.
        endpoints: (network, address there) -> task, container or VIP.
    """

    machines: Mapping[str, str] = field(default_factory=dict)
    networks: Mapping[int, str] = field(default_factory=dict)
    endpoints: Mapping[tuple[str, str], str] = field(default_factory=dict)


class Decoder:
    """Frames to lines.

    Raises:
        LabError: scapy is not installed.
    """

    def __init__(self) -> None:
        try:
            from scapy.layers import dns, inet, l2, vxlan  # noqa: PLC0415 - an extra, a second
        except ImportError:
            raise LabError(
                "packets are taken apart by scapy, which is not installed: pip install "
                "'meshnet[lab]'"
            ) from None
        self._l2, self._inet, self._vxlan, self._dns = l2, inet, vxlan, dns

    def line(self, frame: bytes, names: Names) -> str:
        """One frame of Ethernet as one line; whatever it is."""
        if len(frame) < _HEAD:
            return f"{len(frame)} bytes, which are no frame"
        outer = self._l2.Ether(frame)
        wrapped = outer.getlayer(self._vxlan.VXLAN)
        if wrapped is None or outer[self._inet.UDP].dport != VXLAN_PORT:
            return self._told(outer, lambda address: names.machines.get(address, address))
        vni = int(wrapped.vni)
        network = names.networks.get(vni, "?")
        ip = outer[self._inet.IP]
        ends = " → ".join(names.machines.get(each, each) for each in (ip.src, ip.dst))

        def called(address: str) -> str:
            name = names.endpoints.get((network, address))
            return f"{address} {name}" if name else address

        return f"{ends}  VXLAN {vni} {network}  {self._told(wrapped.payload, called)}"

    def _told(self, frame: Any, called: Callable[[str], str]) -> str:  # noqa: ANN401 - scapy's
        if (arp := frame.getlayer(self._l2.ARP)) is not None:
            asks = f"who has {called(str(arp.pdst))}?"
            answers = f"{called(str(arp.psrc))} is at {arp.hwsrc}"
            return f"{called(str(arp.psrc))}  ARP {asks if arp.op == 1 else answers}"
        if (ip := frame.getlayer(self._inet.IP)) is not None:
            return f"{called(ip.src)} → {called(ip.dst)}  {self._carried(ip)}"
        what = " ".join(frame.lastlayer().summary().split())
        return f"{frame.fields.get('src', '?')} → {frame.fields.get('dst', '?')}  {what}"

    def _carried(self, ip: Any) -> str:  # noqa: ANN401 - scapy's
        inet, said = self._inet, f"protocol {ip.proto}"
        if ip.frag:
            said = f"fragment at {ip.frag * 8}"
        elif (tcp := ip.getlayer(inet.TCP)) is not None:
            size = len(tcp.payload)
            more = f" {size} bytes" if size else ""
            said = f"TCP {tcp.sport} → {tcp.dport} [{tcp.flags}]{more}"
        elif (asked := ip.getlayer(self._dns.DNS)) is not None:
            said = " ".join(asked.summary().split())
        elif (udp := ip.getlayer(inet.UDP)) is not None:
            said = f"UDP {udp.sport} → {udp.dport} {len(udp.payload)} bytes"
        elif (icmp := ip.getlayer(inet.ICMP)) is not None:
            said = f"ICMP {icmp.sprintf('%ICMP.type%')}"
        return said


def writer(path: Path) -> Any:  # noqa: ANN401 - scapy's
    """A pcap file of frames of Ethernet, each there as soon as it is written."""
    from scapy.utils import RawPcapWriter  # noqa: PLC0415 - an extra, a second

    made = RawPcapWriter(str(path), linktype=1, sync=True)
    made.write_header(None)
    return made


def wanted(line: str, words: tuple[str, ...]) -> bool:
    """Whether a line has each word, and none of those that begin with ``!``. Pure."""
    low = line.lower()
    return all(
        word[1:].lower() not in low if word.startswith("!") else word.lower() in low
        for word in words
    )


def overlays(inspected: Iterable[Mapping[str, Any]]) -> Names:
    """Networks and endpoints, of what ``docker network inspect --verbose`` prints. Pure."""
    networks: dict[int, str] = {}
    endpoints: dict[tuple[str, str], str] = {}
    for network in inspected:
        name = network["Name"]
        if vni := vni_of(network):
            networks[vni] = name
        for each in (network.get("Containers") or {}).values():
            endpoints[name, each["IPv4Address"].partition("/")[0]] = endpoint_name(each["Name"])
        for service, said in (network.get("Services") or {}).items():
            if said.get("VIP"):
                endpoints[name, said["VIP"]] = f"{service} (VIP)"
            for task in said.get("Tasks") or []:
                endpoints[name, task["EndpointIP"]] = endpoint_name(task["Name"])
    return Names({}, networks, endpoints)


def vni_of(network: Mapping[str, Any]) -> int:
    """The VNI of a network as Docker tells of it; 0: it does not. Pure."""
    options = network.get("Options") or {}
    return int(options.get("com.docker.network.driver.overlay.vxlanid_list") or 0)


def endpoint_name(name: str) -> str:
    """A container's name; a task's without its id. Pure."""
    head, _, last = name.rpartition(".")
    return head if head and len(last) == 25 else name  # noqa: PLR2004 - letters of an id
