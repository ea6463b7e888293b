"""What a manager goes on to know of hosts when its own meshnetd is away."""

from __future__ import annotations

from meshnet_control.cluster.hosts import Hosts

SAID = Hosts(gone={"a", "me"}, there={"b"}, unreached={"b": {"c"}})


def test_the_host_that_a_manager_runs_on_is_there_whatever_gossip_says():
    assert SAID.on("me") == Hosts(gone={"a"}, there={"b", "me"}, unreached={"b": {"c"}})


def test_nobody_is_gone_for_good_when_nobody_tells_of_it():
    assert SAID.unheard() == Hosts(there={"b"}, unreached={"b": {"c"}})
