"""What the gateway refuses: bodies that are no JSON object, and what this version lacks.

Each refusal of a thing that exists in Docker names it and what to do instead (style: one sentence).
"""

from __future__ import annotations

import json
from typing import Any

import pytest
from aiohttp.test_utils import TestClient
from hypothesis import given
from hypothesis import strategies as st

from meshnet.errors import ControlError
from meshnet_control.api.control_pb2 import Cluster
from meshnet_control.convert.json_text import parse_object
from meshnet_control.store.store import Put, Store

CONTAINER: dict[str, Any] = {"Image": "nginx"}
NOT_OBJECTS = [
    (b"\xff\xfe{}", "not UTF-8"),
    (b"[]", "array"),
    (b'"web"', "string"),
    (b"null", "null"),
    (b"7", "number"),
    (b"true", "bool"),
    (b"", "EOF"),
    (b'{"Name":', "unexpected EOF"),
    (b"[" * 100_000, "max depth"),
    (b'{"Name": ' + b"9" * 5000 + b"}", "number"),
]


@given(st.binary(max_size=60))
def test_a_body_is_an_object_or_a_refusal(raw: bytes):
    status = 400
    try:
        parse_object(raw)
    except ControlError as error:
        status = error.status
    else:
        assert isinstance(json.loads(raw), dict)
    assert status == 400


@pytest.mark.parametrize(("raw", "says"), NOT_OBJECTS)
@pytest.mark.parametrize(
    "path",
    ["/services/create", "/networks/create", "/containers/create", "/swarm/update?version=1"],
)
async def test_a_body_that_is_no_object(manager: TestClient, path: str, raw: bytes, says: str):
    answer = await manager.post(path, data=raw)
    assert answer.status == 400
    assert says in (await answer.json())["message"]


async def test_a_lone_surrogate_is_no_text(manager: TestClient):
    raw = json.dumps(service(Labels={"a": "\ud800"}))
    answer = await manager.post("/services/create", data=raw)
    assert answer.status == 400, await answer.text()


def service(**parts: Any) -> dict[str, Any]:
    return {"Name": "web", "TaskTemplate": {"ContainerSpec": CONTAINER}} | parts


def task(networks: tuple[str, ...] = (), **container: Any) -> dict[str, Any]:
    spec = {"ContainerSpec": CONTAINER | container, "Networks": [{"Target": n} for n in networks]}
    return service(TaskTemplate=spec)


LACKING = [
    ("/services/create", task(Isolation="hyperv"), "isolation hyperv", "--isolation"),
    (
        "/services/create",
        task(Privileges={"CredentialSpec": {"File": "x"}}),
        "credential specs",
        "--credential-spec",
    ),
    (
        "/configs/create",
        {"Name": "c", "Data": "YQ==", "Templating": {"Name": "jinja"}},
        "template driver jinja",
        "--template-driver",
    ),
    (
        "/secrets/create",
        {"Name": "s", "Data": "YQ==", "Driver": {"Name": "vault"}},
        "secret driver vault",
        "--driver",
    ),
    (
        "/networks/create",
        {"Name": "n", "Driver": "overlay", "EnableIPv6": True, "EnableIPv4": False},
        "without IPv4",
        "--ipv4=false",
    ),
]


@pytest.mark.parametrize(("path", "body", "names", "advises"), LACKING)
async def test_what_this_version_lacks(
    manager: TestClient, path: str, body: dict[str, Any], names: str, advises: str
):
    answer = await manager.post(path, data=json.dumps(body))
    said = (await answer.json())["message"]
    assert answer.status == 501, said
    assert names in said
    assert advises in said


@pytest.mark.parametrize("name", ["docker_gwbridge", "c99d"])
async def test_docker_gwbridge_is_in_use_while_in_a_swarm(manager: TestClient, outsider, name: str):
    answer = await manager.delete(f"/networks/{name}")
    assert (answer.status, (await answer.json())["message"]) == (
        403,
        "error while removing network: network docker_gwbridge id c99d0f4720de "
        "has active endpoints",
    )
    assert (await outsider[0].delete(f"/networks/{name}")).status == 200


async def test_a_prune_does_not_tell_of_docker_gwbridge_while_in_a_swarm(
    manager: TestClient, outsider
):
    for client, gone in (
        (manager, ["unused"]),
        (outsider[0], ["docker_gwbridge", "unused"]),
    ):
        answer = await client.post("/networks/prune", params={"filters": '{"label!": ["x"]}'})
        assert (await answer.json())["NetworksDeleted"] == gone


@pytest.mark.parametrize(
    ("port", "protocol"),
    [(2377, "tcp"), (2380, "tcp"), (7946, "tcp"), (7946, "udp"), (4789, "udp")],
)
async def test_ports_that_the_cluster_itself_needs_are_not_published(
    manager: TestClient, port: int, protocol: str
) -> None:
    published = {"Ports": [{"Protocol": protocol, "TargetPort": 80, "PublishedPort": port}]}
    answer = await manager.post("/services/create", json=service(EndpointSpec=published))
    assert answer.status == 400
    assert f"port {port}/{protocol} is the cluster's own" in (await answer.json())["message"]


async def test_no_port_is_published_on_every_node_without_the_ingress_network(manager: TestClient):
    ingress, host = (
        service(EndpointSpec={"Ports": [{"TargetPort": 80, "PublishMode": mode}]})
        for mode in ("ingress", "host")
    )
    assert (await manager.post("/services/create", json={**ingress, "Name": "a"})).status == 201
    await manager.delete("/services/a")
    assert (await manager.delete("/networks/ingress")).status == 204
    words = (
        "rpc error: code = FailedPrecondition desc = "
        "service needs ingress network, but no ingress network is present"
    )
    answer = await manager.post("/services/create", json={**ingress, "Name": "b"})
    assert (answer.status, (await answer.json())["message"]) == (400, words)
    assert (await manager.post("/services/create", json={**host, "Name": "c"})).status == 201
    at = (await (await manager.get("/services/c")).json())["Version"]["Index"]
    answer = await manager.post(
        "/services/c/update", params={"version": at}, json={**ingress, "Name": "c"}
    )
    assert (answer.status, (await answer.json())["message"]) == (400, words)


async def test_vxlan_s_port_is_the_cluster_s_own_whichever_it_is(manager: TestClient, store: Store):
    (cluster,) = await store.list(Cluster)
    cluster.data_path_port = 7777
    await store.commit([Put(cluster)])
    said = []
    for number in (7777, 4789):
        published = {"Ports": [{"Protocol": "udp", "TargetPort": 53, "PublishedPort": number}]}
        answer = await manager.post("/services/create", json=service(EndpointSpec=published))
        said.append(answer.status)
    assert said == [400, 201]
