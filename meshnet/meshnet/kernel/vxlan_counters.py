"""What came over VXLAN from each host, and through each overlay; read, and nothing changed.

The host's table looks each VXLAN packet's source up in the set of the other nodes' VTEPs before it
takes it; an element of that set counts its packets (``meshnet_lb.ingress``, nft(8) "counter" of a
set). So what one host sent to another is what the other counted: what was lost on the way is not
in it. Bytes are those of outer packets, with their IP headers. How much of it is whose network's is
what the kernel counts of each network's VXLAN interface.

Be aware: moves the calling thread (``netns.inside``). A count begins at 0 with its element, and
when a table is written anew.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from meshnet.errors import KernelError
from meshnet.kernel import net_dev, netns
from meshnet.kernel.libnftables import Libnftables
from meshnet.kernel.netns import identity_of
from meshnet.kernel.nft import HOST

_NET_DEV: Final = Path("/proc/thread-self/net/dev")


@dataclass(frozen=True, slots=True)
class Counted:
    """Of one VTEP."""

    packets: int
    bytes: int


def of_vteps(set_name: str, host_netns: str = HOST) -> dict[str, Counted]:
    """Address of a VTEP -> what came from there; none while there is no such set.

    Args:
        set_name: of ``table ip meshnet``.
        host_netns: path of the host's namespace.

    Raises:
        KernelError: the namespace cannot be entered.
    """
    identity = identity_of(host_netns)
    if identity is None:
        return {}
    library = Libnftables()
    try:
        code, listed, _ = library.run(identity, host_netns, f"list set ip meshnet {set_name}")
    finally:
        library.close()
    return {} if code else parse(listed)


def parse(listing: str) -> dict[str, Counted]:
    """The same of nft's JSON (libnftables-json(5)); an element that does not count is left out."""
    found: dict[str, Counted] = {}
    for entry in json.loads(listing)["nftables"]:
        for element in entry.get("set", {}).get("elem", ()):
            said = element.get("elem", {}) if isinstance(element, dict) else {}
            if "counter" in said:
                counter = said["counter"]
                found[str(said["val"])] = Counted(int(counter["packets"]), int(counter["bytes"]))
    return found


def of_interface(path: str, name: str) -> net_dev.Traffic | None:
    """What went through an interface of the namespace ``path``; None: it is not there.

    Raises:
        KernelError: the namespace cannot be entered.
    """
    try:
        with netns.inside(path):
            text = _NET_DEV.read_text()
    except OSError as error:
        raise KernelError("read", f"counters of {path}", error.errno or 0) from error
    return net_dev.parse(text).get(name)
