"""When a rotation of the cluster's root is over: every node has a certificate of the new one.

Pure. Nodes renew by themselves as soon as they are told which root signs, and say so in their
description.
"""

from __future__ import annotations

from meshnet.model.ids import Rng
from meshnet_control.identity import rotation
from meshnet_control.orchestrate.store_view import Put, Step, StoreView, changed


def step(view: StoreView, now: float, rng: Rng) -> Step:
    """Drop the old root once nobody needs it."""
    cluster = view.cluster
    if not (view.scope.cluster or view.scope.nodes):
        return Step()
    if cluster is None or not cluster.HasField("root_rotation"):
        return Step()
    if not rotation.finished(cluster, view.nodes.values()):
        return Step()
    after = changed(cluster)
    rotation.finish(after, rng)
    return Step((Put(after),))
