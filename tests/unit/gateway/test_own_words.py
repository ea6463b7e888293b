"""What the engine says of a task's container, as its user gave it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import ClientSession, web
from whole_gateway import gateway_before

from meshnet_control.agent import container, engine_socket, gate
from meshnet_control.api import control_pb2 as pb
from meshnet_control.gateway import own_words
from meshnet_control.gateway.container_views import INSPECTED, LISTED, seen

RUN = Path("/run/meshnet/tasks/t1")
IMAGE = {"Id": "sha256:1", "Config": {"Entrypoint": ["/entry"], "Cmd": ["serve", "a b"]}}


def made(found="", **spec):
    """The body by which a task's container is made."""
    task = pb.Task(id="t1", service_name="web", slot=1)
    task.spec.container_spec.CopyFrom(pb.ContainerSpec(image="web:1", **spec))
    net = task.networks_attachments.add(addresses=["10.0.1.3/24"]).network
    net.id, net.driver_state.name = "w" * 25, "overlay"
    net.ipam_options.configs.add(subnet="10.0.1.0/24")
    place = container.Place("n" * 25, "h1", init=found)
    return container.create_arguments(task, IMAGE, place, RUN, None).config


def engines(config):
    """What the engine says of such a container: listed and inspected."""
    argv = [*config["Entrypoint"], *config["Cmd"]]
    mounts = [
        {"Type": each["Type"], "Source": each["Source"], "Destination": each["Target"]}
        for each in config["HostConfig"]["Mounts"]
    ]
    own = {key: config[key] for key in ("Entrypoint", "Cmd", "Env", "Labels") if key in config}
    return (
        {"Id": "c1", "Command": " ".join(argv), "Labels": config["Labels"], "Mounts": mounts},
        {
            "Id": "c1",
            "Path": argv[0],
            "Args": argv[1:],
            "Config": own,
            "HostConfig": {
                "NetworkMode": "none",
                "Mounts": config["HostConfig"]["Mounts"],
                "Init": config["HostConfig"]["Init"],
            },
            "Mounts": mounts,
        },
    )


@pytest.mark.parametrize(
    ("spec", "entrypoint", "command", "shown"),
    [
        ({}, ["/entry"], ["serve", "a b"], "/entry serve 'a b'"),
        ({"args": ["x"]}, ["/entry"], ["x"], "/entry x"),
        ({"command": ["/mine"]}, ["/mine"], None, "/mine"),
        ({"args": ["x"], "env": ["a.b=1"]}, ["/entry"], ["x"], "/entry x"),
    ],
)
def test_the_words_are_the_users_or_the_images(spec, entrypoint, command, shown):
    entry, found = engines(made(**spec))
    assert "/.meshnet" in json.dumps(entry)
    entry, found = own_words.listed(entry), own_words.inspected(found)
    assert entry["Command"] == shown
    assert found["Config"]["Entrypoint"] == entrypoint
    assert found["Config"]["Cmd"] == command
    assert [found["Path"], *found["Args"]] == [*entrypoint, *(command or [])]
    for said in (entry, found):
        assert "meshnet" not in json.dumps(said)


def test_the_users_mounts_and_labels_are_shown_and_nothing_else():
    config = made(
        mounts=[pb.Mount(type="bind", source="/srv/tasks/t2", target="/data")],
        labels={"mine": "1"},
        secrets=[pb.SecretReference(file=pb.FileTarget(name="key"), secret_id="s")],  # noqa: S106
    )
    entry, found = engines(config)
    entry, found = own_words.listed(entry), own_words.inspected(found)
    assert [mount["Destination"] for mount in entry["Mounts"]] == ["/data"]
    assert [mount["Destination"] for mount in found["Mounts"]] == ["/data"]
    assert [mount["Target"] for mount in found["HostConfig"]["Mounts"]] == ["/data"]
    for labels in (entry["Labels"], found["Config"]["Labels"]):
        assert labels["mine"] == "1"
        assert labels["com.docker.swarm.task.id"] == "t1"
        assert not [name for name in labels if name.startswith("meshnet")]


@pytest.mark.parametrize("found", ["", "/usr/bin/docker-init"])
def test_an_init_is_the_engines_whoever_runs_it(found):
    config = made(found, args=["x"], init=True)
    assert config["HostConfig"]["Init"] is not bool(found)
    entry, said = engines(config)
    entry, said = own_words.listed(entry), own_words.inspected(said)
    assert said["HostConfig"]["Init"] is True
    assert [entry["Mounts"], said["Mounts"], said["HostConfig"]["Mounts"]] == [[], [], []]
    assert [said["Path"], *said["Args"]] == ["/entry", "x"]
    assert "init" not in json.dumps([entry, said["Config"]])


def test_a_mount_of_ones_own_is_shown_where_docker_init_would_be():
    mount = pb.Mount(type="bind", source="/x", target=gate.INIT_TARGET)
    _, found = engines(made(mounts=[mount]))
    found = own_words.inspected(found)
    assert [each["Destination"] for each in found["Mounts"]] == [gate.INIT_TARGET]


def test_a_container_without_a_gate_is_left_as_it_is():
    """Made of an image of a task's container, say: it has the labels."""
    entry, found = engines(made())
    entry = entry | {"Command": "sleep 1000"}
    found = found | {"Path": "sleep", "Args": ["1000"]}
    own, seen = own_words.listed(entry), own_words.inspected(found)
    assert (own["Command"], own["Mounts"]) == ("sleep 1000", entry["Mounts"])
    assert (seen["Path"], seen["Mounts"]) == ("sleep", found["Mounts"])
    for labels in (own["Labels"], seen["Config"]["Labels"]):
        assert not [name for name in labels if name.startswith("meshnet")]


