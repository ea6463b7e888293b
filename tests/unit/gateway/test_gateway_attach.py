"""``docker run --network``, ``network connect``, ``start``: what the engine is asked, and when."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from known_overlays import HERE, known

from meshnet.errors import ControlError
from meshnet.kernel import host_sockets
from meshnet.model.snapshot import Gwbridge, PublishedPort
from meshnet_control.agent import gate
from meshnet_control.agent.attached_record import ATTACHED, LABEL, Record, load
from meshnet_control.agent.attachments import Attachments
from meshnet_control.agent.fake import FakeDataPlane
from meshnet_control.agent.gateway_addresses import GatewayAddresses
from meshnet_control.agent.node_networks import NodeNetworks
from meshnet_control.api import control_pb2 as pb
from meshnet_control.engine.client import EngineClient
from meshnet_control.gateway import port_conflicts
from meshnet_control.gateway.app import application
from meshnet_control.gateway.engine_http import EngineHttp
from meshnet_control.store.store import Put, Store

C1 = "c" * 64
NODE = "n" * 25
BRIDGE = Gwbridge("docker_gwbridge", IPv4Network("172.18.0.0/16"), IPv4Address("172.18.0.1"))


class Engine:
    """An engine that has one image and makes one container."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, Any]] = []
        self.made: dict[str, Any] = {}
        self.name = C1
        """ID of the container that it makes."""
        self.running = False
        self.started = 0
        self.networks: dict[str, Any] = {"none": {}}
        self.own: list[dict[str, Any]] = []
        """Networks that it was asked to make."""

    def app(self) -> web.Application:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self.answer)
        return app

    async def answer(self, request: web.Request) -> web.Response:  # noqa: PLR0911
        path = request.path.removeprefix("/v1.41")
        body: Any = await request.json() if request.can_read_body else None
        if request.method != "GET":
            self.asked.append((f"{request.method} {path}", body))
        if path == "/version":
            return web.json_response({"ApiVersion": "1.41", "Version": "20.10.24"})
        if path == "/images/i/json":
            return web.json_response({"Config": {"Cmd": ["serve"]}})
        if path.startswith("/networks") and (found := self.network(request.method, path, body)):
            return found
        if path == "/containers/create":
            self.made = body
            return web.json_response({"Id": self.name, "Warnings": []}, status=201)
        if path in {f"/containers/{C1}/json", "/containers/c1/json"} and self.made:
            return web.json_response(self.shown)
        if path.endswith("/start"):
            self.running, self.started = True, self.started + 1
            return web.Response(status=204)
        if request.method == "DELETE" and path.startswith("/containers/"):
            self.made = {}
            return web.Response(status=204)
        if path.endswith("connect"):
            return web.Response(status=200)
        return web.json_response({"message": f"no {path}"}, status=404)

    def network(self, method: str, path: str, body: Any) -> web.Response | None:
        if path == "/networks/create":
            self.own.append({**body, "Id": "e" * 64})
            return web.json_response({"Id": "e" * 64, "Warning": ""}, status=201)
        if path == "/networks":
            return web.json_response(self.own)
        named = [each for each in self.own if path.endswith((f"/{each['Name']}", each["Id"]))]
        if method == "DELETE" and named:
            self.own = []
            return web.Response(status=204)
        return web.json_response(named[0]) if named else None

    @property
    def shown(self) -> dict[str, Any]:
        return {
            "Id": C1,
            "Name": "/c1",
            "State": {"Running": self.running, "StartedAt": f"{self.started}", "ExitCode": 0},
            "Config": {name: self.made.get(name) for name in ("Labels", "Entrypoint")},
            "HostConfig": self.made.get("HostConfig"),
            "NetworkSettings": {"SandboxKey": "/netns/c1", "Networks": self.networks},
        }


