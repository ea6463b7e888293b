"""A cluster that is measured has nothing to do: otherwise something else is measured."""

from __future__ import annotations

import random

from bench.scale_cluster import NOW, settled

from meshnet_control.api import control_pb2 as pb
from meshnet_control.orchestrate.pipeline import converge, key_of
from meshnet_control.orchestrate.store_view import StoreView


def test_all_that_a_settled_cluster_lacks_is_its_nodes_addresses() -> None:
    step = converge(StoreView.of(settled(0.03)), NOW, random.Random(1))
    assert {key_of(write)[0] for write in step.writes} <= {pb.Node, pb.Network, pb.Cluster}
    assert step.wake_at is None
    assert not step.lacking
