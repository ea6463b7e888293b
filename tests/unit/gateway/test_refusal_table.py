"""Every refusal that is known of a real engine: the same status, the same words.

Recorded of dockerd 20.10.24, asked by hand of it, or read in moby daemon/cluster and swarmkit
manager/controlapi. What a refusal is about is made beforehand: the services ``web`` (port 80),
``new`` (a host's port 81) and ``uses``, the network ``inner``, secret ``word`` and config ``page``.
"""

from __future__ import annotations

import json
from typing import Any

import pytest
from aiohttp.test_utils import TestClient

NODE = "c05ykilrz2cfspy1oomwnmsyg"

OUTSIDE = (
    'This node is not a swarm manager. Use "docker swarm init" or "docker swarm join" to connect '
    "this node to swarm and try again."
)
WORKER = (
    "This node is not a swarm manager. Worker nodes can't be used to view or modify cluster state. "
    "Please run this command on a manager node or promote the current node to a manager."
)
ALREADY = (
    'This node is already part of a swarm. Use "docker swarm leave" to leave this swarm and join '
    "another one."
)
LEAVE_LAST = (
    "You are attempting to leave the swarm on a node that is participating as a manager. Removing "
    "the last manager erases all current state of the swarm. Use `--force` to ignore this message. "
)
INVALID = "rpc error: code = InvalidArgument desc = "
PRECONDITION = "rpc error: code = FailedPrecondition desc = "
EXISTS = "rpc error: code = AlreadyExists desc = "
SEQUENCE = "rpc error: code = Unknown desc = update out of sequence"


def service(name: str = "x", image: str = "nginx", **parts: Any) -> dict[str, Any]:
    container = {"Image": image, **parts.pop("container", {})}
    task = {"ContainerSpec": container, **parts.pop("task", {})}
    return {"Name": name, "TaskTemplate": task, **parts}


def ports(*given: tuple[int, str], mode: str = "vip") -> dict[str, Any]:
    entries = [
        {"TargetPort": 8080, "PublishedPort": port, "PublishMode": how} for port, how in given
    ]
    return {"Mode": mode, "Ports": entries}


def made(**of: Any) -> tuple[str, str, Any]:
    return ("POST", "/services/create", service(**of))


def file(what: str, target: str) -> dict[str, Any]:
    where = {"Name": target, "UID": "0", "GID": "0", "Mode": 292}
    return {"File": where, f"{what}ID": f"{{{what}}}", f"{what}Name": what}


def mine(**parts: Any) -> tuple[str, str, Any]:
    network = {"Name": "mv", "Driver": "macvlan", "Scope": "swarm", **parts}
    return ("POST", "/networks/create", network)


VXLAN_IDS = "com.docker.network.driver.overlay.vxlanid_list"


def overlay(**parts: Any) -> tuple[str, str, Any]:
    return ("POST", "/networks/create", {"Name": "net", "Driver": "overlay", **parts})


