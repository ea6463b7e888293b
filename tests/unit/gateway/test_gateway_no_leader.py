"""docker.sock of a manager while too few others are there: what is read, refused, and how."""

from __future__ import annotations

from typing import Any

import pytest
from aiohttp.test_utils import TestClient

from meshnet_control.api import control_pb2 as pb
from meshnet_control.store.store import Put, Store, StoreClosedError, StoreNoLeaderError

DOCKERS = (
    "rpc error: code = Unknown desc = The swarm does not have a leader. It's possible that too few "
    "managers are online. Make sure more than half of the managers are online."
)
NODE = "c05ykilrz2cfspy1oomwnmsyg"
WEB = "wdjpr0jwfvfqw0pcnxyh4xk2x"
FILE = "gq6yfb47tbalxtb1phpicu2ig"
NET = "eu1104gd24z1pv4bi908ogvss"
TASK = "2lm2y2wk2vhn7cs4sbbhjlkzs"
SPEC: dict[str, Any] = {
    "Name": "web",
    "TaskTemplate": {"ContainerSpec": {"Image": "web:1"}},
    "Mode": {"Replicated": {"Replicas": 1}},
}
BODIES: dict[str, dict[str, Any]] = {
    "/services/create": {**SPEC, "Name": "new"},
    "/services/{id}/update": SPEC,
    "/secrets/create": {"Name": "new", "Data": "aGk="},
    "/configs/create": {"Name": "new", "Data": "aGk="},
    "/secrets/{id}/update": {"Name": "s1", "Labels": {"a": "b"}},
    "/configs/{id}/update": {"Name": "c1", "Labels": {"a": "b"}},
    "/networks/create": {"Name": "new", "Driver": "overlay"},
    "/nodes/{id}/update": {"Role": "manager", "Availability": "drain"},
    "/swarm/update": {"Name": "default", "Labels": {"a": "b"}},
}
IDS = {"services": WEB, "tasks": TASK, "secrets": FILE, "configs": FILE, "networks": NET}
ENGINES = {"/_ping", "/version", "/containers/create", "/volumes/prune", "/networks/{id}/connect",
           "/networks/{id}/disconnect", "/containers/json", "/containers/{id}/json",
           "/containers/{id}/stats", "/containers/{id}/changes", "/commit", "/images/{name}/json",
           "/containers/{id}/start", "/containers/{id}/restart", "/system/df"}  # fmt: skip
"""Served by the engine, whatever the cluster is like."""
OWN = {"/swarm/init": 503, "/swarm/join": 503, "/swarm/leave": 503, "/swarm/unlock": 409}
"""Of this node alone, refused for other reasons: it is in a swarm, a manager, not locked."""


async def some_of_each(store: Store) -> None:
    web = pb.Service(id=WEB, spec={"name": "web"})
    web.spec.task_template.container_spec.image = "web:1"
    web.spec.mode.replicated.replicas = 1
    secret, config = pb.Secret(id=FILE), pb.Config(id=FILE)
    secret.spec.name, config.spec.name = "s1", "c1"
    network = pb.Network(id=NET)
    network.spec.name, network.spec.driver_configuration.name = "net", "overlay"
    task = pb.Task(id=TASK, service_id=WEB, slot=1)
    await store.commit([Put(each) for each in (web, secret, config, network, task)])


@pytest.fixture
async def leaderless(store: Store, manager: TestClient, host: Any) -> TestClient:
    """Name: leaderless. Scope: function. Depends: manager. A manager that has lost the others."""
    await some_of_each(store)
    host.faulty.fault = StoreNoLeaderError()
    return manager


@pytest.fixture
async def alone(outsider: tuple[TestClient, Any]) -> TestClient:
    """Name: alone. Scope: function. Depends: outsider. A manager that begins without the others."""
    client, host = outsider
    host.alone = True
    return client


async def versions(client: TestClient) -> dict[str, int]:
    said = {}
    for kind, name in IDS.items():
        if kind != "networks":
            found = await (await client.get(f"/{kind}/{name}")).json()
            said[kind] = found["Version"]["Index"]
    said["nodes"] = (await (await client.get(f"/nodes/{NODE}")).json())["Version"]["Index"]
    said["swarm"] = (await (await client.get("/swarm")).json())["Version"]["Index"]
    return said


def routes(client: TestClient) -> list[tuple[str, str]]:
    """Method and path of all that is ours."""
    app = client.server.app  # type: ignore[attr-defined] # a TestServer of an application
    found = {(r.method, r.resource.canonical) for r in app.router.routes() if r.resource}
    return sorted(each for each in found if not each[1].startswith("/v{"))


