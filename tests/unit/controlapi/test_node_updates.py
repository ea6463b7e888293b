"""What of a node may be changed."""

from __future__ import annotations

import random

import pytest

from meshnet.errors import ControlError
from meshnet_control.api import control_pb2 as pb
from meshnet_control.controlapi.access import Access
from meshnet_control.controlapi.nodes import Nodes
from meshnet_control.store.sqlite import SqliteStore

HEAVY = {"meshnet.weight": "heavy"}


@pytest.mark.parametrize(
    ("before", "after", "refused"),
    [
        (HEAVY, HEAVY, False),
        (HEAVY, {}, False),
        (HEAVY, {"meshnet.weight": "3"}, False),
        (HEAVY, {"meshnet.weight": "light"}, True),
        ({}, HEAVY, True),
        ({"meshnet.weight": "3"}, HEAVY, True),
    ],
)
async def test_a_weight_that_means_nothing_is_refused_when_it_is_given_alone(
    tmp_path, before, after, refused
):
    store = SqliteStore.open(tmp_path / "store.db", tmp_path / "store.key")
    try:
        access = Access(store, random.Random(1), lambda: 0.0)
        await access.put(pb.Node(id="n1", spec=pb.NodeSpec(role="worker", labels=before)))
        there = await access.find(pb.Node, "n1")
        drained = pb.NodeSpec(role="worker", availability="drain", labels=after)
        update = Nodes(access).update("n1", there.version.index, drained)
        if refused:
            with pytest.raises(ControlError, match=r"invalid meshnet\.weight"):
                await update
        else:
            await update
        found = (await access.find(pb.Node, "n1")).spec
        assert (found.labels, found.availability) == ((before, "") if refused else (after, "drain"))
    finally:
        await store.close()
