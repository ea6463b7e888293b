"""Services that are refused: what no service can have, and fields that nobody here knows."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from aiohttp.test_utils import TestClient

CONTAINER: dict[str, Any] = {"Image": "nginx"}
JOB: dict[str, Any] = {"ReplicatedJob": {}}


def service(**parts: Any) -> dict[str, Any]:
    return {"Name": "web", "TaskTemplate": {"ContainerSpec": CONTAINER}} | parts


def template(**parts: Any) -> dict[str, Any]:
    return service(TaskTemplate={"ContainerSpec": CONTAINER} | parts)


def container(**parts: Any) -> dict[str, Any]:
    return template(ContainerSpec=CONTAINER | parts)


IMPOSSIBLE = [
    (service(Mode=JOB, UpdateConfig={"Parallelism": 1}), "Jobs may not have an update config"),
    (service(Mode=JOB, RollbackConfig={}), "Jobs may not have a rollback config"),
    (service(Mode=JOB | {"Global": {}}), "must specify only one service mode"),
    (
        service(Mode={"ReplicatedJob": {"TotalCompletions": 2**63}}),
        "replicas 9223372036854775808: Must be at most",
    ),
    (
        template(Resources={"SwapBytes": 2**20}),
        "always set the Memory limit when using Memoryswap limit",
    ),
    (template(Resources={"SwapBytes": -2}), "invalid swap value -2"),
    (template(Resources={"MemorySwappiness": 101}), "valid memory swappiness range is 0-100"),
]
UNKNOWN = [
    (service(Colour="red"), "Colour"),
    (service(Mode={"Twice": {"Replicas": 2}}), "Mode.Twice"),
    (template(Deadline=5), "TaskTemplate.Deadline"),
    (template(PluginSpec={"Name": "x"}), "PluginSpec"),
    (container(Devices=["/dev/kvm"]), "TaskTemplate.ContainerSpec.Devices"),
    (
        container(Mounts=[{"Type": "tmpfs", "Target": "/t", "TmpfsOptions": {"Options": [["a"]]}}]),
        "Mounts.TmpfsOptions.Options",
    ),
    (template(Resources={"Limits": {"BlkioWeight": 5}}), "Resources.Limits.BlkioWeight"),
    (service(EndpointSpec={"Ports": [{"HostIP": "10.0.0.1"}]}), "EndpointSpec.Ports.HostIP"),
]


@pytest.mark.parametrize(("body", "says"), IMPOSSIBLE)
async def test_what_no_service_can_have(manager: TestClient, body: dict[str, Any], says: str):
    answer = await manager.post("/services/create", json=body)
    assert answer.status == 400
    assert says in (await answer.json())["message"]


@pytest.mark.parametrize(("body", "names"), UNKNOWN)
async def test_a_field_nobody_knows_that_carries_a_value_is_refused_by_name(
    manager: TestClient, body: dict[str, Any], names: str
):
    answer = await manager.post("/services/create", json=body)
    said = (await answer.json())["message"]
    assert answer.status == 400, said
    assert f"{names} is not supported by this version of meshnet" in said
    assert await (await manager.get("/services")).json() == []


async def test_a_job_has_its_iteration_from_the_first(manager: TestClient):
    made = (await (await manager.post("/services/create", json=service(Mode=JOB))).json())["ID"]
    seen = await (await manager.get(f"/services/{made}")).json()
    assert seen["Spec"]["Mode"] == {"ReplicatedJob": {"MaxConcurrent": 1, "TotalCompletions": 1}}
    assert seen["JobStatus"]["JobIteration"] == {}
    version = {"version": str(seen["Version"]["Index"])}
    relabelled = seen["Spec"] | {"Labels": {"run": "2"}}
    answer = await manager.post(f"/services/{made}/update", params=version, json=relabelled)
    assert answer.status == 200
    again = await (await manager.get(f"/services/{made}?insertDefaults=true")).json()
    assert again["JobStatus"]["JobIteration"] == {"Index": 1}
    assert again["JobStatus"]["LastExecution"] >= seen["JobStatus"]["LastExecution"]
    version = {"version": str(again["Version"]["Index"])}
    answer = await manager.post(f"/services/{made}/update", params=version, json=again["Spec"])
    assert answer.status == 200, "what was shown with its defaults can be sent back"


@pytest.mark.parametrize("kind", ["configs", "secrets"])
@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a {{ if .Task }}b{{ end }}", "{{if .Task}} is not supported by this version of meshnet"),
        ('a\n{{ envv "A" }}', 'template: expansion:2: function "envv" not defined'),
        ("{{ .Task.Slot", "template: expansion:1: unclosed action"),
    ],
)
async def test_a_templated_file_that_no_node_could_expand(
    manager: TestClient, kind: str, text: str, says: str
):
    body = {
        "Name": "c",
        "Data": base64.b64encode(text.encode()).decode(),
        "Templating": {"Name": "golang"},
    }
    answer = await manager.post(f"/{kind}/create", json=body)
    assert answer.status == 400
    assert says in (await answer.json())["message"]
    assert (await manager.post(f"/{kind}/create", json=body | {"Templating": None})).status == 201
