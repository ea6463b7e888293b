"""What makes a machine of the common image: its name, address and key, and meshnet itself. Pure.

The seed is a tar file on the machine's second disk, unpacked at the first boot. /etc/hosts is as
Vagrant leaves it, with the machine's own name at 127.0.2.1.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from meshnet_control.lab.images import File
from meshnet_control.lab.layout import Layout, Machine
from meshnet_control.lab.vms.recipe import PREFIX

_ETH1: Final = """auto eth1
iface eth1 inet static
      address {address}
      netmask {netmask}
"""


def files(
    layout: Layout, machine: Machine, public_key: str, project: Mapping[str, File]
) -> dict[str, File]:
    """Path without the leading slash → file."""
    name, address = machine.name, machine.address
    others = [other for other in layout.machines if other != machine]
    hosts = ["127.0.0.1\tlocalhost", "127.0.1.1\tbookworm", f"127.0.2.1\t{name}\t{name}"]
    hosts += [f"{other.address.ip}\t{other.name}" for other in others]
    eth1 = _ETH1.format(address=address.ip, netmask=address.network.netmask)
    texts = {
        "etc/hostname": name,
        "etc/mailname": name,
        "etc/hosts": "\n".join(hosts),
        "etc/network/interfaces.d/eth1": eth1.strip(),
        "root/.ssh/authorized_keys": public_key.strip(),
        "home/vagrant/.ssh/authorized_keys": public_key.strip(),
    }
    made = {path: File(f"{text}\n".encode(), 0o644) for path, text in texts.items()}
    made["usr/local/bin/meshnet"] = File(link=f"{PREFIX}/bin/meshnet")
    return {**project, **made}
