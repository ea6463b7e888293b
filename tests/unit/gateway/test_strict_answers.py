"""Every answer can be read by a client that is strict about addresses; warnings are faults.

What a real engine answered is the measure: all of it passes, and each kind of malformed value that
it was ever seen to send does not.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from aiohttp.test_utils import TestClient
from strict_answers import refused
from whole_cluster import NODE, OVERLAY, SERVICE, WholeCluster

HERE = Path(__file__).parent
RECORDED = json.loads((HERE / "data/recorded.json").read_text())
OBJECTS = json.loads((HERE.parent / "data/engine_objects.json").read_text())


@pytest.mark.parametrize("row", range(len(RECORDED)))
def test_what_an_engine_answered_passes(row: int):
    assert refused(RECORDED[row]["answer"]) == []


@pytest.mark.parametrize("row", range(len(OBJECTS)))
def test_what_an_engine_holds_passes(row: int):
    assert refused(OBJECTS[row]["json"]) == []


@pytest.mark.parametrize(
    "malformed",
    [
        {"IPAM": {"Config": [{"Subnet": "10.0.0.0"}]}},
        {"IPAM": {"Config": [{"Subnet": "invalid Prefix"}]}},
        {"IPAM": {"Config": [{"Gateway": "10.0.0.1/24"}]}},
        {"IPAM": {"Config": [{"AuxiliaryAddresses": {"router": "10.0.0.7/24"}}]}},
        {"IPAM": {"Config": [{"IPRange": "10.0.0.0/255.255.255.0"}]}},
        {"Endpoint": {"VirtualIPs": [{"NetworkID": "n", "Addr": "10.0.0.2"}]}},
        {"NetworksAttachments": [{"Addresses": ["10.0.0.2"]}]},
        {"Services": {"web": {"VIP": "<nil>", "Tasks": []}}},
        {"Services": {"web": {"Tasks": [{"EndpointIP": "10.0.0.2/24"}]}}},
        {"Peers": [{"Name": "h1", "IP": "h1"}]},
        {"Status": {"IPAM": {"Subnets": {"10.0.0.0": {"IPsInUse": 3}}}}},
        {"Containers": {"c": {"IPv4Address": "10.0.0.2"}}},
        {"Containers": {"c": {"MacAddress": "02:42"}}},
        {"DNSConfig": {"Nameservers": ["nobody"]}},
        {"Swarm": {"Cluster": {"DefaultAddrPool": ["10.0.0.0/08"]}}},
    ],
)
def test_what_would_break_a_whole_answer_does_not(malformed: Any):
    assert len(refused([{"Name": "web"}, malformed])) == 1


@pytest.mark.parametrize(
    "fine",
    [
        {"Status": {"Addr": "192.168.50.11"}, "ManagerStatus": {"Addr": "192.168.50.11:2377"}},
        {"Gateway": "", "MacAddress": "", "IPv6Address": None},
        {"IPAM": {"Config": [{"Subnet": "fd00::/64", "Gateway": "fd00::1"}]}},
        {"Status": {"IPAM": {"Subnets": {"10.0.0.0/24": {"IPsInUse": 3}}}}},
    ],
)
def test_what_is_none_or_fine_passes(fine: Any):
    assert refused(fine) == []


PUBLISHED = {
    "Name": "web",
    "TaskTemplate": {
        "ContainerSpec": {"Image": "web:1", "DNSConfig": {"Nameservers": ["192.0.2.53"]}},
        "Networks": [{"Target": "net"}],
    },
    "EndpointSpec": {"Ports": [{"TargetPort": 80, "PublishedPort": 8080}]},
}
PATHS = (
    *("/services", f"/services/{SERVICE}", "/services/web", "/tasks", "/nodes", f"/nodes/{NODE}"),
    *("/networks", f"/networks/{OVERLAY}?verbose=true", "/networks/ingress?verbose=true"),
    *("/networks/own?verbose=true", "/networks/ingress", "/swarm", "/secrets", "/configs", "/info"),
)


async def test_every_answer_of_ours_passes_while_services_run():
    cluster = WholeCluster()
    ipam = {"Subnet": "10.9.0.0/24", "Gateway": "10.9.0.9", "AuxiliaryAddresses": {"r": "10.9.0.7"}}
    own = {"Name": "own", "Driver": "overlay", "IPAM": {"Config": [ipam]}}
    roundrobin = {
        "Name": "rr",
        "TaskTemplate": {
            "ContainerSpec": {"Image": "web:1"},
            "Networks": [{"Target": "own"}, {"Target": "net"}],
        },
        "EndpointSpec": {"Mode": "dnsrr"},
    }
    for path, body in (
        ("/networks/create", own),
        ("/services/create", PUBLISHED),
        ("/services/create", roundrobin),
    ):
        status, answer = await cluster.ask("POST", path, json.dumps(body).encode())
        assert (status, refused(json.loads(answer))) == (201, []), path
    await cluster.settle()
    seen = 0
    for path in PATHS:
        at, _, query = path.partition("?")
        asked = dict([query.split("=")]) if query else None
        status, answer = await cluster.ask("GET", at, query=asked)
        assert (status, refused(json.loads(answer))) == (200, []), path
        seen += answer.count(b"10.")
    assert seen > 20, "there were addresses to look at"


async def test_a_change_that_went_well_warns_of_nothing(manager: TestClient):
    made = await manager.post(
        "/services/create",
        json={**PUBLISHED, "TaskTemplate": {"ContainerSpec": {"Image": "web:1"}}},
    )
    assert refused(await made.json()) == []
    service = await (await manager.get("/services/web")).json()
    updated = await manager.post(
        "/services/web/update",
        params={"version": service["Version"]["Index"]},
        json=service["Spec"],
    )
    assert (updated.status, await updated.json()) == (200, {"Warnings": None})
    network = await manager.post("/networks/create", json={"Name": "n", "Driver": "overlay"})
    assert not (await network.json()).get("Warning")
