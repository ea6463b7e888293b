"""What a client can say never ends in an error of ours: not at once, and at no later stage.

The law: every answer is of the 2xx or 4xx, or one of the few 5xx that Docker gives, each with one
sentence; and whatever was accepted, the orchestration settles, both nodes' containers, Snapshots
and desired states can be made, and everything can be read back.
"""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from api_bodies import (
    INIT_BODY,
    JOIN_BODY,
    NETWORK_BODY,
    READS,
    REQUESTS,
    SERVICE_BODY,
    Request,
    changed,
)
from hypothesis import example, given
from hypothesis import strategies as st
from strict_answers import refused
from whole_cluster import OVERLAY, WholeCluster

DOCKERS_OWN = {
    500: ("update out of sequence", "is ambiguous", "Could not attach to network"),
    501: ("supported", "runs Linux ones", "service mode change", "Could not attach to network"),
    503: ("This node is not", "You are attempting to leave", "already part of a swarm"),
}
"""Statuses of the 5xx that Docker answers with, and what their sentences say."""


OWN_CA_ALONE = {"ForceNewCluster": True, "Spec": {"CAConfig": {"SigningCACert": "a"}}}
LISTS = (
    *("/services", "/tasks", "/networks", "/nodes", "/secrets", "/configs"),
    *("/swarm", "/info"),
)


def run(law: Any) -> None:
    """One example of a law; each has an event loop of its own."""
    asyncio.run(law)


def a_sentence(status: int, body: bytes, where: str) -> None:
    assert status < 600, where
    if status < 400:
        return
    message = json.loads(body)["message"]
    assert message, where
    assert message.isprintable(), where
    assert len(message) <= 2000, where
    if status >= 500:
        assert any(said in message for said in DOCKERS_OWN.get(status, ())), f"{where}: {message}"


async def send(cluster: WholeCluster, request: Request) -> int:
    method, path, query, body = request
    if path.endswith("/update"):
        kind = {"services": "Service", "secrets": "Secret", "configs": "Config", "nodes": "Node"}
        query = {**query, "version": str(await _version(cluster, path, kind))}
    raw = b"" if body is None else json.dumps(body).encode(errors="replace")
    status, answer = await cluster.ask(method, path, raw, query)
    a_sentence(status, answer, f"{method} {path} {query} {body}")
    return status


async def _version(cluster: WholeCluster, path: str, kinds: dict[str, str]) -> int:
    from meshnet_control.api import control_pb2 as pb

    word = path.split("/")[1]
    if word == "swarm":
        return int((await cluster.store.list(pb.Cluster))[0].version.asked)
    kind = getattr(pb, kinds[word])
    objects = await cluster.store.list(kind)
    name = path.split("/")[2]
    return next(
        (
            int(o.version.asked)
            for o in objects
            if name == o.id or (word == "nodes" and o.description.hostname == name)
        ),
        0,
    )


async def later_stages(cluster: WholeCluster) -> None:
    await cluster.settle()
    await cluster.reach_the_kernel()
    cluster.events()
    for path in LISTS:
        query = {"status": "true"} if path == "/services" else {}
        status, answer = await cluster.ask("GET", path, query=query)
        assert status == 200, path
        assert refused(json.loads(answer)) == [], path
        more = {"/services": {"insertDefaults": "true"}, "/networks": {"verbose": "true"}}
        for each in json.loads(answer) if path in more else ():
            one = f"{path}/{each.get('ID') or each['Id']}"
            status, answer = await cluster.ask("GET", one, query=more[path])
            assert status == 200, one
            assert refused(json.loads(answer)) == [], one


def service(**container: Any) -> Request:
    spec = {"Name": "web", "TaskTemplate": {"ContainerSpec": {"Image": "web:1"} | container}}
    return ("POST", "/services/create", {}, spec)


def secret_file(**file: Any) -> Request:
    reference = {
        "File": {"Name": "s", "UID": "0", "GID": "0", "Mode": 292} | file,
        "SecretID": "secret00secret00secret000",
        "SecretName": "secret",
    }
    return service(Secrets=[reference])


