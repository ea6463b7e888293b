"""The lab's LAN: namespaces, the bridge in one of them, and a cable from it to each machine.

Everything here is addressed by the names of ``layout``; gone already is success, there already is
an error.
"""

from __future__ import annotations

from contextlib import suppress

from meshnet.errors import NotFoundError
from meshnet.kernel import netns, nft, sysctl
from meshnet.kernel.iproute import iproute, link_names
from meshnet_control.lab.layout import LAN, Layout, Machine

BRIDGE = "br0"
_LOOPBACK = 1
"""Index of lo in every namespace."""
_CUT = """add table bridge meshnet_lab
add set bridge meshnet_lab cut {{ type ether_addr . ether_addr; }}
add chain bridge meshnet_lab forward {{ type filter hook forward priority 0; }}
flush chain bridge meshnet_lab forward
add rule bridge meshnet_lab forward ether saddr . ether daddr @cut drop
add element bridge meshnet_lab cut {{ {both} }}
"""


def namespaces(layout: Layout) -> frozenset[str]:
    """Members of the lab, the LAN among them, that have a namespace."""
    prefix = f"{layout.name}-"
    return frozenset(name[len(prefix) :] for name in netns.names(netns.NETNS_DIR, prefix))


def lan_links(layout: Layout) -> frozenset[str]:
    """Links in the LAN's namespace; none when it is not there."""
    with suppress(NotFoundError):
        return frozenset(link_names(path_of(layout, LAN)))
    return frozenset()


def path_of(layout: Layout, member: str) -> str:
    """Path of a member's namespace."""
    return str(netns.NETNS_DIR / layout.netns(member))


def make_lan(layout: Layout) -> None:
    """Make the LAN's namespace with its bridge.

    Raises:
        KernelError: the kernel refused; what was made so far stays.
    """
    path = _make_namespace(layout, LAN)
    with iproute(path) as ip:
        ip.link("add", ifname=BRIDGE, kind="bridge", br_forward_delay=0)
        (bridge,) = ip.link_lookup(ifname=BRIDGE)
        gateway = layout.gateway
        ip.addr("add", index=bridge, address=str(gateway.ip), prefixlen=gateway.network.prefixlen)
        ip.link("set", index=bridge, state="up")
    with netns.inside(path):
        # A new namespace hands bridged frames to the IP hooks; this LAN is only a cable.
        for family in ("ip", "ip6", "arp"):
            with suppress(NotFoundError):  # br_netfilter is not loaded: as good as off
                sysctl.write(f"bridge/bridge-nf-call-{family}tables", "0")
        # A gateway that forwards but knows no way answers "unreachable", so nobody waits.
        sysctl.write("ipv4/ip_forward", "1")


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
        ip.route("add", dst="default", gateway=str(layout.gateway.ip))
    with iproute(path_of(layout, LAN)) as ip:
        (port,), (bridge,) = (ip.link_lookup(ifname=name) for name in (machine.name, BRIDGE))
        ip.link("set", index=port, master=bridge, state="up")


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
        (port,), (bridge,) = (ip.link_lookup(ifname=name) for name in (machine.name, BRIDGE))
        ip.link("set", index=port, master=bridge, state="up")


def disconnect(layout: Layout, member: str) -> None:
    """Remove a member's namespace, and its port of the LAN, which is usually gone with its peer."""
    netns.delete(netns.NETNS_DIR / layout.netns(member))
    with suppress(NotFoundError), iproute(path_of(layout, LAN)) as ip:
        for port in ip.link_lookup(ifname=member):
            ip.link("del", index=port)


def remove_lan(layout: Layout) -> None:
    """Remove the LAN's namespace and everything in it."""
    netns.delete(netns.NETNS_DIR / layout.netns(LAN))


def cut(layout: Layout, one: Machine, other: Machine, *, heal: bool) -> None:
    """Drop what two machines send each other, or let it pass again. Idempotent.

    Raises:
        NotFoundError: there is no LAN.
    """
    both = f"{one.mac} . {other.mac}, {other.mac} . {one.mac}"
    text = _CUT.format(both=both)
    if heal:  # an element must be there to be deleted
        text += f"delete element bridge meshnet_lab cut {{ {both} }}\n"
    nft.commit(path_of(layout, LAN), text)


def _make_namespace(layout: Layout, member: str) -> str:
    path = netns.NETNS_DIR / layout.netns(member)
    netns.create(path)
    with iproute(str(path)) as ip:
        ip.link("set", index=_LOOPBACK, state="up")
    return str(path)
