"""What a manager goes on to know of hosts when its own meshnetd is away."""

from __future__ import annotations

import pytest

from meshnet.gossip.members import State
from meshnet.model.ids import NodeId
from meshnet_control.api import control_pb2 as pb
from meshnet_control.cluster.hosts import Hosts, manager_missed

SAID = Hosts(gone={"a", "me"}, there={"b"}, unreached={"b": {"c"}})


def test_the_host_that_a_manager_runs_on_is_there_whatever_gossip_says():
    assert SAID.on("me") == Hosts(gone={"a"}, there={"b", "me"}, unreached={"b": {"c"}})


def test_nobody_is_gone_for_good_when_nobody_tells_of_it():
    assert SAID.unheard() == Hosts(there={"b"}, unreached={"b": {"c"}})


@pytest.mark.parametrize(
    ("state", "missed"),
    [(None, False), *((state, state is not State.ALIVE) for state in State)],
)
def test_a_manager_is_missed_when_gossip_misses_its_host(state, missed):
    managers = [
        pb.RemoteManager(node_id="m1", addr="10.0.0.1:2377"),
        pb.RemoteManager(node_id="m2", addr="10.0.0.2:2377"),
    ]
    states = {NodeId("m2"): State.DEAD}
    if state is not None:
        states[NodeId("m1")] = state
    assert manager_missed("10.0.0.1:2377", managers, states) == missed
    assert not manager_missed("10.0.0.9:2377", managers, states), "of it gossip says nothing"
