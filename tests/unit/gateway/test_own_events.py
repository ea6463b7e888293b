"""The engine's events, as a user sees them where networks are the engine's own."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

from aiohttp import web
from whole_gateway import gateway_before

from meshnet_control.gateway.own_events import OwnEvents

OURS = {
    "meshnet.attached": "a1",
    "meshnet.command": '{"Entrypoint": null, "Cmd": ["serve"]}',
    "meshnet.gateway_address": "172.18.0.3/16",
    "meshnet.socket": "{}",
    "meshnet.task": "1",
}


def container(action: str, name: str, **labels: str) -> dict[str, Any]:
    actor = {"ID": name, "Attributes": {"image": "web:1", "mine": "1", "name": "box", **labels}}
    return {"status": action, "id": name, "Type": "container", "Action": action, "Actor": actor}


def network(action: str, of: str, kind: str = "null") -> dict[str, Any]:
    attributes = {"container": of, "name": "none" if kind == "null" else "own", "type": kind}
    return {"Type": "network", "Action": action, "Actor": {"ID": "n1", "Attributes": attributes}}


class Events:
    """An engine that tells these events, and has these containers."""

    def __init__(self, told: Sequence[Any], there: dict[str, dict[str, str]]) -> None:
        self.told, self.there = told, there
        self.asked: list[str] = []

    async def answer(self, request: web.Request) -> web.StreamResponse:
        path = request.path
        if path == "/version":
            return web.json_response({"ApiVersion": "1.41", "Version": "20.10.24"})
        if path.endswith("/events"):
            return web.Response(body=b"".join(map(line, self.told)))
        name = path.split("/")[-2]
        self.asked.append(name)
        if name in self.there:
            return web.json_response({"Id": name, "Config": {"Labels": self.there[name]}})
        return web.json_response({"message": f"No such container: {name}"}, status=404)


def line(said: Any) -> bytes:
    return (said if isinstance(said, str) else json.dumps(said)).encode() + b"\n"


async def shown(engine: Events, host: Any, path: Path) -> list[Any]:
    async with gateway_before(engine.answer, host, path) as session:
        answer = await session.get("/v1.41/events?since=1&until=9")
        return [json.loads(each) for each in (await answer.read()).splitlines()]


async def test_events_have_no_labels_of_ours(host, tmp_path: Path):
    told = [container("create", "c1", **OURS), container("start", "c2")]
    seen = await shown(Events(told, {}), host, tmp_path)
    assert seen == [container("create", "c1"), container("start", "c2")]


async def test_a_container_on_an_overlay_comes_onto_no_network_of_the_name_none(
    host, tmp_path: Path
):
    told = [
        container("create", "made", **OURS),
        network("connect", "made"),
        network("connect", "there"),
        network("connect", "there"),
        network("connect", "plain"),
        network("connect", "gone"),
        network("connect", "made", "bridge"),
    ]
    engine = Events(told, {"there": {"meshnet.task": "1"}, "plain": {"meshnet.command": "{}"}})
    assert await shown(engine, host, tmp_path) == [container("create", "made"), *told[4:]]
    assert engine.asked == ["there", "plain", "gone"]


async def test_what_has_nothing_of_ours_is_told_as_it_came():
    async def lines() -> AsyncIterator[bytes]:
        for each in ('{"Type": "meshnet"}', '"null"', "meshnet", '["null"]'):
            yield line(each)

    no_engine: Any = None
    kept = [each async for each in OwnEvents(no_engine).shown(lines())]
    assert kept == [line('{"Type": "meshnet"}'), line('"null"'), line("meshnet"), line('["null"]')]