@given(requests=st.lists(REQUESTS | READS, min_size=1, max_size=4))
@example(requests=[service(Hosts=[""])])
@example(requests=[secret_file(UID="99999999999")])
@example(requests=[secret_file(UID="²")])
@example(requests=[secret_file(Mode=2**32 - 1)])
@example(requests=[service(Privileges={"Seccomp": {"Mode": "custom", "Profile": "/w=="}})])
@example(
    requests=[
        (
            "POST",
            "/networks/create",
            {},
            NETWORK_BODY | {"Options": {"com.docker.network.driver.mtu": "²"}},
        ),
        service(),
    ]
)
@example(requests=[("POST", "/services/create", {}, SERVICE_BODY)])
@example(requests=[("POST", "/services/create", {}, service()[3] | {"Networks": [{}]})])
@example(requests=[("GET", "/services", {"filters": "[" * 3000}, None)])
@example(requests=[("GET", "/services", {"filters": '{"\\ud800":[]}'}, None)])
@example(requests=[("POST", "/networks/prune", {"filters": '{"label!":5}'}, None)])
@example(requests=[("POST", "/containers/create", {}, {"HostConfig": [], "NetworkingConfig": 1})])
@example(requests=[("POST", "/swarm/init", {}, OWN_CA_ALONE)])
@example(requests=[service(Privileges={"CredentialSpec": {}})])
@example(requests=[service(Isolation="hyperv")])
def test_whatever_the_api_accepts_no_later_stage_raises(requests: list[Request]):
    async def law() -> None:
        cluster = WholeCluster()
        for request in requests:
            await send(cluster, request)
        await later_stages(cluster)
        await send(cluster, ("DELETE", "/services/web", {}, None))
        await later_stages(cluster)

    run(law())


@given(
    st.tuples(st.just("/swarm/init"), changed(INIT_BODY))
    | st.tuples(st.just("/swarm/join"), changed(JOIN_BODY))
)
def test_a_node_outside_a_swarm_is_as_careful(asked: tuple[str, Any]):
    async def law() -> None:
        await send(WholeCluster(inactive=True), ("POST", asked[0], {}, asked[1]))

    run(law())


def test_the_rich_body_is_accepted_and_reaches_the_kernel():
    """Else the law above would hold for want of anything accepted."""

    async def law() -> None:
        cluster = WholeCluster()
        assert await send(cluster, ("POST", "/networks/create", {}, NETWORK_BODY)) == 201
        assert await send(cluster, ("POST", "/services/create", {}, SERVICE_BODY)) == 201
        await later_stages(cluster)
        snapshots = await cluster.reach_the_kernel()
        endpoints = snapshots[0].endpoints.values()
        assert {"web"} == {e.name.partition(".")[0] for e in endpoints if e.addresses}
        assert [len(s.sandboxes) for s in snapshots] == [2, 0], "node.role == manager"
        assert OVERLAY in snapshots[0].networks

    run(law())


