"""Refusals and shapes beside the recording: docker-api.md, sections 1, 2, 6 and 8."""

from __future__ import annotations

import base64
import json
import re
import time
from typing import Any

import pytest
import roots
from aiohttp.test_utils import TestClient

from meshnet import measures
from meshnet_control.api import control_pb2 as pb
from meshnet_control.controlapi.managers import ERASES, LEAVES
from meshnet_control.gateway.routes.swarm import ALREADY_IN_SWARM
from meshnet_control.identity import ca
from meshnet_control.link.locked import LOCKED
from meshnet_control.store.store import Put, Store

TEMPLATE: dict[str, Any] = {"ContainerSpec": {"Image": "nginx"}}
SERVICE: dict[str, Any] = {"Name": "web", "TaskTemplate": TEMPLATE}


async def ask(client: TestClient, method: str, path: str, body=None, **query: str):
    answer = await client.request(
        method, path, params=query, data=None if body is None else json.dumps(body)
    )
    text = await answer.text()
    return answer.status, json.loads(text) if text else None


@pytest.mark.parametrize("path", ["/nodes", "/v1.41/services", "/swarm", "/swarm/unlockkey"])
async def test_no_swarm(outsider, path: str):
    client, _ = outsider
    status, body = await ask(client, "GET", path)
    assert status == 503
    assert body["message"].startswith('This node is not a swarm manager. Use "docker swarm init"')


async def test_node_operations_reach_the_node(outsider):
    client, host = outsider
    init = {"AdvertiseAddr": "192.168.0.100", "Spec": {"Orchestration": {}}}
    assert await ask(client, "POST", "/swarm/init", init) == (200, "c05ykilrz2cfspy1oomwnmsyg")
    join = {"RemoteAddrs": ["192.168.0.100:2377"], "JoinToken": "SWMTKN-1-x-y"}
    assert await ask(client, "POST", "/swarm/join", join) == (200, None)
    assert host.calls == ["init 192.168.0.100", "join 192.168.0.100:2377"]
    status, body = await ask(client, "POST", "/swarm/leave")
    assert (status, body) == (503, {"message": "This node is not part of a swarm"})


async def test_a_manager_does_not_join_or_leave_by_accident(manager: TestClient):
    assert await ask(manager, "POST", "/swarm/init", {}) == (503, {"message": ALREADY_IN_SWARM})
    assert await ask(manager, "POST", "/swarm/join", {}) == (503, {"message": ALREADY_IN_SWARM})
    assert await ask(manager, "POST", "/swarm/leave") == (503, {"message": LEAVES + ERASES})


async def test_versions(manager: TestClient):
    status, body = await ask(manager, "GET", "/v1.51/info")
    assert (status, body["message"]) == (
        400,
        "client version 1.51 is too new. Maximum supported API version is 1.44",
    )
    assert (await ask(manager, "GET", "/v1.11/info"))[0] == 400
    assert (await ask(manager, "GET", "/v1.24/services")) == (200, [])
    assert (await ask(manager, "GET", "/services")) == (200, [])


async def test_info_warns_of_what_this_node_cannot_do(manager: TestClient, host):
    assert "Warnings" not in (await ask(manager, "GET", "/info"))[1]
    host.said.append("store: database or disk is full (since 2026-11-25T19:00:00Z)")
    _, info = await ask(manager, "GET", "/info")
    assert info["Warnings"] == [f"WARNING: {host.said[0]}"]


async def test_a_manager_is_one_also_while_its_own_session_begins_anew(manager: TestClient, host):
    """The CLI shows nothing of the cluster beside an error of the swarm."""
    host.session_error = "manager 192.0.2.1:2377: connection refused"
    _, info = await ask(manager, "GET", "/info")
    assert (info["Swarm"]["Error"], info["Swarm"]["Nodes"]) == ("", 2)
    assert info["Warnings"] == [f"WARNING: {host.session_error}"]


