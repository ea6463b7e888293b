"""Which hosts of a lab join its cluster, and as what."""

from __future__ import annotations

import pytest

from meshnet_control.lab.errors import LabError
from meshnet_control.lab.layout import Layout
from meshnet_control.lab.swarm import Join, joins

FIVE = Layout("mn5", 5)


def states(**known: str) -> dict[str, str]:
    return {host.name: known.get(host.name, "inactive false") for host in FIVE.hosts}


def test_the_first_ones_manage_and_managers_join_first():
    assert joins(FIVE, 3, states()) == [
        Join("h2", "manager"),
        Join("h3", "manager"),
        Join("h4", "worker"),
        Join("h5", "worker"),
    ]


def test_who_is_in_the_cluster_stays_as_it_is():
    there = states(h1="active true", h2="active true", h4="active false", h5="pending false")
    assert joins(FIVE, 3, there) == [Join("h3", "manager")]


@pytest.mark.parametrize("managers", [0, 6, -1])
def test_there_are_as_many_managers_as_hosts_at_most(managers: int):
    with pytest.raises(LabError, match=f"of 5 hosts 1 to 5 can be managers, not {managers}"):
        joins(FIVE, managers, states())
