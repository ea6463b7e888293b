"""Which of the kernel's objects a task waits for, and which a peer's endpoints are chosen in. Pure.

A failure says what it happened to (``MeshnetError.about``). A task's program starts when its own
namespace and the networks under it are whole, whatever else is broken on the host; a peer's
withdrawal is acknowledged when nothing here can choose its endpoints any more, whatever else is.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set
from pathlib import Path

from meshnet.errors import KernelObject
from meshnet.gwbridge.desired import port_name
from meshnet.model.ids import NetworkId, NodeId
from meshnet.model.snapshot import Sandbox, Snapshot
from meshnet.overlay.desired import BRIDGE, VXLAN, netns_name, veth_name
from meshnet.reconcile import Concerns


def of_sandbox(sandbox: Sandbox, netns_dir: Path) -> Concerns:
    """What a container needs: its namespace, and of others only what it is tied to.

    Its end on a network is its concern also where it is to be on the network no more.
    """
    overlays = {str(netns_dir / netns_name(network)) for network, _ in sandbox.networks}
    end = veth_name(sandbox.task)
    links = {"", BRIDGE, VXLAN}
    on_host = {port_name(sandbox.task)}
    if any(port.mode == "host" for port in sandbox.ports):
        on_host.add("")

    def concerns(what: KernelObject) -> bool:
        path, link = what
        if path is None:
            return link in on_host
        return path == sandbox.netns or link == end or (path in overlays and link in links)

    return concerns


def networks_of_peers(snapshot: Snapshot) -> Mapping[NodeId, Set[NetworkId]]:
    """The networks that endpoints of each peer are on, in one pass over all."""
    found: dict[NodeId, set[NetworkId]] = {}
    for endpoint in snapshot.endpoints.values():
        found.setdefault(endpoint.node, set()).update(endpoint.addresses)
    return found


def of_networks(networks: Set[NetworkId], snapshot: Snapshot) -> Concerns:
    """Where endpoints on ``networks`` may be chosen: what is on one of them."""
    ingress = snapshot.ingress
    paths = {
        sandbox.netns
        for sandbox in snapshot.sandboxes.values()
        if _meets(networks, (network for network, _ in sandbox.networks))
    }

    def concerns(what: KernelObject) -> bool:
        path, _ = what
        if path is None:  # published ports lead to the ingress network
            return ingress is not None and ingress.id in networks
        return path in paths

    return concerns


def _meets(networks: Set[NetworkId], others: Iterable[NetworkId]) -> bool:
    return not networks.isdisjoint(others)