class Attaching:
    """Managers that give every container an address, and refuse when they are told to."""

    def __init__(self, engine: EngineClient, state_dir: Path) -> None:
        self.wires = FakeDataPlane()
        self.networks = NodeNetworks(engine)
        self.refusal = ""
        self.containers = Attachments(
            engine,
            self.wires,
            node_id=NODE,
            state_dir=state_dir,
            run_dir=state_dir / "run",
            gateways=GatewayAddresses(BRIDGE),
        )

    async def find(self, reference: str) -> pb.Network:
        raise ControlError(f"network {reference} not found", 404)

    async def run(self) -> None:
        while True:
            await self.containers.dirty.wait()
            self.containers.dirty.clear()
            said = self.containers.wanted()
            self.containers.answered(
                pb.AttachmentState(
                    container_id=each.container_id,
                    network_id=each.network_id,
                    made=0 if self.refusal else 1,
                    trouble=self.refusal,
                )
                for each in said
            )
            tasks = [_assigned(each) for each in said if not self.refusal]
            self.containers.assign(tasks)


def _assigned(wanted: pb.Attachment) -> pb.Task:
    task = pb.Task(id="t" * 25)
    task.spec.network_attachment_spec.container_id = wanted.container_id
    task.allocated_at.FromNanoseconds(1)
    given = task.networks_attachments.add(addresses=[wanted.address or "10.0.1.2/24"])
    given.network.id = wanted.network_id
    return task


@pytest.fixture
async def engine(tmp_path: Path) -> AsyncIterator[Engine]:
    """Name: engine. Scope: function. On a socket of its own."""
    made = Engine()
    runner = web.AppRunner(made.app())
    await runner.setup()
    await web.UnixSite(runner, str(tmp_path / "engine.sock")).start()
    yield made
    await runner.cleanup()


@pytest.fixture
async def attaching(engine: Engine, tmp_path: Path) -> AsyncIterator[Attaching]:
    """Name: attaching. Scope: function. Depends: engine. A node's attached containers."""
    client = EngineClient(f"unix://{tmp_path}/engine.sock")
    made = Attaching(client, tmp_path)
    running = asyncio.create_task(made.run())
    yield made
    running.cancel()
    await made.containers.close()
    await client.close()


@pytest.fixture
async def client(
    store: Store, host: Any, attaching: Attaching, tmp_path: Path
) -> AsyncIterator[TestClient]:
    """Name: client. Scope: function. Depends: store, host, attaching. Of a manager's gateway."""
    for name in ("open", "closed"):
        network = pb.Network(id=name[0] * 25)
        network.spec.name, network.spec.attachable = name, name == "open"
        await store.commit([Put(network)])
    host.attaching = lambda: attaching
    engine = EngineClient(f"unix://{tmp_path}/engine.sock")
    async with TestClient(TestServer(application(host, EngineHttp(engine)))) as made:
        yield made
    await engine.close()


async def post(client: TestClient, path: str, body: object = None) -> tuple[int, Any]:
    async with client.post(path, json=body) as answer:
        raw = await answer.read()
        return answer.status, await answer.json() if raw else None


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - of several parts, none of which tells
            await asyncio.sleep(0)


RUN = {"Image": "i", "HostConfig": {"NetworkMode": "open"}}


async def test_a_container_is_made_behind_a_gate_and_its_network_is_there_when_it_is_started(
    client: TestClient, engine: Engine, attaching: Attaching, tmp_path: Path
):
    assert await post(client, "/containers/create?name=c1", RUN) == (
        201,
        {"Id": C1, "Warnings": []},
    )
    key = engine.made["Labels"][LABEL]
    assert engine.made["HostConfig"]["NetworkMode"] == "none"
    gate = engine.made["HostConfig"]["Mounts"][-1]["Source"]
    shell = os.open(gate, os.O_RDONLY | os.O_NONBLOCK)
    assert [place.given for place in load(tmp_path / ATTACHED)[0].places] == ["10.0.1.2/24"]
    attaching.wires.gate.clear()
    starting = asyncio.ensure_future(post(client, "/containers/c1/start"))
    await until(lambda: key in attaching.wires.sandboxes)
    assert (starting.done(), os.read(shell, 9)) == (False, b"")
    attaching.wires.gate.set()
    assert await starting == (204, None)
    assert os.read(shell, 9) == b"\n"
    os.close(shell)
    assert attaching.wires.sandboxes[key].networks == (("o" * 25, IPv4Interface("10.0.1.2/24")),)


