"""The lab's LANs: namespaces, the bridges in one of them, and a cable from one to each machine.

Everything here is addressed by the names of ``layout``; gone already is success, there already is
an error.
"""

from __future__ import annotations

import socket
from contextlib import suppress
from ipaddress import IPv4Interface
from typing import Any

from meshnet.errors import NotFoundError
from meshnet.kernel import netns, sysctl
from meshnet.kernel.iproute import iproute
from meshnet_control.lab.layout import LAN, Layout, Machine, bridge_of, lan_of
from meshnet_control.lab.topology import Lan

_LOOPBACK = 1
"""Index of lo in every namespace."""


def namespaces(layout: Layout) -> frozenset[str]:
    """Members of the lab, the LAN among them, that have a namespace."""
    prefix = f"{layout.name}-"
    return frozenset(name[len(prefix) :] for name in netns.names(netns.NETNS_DIR, prefix))


def lans(layout: Layout) -> dict[str, IPv4Interface | None]:
    """LANs that have a bridge, and the router's address there."""
    with suppress(NotFoundError), iproute(path_of(layout, LAN)) as ip:
        bridges = [name for name, _ in _links(ip).values() if lan_of(name)]
        return {lan_of(name): _address(ip, name) for name in bridges}
    return {}


def ports(layout: Layout) -> dict[str, str]:
    """Ports in the LANs' namespace, and the LAN each is on; empty: on none."""
    with suppress(NotFoundError), iproute(path_of(layout, LAN)) as ip:
        links = _links(ip)
        names = {index: name for index, (name, _) in links.items()}
        return {
            name: lan_of(names.get(master, ""))
            for name, master in links.values()
            if name != "lo" and not lan_of(name)
        }
    return {}


def address(layout: Layout, member: str) -> IPv4Interface | None:
    """The address of a machine's eth0, if it has one."""
    with suppress(NotFoundError), iproute(path_of(layout, member)) as ip:
        return _address(ip, "eth0")
    return None


def path_of(layout: Layout, member: str) -> str:
    """Path of a member's namespace."""
    return str(netns.NETNS_DIR / layout.netns(member))


def make_router(layout: Layout) -> None:
    """Make the LANs' namespace, which routes between them.

    Raises:
        KernelError: the kernel refused; what was made so far stays.
    """
    path = _make_namespace(layout, LAN)
    with netns.inside(path):
        # A new namespace hands bridged frames to the IP hooks; this LAN is only a cable.
        for family in ("ip", "ip6", "arp"):
            with suppress(NotFoundError):  # br_netfilter is not loaded: as good as off
                sysctl.write(f"bridge/bridge-nf-call-{family}tables", "0")
        # A gateway that forwards but knows no way answers "unreachable", so nobody waits.
        sysctl.write("ipv4/ip_forward", "1")


def make_lan(layout: Layout, lan: Lan) -> None:
    """Make a LAN's bridge.

    Raises:
        KernelError: the kernel refused; what was made so far stays.
    """
    with iproute(path_of(layout, LAN)) as ip:
        ip.link("add", ifname=bridge_of(lan.name), kind="bridge", br_forward_delay=0)
        (bridge,) = ip.link_lookup(ifname=bridge_of(lan.name))
        own = lan.gateway
        ip.addr("add", index=bridge, address=str(own.ip), prefixlen=own.network.prefixlen)
        ip.link("set", index=bridge, state="up")


def remove_lan(layout: Layout, lan: str) -> None:
    """Remove a LAN's bridge; its ports stay, on no LAN."""
    with suppress(NotFoundError), iproute(path_of(layout, LAN)) as ip:
        for bridge in ip.link_lookup(ifname=bridge_of(lan)):
            ip.link("del", index=bridge)


def connect(layout: Layout, machine: Machine) -> None:
    """Make a machine's namespace and its cable to the LAN.

    Raises:
        KernelError: the kernel refused; what was made so far stays.
    """
    path = _make_namespace(layout, machine.name)
    with iproute(path) as ip:
        peer = {"ifname": machine.name, "net_ns_fd": path_of(layout, LAN)}
        ip.link("add", ifname="eth0", kind="veth", address=machine.mac, peer=peer)
        (eth0,) = ip.link_lookup(ifname="eth0")
        own = machine.address
        ip.addr("add", index=eth0, address=str(own.ip), prefixlen=own.network.prefixlen)
        ip.link("set", index=eth0, state="up")
        ip.route("add", dst="default", gateway=str(layout.lan(machine.lan).gateway.ip))
    with iproute(path_of(layout, LAN)) as ip:
        _plug(ip, machine)


def lan_path(layout: Layout) -> str:
    """Path of the LAN's namespace."""
    return path_of(layout, LAN)


def plug_tap(layout: Layout, machine: Machine) -> None:
    """Make the machine's port a tap, the cable of a virtual machine.

    Raises:
        KernelError: the kernel refused.
    """
    # pyroute2 makes a tap where its thread is, whatever namespace its socket is in.
    with netns.inside(path_of(layout, LAN)), iproute() as ip:
        ip.link("add", ifname=machine.name, kind="tuntap", mode="tap")
        _plug(ip, machine)


def disconnect(layout: Layout, member: str) -> None:
    """Remove a member's namespace, and its port of the LAN, which is usually gone with its peer."""
    netns.delete(netns.NETNS_DIR / layout.netns(member))
    with suppress(NotFoundError), iproute(path_of(layout, LAN)) as ip:
        for port in ip.link_lookup(ifname=member):
            ip.link("del", index=port)


def remove_router(layout: Layout) -> None:
    """Remove the LANs' namespace and everything in it."""
    netns.delete(netns.NETNS_DIR / layout.netns(LAN))


def _plug(ip: Any, machine: Machine) -> None:  # noqa: ANN401 - pyroute2
    names = (machine.name, bridge_of(machine.lan))
    (port,), (bridge,) = (ip.link_lookup(ifname=name) for name in names)
    ip.link("set", index=port, master=bridge, state="up")


def _links(ip: Any) -> dict[int, tuple[str, int]]:  # noqa: ANN401 - pyroute2
    """Index -> name and the index of its master, 0 where it has none."""
    return {link["index"]: (link.get("ifname"), link.get("master") or 0) for link in ip.get_links()}


def _address(ip: Any, name: str) -> IPv4Interface | None:  # noqa: ANN401 - pyroute2
    for index in ip.link_lookup(ifname=name):
        for found in ip.get_addr(index=index, family=socket.AF_INET):
            return IPv4Interface((found.get("address"), found["prefixlen"]))
    return None


def _make_namespace(layout: Layout, member: str) -> str:
    path = netns.NETNS_DIR / layout.netns(member)
    netns.create(path)
    with iproute(str(path)) as ip:
        ip.link("set", index=_LOOPBACK, state="up")
    return str(path)