def test_a_container_that_is_no_tasks_is_left_as_it_is():
    entry = {"Command": "sleep 1", "Labels": {"mine": "1"}, "Mounts": []}
    found = {"Path": "sleep", "Config": {"Labels": None}, "HostConfig": {}, "Mounts": []}
    assert own_words.listed(entry) is entry
    assert own_words.inspected(found) is found


def test_a_socket_that_was_lent_is_shown_as_it_was_asked_for():
    """By all views, one after the other: none takes away what the next one needs."""
    asked = {"HostConfig": {"Binds": ["/var/run/docker.sock:/var/run/docker.sock"]}}
    lent = engine_socket.lent(asked, engine_socket.lent_path(Path("/var/lib/meshnet")))
    labels = {"meshnet.attached": "a", **lent["Labels"]}
    assert lent["HostConfig"] != asked["HostConfig"]
    found = {"Path": "sleep", "Config": {"Labels": labels}, "HostConfig": lent["HostConfig"]}
    shown = seen(found, INSPECTED)
    assert shown["HostConfig"]["Binds"] == asked["HostConfig"]["Binds"]
    assert shown["Config"]["Labels"] == {}
    assert seen({"Command": "sleep", "Labels": labels, "Mounts": []}, LISTED)["Labels"] == {}


@pytest.fixture
async def client(tmp_path: Path, host) -> AsyncIterator[tuple[ClientSession, list[object]]]:
    """Name: client. Scope: function. Depends: host. Of a gateway, whole; and what was committed."""
    entry, found = engines(made(args=["x"]))
    plain, asked = {"Id": "c2", "Command": "sleep 1", "Labels": None, "Mounts": None}, []
    changes = [{"Path": "/.meshnet", "Kind": 1}, {"Path": "/.meshnet/gate", "Kind": 1},
               {"Path": "/.meshnets", "Kind": 1}]  # fmt: skip

    labels = {"mine": "1", "meshnet.command": "", "meshnet.attached": "", "meshnet.socket": ""}
    image = {"Cmd": ["x"], "Labels": labels}

    said_of = {
        "app:1/json": {"Id": "i1", "Config": image, "ContainerConfig": image},
        "/app/json": {"Id": "i1", "Config": image, "ContainerConfig": image},
        "/containers/json": [entry, plain],
        "/c1/json": found,
        "/c1/changes": changes,
        "/system/df": {"LayersSize": 1, "Containers": [entry, plain]},
    }

    async def answer(request: web.Request) -> web.Response:
        path = request.path
        if path == "/version":
            return web.json_response({"ApiVersion": "1.41", "Version": "20.10.24"})
        for end, said in said_of.items():
            if path.endswith(end):
                return web.json_response(said)
        if path.endswith("/commit"):
            assert request.content_type == "application/json"  # or the engine refuses
            asked.append(json.loads(await request.read() or b"null"))
            return web.json_response({"Id": "i1"}, status=201)
        return web.json_response({"message": "No such container: c3"}, status=404)

    async with gateway_before(answer, host, tmp_path) as session:
        yield session, asked


async def test_every_way_to_ask_for_a_container_shows_its_users_words(client):
    session, _ = client
    listed = await (await session.get("/v1.41/containers/json?all=1")).json()
    assert [each["Command"] for each in listed] == ["/entry x", "sleep 1"]
    assert (await (await session.get("/containers/c1/json")).json())["Path"] == "/entry"
    usage = await (await session.get("/v1.41/system/df")).json()
    assert (usage["LayersSize"], usage["Containers"]) == (1, listed)
    changes = await (await session.get("/v1.44/containers/c1/changes")).json()
    assert [change["Path"] for change in changes] == ["/.meshnets"]
    lost = await session.get("/v1.41/containers/c3/json")
    assert (lost.status, await lost.json()) == (404, {"message": "No such container: c3"})


async def test_an_image_of_a_tasks_container_has_its_program(client):
    session, asked = client
    bare = {"data": b"null", "skip_auto_headers": ["Content-Type"]}
    nobodys = dict.fromkeys(["meshnet.command", "meshnet.gateway_address", "meshnet.task"], "")
    await session.post("/v1.41/commit?container=c1&repo=x", **bare)
    assert asked.pop() == {"Entrypoint": ["/entry"], "Cmd": ["x"], "Labels": nobodys}
    own = {"Cmd": ["y"], "Entrypoint": None, "Labels": {"mine": "1"}}
    await session.post("/v1.41/commit?container=c1&repo=x", json=own)
    labels = {**nobodys, "mine": "1"}
    assert asked.pop() == {"Entrypoint": ["/entry"], "Cmd": ["y"], "Labels": labels}


async def test_an_image_shows_none_of_the_labels_that_its_container_had(client):
    session, _ = client
    for name in ("team/app:1", "app"):
        found = await (await session.get(f"/v1.41/images/{name}/json")).json()
        assert (found["Id"], found["Config"]["Cmd"]) == ("i1", ["x"])
        for config in ("Config", "ContainerConfig"):
            assert found[config]["Labels"] == {"mine": "1"}
