"""The adapter that hears what a machine of a lab sends and receives, and asks what it is called.

A packet socket (packet(7)) is opened in the machine's namespace and used from outside; of a virtual
machine, at its port of the LAN.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Generator
from contextlib import closing
from dataclasses import replace
from typing import Final

from meshnet.errors import MeshnetError
from meshnet.kernel import netns
from meshnet_control.lab import cables, hearsay, packets
from meshnet_control.lab.errors import LabError
from meshnet_control.lab.lab import Lab
from meshnet_control.lab.packets import Names

_ALL: Final = 0x0003
"""ETH_P_ALL of linux/if_ether.h."""
_LARGEST: Final = 1 << 18
_BUFFER: Final = 8 << 20


def frames(lab: Lab, machine: str, interface: str) -> Generator[tuple[float, bytes], None, None]:
    """What passes an interface from now on: when, by the wall clock, and the frame.

    Raises:
        LabError: there is no such interface.
    """
    lab.layout.machine(machine)
    path, port = cables.path_of(lab.layout, machine), interface
    if lab.has_vms and lab.layout.machine(machine).is_host:
        if interface != "eth0":
            raise LabError(f"of a virtual machine its cable alone can be heard: {machine}")
        path, port = cables.lan_path(lab.layout), machine
    with closing(_opened(path, machine, port)) as heard:
        while True:
            frame = heard.recv(_LARGEST)
            yield time.time(), frame


def _opened(path: str, machine: str, port: str) -> socket.socket:
    try:
        with netns.inside(path):
            made = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ALL))
    except MeshnetError:
        raise LabError(f"{machine} is not running") from None
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER)
        made.bind((port, _ALL))
    except OSError:
        made.close()
        raise LabError(
            f"{machine} has no interface {port!r}: meshnet lab exec {machine} ip link"
        ) from None
    return made


def names(lab: Lab) -> Names:
    """What the lab's machines, networks and endpoints are called now, as its hosts say."""
    machines = {str(machine.address.ip): machine.name for machine in lab.layout.machines}
    gateways = {str(lan.gateway.ip): "router" for lan in lab.layout.lans}
    told = hearsay.ask(lab).values()
    found = packets.overlays(network for each in told for network in each.networks)
    return replace(found, machines={**machines, **gateways})
