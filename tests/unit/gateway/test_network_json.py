"""Who is on a network, and what is on a worker, as the engine says it."""

from __future__ import annotations

import json
from dataclasses import replace
from ipaddress import IPv6Interface
from typing import Any

import pytest
from aiohttp.test_utils import TestClient
from known_overlays import HERE, INGRESS, NET, THERE, known
from strict_answers import refused

from meshnet_control.api import control_pb2 as pb
from meshnet_control.dataplane.overlays import endpoint_id
from meshnet_control.gateway import network_json
from meshnet_control.store.store import Put


async def ask(client: TestClient, path: str, method: str = "GET", **query: str) -> Any:
    answer = await client.request(method, f"/v1.44{path}", params=query)
    text = await answer.text()
    return answer.status, json.loads(text) if text else None


@pytest.fixture
def worker(outsider):
    """Name: worker. Scope: function. Depends: outsider. A client of a worker's gateway."""
    client, host = outsider
    host.worker, host.known = True, known()
    return client


async def test_a_worker_lists_the_networks_in_use_on_it_and_the_engines(worker: TestClient):
    _, listed = await ask(worker, "/networks")
    assert [(n["Name"], n["Scope"]) for n in listed] == [
        ("ingress", "swarm"),  # by id
        ("discovery", "swarm"),
        ("bridge", "local"),
    ]
    _, named = await ask(worker, "/networks", filters='{"name":["disc"]}')
    assert "ingress" not in {n["Name"] for n in named}


@pytest.mark.parametrize("reference", ["discovery", NET, NET[:9]])
async def test_a_worker_inspects_a_network_with_its_containers_and_peers(
    worker: TestClient, reference: str
):
    status, seen = await ask(worker, f"/networks/{reference}")
    assert status == 200
    assert seen["Id"] == NET
    assert seen["Created"].startswith("2026-11-21T00:52:13")
    assert seen["Containers"] == {
        HERE: {
            "Name": "web.1.t1",
            "EndpointID": endpoint_id(NET, HERE),
            "MacAddress": "02:42:0a:00:01:03",
            "IPv4Address": "10.0.1.3/24",
            "IPv6Address": "",
        }
    }
    assert seen["Peers"] == [
        {"Name": "h1", "IP": "192.168.0.1"},
        {"Name": "h2", "IP": "192.168.0.2"},
    ]
    assert "Services" not in seen


def test_a_dual_stack_network_says_both_addresses_of_each():
    found = known()
    both = ((NET, IPv6Interface("fd00:7::3/64")),)
    boxes = {t: replace(box, networks6=both) for t, box in found.snapshot.sandboxes.items()}
    found = replace(found, snapshot=replace(found.snapshot, sandboxes=boxes))
    [shown] = network_json.containers(found.on(NET)).values()
    assert (shown["IPv4Address"], shown["IPv6Address"]) == ("10.0.1.3/24", "fd00:7::3/64")
    [shown] = network_json.containers(found.on(INGRESS)).values()
    assert shown["IPv6Address"] == ""


async def test_verbose_lists_services_with_the_tasks_of_all_nodes(worker: TestClient):
    _, seen = await ask(worker, "/networks/discovery", verbose="true")
    assert [*seen][-6:] == ["ConfigOnly", "Containers", "Options", "Labels", "Peers", "Services"]
    (name,) = seen["Services"]
    web = seen["Services"][name]
    assert (name, web["VIP"], web["Ports"], web["LocalLBIndex"]) == ("web", "10.0.1.2", [], 0)
    assert web["Tasks"] == [
        {
            "Name": f"web.1.{task}",
            "EndpointID": endpoint_id(NET, container),
            "EndpointIP": address,
            "Info": {"Host IP": host},
        }
        for task, container, address, host in (
            ("t1", HERE, "10.0.1.3", "192.168.0.1"),
            ("t2", THERE, "10.0.1.4", "192.168.0.2"),
        )
    ]


async def test_the_ingress_network_has_this_nodes_entry_and_published_ports(worker: TestClient):
    _, seen = await ask(worker, "/networks/ingress", verbose="true")
    assert set(seen["Containers"]) == {HERE, "ingress-sbox"}
    entry = seen["Containers"]["ingress-sbox"]
    assert (entry["Name"], entry["IPv4Address"]) == ("ingress-endpoint", "10.0.0.2/24")
    assert entry["MacAddress"] == "02:42:0a:00:00:02"
    assert seen["Services"]["web"]["Ports"] == ["Target: 80, Publish: 8080"]