async def test_ping_and_info(manager: TestClient):
    ping = await manager.head("/_ping")
    assert ping.status == 200
    assert ping.headers["Api-Version"] == "1.44"
    assert ping.headers["Ostype"] == "linux"
    assert ping.headers["Swarm"] == "active/manager"
    _, info = await ask(manager, "GET", "/info")
    assert info["Name"] == "h1"
    assert info["Swarm"]["LocalNodeState"] == "active"
    assert info["Swarm"]["ControlAvailable"] is True
    cluster = info["Swarm"]["Cluster"]
    assert (cluster["ID"], cluster["DataPathPort"]) == ("j0cgxhrut7w9ohuidf9b99ohh", 4789)
    assert "JoinTokens" not in cluster
    assert (info["Swarm"]["Nodes"], info["Swarm"]["Managers"]) == (2, 1)


@pytest.mark.parametrize(("method", "path"), [("PUT", "/services"), ("DELETE", "/swarm")])
async def test_unknown_pages(manager: TestClient, method: str, path: str):
    assert await ask(manager, method, path) == (404, {"message": "page not found"})


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("{", "unexpected EOF"),
        ("", "EOF"),
        ("{}", "mismatched Runtime and *Spec fields"),
    ],
)
async def test_broken_bodies(manager: TestClient, body: str, said: str):
    answer = await manager.post("/services/create", data=body)
    assert (answer.status, (await answer.json())["message"]) == (400, said)


async def test_updates_need_the_version_that_was_read(manager: TestClient):
    _, made = await ask(manager, "POST", "/services/create", SERVICE)
    path = f"/services/{made['ID'][:6]}/update"
    status, body = await ask(manager, "POST", path, SERVICE)
    assert (status, body["message"]) == (
        400,
        "invalid service version '': strconv.ParseUint: parsing \"\": invalid syntax",
    )
    status, body = await ask(manager, "POST", path, SERVICE, version="1")
    assert (status, body["message"]) == (
        500,
        "rpc error: code = Unknown desc = update out of sequence",
    )
    _, service = await ask(manager, "GET", "/services/web")
    at = str(service["Version"]["Index"])
    assert await ask(manager, "POST", path, SERVICE, version=at) == (200, {"Warnings": None})
    renamed = {**SERVICE, "Name": "other"}
    _, service = await ask(manager, "GET", "/services/web")
    at = str(service["Version"]["Index"])
    assert (await ask(manager, "POST", path, renamed, version=at))[0] == 501
    other_mode = {**SERVICE, "Mode": {"Global": {}}}
    status, body = await ask(manager, "POST", path, other_mode, version=at)
    assert "service mode change is not allowed" in body["message"]


async def test_filters_in_both_forms(manager: TestClient):
    for name in ("aa1", "aa2", "b"):
        await ask(manager, "POST", "/services/create", {**SERVICE, "Name": name})
    for form in ({"name": ["aa"]}, {"name": {"aa": True}}):
        _, found = await ask(manager, "GET", "/services", filters=json.dumps(form))
        assert sorted(s["Spec"]["Name"] for s in found) == ["aa1", "aa2"]
    status, body = await ask(manager, "GET", "/services", filters='{"foo":["x"]}')
    assert (status, body["message"]) == (400, "Invalid filter 'foo'")
    assert (await ask(manager, "GET", "/services", filters="x"))[0] == 400


async def test_status_counts_are_there_when_asked_for(manager: TestClient):
    await ask(manager, "POST", "/services/create", SERVICE)
    _, found = await ask(manager, "GET", "/services", status="true")
    assert found[0]["ServiceStatus"] == {
        "RunningTasks": 0,
        "DesiredTasks": 1,
        "CompletedTasks": 0,
    }


async def test_nodes(manager: TestClient):
    _, node = await ask(manager, "GET", "/nodes/node1")
    at = str(node["Version"]["Index"])
    demoted = {**node["Spec"], "Role": "worker"}
    status, body = await ask(manager, "POST", f"/nodes/{node['ID']}/update", demoted, version=at)
    assert (status, body["message"]) == (
        400,
        "rpc error: code = FailedPrecondition desc = "
        "attempting to demote the last manager of the swarm",
    )
    drained = {**node["Spec"], "Availability": "drain", "Labels": {"zone": "a"}}
    assert (await ask(manager, "POST", "/nodes/node1/update", drained, version=at))[0] == 200
    _, found = await ask(manager, "GET", "/nodes", filters='{"role":{"manager":true}}')
    assert [n["Spec"] for n in found] == [drained]
    status, body = await ask(manager, "DELETE", "/nodes/node3")
    assert "is not down and can't be removed" in body["message"]
    assert await ask(manager, "DELETE", "/nodes/node3", force="1") == (200, None)
    status, body = await ask(manager, "GET", "/nodes/self")
    assert (status, body["message"]) == (404, "node self not found")


