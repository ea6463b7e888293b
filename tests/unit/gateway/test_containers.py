"""Containers of tasks as clients see them: in lists and filters, inspected, measured."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from ipaddress import IPv6Interface
from typing import Any

import pytest
from aiohttp.test_utils import TestClient
from hypothesis import example, given
from hypothesis import strategies as st
from known_overlays import CONTAINERS, HERE, INGRESS, NET, known

from meshnet.kernel.net_dev import Counters, Traffic, traffic
from meshnet.model.ids import TaskId
from meshnet.model.snapshot import PublishedPort
from meshnet_control.agent.attached_record import LABEL, Place, Record
from meshnet_control.dataplane.overlays import endpoint_id
from meshnet_control.gateway import container_json, own_words

IDLE = "e" * 64
EVERYWHERE = "0.0.0.0"  # noqa: S104 - as the engine writes it
ON_NET = {
    "IPAMConfig": {"IPv4Address": "10.0.1.3"},
    "Links": None,
    "Aliases": None,
    "NetworkID": NET,
    "EndpointID": endpoint_id(NET, HERE),
    "Gateway": "",
    "IPAddress": "10.0.1.3",
    "IPPrefixLen": 24,
    "IPv6Gateway": "",
    "GlobalIPv6Address": "",
    "GlobalIPv6PrefixLen": 0,
    "MacAddress": "02:42:0a:00:01:03",
    "DriverOpts": None,
}
"""As a real engine answered for a task's container (recorded), but for the ids."""


@pytest.fixture
def worker(outsider):
    """Name: worker. Scope: function. Depends: outsider. A client of a worker's gateway."""
    client, host = outsider
    host.worker, host.known = True, known()
    return client


async def listed(client: TestClient, filters: Any = None, **query: str) -> tuple[int, Any]:
    if filters is not None:
        query["filters"] = json.dumps(filters)
    answer = await client.get("/v1.41/containers/json", params=query)
    return answer.status, await answer.json()


async def names(client: TestClient, filters: Any = None, **query: str) -> str:
    """First letters of the ids that are listed."""
    status, found = await listed(client, filters, **query)
    assert status == 200, found
    return "".join(entry["Id"][0] for entry in found)


async def test_a_list_shows_the_networks_of_tasks(worker: TestClient):
    _, (plain, task, idle, other) = await listed(worker)
    assert [plain, other] == [CONTAINERS[0], CONTAINERS[3]]
    assert [*task["NetworkSettings"]["Networks"]] == ["discovery", "ingress"]
    assert task["NetworkSettings"]["Networks"]["discovery"] == ON_NET
    assert task["HostConfig"]["NetworkMode"] == "default"
    left = idle["NetworkSettings"]["Networks"]["discovery"]
    assert (left["NetworkID"], left["EndpointID"], left["IPAddress"]) == (NET, "", "")


def test_a_container_on_a_dual_stack_network_shows_both_addresses():
    found = known()
    both = ((NET, IPv6Interface("fd00:7::3/64")),)
    boxes = {t: replace(box, networks6=both) for t, box in found.snapshot.sandboxes.items()}
    for net in found.tasks[TaskId("t1")].networks_attachments:
        if net.network.id == NET:
            net.addresses.append("fd00:7::3/64")
    found = replace(found, snapshot=replace(found.snapshot, sandboxes=boxes))
    entries = container_json.listed(CONTAINERS, found, container_json.Asked({}))
    shown = entries[1]["NetworkSettings"]["Networks"]
    six = {"GlobalIPv6Address": "fd00:7::3", "GlobalIPv6PrefixLen": 64}
    asked = {"IPAMConfig": {"IPv4Address": "10.0.1.3", "IPv6Address": "fd00:7::3"}}
    assert shown["discovery"] == ON_NET | six | asked
    assert shown["ingress"]["GlobalIPv6Address"] == ""
    assert (
        entries[2]["NetworkSettings"]["Networks"]["discovery"]["IPAMConfig"] == asked["IPAMConfig"]
    )


@pytest.mark.parametrize(
    ("filters", "found"),
    [
        ({"is-task": ["true"]}, "ce"),
        ({"is-task": {"true": True}}, "ce"),
        ({"is-task": ["false"]}, "af"),
        ({"network": ["discovery"]}, "ce"),
        ({"network": [NET[:7]]}, "ce"),
        ({"network": ["ingress", "bridge"]}, "acef"),
        ({"network": ["bridge"], "is-task": ["true"]}, ""),
        ({"network": ["4a09f"]}, "f"),
        ({"network": ["none"]}, ""),
        ({"network": ["disc"]}, ""),
        ({"network": ["discovery"], "label": ["nosuch"]}, ""),
        ({"is-task": ["true"], "label": ["com.docker.swarm.task.id"]}, "ce"),
    ],
)
async def test_filters_of_tasks_and_networks_join_the_engines(
    worker: TestClient, filters: dict[str, Any], found: str
):
    assert await names(worker, filters) == found


