"""Clients that speak a newer API than the engine: what is asked of it, and what they are told."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import ClientSession, web
from hypothesis import given
from hypothesis import strategies as st
from whole_gateway import gateway_before
from yarl import URL

from meshnet_control.gateway.engine_http import EngineVersion, spoken
from meshnet_control.gateway.older_engine import NO_START_INTERVAL, Creation, creation

OLD, NEW = (1, 41), (1, 44)
ANONYMOUS = "ab" * 32
KEPT = "cd" * 32


class Engine:
    """An engine of one API version that remembers what it was asked."""

    def __init__(self, newest: str, oldest: str) -> None:
        self.newest, self.oldest = newest, oldest
        self.asked: list[tuple[str, str]] = []
        self.bodies: list[dict] = []
        self.unknown_network = ""

    async def answer(self, request: web.Request) -> web.Response:
        path, body = request.path, await request.text()
        if path == "/version":
            return web.json_response(
                {"ApiVersion": self.newest, "MinAPIVersion": self.oldest, "Version": "20.10.24"}
            )
        self.asked.append((request.method, request.path_qs))
        if body:
            self.bodies.append(json.loads(body))
        if path.endswith("/containers/create"):
            return web.json_response({"Id": "c1", "Warnings": ["its own"]}, status=201)
        if self.unknown_network and f"/{self.unknown_network}/" in path:
            return web.json_response({"message": "network not found"}, status=404)
        if path.endswith("/volumes"):
            labelled = {"Name": KEPT, "Labels": {"keep": "1"}}
            volumes = [{"Name": ANONYMOUS, "Labels": None}, {"Name": "data"}, labelled]
            return web.json_response({"Volumes": volumes})
        if path.endswith("/system/df"):
            used = [{"Name": ANONYMOUS, "UsageData": {"Size": 512}}, {"Name": KEPT}]
            return web.json_response({"Volumes": used})
        return web.json_response({})


@pytest.fixture
def old_engine() -> Engine:
    """Name: old_engine. Scope: function. Debian's, of API 1.41."""
    return Engine("1.41", "1.12")


@pytest.fixture
async def client(tmp_path: Path, host, old_engine: Engine) -> AsyncIterator[ClientSession]:
    """Name: client. Scope: function. Depends: host, old_engine. Of a gateway, whole."""
    async with gateway_before(old_engine.answer, host, tmp_path) as session:
        yield session


async def test_the_version_is_ours_whatever_the_engine_is(client, old_engine):
    ping = await client.head("/_ping")
    assert (ping.headers["Api-Version"], ping.headers["Swarm"]) == ("1.44", "active/manager")
    said = await (await client.get("/v1.44/version")).json()
    assert (said["ApiVersion"], said["MinAPIVersion"]) == ("1.44", "1.24")
    old_engine.newest, old_engine.oldest = "1.55", "1.50"
    assert (await client.head("/_ping")).headers["Api-Version"] == "1.44"


async def test_the_engine_is_asked_in_its_own_version(client, old_engine):
    for asked in ("/v1.44/images/json?all=1", "/v1.30/images/json", "/images/json"):
        assert (await client.get(asked)).status == 200
    assert [path for _, path in old_engine.asked] == [
        "/v1.41/images/json?all=1",  # copied as bytes
        "/v1.30/images/json",
        "/images/json",
    ]
    await client.get("/v1.44/info")
    assert old_engine.asked[-1] == ("GET", "/v1.41/info")  # asked by the gateway itself


async def test_an_engine_that_takes_no_old_versions_is_asked_in_its_oldest(client, old_engine):
    old_engine.newest, old_engine.oldest = "1.55", "1.44"
    await client.get("/v1.24/images/json")
    assert old_engine.asked == [("GET", "/v1.44/images/json")]


async def test_a_container_of_several_networks_is_connected_one_by_one(client, old_engine):
    ends = {"back": {"Aliases": ["db"]}, "front": {"MacAddress": "02:42:ac:11:00:02"}, "side": {}}
    body = {"HostConfig": {"NetworkMode": "front"}, "NetworkingConfig": {"EndpointsConfig": ends}}
    answer = await client.post("/v1.44/containers/create?name=x", json=body)
    assert (answer.status, await answer.json()) == (201, {"Id": "c1", "Warnings": ["its own"]})
    assert old_engine.asked == [
        ("POST", "/v1.41/containers/create?name=x"),
        ("POST", "/networks/back/connect"),
        ("POST", "/networks/side/connect"),
    ]
    created, back, _ = old_engine.bodies
    assert list(created["NetworkingConfig"]["EndpointsConfig"]) == ["front"]
    assert created["MacAddress"] == "02:42:ac:11:00:02"
    assert back == {"Container": "c1", "EndpointConfig": {"Aliases": ["db"]}}