async def test_a_network_that_is_not_attachable_is_refused_in_swarm_s_words(
    client: TestClient, engine: Engine
):
    refused = (
        500,
        {
            "message": "Could not attach to network closed: rpc error: code = PermissionDenied "
            "desc = network closed not manually attachable"
        },
    )
    for body in (
        {"Image": "i", "HostConfig": {"NetworkMode": "closed"}},
        {"Image": "i", "NetworkingConfig": {"EndpointsConfig": {"closed": {}}}},
    ):
        assert await post(client, "/containers/create", body) == refused
    assert await post(client, "/networks/closed/connect", {"Container": "c1"}) == refused
    assert engine.asked == []


async def test_a_container_that_gets_no_address_is_gone_again(
    client: TestClient, engine: Engine, attaching: Attaching, tmp_path: Path
):
    attaching.refusal = "Address already in use"
    status, body = await post(client, "/containers/create", RUN)
    assert status == 500
    assert body["message"] == "Could not attach to network open: Address already in use"
    assert engine.asked[-1] == (f"DELETE /containers/{C1}", None)
    attaching.containers.refresh()
    await until(lambda: load(tmp_path / ATTACHED) == [])


async def test_an_image_that_is_not_here_is_the_engine_s_to_refuse(
    client: TestClient, engine: Engine, tmp_path: Path
):
    body = {"Image": "other", "HostConfig": {"NetworkMode": "open"}}
    await post(client, "/containers/create", body)
    assert engine.asked == [("POST /containers/create", body)]
    assert load(tmp_path / ATTACHED) == []


async def test_containers_on_none_of_ours_go_on_as_they_came(
    client: TestClient, engine: Engine, attaching: Attaching
):
    body = {"Image": "i", "HostConfig": {"NetworkMode": "bridge"}}
    assert (await post(client, "/containers/create", body))[0] == 201
    assert (await post(client, "/containers/c1/start"))[0] == 204
    assert (await post(client, "/networks/br/connect", {"Container": "c1"}))[0] == 200
    assert [asked for asked, _ in engine.asked] == [
        "POST /containers/create",
        "POST /containers/c1/start",
        "POST /networks/br/connect",
    ]
    assert attaching.wires.sandboxes == {}


async def test_a_network_of_the_engine_s_takes_the_place_of_none(
    client: TestClient, engine: Engine, tmp_path: Path
):
    await post(client, "/containers/create", RUN)
    assert (await post(client, "/networks/br/connect", {"Container": "c1"}))[0] == 200
    assert [asked for asked, _ in engine.asked[-2:]] == [
        "POST /networks/none/disconnect",
        "POST /networks/br/connect",
    ]
    [record] = load(tmp_path / ATTACHED)
    assert [place.number for place in record.places] == [10]


async def test_connect_and_disconnect_on_a_container_of_the_engine_s(
    client: TestClient, engine: Engine, attaching: Attaching, tmp_path: Path
):
    engine.made, engine.running = {"HostConfig": {"NetworkMode": "default"}}, True
    engine.networks = {"bridge": {"IPAddress": "172.17.0.2", "Gateway": "172.17.0.1"}}
    asked = {"Container": "c1", "EndpointConfig": {"Aliases": ["x"]}}
    assert await post(client, "/networks/open/connect", asked) == (200, None)
    [box] = attaching.wires.sandboxes.values()
    assert (box.gateway_address, box.interface(0)) == (None, "eth11")
    [endpoint] = attaching.wires.endpoints.values()
    assert endpoint.aliases == {"o" * 25: ("x",)}
    status, body = await post(client, "/networks/open/connect", asked)
    assert (status, body["message"]) == (
        403,
        f"endpoint with name {C1[:12]} already exists in network open",
    )
    assert await post(client, "/networks/open/disconnect", {"Container": "c1"}) == (200, None)
    assert attaching.wires.endpoints == {}
    assert engine.asked == []


async def test_what_would_wait_at_its_gate_for_ever_is_not_started(
    client: TestClient, engine: Engine, host: Any
):
    host.attaching = lambda: None
    host._store = None
    engine.made = {"Labels": {LABEL: "k" * 25}, "Entrypoint": [gate.SHELL_TARGET]}
    status, body = await post(client, "/containers/c1/start")
    assert status == 503
    assert body["message"].startswith("Could not attach to network of the swarm: This node is not")
    for labels in ({}, {LABEL: "k" * 25}):  # the label alone: of an image made of such a one
        engine.made = {"Labels": labels}
        assert (await post(client, "/containers/c1/start"))[0] == 204


