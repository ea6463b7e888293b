"""The version that users see moves by what users ask for, and by nothing that the cluster does."""

from __future__ import annotations

import json
from typing import Any

import pytest
from aiohttp.test_utils import TestClient
from tests.unit.gateway.conftest import Host
from whole_cluster import NODE, OVERLAY, WholeCluster

from meshnet.model.ids import ServiceId
from meshnet_control.api import control_pb2 as pb
from meshnet_control.controlapi import access
from meshnet_control.gateway.routes import swarm_events
from meshnet_control.store.store import Put

PLAIN: dict[str, Any] = {"Name": "web", "TaskTemplate": {"ContainerSpec": {"Image": "web:1"}}}
ATTACHED: dict[str, Any] = {
    **PLAIN,
    "TaskTemplate": {**PLAIN["TaskTemplate"], "Networks": [{"Target": "net"}]},
    "EndpointSpec": {"Ports": [{"TargetPort": 80, "PublishedPort": 8080}]},
}


async def told(cluster: WholeCluster, method: str, path: str, **said: Any) -> tuple[int, Any]:
    body = json.dumps(said.pop("body", {})).encode()
    status, answer = await cluster.ask(method, path, body, said)
    return status, json.loads(answer) if answer else None


@pytest.mark.parametrize("spec", [PLAIN, ATTACHED], ids=["plain", "attached"])
async def test_a_service_can_be_updated_by_the_version_it_was_made_with(spec: dict[str, Any]):
    cluster = WholeCluster()
    _, made = await told(cluster, "POST", "/services/create", body=spec)
    path = f"/services/{made['ID']}"
    at = (await told(cluster, "GET", path))[1]["Version"]["Index"]
    await cluster.settle()
    _, settled = await told(cluster, "GET", path)
    assert settled["Version"]["Index"] == at
    assert bool(settled["Endpoint"].get("VirtualIPs")) is (spec is ATTACHED)
    update = f"{path}/update"
    status, _ = await told(cluster, "POST", update, version=str(at), body=settled["Spec"])
    assert status == 200
    status, refused = await told(cluster, "POST", update, version=str(at), body=settled["Spec"])
    assert (status, refused["message"]) == (
        500,
        "rpc error: code = Unknown desc = update out of sequence",
    )
    after = (await told(cluster, "GET", path))[1]["Version"]["Index"]
    assert after > at
    _, rolled = await told(
        cluster, "POST", update, version=str(after), rollback="previous", body=settled["Spec"]
    )
    assert rolled == {"Warnings": None}


async def test_networks_that_an_older_client_names_beside_the_tasks_stay_there():
    cluster = WholeCluster()
    older = {**PLAIN, "Networks": [{"Target": "net", "Aliases": ["old"]}]}
    status, made = await told(cluster, "POST", "/services/create", body=older)
    assert status == 201
    await cluster.settle()
    _, service = await told(cluster, "GET", f"/services/{made['ID']}")
    assert service["Spec"]["Networks"] == [{"Target": OVERLAY, "Aliases": ["old"]}]
    assert "Networks" not in service["Spec"]["TaskTemplate"]
    assert [vip["NetworkID"] for vip in service["Endpoint"]["VirtualIPs"]] == [OVERLAY]
    tasks = [t for t in await cluster.store.list(pb.Task) if t.service_id == made["ID"]]
    assert [a.network.id for task in tasks for a in task.networks_attachments] == [OVERLAY]
    known = [s.services.get(ServiceId(made["ID"])) for s in await cluster.reach_the_kernel()]
    assert [dict(each.aliases) for each in known if each] == [{OVERLAY: ("old",)}]
    await told(
        cluster,
        "POST",
        f"/services/{made['ID']}/update",
        version=str(service["Version"]["Index"]),
        body={**service["Spec"], "Networks": []},
    )
    await cluster.settle()
    _, service = await told(cluster, "GET", f"/services/{made['ID']}")
    assert "VirtualIPs" not in service["Endpoint"]
    running = [
        t
        for t in await cluster.store.list(pb.Task)
        if t.service_id == made["ID"] and t.status.state == pb.TASK_STATE_RUNNING
    ]
    assert [list(t.networks_attachments) for t in running] == [[]]
    assert (await told(cluster, "DELETE", f"/networks/{OVERLAY}"))[0] == 204