async def test_a_container_that_cannot_be_connected_is_not_there(client, old_engine):
    old_engine.unknown_network = "back"
    ends: dict[str, dict] = {"front": {}, "back": {}}
    body = {"NetworkingConfig": {"EndpointsConfig": ends}}
    answer = await client.post("/v1.44/containers/create", json=body)
    assert (answer.status, await answer.json()) == (404, {"message": "network not found"})
    assert old_engine.asked[-1] == ("DELETE", "/containers/c1?force=1&v=1")


async def test_what_the_engine_does_not_know_of_is_said(client):
    body = {"Healthcheck": {"Test": ["CMD", "x"], "StartInterval": 1}}
    answer = await client.post("/v1.44/containers/create", json=body)
    assert (await answer.json())["Warnings"] == ["its own", NO_START_INTERVAL]


async def test_named_volumes_outlive_a_prune_that_is_not_for_all(client, old_engine):
    answer = await client.post("/v1.44/volumes/prune")
    assert await answer.json() == {"VolumesDeleted": [ANONYMOUS, KEPT], "SpaceReclaimed": 512}
    gone = [path for method, path in old_engine.asked if method == "DELETE"]
    assert gone == [f"/volumes/{ANONYMOUS}", f"/volumes/{KEPT}"]
    assert ("POST", "/v1.41/volumes/prune") not in old_engine.asked


async def test_a_label_spares_a_volume(client):
    wanted = json.dumps({"label!": ["keep=1"]})
    answer = await client.post("/v1.44/volumes/prune", params={"filters": wanted})
    assert (await answer.json())["VolumesDeleted"] == [ANONYMOUS]


async def test_a_prune_of_all_volumes_is_the_engines(client, old_engine):
    wanted = json.dumps({"all": {"true": True}, "label": {"x": True}})
    await client.post("/v1.44/volumes/prune", params={"filters": wanted})
    await client.post("/v1.41/volumes/prune")
    (_, first), (_, second) = old_engine.asked
    asked = URL(first)
    assert (asked.path, asked.query["filters"]) == ("/v1.41/volumes/prune", '{"label": ["x"]}')
    assert second == "/v1.41/volumes/prune"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
)
PARTS = st.fixed_dictionaries(
    {},
    optional={
        "HostConfig": JSON | st.fixed_dictionaries({"NetworkMode": JSON}),
        "Healthcheck": JSON | st.fixed_dictionaries({"StartInterval": JSON}),
        "NetworkingConfig": JSON
        | st.fixed_dictionaries({"EndpointsConfig": st.dictionaries(st.text(max_size=3), JSON)}),
    },
)


@given(PARTS)
def test_any_body_is_put_in_steps_or_left_to_the_engine_to_refuse(body):
    assert creation(body, NEW) == Creation(body)
    steps = creation(body, OLD)
    asked = body.get("NetworkingConfig")
    ends = asked.get("EndpointsConfig") if isinstance(asked, dict) else None
    if isinstance(ends, dict) and ends:
        (first,) = steps.body["NetworkingConfig"]["EndpointsConfig"]
        assert sorted([first, *(name for name, _ in steps.connections)]) == sorted(ends)


def test_the_components_of_a_version_say_ours():
    parts = [{"Name": "Engine", "Details": {"ApiVersion": "1.41"}}, {"Name": "runc"}]
    said = spoken({"Components": parts})
    assert said["Components"][0]["Details"] == {"ApiVersion": "1.44", "MinAPIVersion": "1.24"}


@given(st.tuples(st.just(1), st.integers(0, 99)))
def test_the_engine_is_only_asked_in_versions_it_takes(asked):
    engine = EngineVersion((1, 47), "", (1, 30))
    assert (1, 30) <= engine.nearest(asked) <= (1, 47)
    assert engine.nearest(asked) == asked or not (1, 30) <= asked <= (1, 47)