Row = tuple[tuple[str, str, Any], int, str]
CREATE: list[Row] = [
    (made(name="web"), 409,
     f"{EXISTS}name conflicts with an existing object: service web already exists"),
    (made(name="a a"), 400, f"{INVALID}name must be valid as a DNS name component"),
    (made(name="a" * 64), 400, f"{INVALID}name must be 63 characters or fewer"),
    (made(image=""), 400, f"{INVALID}ContainerSpec: image reference must be provided"),
    (made(image="A A"), 400, f'{INVALID}ContainerSpec: "A A" is not a valid repository/tag'),
    (made(EndpointSpec=ports((80, "ingress"))), 400,
     f"{INVALID}port '80' is already in use by service 'web' ({{web}}) as an ingress port"),
    (made(EndpointSpec=ports((81, "ingress"))), 400,
     f"{INVALID}port '81' is already in use by service 'new' ({{new}}) as a host-published port"),
    (made(EndpointSpec=ports((80, "host"))), 400,
     f"{INVALID}port '80' is already in use by service 'web' ({{web}}) as an ingress port"),
    (made(EndpointSpec=ports((82, "ingress"), mode="dnsrr")), 400,
     f"{INVALID}EndpointSpec: port published with ingress mode can't be used with dnsrr mode"),
    (made(EndpointSpec=ports((82, "ingress"), (82, "ingress"))), 400,
     f"{INVALID}EndpointSpec: duplicate published ports provided"),
    (made(task={"Placement": {"Constraints": ["nothing"]}}), 400,
     f"{INVALID}constraint expected one operator from ==, !="),
    (made(task={"Networks": [{"Target": "nosuch"}]}), 404, "network nosuch not found"),
    (made(task={"RestartPolicy": {"Delay": -1}}), 400,
     f"{INVALID}TaskSpec: restart-delay cannot be negative"),
    (made(task={"RestartPolicy": {"Window": -1}}), 400,
     f"{INVALID}TaskSpec: restart-window cannot be negative"),
    (made(UpdateConfig={"Delay": -1}), 400, f"{INVALID}TaskSpec: update-delay cannot be negative"),
    (made(UpdateConfig={"Monitor": -1}), 400,
     f"{INVALID}TaskSpec: update-monitor cannot be negative"),
    (made(UpdateConfig={"MaxFailureRatio": 2}), 400,
     f"{INVALID}TaskSpec: update-maxfailureratio cannot be less than 0 or bigger than 1"),
    (made(task={"Resources": {"Limits": {"NanoCPUs": 10}}}), 400,
     f"{INVALID}invalid cpu value 1e-08: Must be at least 0.001"),
    (made(task={"Resources": {"Limits": {"MemoryBytes": 10}}}), 400,
     f"{INVALID}invalid memory value 10: Must be at least 4MiB"),
    (made(container={"Mounts": [{"Type": "tmpfs", "Target": "/t"}] * 2}), 400,
     f"{INVALID}ContainerSpec: duplicate mount point: /t"),
    (made(container={"Healthcheck": {"Interval": -1}}), 400,
     f"{INVALID}ContainerSpec: Interval in HealthConfig cannot be less than 1ms"),
    (made(container={"Healthcheck": {"StartPeriod": 10}}), 400,
     f"{INVALID}ContainerSpec: StartPeriod in HealthConfig cannot be less than 1ms"),
    (made(container={"Healthcheck": {"Retries": -1}}), 400,
     f"{INVALID}ContainerSpec: Retries in HealthConfig cannot be negative"),
    (made(container={"Secrets": [{"SecretName": "word"}]}), 400,
     f"{INVALID}malformed secret reference"),
    (made(container={"Secrets": [{"SecretID": "{Secret}", "SecretName": "word"}]}), 400,
     f"{INVALID}malformed secret reference, no target provided"),
    (made(container={"Secrets": [file("Secret", "")]}), 400,
     f"{INVALID}malformed file secret reference, invalid target file name provided"),
    (made(container={"Configs": [file("Config", "")]}), 400,
     f"{INVALID}malformed file config reference, invalid target file name provided"),
    (made(task={"Networks": [{"Target": "ingress"}]}), 400,
     f'{INVALID}Service cannot be explicitly attached to the ingress network "ingress"'),
    (made(container={"Secrets": [file("Secret", "t"), file("Secret", "t")]}), 400,
     f"{INVALID}secret references 'Secret' and 'Secret' have a conflicting target: 't'"),
    (made(container={"Secrets": [file("nosuch", "t") | {"SecretID": "no", "SecretName": "gone"}]}),
     400, f"{INVALID}secret not found: gone"),
    (made(container={"Configs": [file("nosuch", "t") | {"ConfigID": "no", "ConfigName": "gone"}]}),
     400, f"{INVALID}config not found: gone"),
    (("POST", "/services/create", {}), 400, "mismatched Runtime and *Spec fields"),
    (("POST", "/services/create", b"{"), 400, "unexpected EOF"),
    (("POST", "/secrets/create", {"Name": "word", "Data": "YQ=="}), 409,
     f"{EXISTS}secret word already exists"),
    (("POST", "/configs/create", {"Name": "page", "Data": "YQ=="}), 409,
     f"{EXISTS}config page already exists"),
    (("POST", "/secrets/create", {"Name": "s"}), 400,
     f"{INVALID}secret data must be larger than 0 and less than 512000 bytes"),
    (("POST", "/configs/create", {"Name": "s"}), 400,
     f"{INVALID}config data must be larger than 0 and less than 1024000 bytes"),
    (("POST", "/secrets/create", {"Name": "a b", "Data": "YQ=="}), 400,
     f"{INVALID}invalid name, only 64 [a-zA-Z0-9-_.] characters allowed, and the start and end "
     "character must be [a-zA-Z0-9]"),
    (("POST", "/networks/create", {"Name": "inner", "Driver": "overlay"}), 409,
     "network with name inner already exists"),
    (overlay(Ingress=True, Attachable=True), 400, f"{INVALID}ingress network cannot be attachable"),
    (overlay(Labels={"com.docker.swarm.predefined": ""}), 403,
     "rpc error: code = PermissionDenied desc = label com.docker.swarm.predefined is for "
     "internally created predefined networks and cannot be applied by users"),
    (overlay(Options={VXLAN_IDS: "banana"}), 400,
     f"{INVALID}invalid vxlan id value 'banana' passed: it is a number up to 16777215"),
    (overlay(Options={VXLAN_IDS: "16777216"}), 400,
     f"{INVALID}invalid vxlan id value '16777216' passed: it is a number up to 16777215"),
    (overlay(Options={VXLAN_IDS: "5001,5002"}), 400,
     f"{INVALID}{VXLAN_IDS} 5001,5002: the subnets of a network share one, give one id"),
    (overlay(Options={VXLAN_IDS: "5000"}), 400,
     f"{INVALID}could not assign vxlan id 5000: network inner has it"),
    (overlay(Ingress=True, IPAM={"Config": [{"Subnet": "10.9.0.0/24"}, {"Subnet": "10.8.0.0/24"}]}),
     501, "an ingress network of several subnets is not supported by this version of meshnet: "
     "give it one --subnet of a family that is large enough"),
    (mine(ConfigOnly=True), 403,
     "configuration network can only contain network specific fields. Network operator fields like "
     "[ ingress | internal | attachable | scope ] are not supported."),
    (mine(ConfigFrom={"Network": "lan"}, Labels={"a": "b"}), 403,
     "user specified configurations are not supported if the network depends on a configuration "
     "network"),
    (mine(ConfigFrom={"Network": "lan"}, IPAM={"Config": [{"Subnet": "10.9.0.0/24"}]}), 403,
     "user specified configurations are not supported if the network depends on a configuration "
     "network"),
    (mine(ConfigFrom={"Network": "lan"}, Options={"parent": "eth0"}), 403,
     "network driver options are not supported if the network depends on a configuration network"),
    (mine(Ingress=True), 403, "Ingress network can only be global scope network"),
    (mine(IPAM={"Config": [{"Subnet": "zz"}]}), 400,
     f"{INVALID}ipam configuration: invalid subnet zz"),
    (mine(IPAM={"Config": [{"Subnet": "fd00::/64", "IPRange": "10.0.0.0/99"}]}), 400,
     f"{INVALID}ipam configuration: invalid ip-range 10.0.0.0/99"),
    (mine(IPAM={"Config": [{"Subnet": "10.0.0.0/8", "Gateway": "10.0.0"}]}), 400,
     f"{INVALID}ipam configuration: invalid address 10.0.0"),
]  # fmt: skip
CHANGE: list[Row] = [
    (("POST", "/services/web/update?version=1", service("web")), 500, SEQUENCE),
    (("POST", "/swarm/update?version=1000", {"Name": "default"}), 500, SEQUENCE),
    (("POST", f"/nodes/{NODE}/update?version=1000", {"Role": "manager"}), 500, SEQUENCE),
    (("POST", "/secrets/word/update?version=1000", {"Name": "word"}), 500, SEQUENCE),
    (("POST", "/configs/page/update?version=1000", {"Name": "page"}), 500, SEQUENCE),
    (("POST", "/services/web/update", service("web")), 400,
     "invalid service version '': strconv.ParseUint: parsing \"\": invalid syntax"),
    (("POST", "/services/web/update?version=x", service("web")), 400,
     "invalid service version 'x': strconv.ParseUint: parsing \"x\": invalid syntax"),
    (("POST", f"/nodes/{NODE}/update?version={{nodeat}}",
      {"Role": "manager", "Availability": "active", "Labels": {"meshnet.weight": "heavy"}}), 400,
     "invalid meshnet.weight 'heavy': must be 0 to 100"),
    (("POST", f"/nodes/{NODE}/update", {}), 400,
     "invalid node version '': strconv.ParseUint: parsing \"\": invalid syntax"),
    (("POST", "/swarm/update", {}), 400,
     "invalid swarm version '': strconv.ParseUint: parsing \"\": invalid syntax"),
    (("POST", "/services/web/update?version={webat}", service("other")), 501,
     "rpc error: code = Unimplemented desc = renaming services is not supported"),
    (("POST", "/services/web/update?version={webat}", service("web", Mode={"Global": {}})), 501,
     "rpc error: code = Unimplemented desc = service mode change is not allowed"),
    (("POST", "/services/web/update?rollback=previous&version={webat}", {}), 400,
     f"{PRECONDITION}service {{web}} does not have a previous spec"),
    (("POST", "/secrets/word/update?version={wordat}", {"Name": "word", "Data": "Yg=="}), 400,
     f"{INVALID}only updates to Labels are allowed"),
    (("POST", f"/nodes/{NODE}/update?version={{nodeat}}",
      {"Role": "worker", "Availability": "active"}), 400,
     f"{PRECONDITION}attempting to demote the last manager of the swarm"),
    (("DELETE", f"/nodes/{NODE}", None), 400,
     f"{PRECONDITION}node {NODE} is a cluster manager and is a member of the raft cluster. "
     "It must be demoted to worker before removal"),
    (("DELETE", "/nodes/node3", None), 400,
     f"{PRECONDITION}node 7oq94r9c0b8adccmhpv7nniat is not down and can't be removed"),
    (("DELETE", "/nodes/nosuch?force=1", None), 404, "node nosuch not found"),
    (("DELETE", "/secrets/word", None), 400,
     f"{INVALID}secret 'word' is in use by the following service: uses"),
    (("DELETE", "/configs/page", None), 400,
     f"{INVALID}config 'page' is in use by the following service: uses"),
    (("DELETE", "/networks/inner", None), 400,
     f"{PRECONDITION}network {{inner}} is in use by service {{uses}}"),
    (("POST", "/swarm/unlock", {"UnlockKey": "x"}), 409, "swarm is not locked"),
    (("POST", "/swarm/init", {}), 503, ALREADY),
    (("POST", "/swarm/join", {"RemoteAddrs": ["h1"], "JoinToken": "x"}), 503, ALREADY),
    (("POST", "/swarm/leave", None), 503, LEAVE_LAST),
]  # fmt: skip
LOOK: list[Row] = [
    (("GET", f"/{kind}s/nosuch", None), 404, f"{kind} nosuch not found")
    for kind in ("service", "node", "task", "secret", "config", "network")
]
LOOK += [
    (("DELETE", f"/{kind}s/nosuch", None), 404, f"{kind} nosuch not found")
    for kind in ("service", "secret", "config", "network")
]
LOOK += [
    (("GET", f'/{kind}s?filters={{"foo":["x"]}}', None), 400, "Invalid filter 'foo'")
    for kind in ("service", "node", "task", "secret", "config")
]
LOOK += [
    (("GET", "/v1.99/info", None), 400,
     "client version 1.99 is too new. Maximum supported API version is 1.44"),
    (("PUT", "/services", None), 404, "page not found"),
    (("POST", "/nodes", None), 404, "page not found"),
    (("GET", "/swarm/nosuch", None), 404, "page not found"),
    (("GET", "/services/nosuch/logs?stdout=1", None), 404, "service nosuch not found"),
    (("GET", "/tasks/nosuch/logs?stdout=1", None), 404, "task nosuch not found"),
    (("GET", '/tasks?filters={"service":["nosuch"]}', None), 404, "service nosuch not found"),
]  # fmt: skip
MANAGERS_ONLY = [
    ("GET", "/swarm"), ("POST", "/swarm/update?version=1"), ("GET", "/swarm/unlockkey"),
    ("GET", "/nodes"), ("GET", "/nodes/x"), ("POST", "/nodes/x/update?version=1"),
    ("DELETE", "/nodes/x"), ("GET", "/services"), ("POST", "/services/create"),
    ("GET", "/services/x"), ("POST", "/services/x/update?version=1"), ("DELETE", "/services/x"),
    ("GET", "/services/x/logs?stdout=1"), ("GET", "/tasks"), ("GET", "/tasks/x"),
    ("GET", "/secrets"), ("POST", "/secrets/create"), ("GET", "/secrets/x"),
    ("DELETE", "/secrets/x"), ("GET", "/configs"), ("POST", "/configs/create"),
    ("GET", "/configs/x"), ("DELETE", "/configs/x"),
]  # fmt: skip


