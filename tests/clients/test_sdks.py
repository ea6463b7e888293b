"""The libraries that programs drive Docker with, each doing what its users do.

What is asked is what their manuals show for Swarm: networks, secrets and configs, a service from
its creation to its end, its tasks and logs, nodes, events, and containers beside it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import subprocess
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import aiodocker
import docker
import pytest
import python_on_whales
from docker.types import (
    ConfigReference,
    EndpointSpec,
    Mount,
    NetworkAttachmentConfig,
    Resources,
    RestartPolicy,
    RollbackConfig,
    SecretReference,
    ServiceMode,
    UpdateConfig,
)

from meshnet_control.lab.play import Play

pytestmark = [pytest.mark.clients, pytest.mark.timeout(120)]
WEB, NEXT, TOOLS = "meshnet/web:1", "meshnet/web:2", "meshnet/tools:1"
LIMIT_S = 20
NODE_MODULES = Path(__file__).parents[2] / ".venv" / "node" / "node_modules"


def until(what: Callable[[], object]) -> object:
    """What is said once it is true."""
    deadline = time.monotonic() + LIMIT_S
    while not (said := what()):
        assert time.monotonic() < deadline, "not in time"
        time.sleep(0.1)
    return said


def running(service) -> list[dict]:
    """The tasks of a service of docker-py that run."""
    tasks = service.tasks(filters={"desired-state": "running"})
    return [task for task in tasks if task["Status"]["State"] == "running"]


def completed(client: docker.DockerClient, name: str) -> Callable[[], bool]:
    def there() -> bool:
        status = client.services.get(name).attrs.get("UpdateStatus") or {}
        return bool(status.get("State") == "completed")

    return there


def test_docker_py(url: str) -> None:
    with contextlib.closing(docker.DockerClient(base_url=url, timeout=LIMIT_S)) as client:
        assert client.ping() is True
        assert client.info()["Swarm"]["ControlAvailable"] is True
        client.swarm.reload()
        assert client.swarm.attrs["JoinTokens"]["Worker"].startswith("SWMTKN-1-")
        nodes = {node.attrs["Description"]["Hostname"]: node for node in client.nodes.list()}
        assert sorted(nodes) == ["h1", "h2"]
        assert [n.id for n in client.nodes.list(filters={"role": "manager"})] == [nodes["h1"].id]
        spec = nodes["h2"].attrs["Spec"]
        assert nodes["h2"].update({**spec, "Labels": {"rack": "a"}}) is True
        net = client.networks.create(
            "py", driver="overlay", attachable=True, labels={"a": "b"}, scope="swarm"
        )
        assert [n.name for n in client.networks.list(filters={"label": "a=b"})] == ["py"]
        secret = client.secrets.create(name="word", data=b"topsecret", labels={"of": "py"})
        config = client.configs.create(name="page", data=b"hello\n")
        assert client.configs.get(config.id).attrs["Spec"]["Name"] == "page"
        assert [s.name for s in client.secrets.list(filters={"name": "word"})] == ["word"]
        service = client.services.create(
            WEB,
            name="py",
            env=["A=1"],
            labels={"l": "1"},
            container_labels={"c": "1"},
            networks=[NetworkAttachmentConfig("py", aliases=["other"])],
            secrets=[SecretReference(secret.id, "word")],
            configs=[ConfigReference(config.id, "page", filename="/page", mode=0o440)],
            mounts=[Mount("/t", None, type="tmpfs")],
            mode=ServiceMode("replicated", replicas=2),
            endpoint_spec=EndpointSpec(mode="vip", ports={8090: (80, "tcp", "ingress")}),
            update_config=UpdateConfig(parallelism=2, delay=0, monitor=10**8, order="start-first"),
            rollback_config=RollbackConfig(parallelism=2, monitor=10**8),
            restart_policy=RestartPolicy(condition="any", delay=10**9),
            resources=Resources(mem_limit=64 << 20),
            constraints=["node.platform.os==linux"],
            preferences=[("spread", "node.labels.rack")],
            stop_grace_period=10**9,
        )
        assert len(until(lambda: len(running(service)) == 2 and running(service))) == 2  # type: ignore[arg-type]
        service.reload()
        assert client.services.list(filters={"label": "l"}, status=True)[0].attrs[
            "ServiceStatus"
        ] == {"RunningTasks": 2, "DesiredTasks": 2, "CompletedTasks": 0}
        assert service.attrs["Endpoint"]["Ports"][0]["PublishedPort"] == 8090
        assert service.name == "py"
        net.reload()
        assert net.attrs["Scope"] == "swarm"
        here = client.containers.list(filters={"label": "com.docker.swarm.service.name=py"})
        assert len(here) == 1
        assert here[0].labels["c"] == "1"
        code, said = here[0].exec_run(["sh", "-c", "cat /run/secrets/word /page; echo $A"])
        assert (code, said) == (0, b"topsecrethello\n1\n")
        assert here[0].stats(stream=False)["memory_stats"]["usage"] > 0
        service.scale(3)
        until(lambda: len(running(service)) == 3)
        service.reload()
        events = client.events(filters={"type": "service", "event": "update"}, decode=True)
        assert service.update(image=NEXT, env=["A=2"], fetch_current_spec=True) is not None
        until(completed(client, "py"))
        service.reload()
        kept = service.attrs["Spec"]
        assert kept["TaskTemplate"]["ContainerSpec"]["Image"] == NEXT
        assert kept["TaskTemplate"]["ContainerSpec"]["Secrets"][0]["SecretName"] == "word"
        assert kept["Mode"]["Replicated"]["Replicas"] == 3
        assert service.attrs["PreviousSpec"]["TaskTemplate"]["ContainerSpec"]["Image"] == WEB
        assert service.force_update() is not None
        event = next(events)
        events.close()
        assert (event["Action"], event["Actor"]["Attributes"]["name"]) == ("update", "py")
        talker = client.services.create(
            TOOLS, command="sh -c 'echo said; sleep 1000'", name="say", stop_grace_period=10**9
        )
        until(lambda: b"said" in b"".join(talker.logs(stdout=True, tail=10)))
        with pytest.raises(docker.errors.APIError, match="is in use by the following service"):
            secret.remove()
        for each in (service, talker):
            assert each.remove() is True
        with pytest.raises(docker.errors.NotFound, match="service py not found"):
            client.services.get("py")
        secret.remove()
        config.remove()
        until(lambda: client.containers.list(filters={"name": "py"}, sparse=True) == [])
        until(lambda: _removed(net))


def _removed(network) -> bool:
    try:
        network.remove()
    except docker.errors.APIError as error:
        if "in use" not in str(error):
            raise
        return False
    return True


async def test_aiodocker(url: str) -> None:
    async with asyncio.timeout(60), aiodocker.Docker(url=url) as client:
        assert (await client.system.info())["Swarm"]["LocalNodeState"] == "active"
        assert (await client.swarm.inspect())["Spec"]["Name"] == "default"
        assert len(await client.nodes.list()) == 2
        events = client.events.subscribe()
        net = await client.networks.create({"Name": "aio", "Driver": "overlay"})
        secret = await client.secrets.create("aiosecret", "word", b64=False)
        config = await client.configs.create("aioconfig", "page\n", b64=False)
        task = {
            "ContainerSpec": {
                "Image": TOOLS,
                "Command": ["sh", "-c", "cat /run/secrets/word; echo; sleep 1000"],
                "StopGracePeriod": 10**9,
                "Secrets": [
                    {
                        "File": {"Name": "word", "UID": "0", "GID": "0", "Mode": 292},
                        "SecretID": secret["ID"],
                        "SecretName": "aiosecret",
                    }
                ],
            },
            "Networks": [{"Target": "aio"}],
        }
        made = await client.services.create(
            task_template=task,
            name="aio",
            labels={"l": "1"},
            mode={"Replicated": {"Replicas": 1}},
            endpoint_spec={"Ports": [{"TargetPort": 80, "PublishedPort": 8091}]},
        )

        async def one_runs(image: str) -> bool:
            tasks = await client.tasks.list(filters={"service": "aio", "desired-state": "running"})
            return [
                (each["Status"]["State"], each["Spec"]["ContainerSpec"]["Image"]) for each in tasks
            ] == [("running", image)]

        async def eventually(holds: Callable[[], Awaitable[bool]]) -> None:
            while not await holds():  # noqa: ASYNC110 - nobody here says when
                await asyncio.sleep(0.1)

        await eventually(lambda: one_runs(TOOLS))

        async def said() -> bool:
            lines: Any = await client.services.logs(made["ID"], stdout=True, tail="5")  # type: ignore[misc]
            return any("word" in line for line in lines)

        await eventually(said)
        found = await client.services.list(filters={"name": "aio"})
        assert [each["ID"] for each in found] == [made["ID"]]
        inspected = await client.services.inspect("aio")
        assert inspected["Endpoint"]["Ports"][0]["PublishMode"] == "ingress"
        assert await client.services.update(
            made["ID"], version=str(inspected["Version"]["Index"]), image=WEB
        )
        await eventually(lambda: one_runs(WEB))
        again = await client.services.inspect("aio")
        assert await client.services.update(
            made["ID"], version=str(again["Version"]["Index"]), rollback=True
        )
        await eventually(lambda: one_runs(TOOLS))
        stale = str(again["Version"]["Index"])
        with pytest.raises(aiodocker.DockerError, match="update out of sequence"):
            await client.services.update(made["ID"], version=stale, image=WEB)
        node = (await client.nodes.list(filters={"name": "h2"}))[0]
        assert (await client.nodes.inspect(node_id=node["ID"]))["Description"]["Hostname"] == "h2"
        heard = None
        while heard != ("service", "create"):  # it came too late for what was first made
            event = await events.get()
            heard = (event["Type"], event["Action"])
        assert await client.services.delete("aio")
        await client.secrets.delete(secret["ID"])
        await client.configs.delete(config["ID"])

        async def gone() -> bool:
            try:
                return bool(await net.delete())
            except aiodocker.DockerError as error:
                if "in use" not in error.message:
                    raise
                return False

        await eventually(gone)


def test_python_on_whales(url: str, tmp_path: Path) -> None:
    client = python_on_whales.DockerClient(host=url)
    swarm = client.system.info().swarm
    assert swarm is not None
    assert swarm.local_node_state == "active"
    assert {node.description.hostname for node in client.node.list()} == {"h1", "h2"}
    client.node.update("h2", labels_add={"rack": "a"})
    assert client.node.inspect("h2").spec.labels == {"rack": "a"}
    client.node.update("h2", rm_labels=["rack"])
    (tmp_path / "word").write_text("topsecret")
    secret = client.secret.create("word", tmp_path / "word")
    config = client.config.create("page", tmp_path / "word")
    client.network.create("pow", driver="overlay", attachable=True)
    service = client.service.create(
        TOOLS,
        ["sh", "-c", "cat /run/secrets/word; echo; exec sleep 1000"],
        labels={"l": "1"},
        network="pow",
        secrets=[{"source": "word"}],
        detach=True,
    )
    until(lambda: [task.status.state for task in service.ps()] == ["running"])
    assert service.spec.task_template.container_spec.image == TOOLS
    until(lambda: "topsecret" in client.service.logs(service))
    client.service.scale({service: 2}, detach=True)
    until(lambda: [task.status.state for task in client.service.ps(service)] == ["running"] * 2)
    client.service.update(service, image=NEXT, detach=True)

    def updated() -> bool:
        service.reload()
        return bool(service.update_status and service.update_status.state == "completed")

    until(updated)
    assert [each.id for each in client.service.list()] == [service.id]
    client.service.remove(service)
    (tmp_path / "stack.yml").write_text(
        f'version: "3.8"\nservices:\n  web:\n    image: {WEB}\n    deploy: {{replicas: 2}}\n'
    )
    stack = client.stack.deploy("powstack", compose_files=[tmp_path / "stack.yml"])
    until(lambda: [t.status.state for t in stack.ps()] == ["running"] * 2)
    assert [each.spec.name for each in stack.services()] == ["powstack_web"]
    stack.remove()
    assert client.stack.list() == []
    for each in (secret, config):
        each.remove()
    until(lambda: not client.container.list(filters=[("network", "pow")]))
    client.network.prune()
    assert client.network.list([("name", "^pow$")]) == []


@pytest.mark.clients("node")
def test_dockerode(play: Play, url: str) -> None:
    script = Path(__file__).parent / "dockerode.js"
    done = subprocess.run(
        ["node", script, url.removeprefix("unix://"), WEB, NEXT],
        env={"NODE_PATH": str(NODE_MODULES), "PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        timeout=80,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {
        "nodes": 2, "replicas": 3, "image": NEXT, "force": 1, "said": "topsecret", "gone": 404,
    }  # fmt: skip