async def test_the_last_ones_are_counted_among_those_that_fit(worker: TestClient):
    assert await names(worker, limit="1") == "a"
    assert await names(worker, {"is-task": ["true"]}, limit="1") == "c"
    assert await names(worker, {"is-task": ["false"]}, limit="2") == "af"
    assert await names(worker, {"network": ["ingress"]}, limit="1") == "c"


def test_what_the_engine_is_asked():
    plain = {"all": "1", "filters": '{"status":["exited"]}'}
    assert container_json.asked(plain).query == plain
    ours = container_json.asked({"limit": "3", "size": "1", "filters": '{"network":["n"]}'})
    assert ours.query == {"filters": "{}", "all": "1", "size": "1"}  # stopped ones count, too
    assert ours.limit == 3
    left = container_json.asked({"limit": "3", "filters": '{"is-task":["true"]}'})
    assert ("limit" in left.query, left.limit) == (False, 3)


@pytest.mark.parametrize(
    "filters", ["{", "[]", '{"is-task":["maybe"]}', '{"is-task":"true"}', '{"nosuch":["x"]}', "1"]
)
def test_what_is_malformed_is_the_engines_to_refuse(filters: str):
    asked = container_json.asked({"filters": filters})
    assert asked.query == {"filters": filters}
    assert asked.all_done


@given(
    st.dictionaries(
        st.sampled_from(["limit", "all", "size"]), st.text() | st.integers().map(str), max_size=3
    ),
    st.none()
    | st.text()
    | st.dictionaries(
        st.sampled_from(["is-task", "network", "label", "name"]),
        st.lists(st.sampled_from(["true", "false", "web", "\ud800"]))
        | st.dictionaries(st.sampled_from(["true", "false", "web"]), st.booleans())
        | st.integers(),
    ).map(json.dumps),
)
@example({"limit": "9" * 5000}, '{"is-task":["false"]}')
@example({}, "[" * 5000)
def test_law_whatever_is_asked_for_is_divided_or_left_to_the_engine(
    query: dict[str, str], filters: str | None
):
    asked = container_json.asked(query if filters is None else {**query, "filters": filters})
    left = asked.query.get("filters")
    assert asked.all_done or json.loads(str(left)).keys().isdisjoint(
        {"network"} if asked.networks else {"is-task"}
    )


async def test_a_refusal_is_the_engines_own(worker: TestClient):
    assert await listed(worker, {"is-task": ["maybe"]}) == (
        400,
        {"message": "Invalid filter ['is-task']"},
    )


async def test_out_of_a_cluster_there_are_no_tasks(outsider):
    client, _ = outsider
    assert (await listed(client))[1] == [own_words.listed(each) for each in CONTAINERS]
    assert await names(client, {"is-task": ["false"]}) == "af"


@pytest.mark.parametrize(("version", "found"), [("v1.41", None), ("v1.44", "DNSNames")])
async def test_inspect_shows_the_endpoints_of_a_task(
    worker: TestClient, version: str, found: str | None
):
    seen = await (await worker.get(f"/{version}/containers/{HERE}/json")).json()
    networks = seen["NetworkSettings"]["Networks"]
    assert [*networks] == ["discovery", "ingress"]
    dns = networks["discovery"].pop("DNSNames", None)
    assert dns == (["web.1.t1", "w", HERE[:12]] if found else None)
    assert networks["discovery"] == {**ON_NET, "Aliases": ["w", HERE[:12]]}
    assert networks["ingress"]["NetworkID"] == INGRESS
    assert seen["HostConfig"]["NetworkMode"] == "default"
    assert seen["NetworkSettings"]["Ports"] == {"80/tcp": None}
    strangers = await (await worker.get(f"/{version}/containers/{'b' * 64}/json")).json()
    assert [*strangers["NetworkSettings"]["Networks"]] == ["none"]


def test_ports_published_on_this_node_alone_are_the_containers():
    whole = known()
    (sandbox,) = whole.snapshot.sandboxes.values()
    ports = (PublishedPort("tcp", 80, 8091, "host"), PublishedPort("tcp", 81, 8081))
    sandbox = replace(sandbox, ports=ports)
    bound = replace(whole, snapshot=replace(whole.snapshot, sandboxes={sandbox.task: sandbox}))
    (shown,) = container_json.listed([CONTAINERS[1]], bound, container_json.asked({}))
    assert shown["Ports"] == [
        {"IP": EVERYWHERE, "PrivatePort": 80, "PublicPort": 8091, "Type": "tcp"}
    ]
    seen = container_json.inspected({"Id": HERE, "Config": {}}, bound, (1, 41))
    assert seen is not None
    assert seen["NetworkSettings"]["Ports"] == {
        "80/tcp": [{"HostIp": EVERYWHERE, "HostPort": "8091"}]
    }