async def test_a_configuration_of_an_overlay_is_made_by_the_engine_here(manager: TestClient):
    asked = {"Name": "cfg", "Driver": "overlay", "ConfigOnly": True}
    status, _ = await ask(manager, "POST", "/networks/create", asked)
    assert status == 201
    assert (await ask(manager, "GET", "/networks/cfg", scope="swarm"))[0] == 404
    status, body = await ask(manager, "POST", "/networks/create", {**asked, "Scope": "swarm"})
    assert (status, body["message"][:22]) == (403, "configuration network ")


async def test_networks_of_both_worlds(manager: TestClient):
    overlay = {"Name": "n1", "Driver": "overlay", "IPAM": {"Config": [{"Subnet": "10.9.0.0/24"}]}}
    status, made = await ask(manager, "POST", "/networks/create", overlay)
    assert status == 201
    assert made["Warning"] == ""
    _, listed = await ask(manager, "GET", "/networks")
    assert {n["Name"] for n in listed} == {"n1", "ingress", "bridge"}
    assert (await ask(manager, "GET", "/networks/bridge"))[1]["Scope"] == "local"
    assert (await ask(manager, "GET", "/networks/n1", scope="swarm"))[1]["Id"] == made["Id"]
    assert (await ask(manager, "GET", f"/networks/{made['Id'][:9]}"))[1]["Name"] == "n1"
    assert (await ask(manager, "GET", "/networks/n1", scope="local"))[0] == 404
    status, body = await ask(manager, "POST", "/networks/create", {**overlay, "Name": "n2"})
    assert "overlaps with 10.9.0.0/24 of network n1" in body["message"]
    taken = {"Name": "n1", "Driver": "overlay"}
    assert await ask(manager, "POST", "/networks/create", taken) == (
        409,
        {"message": "network with name n1 already exists"},
    )
    assert (await ask(manager, "POST", "/networks/create", {"Name": "l1"}))[0] == 201
    encrypted = {"Name": "e", "Driver": "overlay", "Options": {"encrypted": ""}}
    status, made = await ask(manager, "POST", "/networks/create", encrypted)
    assert status == 201
    shown = (await ask(manager, "GET", f"/networks/{made['Id']}"))[1]["Options"]
    assert shown["encrypted"] == ""
    strange = {"Name": "f", "Driver": "overlay", "Options": {"encrypted": "maybe"}}
    assert (await ask(manager, "POST", "/networks/create", strange))[0] == 400


async def test_a_network_keeps_the_scope_of_its_driver(manager: TestClient):
    local = {"Name": "n1", "Driver": "overlay", "Scope": "local"}
    assert await ask(manager, "POST", "/networks/create", local) == (
        403,
        {"message": "cannot downgrade network scope for overlay networks"},
    )
    swarm = {"Name": "n1", "Driver": "weave", "Scope": "swarm"}
    status, body = await ask(manager, "POST", "/networks/create", swarm)
    assert status == 501
    assert "networks with driver weave are not supported" in body["message"]


@pytest.mark.parametrize("reference", ["host", "bridge", "4a09de50c461"])
async def test_a_service_may_run_on_a_predefined_network(manager: TestClient, reference: str):
    _, seen = await ask(manager, "GET", f"/networks/{reference}", scope="swarm")
    assert seen["Scope"] == "swarm"
    assert seen["Name"] == seen["Driver"] == seen["Id"]
    for target in {seen["Id"], reference}:
        service = {"TaskTemplate": {**TEMPLATE, "Networks": [{"Target": target}]}}
        status, made = await ask(manager, "POST", "/services/create", service)
        assert status == 201
        _, service = await ask(manager, "GET", f"/services/{made['ID']}")
        assert service["Spec"]["TaskTemplate"]["Networks"] == [{"Target": seen["Name"]}]


