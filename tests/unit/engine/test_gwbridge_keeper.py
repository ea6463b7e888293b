"""A bridge that cannot be looked for is not taken for one that is gone."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from meshnet_control.engine.client import EngineClient
from meshnet_control.engine.gwbridge_keeper import GwbridgeKeeper

NETWORK = {
    "Options": {"com.docker.network.bridge.name": "mn-nowhere"},
    "IPAM": {"Config": [{"Subnet": "172.18.0.0/16", "Gateway": "172.18.0.1"}]},
}


@contextmanager
def no_descriptors() -> Iterator[None]:
    """This process may open nothing more meanwhile."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


@pytest.fixture
async def keeper(tmp_path) -> GwbridgeKeeper:
    """Name: keeper; Scope: function. A keeper that has seen a network whose bridge is not there."""
    made = GwbridgeKeeper(EngineClient(f"unix://{tmp_path}/none.sock"), tmp_path)
    made._network = NETWORK
    return made


async def test_a_bridge_that_is_not_there_is_gone(keeper):
    assert keeper._link_is_there() is False


async def test_without_a_descriptor_nothing_is_known(keeper):
    with no_descriptors():
        there = keeper._link_is_there()
    assert there is True
