"""A gateway's application in this process, over a real store and a stand-in for the engine."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from meshnet_control.api import control_pb2 as pb
from meshnet_control.engine.client import EngineClient
from meshnet_control.gateway.app import application
from meshnet_control.gateway.engine_http import EngineHttp
from meshnet_control.link.locked import LOCKED
from meshnet_control.store.sqlite import SqliteStore
from meshnet_control.store.store import Put, Store

SAID = web.AppKey("SAID", asyncio.Event)
"""Set when the stand-in engine has said all of its events."""
NODE = "c05ykilrz2cfspy1oomwnmsyg"


class Host:
    """A node whose part in the swarm a test sets."""

    def __init__(self, store: Store | None) -> None:
        self._store = store
        self.calls: list[str] = []
        self.said: list[str] = []
        self.locked = False

    @property
    def state(self):
        return "inactive" if self._store is None and not self.locked else "manager"

    async def init(self, request: pb.SwarmInitRequest) -> str:
        self.calls.append(f"init {request.advertise_addr}")
        return NODE

    async def join(self, request: pb.SwarmJoinRequest) -> None:
        self.calls.append(f"join {request.remote_addrs[0]}")

    async def leave(self, *, force: bool) -> None:
        self.calls.append(f"leave {force}")

    async def unlock(self, key: bytes) -> None:
        self.calls.append(f"unlock {key!r}")

    def swarm_info(self) -> pb.SwarmInfo:
        if self.locked:
            return pb.SwarmInfo(node_id=NODE, local_node_state="locked", error=LOCKED)
        active = self._store is not None
        return pb.SwarmInfo(
            node_id=NODE if active else "",
            local_node_state="active" if active else "inactive",
            control_available=active,
        )

    def warnings(self) -> list[str]:
        return self.said

    def store(self) -> Store | None:
        return self._store

    def logs(self) -> None:
        return None


async def _engine_app() -> web.Application:
    local = [{"Name": "bridge", "Id": "4a09de50c461", "Scope": "local", "Driver": "bridge"}]

    async def version(_: web.Request) -> web.Response:
        return web.json_response({"ApiVersion": "1.41", "Version": "20.10.24+dfsg1"})

    async def ping(_: web.Request) -> web.Response:
        return web.Response(text="OK", headers={"Api-Version": "1.41", "Swarm": "inactive"})

    async def info(_: web.Request) -> web.Response:
        return web.json_response({"Name": "h1", "Swarm": {"LocalNodeState": "inactive"}})

    async def networks(_: web.Request) -> web.Response:
        return web.json_response(local)

    async def network(request: web.Request) -> web.Response:
        name = request.match_info["id"]
        if name in {"docker_gwbridge", "c99d"}:
            return web.json_response({"Name": "docker_gwbridge", "Id": "c99d0f4720de"})
        if name in {"bridge", local[0]["Id"]}:
            return web.json_response(local[0])
        if name in {"br1", "10968ed51efc"}:
            return web.json_response({**local[0], "Name": "br1", "Id": "10968ed51efc"})
        return web.json_response({"message": f"network {name} not found"}, status=404)

    async def prune(_: web.Request) -> web.Response:
        return web.json_response({"NetworksDeleted": ["docker_gwbridge", "unused"]})

    async def created(request: web.Request) -> web.Response:
        return web.json_response({"Id": "e1", "Warnings": []}, status=201)

    closing, said = asyncio.Event(), asyncio.Event()

    async def close(_: web.Application) -> None:
        closing.set()

    async def events(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b'{"Type":"container","Act')  # cut anywhere
        await asyncio.sleep(0)
        await response.write(b'ion":"start"}\n')
        for _ in range(int(request.query.get("since", "0"))):
            await response.write(b'{"Type":"container","Action":"%s"}\n' % (b"x" * 2**16))
        if "until" not in request.query:
            await closing.wait()
        said.set()
        return response

    app = web.Application()
    app[SAID] = said
    app.on_shutdown.append(close)
    for prefix in ("", "/v1.41"):
        app.router.add_get(prefix + "/version", version)
        app.router.add_get(prefix + "/_ping", ping)
        app.router.add_get(prefix + "/info", info)
        app.router.add_get(prefix + "/events", events)
        app.router.add_get(prefix + "/networks", networks)
        app.router.add_get(prefix + "/networks/{id}", network)
        app.router.add_delete(prefix + "/networks/{id}", network)
        app.router.add_post(prefix + "/networks/create", created)
        app.router.add_post(prefix + "/networks/prune", prune)
        app.router.add_post(prefix + "/containers/create", created)
    return app


@pytest.fixture
async def engine_server(tmp_path: Path) -> AsyncIterator[web.AppRunner]:
    """Name: engine_server. Scope: function. A stand-in engine on a socket of its own."""
    runner = web.AppRunner(await _engine_app())
    await runner.setup()
    await web.UnixSite(runner, str(tmp_path / "engine.sock")).start()
    yield runner
    await runner.cleanup()


@pytest.fixture
def engine_said(engine_server: web.AppRunner) -> asyncio.Event:
    """Name: engine_said. Scope: function. Depends: engine_server. Set: it said all its events."""
    return engine_server.app[SAID]


@pytest.fixture
async def engine(tmp_path: Path, engine_server: web.AppRunner) -> AsyncIterator[EngineHttp]:
    """Name: engine. Scope: function. Depends: engine_server. What the gateway asks it with."""
    client = EngineClient(f"unix://{tmp_path}/engine.sock")
    yield EngineHttp(client)
    await client.close()


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    """Name: store. Scope: function. A SQLite store with one cluster and one manager."""
    opened = await open_store(tmp_path)
    cluster = pb.Cluster(id="j0cgxhrut7w9ohuidf9b99ohh", subnet_size=24, data_path_port=4789)
    cluster.spec.name = "default"
    cluster.spec.ca_config.node_cert_expiry = 7776000000000000
    cluster.join_tokens.worker = f"SWMTKN-1-{'a' * 50}-{'b' * 25}"
    cluster.join_tokens.manager = f"SWMTKN-1-{'a' * 50}-{'c' * 25}"
    node = pb.Node(id=NODE)
    node.spec.role, node.spec.availability = "manager", "active"
    node.description.hostname, node.status.state = "node1", "ready"
    worker = pb.Node(id="7oq94r9c0b8adccmhpv7nniat")
    worker.spec.role, worker.spec.availability = "worker", "active"
    worker.description.hostname, worker.status.state = "node3", "ready"
    await opened.commit([Put(cluster), Put(node), Put(worker)])
    yield opened
    await opened.close()


async def open_store(path: Path) -> Store:
    return SqliteStore.open(path / "store.db", path / "store.key")


@pytest.fixture
def host(store: Store) -> Host:
    """Name: host. Scope: function. Depends: store. The manager behind the gateway."""
    return Host(store)


@pytest.fixture
async def manager(host: Host, engine: EngineHttp) -> AsyncIterator[TestClient]:
    """Name: manager. Scope: function. Depends: host, engine. A client of a manager's gateway."""
    async with TestClient(TestServer(application(host, engine))) as client:
        yield client


@pytest.fixture
async def outsider(engine: EngineHttp) -> AsyncIterator[tuple[TestClient, Host]]:
    """Name: outsider. Scope: function. Depends: engine. A node that is in no swarm."""
    host = Host(None)
    async with TestClient(TestServer(application(host, engine))) as client:
        yield client, host