@pytest.mark.parametrize("reference", ["br1", "10968ed51efc"])
async def test_a_service_may_not_run_on_a_network_of_one_engine(
    manager: TestClient, reference: str
):
    refused = (
        403,
        {
            "message": "The network br1 cannot be used with services. Only networks scoped to the "
            "swarm can be used, such as those created with the overlay driver."
        },
    )
    assert await ask(manager, "GET", f"/networks/{reference}", scope="swarm") == refused
    service = {"TaskTemplate": {**TEMPLATE, "Networks": [{"Target": reference}]}}
    assert await ask(manager, "POST", "/services/create", service) == refused


async def test_a_predefined_network_stands_alone(manager: TestClient):
    await ask(manager, "POST", "/networks/create", {"Name": "n1", "Driver": "overlay"})
    both = {"TaskTemplate": {**TEMPLATE, "Networks": [{"Target": "host"}, {"Target": "n1"}]}}
    status, body = await ask(manager, "POST", "/services/create", both)
    assert status == 400
    assert "network host cannot be combined with other networks" in body["message"]
    meshed = {
        "TaskTemplate": {**TEMPLATE, "Networks": [{"Target": "host"}]},
        "EndpointSpec": {"Ports": [{"TargetPort": 80, "PublishedPort": 8080}]},
    }
    status, body = await ask(manager, "POST", "/services/create", meshed)
    assert status == 400
    assert "publish it with mode=host" in body["message"]


async def test_a_network_in_use_stays(manager: TestClient):
    _, made = await ask(manager, "POST", "/networks/create", {"Name": "n1", "Driver": "overlay"})
    task = {**TEMPLATE, "Networks": [{"Target": "n1"}]}
    _, service = await ask(
        manager, "POST", "/services/create", {"Name": "web", "TaskTemplate": task}
    )
    status, body = await ask(manager, "DELETE", "/networks/n1")
    assert (status, body["message"]) == (
        400,
        f"rpc error: code = FailedPrecondition desc = network {made['Id']} "
        f"is in use by service {service['ID']}",
    )
    assert await ask(manager, "DELETE", "/services/web") == (200, None)
    assert await ask(manager, "DELETE", "/networks/n1") == (204, None)
    missing = {**TEMPLATE, "Networks": [{"Target": "nope"}]}
    status, body = await ask(
        manager, "POST", "/services/create", {"Name": "x", "TaskTemplate": missing}
    )
    assert (status, body["message"]) == (404, "network nope not found")


async def test_secrets_and_configs(manager: TestClient):
    status, body = await ask(manager, "POST", "/secrets/create", {"Name": "s"})
    assert (status, body["message"]) == (
        400,
        "rpc error: code = InvalidArgument desc = "
        "secret data must be larger than 0 and less than 512000 bytes",
    )
    await ask(manager, "POST", "/secrets/create", {"Name": "s", "Data": "MTIz"})
    _, secret = await ask(manager, "GET", "/secrets/s")
    assert "Data" not in secret["Spec"]
    await ask(manager, "POST", "/configs/create", {"Name": "c", "Data": "MTIz"})
    _, config = await ask(manager, "GET", "/configs/c")
    assert config["Spec"]["Data"] == "MTIz"
    at = str(secret["Version"]["Index"])
    labelled = {"Name": "s", "Labels": {"a": "b"}, "Data": "MTIz"}
    assert (await ask(manager, "POST", "/secrets/s/update", labelled, version=at))[0] == 200
    assert (await ask(manager, "GET", "/secrets/s"))[1]["Spec"]["Labels"] == {"a": "b"}
    assert await ask(manager, "DELETE", "/secrets/s") == (204, None)
    assert await ask(manager, "DELETE", "/secrets/s") == (
        404,
        {"message": "secret s not found"},
    )


async def test_join_tokens_rotate(manager: TestClient):
    _, before = await ask(manager, "GET", "/swarm")
    at = str(before["Version"]["Index"])
    status, _ = await ask(
        manager, "POST", "/swarm/update", before["Spec"], version=at, rotateManagerToken="true"
    )
    assert status == 200
    _, after = await ask(manager, "GET", "/swarm")
    assert after["JoinTokens"]["Worker"] == before["JoinTokens"]["Worker"]
    old, new = before["JoinTokens"]["Manager"], after["JoinTokens"]["Manager"]
    assert old != new
    assert old.rpartition("-")[0] == new.rpartition("-")[0]
    assert len(new) == len(old)