def url(path: str, ids: dict[str, str], at: dict[str, int]) -> str:
    kind = path.split("/")[1]
    query = "?stdout=1&until=1" if path.endswith("logs") or path == "/events" else ""
    if path.endswith("update"):
        query = f"?version={at.get(kind, 1)}"
    return path.replace("{id}", {**ids, "nodes": NODE}.get(kind, "x")) + query


async def test_every_write_is_refused_in_dockers_words_and_every_read_answered(
    leaderless: TestClient,
):
    at = await versions(leaderless)
    for method, path in routes(leaderless):
        if path in ENGINES or path in OWN or path == "/networks/":
            continue  # the last one the stand-in engine does not know
        refused = path.endswith("logs") or method not in {"GET", "HEAD"}
        if (method, path) == ("DELETE", "/nodes/{id}"):
            continue  # a manager's: refused as ever
        answer = await leaderless.request(method, url(path, IDS, at), json=BODIES.get(path, {}))
        if refused:
            said = (answer.status, (await answer.json())["message"])
            assert said == (500, DOCKERS), f"{method} {path}"
        else:
            assert answer.status == 200, f"{method} {path}: {await answer.text()}"
            assert DOCKERS[-60:] in answer.headers["Warning"]
        answer.close()


async def test_a_manager_that_begins_alone_says_so_wherever_the_cluster_is_asked_for(
    alone: TestClient,
):
    for method, path in routes(alone):
        answer = await alone.request(method, url(path, IDS, {}), json=BODIES.get(path, {}))
        if path in ENGINES or path in {"/info", "/events", "/networks", "/networks/",
                                       "/networks/prune"}:  # fmt: skip
            assert answer.status in {200, 201, 404, 405}, f"{method} {path}"
        elif path in OWN:
            assert answer.status == OWN[path], f"{method} {path}"
        else:
            said = (answer.status, (await answer.json())["message"])
            assert said == (500, DOCKERS), f"{method} {path}"
        answer.close()


async def test_nobody_is_said_to_lead_or_to_be_reachable(leaderless: TestClient):
    (node,) = [n for n in await (await leaderless.get("/nodes")).json() if n["ID"] == NODE]
    one = await (await leaderless.get(f"/nodes/{NODE}")).json()
    for each in (node, one):
        status = each["ManagerStatus"]
        assert not status.get("Leader")
        assert (status["Reachability"], status["Addr"]) == ("unknown", "192.168.0.100:2377")


async def swarm_of(client: TestClient) -> dict[str, Any]:
    said: dict[str, Any] = (await (await client.get("/info")).json())["Swarm"]
    return said


async def test_info_says_it_as_docker_does(leaderless: TestClient):
    swarm = await swarm_of(leaderless)
    assert (swarm["LocalNodeState"], swarm["ControlAvailable"]) == ("active", True)
    assert swarm["Error"] == DOCKERS
    # what was last known is there all the same
    assert (swarm["Nodes"], swarm["Managers"]) == (2, 1)
    assert swarm["Cluster"]["ID"]


async def test_info_of_a_manager_that_begins_alone(alone: TestClient):
    swarm = await swarm_of(alone)
    assert (swarm["LocalNodeState"], swarm["ControlAvailable"]) == ("active", True)
    assert swarm["Error"] == DOCKERS


async def test_a_leader_again_is_no_warning(manager: TestClient):
    answer = await manager.get("/nodes")
    assert "Warning" not in answer.headers
    assert any(n.get("ManagerStatus", {}).get("Leader") for n in await answer.json())


async def test_a_manager_may_be_forced_to_go_on_alone_a_worker_may_not(
    alone: TestClient, outsider: tuple[TestClient, Any]
):
    _, host = outsider
    asked = {"ListenAddr": "0.0.0.0:2377", "AdvertiseAddr": "192.0.2.1", "ForceNewCluster": True}
    answer = await alone.post("/swarm/init", json=asked)
    assert (answer.status, host.calls) == (200, ["init 192.0.2.1"])
    host.worker = True
    answer = await alone.post("/swarm/init", json=asked)
    said = (await answer.json())["message"]
    assert answer.status == 503
    assert said.startswith("This node is not a swarm manager. Worker nodes can't be used")
    assert len(host.calls) == 1


async def test_what_waits_while_a_manager_becomes_a_worker_is_answered_as_by_a_worker(
    manager: TestClient, host: Any
):
    host.faulty.fault, host.worker = StoreClosedError("the store is closed"), True
    answer = await manager.post("/configs/create", json={"Name": "c", "Data": "aGk="})
    assert answer.status == 503
    assert (await answer.json())["message"].startswith("This node is not a swarm manager.")
