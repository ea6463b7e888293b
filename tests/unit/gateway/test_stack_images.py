"""``meshnet stack deploy``: images pinned to the digests that registries tell, as docker does."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from docker_clis import distinct_clis
from tests.unit.gateway.test_stack_deploy import docker, rows

from meshnet_control.api import control_pb2 as pb
from meshnet_control.store.store import Store

ONE, TWO = "sha256:" + "1" * 64, "sha256:" + "2" * 64
IMAGE = "r.test:5000/web"


def answer(digest: str) -> dict[str, Any]:
    platforms = [{"architecture": "amd64", "os": "linux"}]
    return {"Descriptor": {"digest": digest}, "Platforms": platforms}


async def image(store: Store) -> str:
    (service,) = await store.list(pb.Service)
    return str(service.spec.task_template.container_spec.image)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Name: file. Scope: function. Depends: tmp_path. A stack file of one image without a tag."""
    path = tmp_path / "compose.yaml"
    path.write_text(f"version: '3.8'\nservices: {{web: {{image: '{IMAGE}'}}}}")
    return path


async def test_digests_are_pinned_and_roll_when_the_tag_moved(command, file, host, store: Store):
    host.registry[f"{IMAGE}:latest"] = answer(ONE)
    status, _, err = await command("stack", "deploy", "demo")
    assert (status, err) == (0, "")
    assert await image(store) == f"{IMAGE}:latest@{ONE}"
    (service,) = await store.list(pb.Service)
    (platform,) = service.spec.task_template.placement.platforms
    assert (platform.architecture, platform.os) == ("amd64", "linux")
    host.registry[f"{IMAGE}:latest"] = answer(TWO)
    for mode in ("never", "changed"):
        said = await command("stack", "deploy", "--resolve-image", mode, "demo")
        assert said == (0, "", "")
    _, out, _ = await command("stack", "deploy", "--dry-run", "demo")
    assert [row[:4] for row in rows(out) if row[0] == "~"] == [
        ["~", "update", "service", "demo_web"]
    ]
    assert await image(store) == f"{IMAGE}:latest@{ONE}"
    await command("stack", "deploy", "demo")
    assert await image(store) == f"{IMAGE}:latest@{TWO}"


async def test_a_registry_that_does_not_answer_rolls_nothing(command, file, host, store: Store):
    host.registry[f"{IMAGE}:latest"] = answer(ONE)
    await command("stack", "deploy", "demo")
    host.registry.clear()
    status, out, err = await command("stack", "deploy", "demo")
    words = f"{IMAGE} is looked up in vain, each node takes what it finds: no such host"
    assert (status, out, err) == (0, "", f"meshnet: {words}\n")
    assert await image(store) == f"{IMAGE}:latest@{ONE}"


async def test_a_login_goes_along_when_it_is_to(
    command, file, host, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    host.registry[f"{IMAGE}:latest"] = answer(ONE)
    login = {"auths": {"r.test:5000": {"auth": base64.b64encode(b"ada:hush").decode()}}}
    (tmp_path / "config.json").write_text(json.dumps(login))
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    await command("stack", "deploy", "demo")
    assert host.looked_up == [(f"{IMAGE}:latest", "")]
    (service,) = await store.list(pb.Service)
    assert not service.spec.task_template.container_spec.pull_options.registry_auth
    file.write_text(file.read_text().replace("}}", ", user: '7'}}"))
    await command("stack", "deploy", "--with-registry-auth", "demo")
    said = json.loads(base64.urlsafe_b64decode(host.looked_up[-1][1]))
    assert (said["username"], said["password"]) == ("ada", "hush")
    (service,) = await store.list(pb.Service)
    kept = service.spec.task_template.container_spec.pull_options.registry_auth
    assert json.loads(base64.urlsafe_b64decode(kept))["password"] == "hush"  # noqa: S105


@pytest.mark.parametrize("cli", distinct_clis())
async def test_what_docker_deployed_and_resolved_is_what_is_wanted(
    command, file, host, store: Store, tmp_path: Path, cli: str
):
    """And the other way round."""
    host.registry[f"{IMAGE}:latest"] = answer(ONE)
    words = ("stack", "deploy", "-c", str(file), "demo")
    status, said = await docker(tmp_path, *words, cli=cli)
    assert status == 0, said
    assert await image(store) == f"{IMAGE}:latest@{ONE}"
    assert await command("stack", "deploy", "demo") == (0, "", "")
    (before,) = await store.list(pb.Service)
    await docker(tmp_path, *words, cli=cli)
    (after,) = await store.list(pb.Service)
    assert after.spec == before.spec