async def test_a_root_rotation_is_asked_for_and_its_key_never_shown(manager: TestClient, store):
    root, key = ca.new_root("c", time.time())
    (cluster,) = await store.list(pb.Cluster)
    cluster.ca_certificate, cluster.ca_key = root, key
    cluster.tls_info.CopyFrom(ca.tls_info(root))
    await store.commit([Put(cluster)])

    async def update(**changes: object) -> tuple[int, str, dict]:
        _, before = await ask(manager, "GET", "/swarm")
        config = {**before["Spec"]["CAConfig"], **changes}
        asked = {**before["Spec"], "CAConfig": config}
        at = str(before["Version"]["Index"])
        status, said = await ask(manager, "POST", "/swarm/update", asked, version=at)
        return status, (said or {}).get("message", ""), (await ask(manager, "GET", "/swarm"))[1]

    status, said, after = await update(ExternalCAs=[{"Protocol": "cfssl", "URL": "https://ca"}])
    assert (status, after["RootRotationInProgress"]) == (501, False)
    assert said.startswith("an external CA is not supported by this version of meshnet")
    own, own_key = roots.made("P-256")
    status, said, _ = await update(SigningCACert=own.decode(), ForceRotate=1)
    assert (status, "needs its key" in said) == (400, True)
    status, said, _ = await update(SigningCAKey=own_key.decode(), ForceRotate=1)
    assert (status, "signing CA cert must also be provided" in said) == (400, True)
    status, _, after = await update(
        SigningCACert=own.decode(), SigningCAKey=own_key.decode(), ForceRotate=1
    )
    assert (status, after["RootRotationInProgress"]) == (200, True)
    assert after["TLSInfo"]["TrustRoot"] == root.decode()
    wanted = ca.tls_info(own).cert_issuer_public_key
    assert base64.b64decode(after["TLSInfo"]["CertIssuerPublicKey"]) == wanted
    assert "PRIVATE KEY" not in str(after)
    # what the CLI sends for another setting: everything as it was shown
    status, _, after = await update(NodeCertExpiry=3600 * 10**9)
    assert (status, after["Spec"]["CAConfig"]["SigningCACert"]) == (200, own.decode())
    (cluster,) = await store.list(pb.Cluster)
    assert cluster.root_rotation.abandoned == []
    status, _, after = await update(SigningCACert="", ForceRotate=2)
    assert (status, "SigningCACert" in after["Spec"]["CAConfig"]) == (200, False)
    (cluster,) = await store.list(pb.Cluster)
    assert cluster.root_rotation.abandoned == [own]


async def test_autolock_gives_a_key_which_rotates_and_goes(manager: TestClient, store):
    async def update(*, lock: bool, **query: str) -> str:
        _, before = await ask(manager, "GET", "/swarm")
        asked = {**before["Spec"], "EncryptionConfig": {"AutoLockManagers": lock}}
        query["version"] = str(before["Version"]["Index"])
        assert await ask(manager, "POST", "/swarm/update", asked, **query) == (200, None)
        _, after = await ask(manager, "GET", "/swarm")
        assert after["Spec"]["EncryptionConfig"]["AutoLockManagers"] is lock
        key = str((await ask(manager, "GET", "/swarm/unlockkey"))[1]["UnlockKey"])
        assert not key or key not in str(after)
        return key

    assert (await ask(manager, "GET", "/swarm/unlockkey"))[1] == {"UnlockKey": ""}
    first = await update(lock=True)
    assert re.fullmatch(r"SWMKEY-1-[A-Za-z0-9+/]{43}", first)
    assert await update(lock=True) == first
    second = await update(lock=True, rotateManagerUnlockKey="true")
    assert second != first
    assert await update(lock=False) == ""
    assert await update(lock=False, rotateManagerUnlockKey="true") == ""
    assert await update(lock=True) not in {first, second}
    assert await ask(manager, "POST", "/swarm/unlock", {"UnlockKey": first}) == (
        409,
        {"message": "swarm is not locked"},
    )


