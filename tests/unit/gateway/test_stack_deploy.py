"""``meshnet stack deploy`` against a gateway, beside what docker makes of the same file."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path

import every_key
import pytest
from docker_clis import distinct_clis
from ruamel.yaml import YAML

from meshnet_control.api import control_pb2 as pb
from meshnet_control.store.store import Put, Store

WEB = """
name: demo
services:
  web:
    image: ${IMAGE:-meshnet/web:1}
    ports: ["8080:80"]
    secrets: [key]
    configs: [page]
    depends_on: {db: {condition: service_started}}
    privileged: true
    devices: [/dev/fuse, "/dev/dri:/dev/d:rw"]
  db:
    image: meshnet/tools:1
    command: sleep 1000
  debug:
    image: meshnet/tools:1
    profiles: [debug]
secrets: {key: {environment: KEY}}
configs: {page: {content: "hello $${x} ${IMAGE:-none}"}}
"""


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Name: file. Scope: function. Depends: tmp_path. A stack file, and the variable it needs."""
    monkeypatch.setenv("KEY", "hush")
    path = tmp_path / "compose.yaml"
    path.write_text(WEB)
    return path


async def deploy(command, *words: str) -> tuple[int, str, str]:
    """Deploy, with no registry asked."""
    words = ("stack", "deploy", "--resolve-image", "never", *words)
    done: tuple[int, str, str] = await command(*words)
    return done


async def docker(tmp_path: Path, *words: str, cli: str = "docker") -> tuple[int, str]:
    environ = {**os.environ, "DOCKER_HOST": f"unix://{tmp_path}/run/docker.sock"}
    process = await asyncio.create_subprocess_exec(
        *(cli, *words),
        env=environ,
        cwd=tmp_path,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    out, _ = await process.communicate()
    return process.returncode or 0, out.decode()


def rows(out: str) -> list[list[str]]:
    return [line.split() for line in out.splitlines() if line.strip()][1:]


async def started(store: Store, name: str) -> None:
    """A task of a service runs, as soon as there is that service."""
    async with asyncio.timeout(20):
        while True:
            service = next((s for s in await store.list(pb.Service) if s.spec.name == name), None)
            if service is not None:
                break
            await asyncio.sleep(0.01)
    task = pb.Task(id="t" * 25, service_id=service.id, slot=1, desired_state=pb.TASK_STATE_RUNNING)
    task.status.state = pb.TASK_STATE_RUNNING
    await store.commit([Put(task)])


async def test_a_plan_changes_nothing_and_names_everything(command, file, store: Store):
    status, out, err = await deploy(command, "--dry-run")
    assert (status, err) == (0, "")
    assert rows(out) == [
        ["+", "create", "network", "demo_default"],
        ["+", "create", "secret", "demo_key"],
        ["+", "create", "config", "demo_page"],
        ["+", "create", "service", "demo_db"],
        ["+", "create", "service", "demo_web"],
    ]
    assert await store.list(pb.Service) == []
    assert "hush" not in out


async def test_a_stack_is_made_in_order_and_is_then_what_the_plan_wants(
    command, file, store: Store
):
    done, _ = await asyncio.gather(deploy(command), started(store, "demo_db"))
    status, out, err = done
    assert (status, err) == (0, "")
    assert [line for line in out.splitlines() if not line.startswith("Waiting")] == [
        "Creating network demo_default",
        "Creating secret demo_key",
        "Creating config demo_page",
        "Creating service demo_db",
        "Creating service demo_web",
    ]
    web = next(s for s in await store.list(pb.Service) if s.spec.name == "demo_web")
    assert web.spec.labels["meshnet.privileged"] == "true"
    assert web.spec.labels["meshnet.devices"] == "/dev/fuse,/dev/dri:/dev/d:rw"
    assert web.spec.labels["com.docker.stack.namespace"] == "demo"
    [secret], [config] = await store.list(pb.Secret), await store.list(pb.Config)
    assert (secret.spec.data, config.spec.data) == (b"hush", b"hello ${x} none")
    assert web.spec.task_template.container_spec.secrets[0].secret_id == secret.id
    _, out, _ = await deploy(command, "--dry-run")
    assert {tuple(row[:1]) for row in rows(out)} == {("unchanged",)}
    status, out, err = await deploy(command)
    assert (status, out, err) == (0, "", "")


async def test_what_changed_is_told_and_done_and_the_rest_left(
    command, file, store: Store, monkeypatch
):
    await asyncio.gather(deploy(command), started(store, "demo_db"))
    file.write_text(WEB.replace("8080:80", "8081:80").replace("sleep 1000", "sleep 2000"))
    monkeypatch.setenv("IMAGE", "meshnet/web:2")
    monkeypatch.setenv("KEY", "changed")
    _, out, _ = await deploy(command, "--dry-run")
    told = {row[3] for row in rows(out) if row[0] == "~"}
    assert told == {"demo_page", "demo_db", "demo_web"}
    assert "Image meshnet/web:1 -> meshnet/web:2" in out
    assert "Args" in out
    status, out, err = await deploy(command)
    assert (status, err) == (0, "")
    assert "Updating secret demo_key (rolled out by demo_web)" in out
    assert "Updating config demo_page (rolled out by demo_web)" in out
    web = next(s for s in await store.list(pb.Service) if s.spec.name == "demo_web")
    assert web.spec.task_template.force_update == 2  # kept: the secret's, then the config's
    assert web.spec.endpoint_spec.ports[0].published_port == 8081
    assert (await store.list(pb.Secret))[0].spec.data == b"changed"


async def test_services_that_are_gone_from_the_file_go_when_asked(command, file, store: Store):
    await asyncio.gather(deploy(command), started(store, "demo_db"))
    file.write_text("services: {db: {image: meshnet/tools:1, command: sleep 1000}}")
    _, out, _ = await deploy(command, "--dry-run", "demo")
    assert "remove" not in out
    _, out, _ = await deploy(command, "--dry-run", "--prune", "demo")
    assert ["-", "remove", "service", "demo_web"] in rows(out)
    assert await deploy(command, "--prune", "demo") == (0, "Removing service demo_web\n", "")
    assert [s.spec.name for s in await store.list(pb.Service)] == ["demo_db"]


async def test_who_waits_in_vain_is_told_for_what(command, file, store: Store):
    status, out, err = await deploy(command, "--wait-timeout", "0")
    assert (status, err) == (1, "meshnet: demo_web waits for demo_db to start: not within 0 s\n")
    assert "Creating service demo_db" in out
    assert [s.spec.name for s in await store.list(pb.Service)] == ["demo_db"]


@pytest.mark.parametrize("cli", distinct_clis())
async def test_docker_makes_the_same_of_every_key(command, store: Store, tmp_path: Path, cli: str):
    for name, text in every_key.FILES.items():
        (tmp_path / name).write_text(text)
    path = tmp_path / "stack.yaml"
    tree = every_key.stack(18000, "named")
    tree["services"]["full"].pop("depends_on")
    YAML(typ="safe", pure=True).dump(json.loads(json.dumps(tree)), path)
    words = ("stack", "deploy", "--resolve-image", "never", "-c", str(path), "both")
    status, said = await docker(tmp_path, *words, cli=cli)
    assert status == 0, said
    assert len(await store.list(pb.Service)) == 2
    status, out, err = await deploy(command, "-c", str(path), "--dry-run", "both")
    assert status == 0, err
    assert {row[0] for row in rows(out)} == {"unchanged"}, out
    status, out, err = await deploy(command, "-c", str(path), "both")
    assert (status, out) == (0, ""), err