REFUSED = [
    (service(Hosts=[""]), 'bad format for add-host: ""'),
    (service(Hosts=["nowhere web"]), 'invalid IP address in add-host: "nowhere"'),
    (secret_file(UID="99999999999"), 'invalid UID "99999999999"'),
    (secret_file(GID="4294967295"), "of secret secret must be 0 to 4294967294"),
    (secret_file(Mode=0o10000), "must be at most 07777"),
    (service(Env=["=x"]), "invalid environment variable: =x"),
    (service(Env=["A=\0"]), "has a NUL byte, which no text may have"),
    (service(Labels={"a\0": "b"}), "has a NUL byte, which no text may have"),
    (service(StopSignal="SIGNOPE"), "invalid signal: SIGNOPE"),
    (service(StopSignal="SIGTERM\n"), "invalid signal: "),
    (service(Dir="srv"), "it needs to be an absolute path"),
    (service(CapabilityAdd=["CAP_NOPE"]), 'invalid CapAdd: unknown capability: "CAP_NOPE"'),
    (service(Ulimits=[{"Name": "x"}]), "invalid ulimit type: x"),
    (service(OomScoreAdj=1001), "range for oom score adj is [-1000, 1000]"),
    (
        service(Mounts=[{"Type": "bind", "Source": "a", "Target": "/a"}]),
        "invalid bind mount source",
    ),
    (service(Mounts=[{"Type": "nfs", "Target": "/a"}]), "invalid mount type: nfs"),
    (service(Mounts=[{"Type": "volume", "Target": "a"}]), "must be an absolute path: a"),
    (service(DNSConfig={"Search": ["a b"]}), '"a b" is not a valid domain'),
    (service(Hostname="a\nb"), "invalid hostname format"),
    (
        service(Privileges={"Seccomp": {"Mode": "custom", "Profile": "/w=="}}),
        "the seccomp profile is not JSON",
    ),
    (service(StopGracePeriod=2**63), "number 9223372036854775808 into Go struct field"),
    (service(OomScoreAdj=10**40), "into Go struct field"),
]


@pytest.mark.parametrize(("request_", "said"), REFUSED)
def test_what_no_node_could_run_is_refused_at_the_door(request_: Request, said: str):
    async def law() -> None:
        method, path, query, body = request_
        status, answer = await WholeCluster().ask(method, path, json.dumps(body).encode(), query)
        message = json.loads(answer)["message"]
        assert (status, said in message) == (400, True), message
        assert message.isprintable()

    run(law())


@pytest.mark.parametrize(
    ("replicas", "status"),
    [(10_000, 201), (10_001, 400), (2**64 - 1, 400), (2**64, 400), (-1, 400)],
)
def test_replicas_are_bounded(replicas: int, status: int):
    async def law() -> None:
        body = service()[3] | {"Mode": {"Replicated": {"Replicas": replicas}}}
        assert await send(WholeCluster(), ("POST", "/services/create", {}, body)) == status

    run(law())


@pytest.mark.parametrize(
    "subnet",
    ["0.0.0.0/0", "127.0.0.0/8", "224.0.0.0/24", "255.255.255.0/24", "10.0.9.1/24", "10.0.9.0/33"],
)
def test_subnets_no_host_can_be_in(subnet: str):
    async def law() -> None:
        body = {"Name": "n", "Driver": "overlay", "IPAM": {"Config": [{"Subnet": subnet}]}}
        assert await send(WholeCluster(), ("POST", "/networks/create", {}, body)) == 400

    run(law())


@pytest.mark.parametrize("version", ["9" * 5000, str(2**64), "²", "-1", ""])
def test_a_version_is_a_number_of_64_bits(version: str):
    async def law() -> None:
        status, answer = await WholeCluster().ask(
            "POST", "/services/old/update", json.dumps(service()[3]).encode(), {"version": version}
        )
        assert status == 400, answer

    run(law())


def test_a_member_said_twice_counts_as_it_was_said_last():
    async def law() -> None:
        cluster = WholeCluster()
        raw = (
            b'{"Name":"web","TaskTemplate":{"ContainerSpec":'
            b'{"Image":"web:1","Env":["A=1"],"env":["B=2"]}}}'
        )
        assert (await cluster.ask("POST", "/services/create", raw))[0] == 201
        shown = json.loads((await cluster.ask("GET", "/services/web"))[1])
        assert shown["Spec"]["TaskTemplate"]["ContainerSpec"]["Env"] == ["B=2"]

    run(law())


@pytest.mark.parametrize(
    "raw", [b'{"Driver":"overlay","x":' + b"[" * 900 + b"]" * 900 + b"}", b'{"Name":NaN}', b"\xff"]
)
def test_broken_json_is_a_refusal(raw: bytes):
    async def law() -> None:
        for path in ("/services/create", "/networks/create", "/secrets/create", "/swarm/update"):
            status, answer = await WholeCluster().ask("POST", path, raw, {"version": "1"})
            assert status == 400, answer
            a_sentence(status, answer, path)

    run(law())
