"""Networks of each engine that a service may name: ``bridge`` and ``host``. Pure.

A task on one of them runs in the engine's network of that name on its node: no address, VIP or name
of ours. Swarm keeps an object for each; here their name is their id, so nothing is stored.

Source: swarmkit manager/allocator PredefinedNetworks, moby daemon/cluster populateNetworkID.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from meshnet_control.api import control_pb2 as pb

NAMES: Final = frozenset({"bridge", "host"})


def network(name: str) -> pb.Network | None:
    """The network as an object of the cluster; None: not one of these."""
    if name not in NAMES:
        return None
    made = pb.Network(id=name)
    made.spec.name, made.spec.scope = name, "swarm"
    made.spec.driver_configuration.name = made.driver_state.name = name
    return made


def conflict(targets: Collection[str], *, on_every_node: bool) -> str | None:
    """Why a service cannot be on all of these networks at once; None: it can.

    Args:
        targets: ids of the networks it names.
        on_every_node: it publishes a port on every node, so it is on the ingress network too.
    """
    named = sorted(NAMES.intersection(targets))
    if not named or (len(targets) == 1 and not on_every_node):
        return None
    if len(targets) > 1:
        return f"network {named[0]} cannot be combined with other networks: name it alone"
    return (
        f"a service on network {named[0]} cannot publish a port on every node: "
        "publish it with mode=host"
    )
