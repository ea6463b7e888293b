"""``GET /events``: the engine's stream and the cluster's, in one."""

from __future__ import annotations

import asyncio
import json

import pytest
from aiohttp.test_utils import TestClient, make_mocked_request

from meshnet import drops
from meshnet_control.api import control_pb2 as pb
from meshnet_control.gateway.routes import events, swarm_events
from meshnet_control.store.store import Change

STARTED = {"Type": "container", "Action": "start"}


def service(replicas: int, at: int) -> pb.Service:
    made = pb.Service(id="s1")
    made.spec.name = "web"
    made.spec.mode.replicated.replicas = replicas
    made.updated_at.seconds = at
    return made


def test_what_changed_is_said_with_its_old_and_new_value():
    said = swarm_events.event(service(1, 4), Change(pb.Service, "s1", service(3, 5), 9), 0)
    assert said == {
        "Type": "service",
        "Action": "update",
        "Actor": {
            "ID": "s1",
            "Attributes": {"name": "web", "replicas.old": "1", "replicas.new": "3"},
        },
        "scope": "swarm",
        "time": 5,
        "timeNano": 5_000_000_000,
    }
    assert json.loads(swarm_events.line(said)) == said


def test_create_remove_and_what_is_no_event():
    made = swarm_events.event(None, Change(pb.Service, "s1", service(1, 5), 9), 0)
    assert made is not None
    assert made["Action"] == "create"
    gone = swarm_events.event(service(1, 5), Change(pb.Service, "s1", None, 9), 7_000_000_001)
    assert gone is not None
    assert (gone["Action"], gone["time"], gone["timeNano"]) == ("remove", 7, 7_000_000_001)
    assert swarm_events.event(None, Change(pb.Task, "t1", pb.Task(id="t1"), 9), 0) is None
    assert swarm_events.event(None, Change(pb.Service, "s1", None, 9), 0) is None


def test_filters():
    said = swarm_events.event(None, Change(pb.Service, "s1", service(1, 5), 9), 0)
    assert said is not None
    for passes in ({}, {"type": ["service"]}, {"scope": ["swarm"]}, {"service": ["web", "x"]}):
        wanted = {key: frozenset(values) for key, values in passes.items()}
        assert swarm_events.matches(said, wanted), passes
    for fails in ({"type": ["node"]}, {"scope": ["local"]}, {"node": ["web"]}, {"image": ["x"]}):
        wanted = {key: frozenset(values) for key, values in fails.items()}
        assert not swarm_events.matches(said, wanted), fails


async def test_both_streams_are_one(manager: TestClient):
    async with asyncio.timeout(10), manager.get("/events") as answer:
        assert json.loads(await answer.content.readline()) == STARTED
        spec = {"Name": "web", "TaskTemplate": {"ContainerSpec": {"Image": "nginx"}}}
        made = await (await manager.post("/services/create", data=json.dumps(spec))).json()
        said = json.loads(await answer.content.readline())
        assert (said["Type"], said["Action"], said["scope"]) == ("service", "create", "swarm")
        assert said["Actor"] == {"ID": made["ID"], "Attributes": {"name": "web"}}
        await manager.delete("/services/web")
        assert json.loads(await answer.content.readline())["Action"] == "remove"


async def test_the_stream_ends_with_the_engines(manager: TestClient, outsider):
    for client in (manager, outsider[0]):
        async with asyncio.timeout(10), client.get("/events", params={"until": "1"}) as answer:
            assert json.loads(await answer.content.read()) == STARTED


async def test_nothing_piles_up_behind_a_client_that_does_not_read(outsider, engine_said):
    client, _ = outsider
    lines = 1000  # of 64 KiB
    async with (
        asyncio.timeout(30),
        client.get("/events", params={"since": str(lines), "until": "1"}) as answer,
    ):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1.0):
                await engine_said.wait()
        got = await answer.content.read()
    assert got.count(b"\n") == lines + 1
    assert engine_said.is_set()


async def test_a_client_is_dropped_for_which_an_event_of_the_cluster_waits_too_long(monkeypatch):
    async def source():
        for line in (b"first", b"second", b"third"):
            yield line

    monkeypatch.setattr(events, "_UNREAD_S", 0.01)
    aborted: list[bool] = []

    class Cut(asyncio.Transport):
        def abort(self) -> None:
            aborted.append(True)

        def get_extra_info(self, name: str, default: object = None) -> object:
            return default

    request = make_mocked_request("GET", "/events", transport=Cut())
    lines: asyncio.Queue[bytes | None] = asyncio.Queue(1)
    before = drops.snapshot().get("gateway: client of events does not read", 0)
    async with asyncio.timeout(10):
        await events._copy_or_drop(source(), lines, request)
    assert (aborted, lines.qsize(), lines.get_nowait()) == ([True], 1, b"first")
    assert drops.snapshot()["gateway: client of events does not read"] == before + 1
