"""Which labs there are on this machine, whole, broken or half made."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from meshnet.kernel import netns
from meshnet_control.lab import adapter, cables
from meshnet_control.lab.layout import LAN, Layout, is_name
from meshnet_control.lab.topology import CLIENT
from meshnet_control.lab.vms.hosts import MARKER as VM_MARKER


def names(layout: Layout) -> list[str]:
    """Names of all labs of which anything is there: files, processes or LANs.

    Args:
        layout: where labs have their files.
    """
    roots = (layout.run_root, layout.state_root)
    files = [path.name for root in roots if root.is_dir() for path in root.iterdir()]
    markers = [adapter.MARKER, VM_MARKER]
    processes = [name for marker in markers for name in _marked(marker)]
    spaces = candidates(netns.names(netns.NETNS_DIR, ""))
    lans = [name for name in spaces if cables.lans(replace(layout, name=name))]
    return sorted({name for name in (*files, *processes, *lans) if is_name(name)})


def candidates(spaces: Iterable[str]) -> set[str]:
    """Labs that namespaces may be of: those with one for their LANs or their client. Pure."""
    found = set()
    for space in spaces:
        name, _, member = space.rpartition("-")
        if member in {LAN, CLIENT} and is_name(name):
            found.add(name)
    return found


def _marked(variable: str) -> Iterable[str]:
    prefix = f"{variable}=".encode()
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            settings = (entry / "environ").read_bytes().split(b"\0")
        except OSError:
            continue  # it has ended, or is not ours to read
        for setting in settings:
            if setting.startswith(prefix):
                yield setting[len(prefix) :].decode(errors="replace").partition("/")[0]