async def said(client: TestClient, call: tuple[str, str, Any]) -> tuple[int, str]:
    method, path, body = call
    raw = body if isinstance(body, bytes) or body is None else json.dumps(body)
    answer = await client.request(method, path, data=raw)
    text = await answer.text()
    return answer.status, json.loads(text)["message"] if answer.status >= 400 else text


async def _id(client: TestClient, path: str, body: Any) -> str:
    answer = await client.post(path, json=body)
    assert answer.status == 201, await answer.text()
    reply = await answer.json()
    return str(reply.get("ID") or reply["Id"])


@pytest.fixture
async def known(manager: TestClient) -> dict[str, str]:
    """Name: known. Scope: function. Depends: manager. Ids and versions of what rows speak of."""
    ids = {
        "inner": await _id(
            manager,
            "/networks/create",
            {"Name": "inner", "Driver": "overlay", "Options": {VXLAN_IDS: "5000"}},
        ),
        "Secret": await _id(manager, "/secrets/create", {"Name": "word", "Data": "YQ=="}),
        "Config": await _id(manager, "/configs/create", {"Name": "page", "Data": "YQ=="}),
    }
    files = {"Secrets": [file("Secret", "a")], "Configs": [file("Config", "b")]}
    for name, spec in {
        "web": service("web", EndpointSpec=ports((80, "ingress"))),
        "new": service("new", EndpointSpec=ports((81, "host"))),
        "uses": service("uses", container=files, task={"Networks": [{"Target": "inner"}]}),
    }.items():
        ids[name] = await _id(manager, "/services/create", filled(spec, ids))
    for name, path in {
        "web": "/services/web",
        "word": "/secrets/word",
        "node": f"/nodes/{NODE}",
    }.items():
        read = await (await manager.get(path)).json()
        ids[f"{name}at"] = str(read["Version"]["Index"])
    return ids