async def test_a_service_that_needs_nothing_is_not_written_again():
    cluster = WholeCluster()
    _, made = await told(cluster, "POST", "/services/create", body=PLAIN)
    await cluster.settle()
    changes = [c for c in cluster.store.changes if c.id == made["ID"]]
    assert len(changes) == 1
    assert (await told(cluster, "GET", f"/services/{made['ID']}"))[1]["Endpoint"] == {"Spec": {}}


async def test_a_node_and_the_cluster_keep_their_versions_while_the_cluster_works():
    cluster = WholeCluster()
    before = [(await told(cluster, "GET", p))[1]["Version"] for p in (f"/nodes/{NODE}", "/swarm")]
    await told(cluster, "POST", "/services/create", body=ATTACHED)
    await cluster.settle()
    node = await cluster.store.get(pb.Node, NODE)
    assert node.ingress_address
    assert node.version.index > before[0]["Index"]
    after = [(await told(cluster, "GET", p))[1]["Version"] for p in (f"/nodes/{NODE}", "/swarm")]
    assert after == before
    status, _ = await told(
        cluster,
        "POST",
        f"/nodes/{NODE}/update",
        version=str(before[0]["Index"]),
        body={"Role": "manager", "Availability": "drain"},
    )
    assert status == 200


async def test_what_the_cluster_writes_between_reading_and_writing_is_kept(
    manager: TestClient, host: Host
):
    made = await (await manager.post("/services/create", json=PLAIN)).json()
    store = host.faulty
    assert store is not None

    async def orchestrate():
        service = await store.get(pb.Service, made["ID"])
        assert service is not None
        service.update_status.state = "updating"
        await store._behind.commit([Put(service)])

    at = (await (await manager.get("/services/web")).json())["Version"]["Index"]
    store.meanwhile = orchestrate
    spec = {**PLAIN, "Labels": {"a": "b"}}
    answer = await manager.post("/services/web/update", params={"version": at}, json=spec)
    assert answer.status == 200
    after = await (await manager.get("/services/web")).json()
    assert after["Spec"]["Labels"] == {"a": "b"}


async def test_a_user_who_was_quicker_is_not_overwritten(manager: TestClient, host: Host):
    made = await (await manager.post("/services/create", json=PLAIN)).json()
    store = host.faulty
    assert store is not None

    async def other():
        service = await store.get(pb.Service, made["ID"])
        assert service is not None
        service.spec.labels["mine"] = "yes"
        service.version.ClearField("asked")
        await store._behind.commit([Put(service)])

    at = (await (await manager.get("/services/web")).json())["Version"]["Index"]
    store.meanwhile = other
    answer = await manager.post("/services/web/update", params={"version": at}, json=PLAIN)
    assert (answer.status, (await answer.json())["message"]) == (
        500,
        "rpc error: code = Unknown desc = update out of sequence",
    )
    assert (await (await manager.get("/services/web")).json())["Spec"]["Labels"] == {"mine": "yes"}


async def test_a_write_that_is_always_forestalled_ends(
    manager: TestClient, host: Host, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(access, "TRIES", 2)
    await manager.post("/services/create", json=PLAIN)
    store = host.faulty
    assert store is not None

    async def again():
        store.meanwhile = again
        service = (await store.list(pb.Service))[0]
        service.update_status.message += "x"
        await store._behind.commit([Put(service)])

    at = (await (await manager.get("/services/web")).json())["Version"]["Index"]
    store.meanwhile = again
    answer = await manager.post("/services/web/update", params={"version": at}, json=PLAIN)
    assert answer.status == 500
    store.meanwhile = None


async def test_giving_addresses_is_no_event():
    cluster = WholeCluster()
    _, made = await told(cluster, "POST", "/services/create", body=ATTACHED)
    await cluster.settle()
    known: dict[Any, swarm_events.Known] = {}
    said = []
    changes = [c for c in cluster.store.changes if c.id == made["ID"]]
    assert len(changes) > 1
    for change in changes:
        event = swarm_events.event(known.get(change.id), change, 0)
        said += [event["Action"]] if event is not None else []
        assert change.message is not None
        known[change.id] = swarm_events.known(change.message)
    assert said == ["create"]