async def test_stats_measure_the_interfaces_of_a_task(worker: TestClient):
    here = traffic(os.getpid(), "/proc/self/ns/net")
    assert here is not None
    once = await worker.get(f"/v1.41/containers/{HERE}/stats", params={"stream": "0"})
    (said,) = (await once.text()).splitlines()
    assert json.loads(said)["networks"].keys() == here.keys()
    stream = await worker.get(f"/v1.41/containers/{HERE}/stats")
    readings = [json.loads(line) for line in (await stream.text()).splitlines()]
    assert [reading["networks"].keys() for reading in readings] == [here.keys()] * 3
    strangers = await worker.get(f"/v1.41/containers/{IDLE}/stats", params={"stream": "0"})
    assert json.loads(await strangers.text()) == {"id": IDLE, "num_procs": 0}


def test_readings_are_named_as_the_engine_names_them():
    measured = Traffic(Counters(516, 6, 1, 2), Counters(84, 3, 4, 5))
    assert container_json.with_traffic({"id": HERE}, {"eth0": measured})["networks"] == {
        "eth0": {
            "rx_bytes": 516,
            "rx_packets": 6,
            "rx_errors": 1,
            "rx_dropped": 2,
            "tx_bytes": 84,
            "tx_packets": 3,
            "tx_errors": 4,
            "tx_dropped": 5,
        }
    }


def test_a_container_of_docker_run_is_on_its_first_network_and_not_on_none():
    found = {
        "Id": HERE,
        "Config": {"Labels": {LABEL: "k" * 25}},
        "HostConfig": {"NetworkMode": "none"},
        "NetworkSettings": {"Networks": {"none": {}}},
    }
    seen = container_json.inspected(found, known(), (1, 44))
    assert seen is not None
    networks = seen["NetworkSettings"]["Networks"]
    assert seen["HostConfig"]["NetworkMode"] in networks
    assert "none" not in networks
    strangers = {**found, "Config": {"Labels": {}}}
    seen = container_json.inspected(strangers, known(), (1, 44))
    assert seen is not None
    assert seen["HostConfig"]["NetworkMode"] == "none"


def test_a_container_of_docker_run_that_does_not_run_is_on_the_networks_it_is_to_be_on():
    place = Place(network="n" * 25, name="back", number=0, aliases=("db",), asked="10.0.9.9")
    records = {IDLE: Record("k" * 25, IDLE, (place, Place("m" * 25, "front", 1)))}
    found = {
        "Id": IDLE,
        "Labels": {LABEL: "k" * 25},
        "Config": {"Labels": {LABEL: "k" * 25}},
        "HostConfig": {"NetworkMode": "none"},
        "NetworkSettings": {"Networks": {"none": {}}},
    }
    seen = container_json.inspected(found, known(), (1, 44), records)
    for want, fit in (("back", 1), ("m" * 12, 1), ("none", 0)):
        wanted = container_json.Asked({}, networks=frozenset({want}))
        listed = container_json.listed([found], known(), wanted, records)
        assert [each["HostConfig"]["NetworkMode"] for each in listed] == ["back"] * fit
    assert seen is not None
    networks = seen["NetworkSettings"]["Networks"]
    assert [*networks] == ["back", "front"]
    assert networks["back"]["Aliases"] == ["db"]
    assert networks["back"]["IPAMConfig"] == {"IPv4Address": "10.0.9.9"}
    assert (networks["front"]["NetworkID"], networks["front"]["IPAMConfig"]) == ("m" * 25, {})
    assert seen["HostConfig"]["NetworkMode"] == "back"


@pytest.mark.parametrize("tasks", ["true", "false"])
def test_a_container_of_an_image_made_of_a_tasks_is_none_of_the_tasks(tasks: str):
    stopped = CONTAINERS[2]
    users = {**stopped, "Names": ["/precious"], "Labels": stopped["Labels"]}
    wanted = container_json.asked({"filters": json.dumps({"is-task": [tasks]})})
    found = container_json.listed([stopped, users], known(), wanted)
    assert [each["Names"] for each in found] == [["/e"] if tasks == "true" else ["/precious"]]
    networks = found[0]["NetworkSettings"]["Networks"]
    assert ("discovery" in networks, "none" in networks) == (tasks == "true", tasks == "false")