async def test_a_locked_manager_says_so_and_takes_the_key_alone(outsider):
    client, host = outsider
    host.locked = True
    for method, path, said in (
        ("GET", "/nodes", LOCKED),
        ("GET", "/services", LOCKED),
        ("GET", "/swarm/unlockkey", LOCKED),
        ("POST", "/swarm/leave", "Swarm is encrypted and locked. Please unlock it first or use"),
        ("POST", "/swarm/init", "This node is already part of a swarm"),
    ):
        status, body = await ask(client, method, path, {} if path.endswith("init") else None)
        assert (status, body["message"].startswith(said)) == (503, True), path
    _, info = await ask(client, "GET", "/info")
    assert info["Swarm"]["LocalNodeState"] == "locked"
    assert info["Swarm"]["Error"] == LOCKED
    for text in ("", "SWMKEY-1-x", "9lBFGEeCsoBBfPkHDVD9Fzs81lD+bzoTJvR0UyPPNhM"):
        status, body = await ask(client, "POST", "/swarm/unlock", {"UnlockKey": text})
        assert (status, body["message"]) == (400, "invalid key string")
    text = "SWMKEY-1-" + base64.b64encode(b"k" * 32).decode().rstrip("=")
    assert await ask(client, "POST", "/swarm/unlock", {"UnlockKey": text}) == (200, None)
    assert await ask(client, "POST", "/swarm/leave", force="1") == (200, None)
    assert host.calls == [f"unlock {b'k' * 32!r}", "leave True"]


async def test_the_engine_is_down(manager: TestClient, engine_server, tmp_path):
    await engine_server.cleanup()
    status, body = await ask(manager, "GET", "/info")
    assert status == 503
    socket = f"unix://{tmp_path}/engine.sock"
    assert body["message"] == (
        f"Cannot connect to the Docker daemon at {socket}. Is the docker daemon running?"
    )
    assert (await ask(manager, "GET", "/services")) == (200, [])
    assert (await manager.head("/_ping")).headers["Api-Version"] == "1.44"


async def test_info_warns_of_two_managers_in_dockers_words(manager: TestClient, store: Store):
    two = pb.Node(id="9j68exjopxe7wfl6yuxml7a7j", spec={"role": "manager"})
    await store.commit([Put(two)])  # by its role alone it is none yet
    info = await (await manager.get("/info")).json()
    assert (info["Swarm"]["Managers"], info.get("Warnings")) == (1, None)
    two.manager_status.reachability = "unreachable"
    await store.commit([Put(two)])
    info = await (await manager.get("/info")).json()
    assert (info["Swarm"]["Managers"], info["Swarm"]["Nodes"]) == (2, 3)
    assert info["Warnings"] == [
        "WARNING: Running Swarm in a two-manager configuration. This configuration provides\n"
        "         no fault tolerance, and poses a high risk to lose control over the cluster.\n"
        "         Refer to https://docs.docker.com/engine/swarm/admin_guide/ to configure the\n"
        "         Swarm for fault-tolerance."
    ]


async def test_what_is_asked_is_timed_by_route_class_and_nothing_a_client_thinks_up_is_a_label(
    manager,
):
    def counted(route: str, method: str, code: str) -> float:
        name = "meshnet_api_request_seconds_count"
        labels = {"route": route, "method": method, "code": code}
        return measures.NODE.get_sample_value(name, labels) or 0.0

    keys = [
        ("services", "GET", "2xx"),
        ("services", "GET", "4xx"),
        ("other", "other", "4xx"),
    ]
    before = [counted(*key) for key in keys]
    client = manager
    await ask(client, "GET", "/services")
    await ask(client, "GET", "/v1.41/services")
    await ask(client, "GET", "/v1.41/services/none-such")
    await ask(client, "GET", "/v1.41/thought-up-by-somebody")
    await ask(client, "PATCH", "/services")
    grown = [counted(*key) - then for key, then in zip(keys, before, strict=True)]
    assert grown == [2, 1, 2]
    assert b"thought" not in measures.text(measures.NODE).lower()
