"""A gateway's application in this process, over a real store and a stand-in for the engine."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractContextManager
from pathlib import Path
from random import Random
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from known_overlays import CONTAINERS

from meshnet_control.api import control_pb2 as pb
from meshnet_control.controlapi.refusals import no_leader
from meshnet_control.dataplane.overlays import Overlays
from meshnet_control.engine.client import EngineClient
from meshnet_control.gateway.app import application
from meshnet_control.gateway.engine_http import EngineHttp
from meshnet_control.gateway.node_control import Images
from meshnet_control.link.locked import LOCKED
from meshnet_control.node.courtesy import Courtesy
from meshnet_control.orchestrate.allocate import ingress_network
from meshnet_control.store.faulty import FaultyStore
from meshnet_control.store.sqlite import SqliteStore
from meshnet_control.store.store import Put, Store

SAID = web.AppKey("SAID", asyncio.Event)
"""Set when the stand-in engine has said all of its events."""
NODE = "c05ykilrz2cfspy1oomwnmsyg"


class Host:
    """A node whose part in the swarm a test sets."""

    def __init__(self, store: Store | None) -> None:
        self.faulty = FaultyStore(store) if store is not None else None
        """The store; its commits fail while a test says so."""
        self._store: Store | None = self.faulty
        self.calls: list[str] = []
        self.said: list[str] = []
        self.session_error = ""
        self.locked = False
        self.worker = False
        self.alone = False
        """A manager that has begun without the others: it has no store, and nobody leads."""
        self.known: Overlays | None = None
        self.news = asyncio.Event()
        """Replaced by another one as it is set: ``known`` is new."""
        self.sends: Images | None = None
        self.registry: dict[str, dict[str, Any]] = {}
        """What the engine hears of images from their registries."""
        self.courtesy = Courtesy()
        self.looked_up: list[tuple[str, str]] = []
        """Images, and the credentials that came with the question."""

    def answering(self, method: str) -> AbstractContextManager[None]:
        return self.courtesy.answering(method)

    @property
    def gives_way(self) -> bool:
        return self.courtesy.gives_way

    @property
    def state(self):
        if self.worker:
            return "worker"
        out = self._store is None and not self.locked and not self.alone
        return "inactive" if out else "manager"

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
        active = self._store is not None or self.alone
        return pb.SwarmInfo(
            node_id=NODE if active else "",
            local_node_state="active" if active else "inactive",
            control_available=active,
            error=no_leader().message if self.alone else self.session_error,
        )

    def warnings(self) -> list[str]:
        return self.said

    def store(self) -> Store | None:
        return self._store

    def logs(self) -> None:
        return None

    def images(self) -> Images | None:
        return self.sends

    def attaching(self) -> None:
        return None

    def overlays(self) -> Overlays | None:
        return self.known

    async def overlays_changed(self) -> None:
        await self.news.wait()

    def knows(self, known: Overlays | None) -> None:
        self.known = known
        news, self.news = self.news, asyncio.Event()
        news.set()


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

    async def containers(request: web.Request) -> web.Response:
        wanted = json.loads(request.query.get("filters", "{}"))
        labels = wanted.pop("label", {})
        if wanted:
            return web.json_response({"message": f"Invalid filter {[*wanted]}"}, status=400)
        found = [entry for entry in CONTAINERS if all(label in entry["Labels"] for label in labels)]
        return web.json_response(found[: int(request.query.get("limit", "0")) or None])

    async def container(request: web.Request) -> web.Response:
        return web.json_response(
            {
                "Id": request.match_info["id"],
                "State": {"Pid": os.getpid()},
                "HostConfig": {"NetworkMode": "none"},
                "Name": "/web.1.t1",
                "Config": {
                    "Labels": {"meshnet.task": "1", "com.docker.swarm.task.name": "web.1.t1"},
                    "ExposedPorts": {"80/tcp": {}},
                },
                "NetworkSettings": {
                    "SandboxKey": "/proc/self/ns/net",
                    "Ports": {},
                    "Networks": {"none": {"NetworkID": "1b60"}},
                },
            }
        )

    async def stats(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        line = json.dumps({"id": request.match_info["id"], "num_procs": 0}).encode() + b"\n"
        for _ in range(1 if request.query.get("stream") == "0" else 3):
            await response.write(line[:9])  # cut anywhere
            await response.write(line[9:])
        return response

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

    async def image(request: web.Request) -> web.Response:
        if request.match_info["id"] != "a":
            words = f"No such image: {request.match_info['id']}"
            return web.json_response({"message": words}, status=404)
        return web.json_response({"Id": "sha256:a", "RepoTags": ["a:latest"], "Size": 1 << 21})

    app = web.Application()
    app[SAID] = said
    app.on_shutdown.append(close)
    for prefix in ("", "/v1.41"):
        app.router.add_get(prefix + "/version", version)
        app.router.add_get(prefix + "/_ping", ping)
        app.router.add_get(prefix + "/info", info)
        app.router.add_get(prefix + "/events", events)
        app.router.add_get(prefix + "/images/{id}/json", image)
        app.router.add_get(prefix + "/networks", networks)
        app.router.add_get(prefix + "/networks/{id}", network)
        app.router.add_delete(prefix + "/networks/{id}", network)
        app.router.add_post(prefix + "/networks/create", created)
        app.router.add_post(prefix + "/networks/prune", prune)
        app.router.add_post(prefix + "/containers/create", created)
        app.router.add_get(prefix + "/containers/json", containers)
        app.router.add_get(prefix + "/containers/{id}/json", container)
        app.router.add_get(prefix + "/containers/{id}/stats", stats)
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
    node.manager_status.leader, node.manager_status.reachability = True, "reachable"
    node.description.hostname, node.status.state = "node1", "ready"
    node.manager_status.leader, node.manager_status.reachability = True, "reachable"
    node.manager_status.addr = "192.168.0.100:2377"
    worker = pb.Node(id="7oq94r9c0b8adccmhpv7nniat")
    worker.spec.role, worker.spec.availability = "worker", "active"
    worker.description.hostname, worker.status.state = "node3", "ready"
    ingress = ingress_network(Random(1))
    await opened.commit([Put(cluster), Put(node), Put(worker), Put(ingress)])
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


@pytest.fixture
async def command(
    host: Host, engine: EngineHttp, tmp_path: Path
) -> AsyncIterator[Callable[..., Awaitable[tuple[int, str, str]]]]:
    """
    Name: command; Scope: function; Depends: host, engine.

    Runs ``meshnet WORDS…`` against a manager's gateway, with ``stdin`` as bytes and ``cwd``: its
    exit status, standard output and standard error.
    """
    app = application(host, engine)

    async def distribution(request: web.Request) -> web.Response:
        name = request.match_info["name"]
        host.looked_up.append((name, request.headers.get("X-Registry-Auth", "")))
        if name in host.registry:
            return web.json_response(host.registry[name])
        return web.json_response({"message": "no such host"}, status=500)

    for prefix in ("", r"/v{api:\d+\.\d+}"):
        app.router.add_get(prefix + "/distribution/{name:.+}/json", distribution)
    runner = web.AppRunner(app)
    await runner.setup()
    run_dir = tmp_path / "run"
    run_dir.mkdir()
    await web.UnixSite(runner, str(run_dir / "docker.sock")).start()
    path = os.pathsep.join(sys.path)
    own = {"MESHNET_RUN_DIR": str(run_dir), "PYTHONPATH": path}

    async def run(*words: str, stdin: bytes = b"", cwd: Path = tmp_path) -> tuple[int, str, str]:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "meshnet_control.cli.main", *words),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={**os.environ, **own},
            cwd=cwd,
        )
        out, err = await process.communicate(stdin)
        return process.returncode or 0, out.decode(), err.decode()

    yield run
    await runner.cleanup()