def test_nodes_that_are_gone_are_no_peers_and_have_no_tasks():
    alone = known(other_lives=False)
    for each in (NET, INGRESS):
        shown = network_json.inspected(alone.networks[each], alone, alone.services)
        assert [peer["Name"] for peer in shown["Peers"]] == ["h1"]
        assert [task["Name"] for task in shown["Services"]["web"]["Tasks"]] == ["web.1.t1"]


def test_what_is_of_no_service_is_listed_without_a_name():
    whole = known()
    endpoints = {key: replace(each, service=None) for key, each in whole.snapshot.endpoints.items()}
    loose = replace(whole, snapshot=replace(whole.snapshot, endpoints=endpoints))
    shown = network_json.inspected(loose.networks[NET], loose, loose.services)
    assert [*shown["Services"]] == [""]
    assert shown["Services"][""]["VIP"] == ""
    assert refused(shown) == []
    assert len(shown["Services"][""]["Tasks"]) == 2


async def test_the_engines_bridge_for_ways_out_has_the_containers_that_we_attached(
    worker: TestClient,
):
    _, seen = await ask(worker, "/networks/docker_gwbridge")
    assert seen["Containers"] == {
        HERE: {
            "Name": "gateway_0123456789ab",
            "EndpointID": endpoint_id(seen["Id"], HERE),
            "MacAddress": "02:42:ac:12:00:03",
            "IPv4Address": "172.18.0.3/16",
            "IPv6Address": "",
        }
    }
    assert "Containers" not in (await ask(worker, "/networks/bridge"))[1]


async def test_a_manager_shows_services_of_a_network_that_no_container_here_is_on(
    manager: TestClient, host, store
):
    away = known()
    network, service = pb.Network(), pb.Service(id="s1")
    network.CopyFrom(away.networks[NET])
    service.spec.name = "web"
    service.endpoint.virtual_ips.add(network_id=NET, addr="10.0.1.2/24")
    await store.commit([Put(network), Put(service)])
    host.known = replace(
        away,
        networks={INGRESS: away.networks[INGRESS]},
        services=(),
        snapshot=replace(away.snapshot, sandboxes={}),
    )
    _, seen = await ask(manager, "/networks/discovery", verbose="true")
    assert seen["Containers"] is None
    assert len(seen["Peers"]) == len(seen["Services"]["web"]["Tasks"]) == 2


async def test_a_worker_does_not_remove_networks(worker: TestClient, outsider):
    status, said = await ask(worker, "/networks/discovery", "DELETE")
    assert (status, said["message"]) == (
        403,
        f"error while removing network: network discovery id {NET} has active endpoints",
    )
    status, said = await ask(worker, "/networks/nosuch", "DELETE")
    assert status == 404
    _, host = outsider
    host.known = replace(host.known, snapshot=replace(host.known.snapshot, sandboxes={}))
    status, said = await ask(worker, "/networks/discovery", "DELETE")
    assert status == 503
    assert "Worker nodes can't be used to view or modify cluster state" in said["message"]


MADE = {
    "Name": "mv", "Id": "e" * 64, "Scope": "local", "Driver": "macvlan",
    "ConfigFrom": {"Network": ""}, "Containers": {HERE: {}},
    "Labels": {"a": "b", "meshnet": "1", "meshnet.network": "m" * 25, "meshnet.config-from": "lan"},
}  # fmt: skip
BRIDGE = {"Name": "bridge", "Id": "b" * 64}


def test_a_network_that_this_node_made_is_the_cluster_s_and_is_there_once():
    shown = network_json.made_here(MADE, None)
    assert (shown["Id"], shown["Scope"]) == ("m" * 25, "swarm")
    assert (shown["Labels"], shown["ConfigFrom"]) == ({"a": "b"}, {"Network": "lan"})
    assert shown["Containers"] == {HERE: {}}
    assert network_json.merged([], [MADE, BRIDGE]) == [shown, BRIDGE]
    ours = {"Name": "mv", "Id": "m" * 25}
    assert network_json.merged([ours], [MADE, BRIDGE]) == [ours, BRIDGE]


def test_a_network_that_we_made_in_the_engine_does_not_say_so():
    bridge = {"Id": "b", "Name": "docker_gwbridge", "Labels": {"meshnet": "1"}}
    own = {"Id": "o", "Name": "own", "Labels": {"mine": "1"}}
    bare = {"Id": "n", "Name": "none", "Labels": None}
    assert network_json.merged([], [bridge, own, bare]) == [{**bridge, "Labels": {}}, own, bare]