async def test_the_networks_of_a_task_are_its_service_s(client: TestClient, engine: Engine):
    labels = {"com.docker.swarm.task.id": "t" * 25, "com.docker.swarm.task.name": "c1"}
    engine.made = {"Labels": labels, "HostConfig": {}}
    status, body = await post(client, "/networks/open/connect", {"Container": "c1"})
    assert status == 403
    assert "docker service update --network-add" in body["message"]
    engine.made["Labels"] = labels | {"com.docker.swarm.task.name": "web.1"}  # its image's
    assert (await post(client, "/networks/open/connect", {"Container": "c1"}))[0] == 200


@pytest.mark.parametrize(
    ("port", "why"),
    [("8080", "port is already allocated"), ("2377", "address already in use")],
)
async def test_a_port_that_somebody_has_keeps_a_container_from_starting(
    client: TestClient,
    engine: Engine,
    host: Any,
    monkeypatch: pytest.MonkeyPatch,
    port: str,
    why: str,
):
    host.known = known()  # a service has 8080
    monkeypatch.setattr(host_sockets, "waited_at", lambda: {("tcp", 2377): 1})
    bound = {"PortBindings": {"80/tcp": [{"HostPort": port}]}}
    body = {"Image": "i", "HostConfig": {"NetworkMode": "open", **bound}}
    assert (await post(client, "/containers/create", body))[0] == 201
    status, said = await post(client, "/containers/c1/start")
    assert (status, engine.started) == (500, 0)
    assert f"0.0.0.0:{port}" in said["message"]
    assert why in said["message"]


def test_a_port_of_its_own_is_not_somebody_elses():
    seen = known()
    [(key, box)] = seen.snapshot.sandboxes.items()
    box = replace(box, ports=(PublishedPort("tcp", 80, 90, "host"),))
    seen = replace(seen, snapshot=replace(seen.snapshot, sandboxes={key: box}))
    record = Record("k" * 25, HERE, ports=(("tcp", 80, 90),))
    port_conflicts.check(record, "c1", seen, {("udp", 90), ("tcp", 80)})
    with pytest.raises(ControlError, match=r"endpoint c1: Bind for 0\.0\.0\.0:90 failed"):
        port_conflicts.check(replace(record, container="f" * 64), "c1", seen, ())
    port_conflicts.check(replace(record, container="f" * 64), "c1", None, ())


@pytest.fixture
async def local(store: Store) -> str:
    """Name: local. Scope: function. Depends: store. ID of a network that each node makes."""
    network = pb.Network(id="m" * 25)
    network.spec.name, network.spec.attachable = "mv", True
    network.spec.driver_configuration.name = network.driver_state.name = "macvlan"
    await store.commit([Put(network)])
    return network.id


@pytest.mark.parametrize("by_id", [False, True])
async def test_a_network_that_the_node_makes_is_there_before_the_container_and_the_engine_s_to_wire(
    client: TestClient,
    engine: Engine,
    attaching: Attaching,
    local: str,
    by_id: bool,  # noqa: FBT001 - pytest gives it by name
):
    named = local if by_id else "mv"
    run = {
        "Image": "i",
        "HostConfig": {"NetworkMode": named},
        "NetworkingConfig": {"EndpointsConfig": {named: {"Aliases": ["x"]}}},
    }
    assert (await post(client, "/containers/create", run))[0] == 201
    assert [asked for asked, _ in engine.asked] == [
        "POST /networks/create",
        "POST /containers/create",
    ]
    assert engine.made["HostConfig"]["NetworkMode"] == "mv"
    assert engine.made["NetworkingConfig"]["EndpointsConfig"] == {"mv": {"Aliases": ["x"]}}
    for verb in ("connect", "disconnect"):
        await post(client, f"/networks/{named}/{verb}", {"Container": "c1"})
        assert engine.asked[-1] == (f"POST /networks/mv/{verb}", {"Container": "c1"})
    assert attaching.containers.records == {}, "nothing of it is ours to wire"


