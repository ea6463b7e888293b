"""What clients other than the CLI send: dockerode, and whoever is logged in to a registry."""

from __future__ import annotations

import asyncio
import base64
import json
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import aiohttp
from aiohttp.test_utils import TestClient

from meshnet_control.api import control_pb2 as pb
from meshnet_control.engine.client import EngineClient
from meshnet_control.gateway.app import Gateway
from meshnet_control.store.store import Store

WEB: dict[str, Any] = {"Name": "web", "TaskTemplate": {"ContainerSpec": {"Image": "r:5000/web:1"}}}
LOGIN = {"username": "ada", "password": "hush", "serveraddress": "r:5000"}
OTHER = {**LOGIN, "password": "louder"}


def header(said: Any) -> dict[str, str]:
    return {"X-Registry-Auth": base64.urlsafe_b64encode(json.dumps(said).encode()).decode()}


async def stored(store: Store) -> pb.Service:
    return (await store.list(pb.Service))[0]


def login_of(spec: pb.ServiceSpec) -> Any:
    auth = spec.task_template.container_spec.pull_options.registry_auth
    return json.loads(base64.urlsafe_b64decode(auth)) if auth else None


async def update(manager: TestClient, auth: Any = None, spec: Any = None, **query: str) -> Any:
    at = (await (await manager.get("/services/web")).json())["Version"]["Index"]
    answer = await manager.post(
        "/services/web/update",
        params={"version": at, **query},
        json=spec or WEB,
        headers=header(auth) if auth is not None else {},
    )
    return answer.status, await answer.json()


async def test_credentials_are_kept_with_the_service_and_shown_to_nobody(
    manager: TestClient, store: Store
):
    made = await manager.post("/services/create", json=WEB, headers=header(LOGIN))
    assert (made.status, (await made.json()).keys()) == (201, {"ID"})
    assert login_of((await stored(store)).spec) == LOGIN
    assert await update(manager, spec={**WEB, "Labels": {"a": "b"}}) == (200, {"Warnings": None})
    assert login_of((await stored(store)).spec) == LOGIN
    for path in ("/services", "/services/web", "/services/web?insertDefaults=true", "/tasks"):
        said = await (await manager.get(path)).text()
        assert "PullOptions" not in said
        assert base64.urlsafe_b64encode(b"hush")[:5].decode() not in said


async def test_an_update_brings_other_credentials_or_those_of_before_or_none(
    manager: TestClient, store: Store
):
    await manager.post("/services/create", json=WEB, headers=header(LOGIN))
    words = {"message": "service does not have a previous spec"}
    assert await update(manager, registryAuthFrom="previous-spec") == (500, words)
    assert (await update(manager, OTHER))[0] == 200
    assert login_of((await stored(store)).spec) == OTHER
    assert (await update(manager, registryAuthFrom="previous-spec"))[0] == 200
    assert login_of((await stored(store)).spec) == LOGIN
    assert (await update(manager, registryAuthFrom="spec", spec={**WEB, "Labels": {"a": "b"}}))[
        0
    ] == 200
    assert login_of((await stored(store)).spec) == LOGIN
    words = {"message": "unsupported registryAuthFrom value"}
    assert await update(manager, registryAuthFrom="nowhere") == (500, words)
    assert (await update(manager, {}))[0] == 200
    assert login_of((await stored(store)).spec) is None
    assert (await update(manager, rollback="previous"))[0] == 200
    assert login_of((await stored(store)).spec) == LOGIN


async def test_what_is_no_credentials_is_none(manager: TestClient, store: Store):
    made = await manager.post("/services/create", json=WEB, headers={"X-Registry-Auth": "\u00e4"})
    assert made.status == 201
    assert not (await stored(store)).spec.task_template.container_spec.HasField("pull_options")


async def test_a_whole_service_in_header_query_and_body_as_dockerode_sends_it(
    tmp_path: Path, engine_server, host, store: Store
):
    spec = {**WEB, "Labels": {f"label{n}": "x" * 1000 for n in range(40)}}
    client = EngineClient(f"unix://{tmp_path}/engine.sock")
    gateway = Gateway(host, tmp_path / "docker.sock", client)
    await gateway.start()
    try:
        async with (
            asyncio.timeout(20),
            aiohttp.ClientSession(
                connector=aiohttp.UnixConnector(str(tmp_path / "docker.sock"))
            ) as session,
        ):
            query = urlencode({name: json.dumps(value) for name, value in spec.items()})
            assert len(query) > 40_000
            made = await session.post(
                f"http://d/services/create?{query}", json=spec, headers=header(spec)
            )
            assert made.status == 201, await made.text()
            service = await stored(store)
            assert not service.spec.task_template.container_spec.HasField("pull_options")
            at = service.version.asked
            updated = await session.post(
                f"http://d/services/{service.id}/update?version={at}&{query}",
                json={**spec, "version": at},
            )
            assert updated.status == 200, await updated.text()
    finally:
        await gateway.stop()
        await client.close()