def filled(value: Any, ids: dict[str, str]) -> Any:
    """With the ids and versions of this run, wherever a word in braces stands for one."""
    text = json.dumps(value)
    for name, identifier in ids.items():
        text = text.replace(f"{{{name}}}", identifier)
    return json.loads(text)


async def test_refusals(manager: TestClient, known: dict[str, str]):
    differ = []
    for call, status, words in CREATE + CHANGE + LOOK:
        method, path, body = call
        ours = await said(
            manager,
            (method, filled(path, known), body if isinstance(body, bytes) else filled(body, known)),
        )
        if ours != (status, filled(words, known)):
            differ.append(f"{method} {path} {body}\n  engine: {status} {words}\n  meshnet: {ours}")
    assert not differ, "\n" + "\n".join(differ)


@pytest.mark.parametrize("state", ["worker", "outside"])
async def test_only_managers_answer(outsider, state: str):
    client, host = outsider
    host.worker = state == "worker"
    for method, path in MANAGERS_ONLY:
        ours = await said(client, (method, path, {} if method == "POST" else None))
        assert ours == (503, WORKER if host.worker else OUTSIDE), f"{method} {path}"


async def test_who_is_in_no_swarm_cannot_leave_one(outsider):
    assert await said(outsider[0], ("POST", "/swarm/leave", None)) == (
        503,
        "This node is not part of a swarm",
    )