async def test_such_a_network_is_shown_as_the_cluster_s_with_what_is_on_it_and_not_removed_then(
    client: TestClient, engine: Engine, local: str
):
    await post(client, "/containers/create", {"Image": "i", "HostConfig": {"NetworkMode": "mv"}})
    engine.own[0]["Containers"] = {C1: {"Name": "c1"}}
    async with client.get("/networks") as answer:
        listed = [each for each in await answer.json() if each["Name"] == "mv"]
    assert [(each["Id"], each["Scope"]) for each in listed] == [(local, "swarm")]
    async with client.get(f"/networks/{local}") as answer:
        assert (await answer.json())["Containers"] == {C1: {"Name": "c1"}}
    async with client.delete("/networks/mv") as answer:
        assert answer.status == 403
        assert "has active endpoints" in (await answer.json())["message"]
    engine.own[0]["Containers"] = {}
    async with client.delete("/networks/mv") as answer:
        assert answer.status == 204


async def test_of_two_containers_that_start_at_once_one_has_the_port(
    client: TestClient, engine: Engine, attaching: Attaching
):
    bound = {"PortBindings": {"80/tcp": [{"HostPort": "8099"}]}}
    body = {"Image": "i", "HostConfig": {"NetworkMode": "open", **bound}}
    assert (await post(client, "/containers/create", body))[0] == 201
    [mine] = attaching.containers.records.values()
    other = replace(mine, container="d" * 64)
    starting = port_conflicts.Starting()
    with starting.taken(mine, "one", None, ()):
        with (
            pytest.raises(ControlError, match="8099 failed: port is already allocated"),
            starting.taken(other, "two", None, ()),
        ):
            pass
        with starting.taken(mine, "one", None, ()):
            pass
    with starting.taken(other, "two", None, ()):
        pass


async def test_a_port_is_taken_from_the_look_at_it_until_the_container_is_wired(
    client: TestClient, engine: Engine, attaching: Attaching, monkeypatch: pytest.MonkeyPatch
):
    held: set[str] = set()

    @contextmanager
    def taken(_: object, record: Record, *_rest: object) -> Iterator[None]:
        held.add(record.container)
        yield
        held.clear()

    monkeypatch.setattr(port_conflicts.Starting, "taken", taken)
    bound = {"PortBindings": {"80/tcp": [{"HostPort": "8099"}]}}
    body = {"Image": "i", "HostConfig": {"NetworkMode": "open", **bound}}
    assert (await post(client, "/containers/create", body))[0] == 201
    shell = os.open(engine.made["HostConfig"]["Mounts"][-1]["Source"], os.O_RDONLY | os.O_NONBLOCK)
    attaching.wires.gate.clear()
    starting = asyncio.ensure_future(post(client, "/containers/c1/start"))
    await until(lambda: bool(attaching.wires.sandboxes))
    assert (held, starting.done()) == ({C1}, False)
    attaching.wires.gate.set()
    assert (await starting, held) == ((204, None), set())
    os.close(shell)


def test_a_task_that_is_to_run_here_has_its_port_before_it_runs():
    seen = known()
    [task] = seen.tasks.values()
    task.desired_state = pb.TASK_STATE_RUNNING
    task.endpoint_spec.ports.add(published_port=8098, publish_mode="host")
    record = Record(key="k", container=C1, ports=(("tcp", 80, 8098),))
    with pytest.raises(ControlError, match="8098 failed: port is already allocated"):
        port_conflicts.check(record, "c1", seen, ())
    task.desired_state = pb.TASK_STATE_SHUTDOWN
    port_conflicts.check(record, "c1", seen, ())


async def test_a_number_that_nobody_asked_for_is_of_no_other_container(
    client: TestClient, attaching: Attaching, engine: Engine
):
    bound = {"PortBindings": {"80/tcp": [{"HostPort": ""}]}}
    body = {"Image": "i", "HostConfig": {"NetworkMode": "open", **bound}}
    given = set()
    for at in range(2):
        engine.name = f"{at}" * 64
        assert (await post(client, "/containers/create", body))[0] == 201
        given |= {each.ports for each in attaching.containers.records.values()}
    assert len({number for ports in given for _, _, number in ports}) == 2
