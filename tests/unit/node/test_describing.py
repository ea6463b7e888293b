"""What the managers hear of a host's engine while the node runs."""

from __future__ import annotations

import asyncio

import pytest
import virtual_run

from meshnet_control.api import control_pb2 as pb
from meshnet_control.cluster import privileges
from meshnet_control.engine.errors import EngineGoneError
from meshnet_control.node import describing

GPU = pb.GenericResource(named_resource_spec={"kind": "gpu", "value": "a"})


def engine(version: str = "1", *, gpu: bool = False, **labels: str) -> pb.NodeDescription:
    """As an engine describes its host."""
    return pb.NodeDescription(
        hostname="h",
        platform={"os": "linux"},
        resources={"nano_cpus": 1, "generic_resources": [GPU] if gpu else []},
        engine={"engine_version": version, "labels": labels},
    )


def told(*, privileged: bool = False) -> pb.NodeDescription:
    """As the managers were told of it."""
    said = engine()
    said.underlay_mtu, said.gossip_key = 1500, b"key"
    said.routes.add()
    if privileged:
        said.engine.labels[privileges.NODE_LABEL] = "true"
    return said


@pytest.mark.parametrize(
    "now", [engine("2"), engine(gpu=True), engine(rack="r1")], ids=["version", "gpu", "label"]
)
def test_what_the_engine_says_otherwise_is_taken_and_nothing_else(now: pb.NodeDescription):
    said = told(privileged=True)
    wanted = told()
    wanted.resources.CopyFrom(now.resources)
    wanted.engine.CopyFrom(now.engine)
    wanted.engine.labels[privileges.NODE_LABEL] = "true"
    assert describing.taken(said, now)
    assert said == wanted


@pytest.mark.parametrize("privileged", [False, True])
def test_an_engine_that_says_the_same_is_no_news(privileged: bool):  # noqa: FBT001
    said = told(privileged=privileged)
    assert not describing.taken(said, engine())
    assert said == told(privileged=privileged)


def test_an_engine_cannot_say_that_services_may_be_privileged():
    said = told()
    now = engine()
    now.engine.labels[privileges.NODE_LABEL] = "true"
    assert not describing.taken(said, now)
    assert said == told()


def test_an_engine_that_comes_back_as_another_is_told_once():
    said = told()
    answers = iter([engine(), None, engine(gpu=True), engine(gpu=True)])
    news: list[pb.NodeDescription] = []

    async def ask() -> pb.NodeDescription:
        try:
            found = next(answers)
        except StopIteration:
            raise asyncio.CancelledError from None
        if found is None:
            raise EngineGoneError("Cannot connect to the Docker daemon")
        return found

    def describe() -> None:
        news.append(pb.NodeDescription())
        news[-1].CopyFrom(said)

    async def follow() -> None:
        with pytest.raises(asyncio.CancelledError):
            await describing.follow_engine(said, ask, describe)

    virtual_run.run(follow())
    wanted = told()
    wanted.resources.generic_resources.append(GPU)
    assert news == [wanted]
