"""docker_gwbridge is waited for; one that cannot be looked for is not taken for gone."""

from __future__ import annotations

import resource
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pytest
import virtual_run

from meshnet_control.engine.client import EngineClient, EngineError
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


class Refusing:
    """An engine that makes no network until it has refused so often."""

    def __init__(self, *refusals: str) -> None:
        self._refusals = list(refusals)

    async def gwbridge_network(self, _before: object) -> Mapping[str, Any]:
        if self._refusals:
            raise EngineError(self._refusals.pop(0))
        return NETWORK | {"Options": {"com.docker.network.bridge.name": "lo"}}


def test_a_node_that_begins_waits_for_its_bridge_and_says_why(tmp_path):
    engine: Any = Refusing("no chain", "no chain", "overlaps", "no chain")
    told: list[str] = []
    made = virtual_run.run(GwbridgeKeeper(engine, tmp_path).started(told.append))
    assert made.name == "lo"
    assert [said.rpartition(": ")[2] for said in told] == ["no chain", "overlaps", "no chain", ""]
