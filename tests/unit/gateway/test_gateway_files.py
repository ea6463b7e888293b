"""The data of secrets and configs is replaced by a request of ours, and by none of Docker's."""

from __future__ import annotations

from typing import Any

import pytest
from aiohttp.test_utils import TestClient

from meshnet_control.api import control_pb2 as pb
from meshnet_control.cluster.assignments import Objects, node_assignments
from meshnet_control.store.store import Put, Store

ID, NODE = "f" * 25, "n" * 25


@pytest.fixture
async def used(store: Store) -> Store:
    """Name: used. Scope: function. Depends: store. A secret that a service and a job use."""
    secret = pb.Secret(id=ID)
    secret.spec.name, secret.spec.data = "key", b"old"
    web, job, other = (pb.Service(id=c * 25) for c in "wjo")
    for service, name in ((web, "web"), (job, "job"), (other, "other")):
        service.spec.name = name
        container = service.spec.task_template.container_spec
        container.image = "a"
        if service is not other:
            container.secrets.add(secret_id=ID, secret_name="key").file.name = "key"  # noqa: S106
    web.spec.mode.replicated.replicas = other.spec.mode.replicated.replicas = 2
    web.spec_version = 5
    job.spec.mode.replicated_job.total_completions = 1
    await store.commit([Put(each) for each in (secret, web, job, other)])
    return store


async def asked(client: TestClient, path: str, data: bytes = b"new") -> tuple[int, Any]:
    async with client.post(path, data=data) as answer:
        return answer.status, await answer.json()


async def shown(client: TestClient) -> Any:
    async with client.get("/v1.41/secrets/key") as answer:
        return await answer.json()


async def stored_in(store: Store, kind: Any, identifier: str) -> Any:
    found = await store.get(kind, identifier)
    assert found is not None
    return found


async def test_services_are_rolled_as_by_force_and_jobs_are_not(manager: TestClient, used: Store):
    before = await shown(manager)
    assert await asked(manager, "/v1.41/secrets/key/data") == (200, {"Services": ["web"]})
    after = await shown(manager)
    assert after["ID"] == before["ID"]
    assert after["Version"]["Index"] > before["Version"]["Index"]
    assert after["UpdatedAt"] > before["UpdatedAt"]
    assert not {"Data", "Hot", "Signal"} & (after.keys() | after["Spec"].keys())
    stored = await stored_in(used, pb.Secret, ID)
    assert (stored.spec.data, stored.hot) == (b"new", False)
    web = await stored_in(used, pb.Service, "w" * 25)
    assert web.spec.task_template.force_update == 1
    assert web.spec_version != 5  # its tasks are of another specification
    assert web.previous_spec.task_template.force_update == 0
    for other in "jo":
        service = await stored_in(used, pb.Service, other * 25)
        assert service.spec.task_template.force_update == 0


async def test_hot_rolls_nobody_and_reaches_the_nodes_that_use_it(manager: TestClient, used: Store):
    path = "/secrets/key/data?hot=1&signal=SIGHUP"
    assert await asked(manager, path) == (200, {"Services": ["job", "web"]})
    assert (await stored_in(used, pb.Service, "w" * 25)).spec.task_template.force_update == 0
    secret = await stored_in(used, pb.Secret, ID)
    task = pb.Task(id="t", node_id=NODE, status=pb.TaskStatus(state=pb.TASK_STATE_RUNNING))
    task.spec.container_spec.secrets.add(secret_id=ID)
    objects = Objects(pb.Cluster(), tasks={"t": task}, secrets={ID: secret})
    sent = list(node_assignments(objects, NODE).secrets)
    assert sent == [pb.SecretAssignment(id=ID, data=b"new", hot=True, signal="SIGHUP")]
    assert not node_assignments(objects, "another").secrets


async def test_the_same_data_again_changes_nothing(manager: TestClient, used: Store):
    before = await shown(manager)
    assert await asked(manager, "/secrets/key/data", b"old") == (200, {"Services": []})
    assert await shown(manager) == before


@pytest.mark.parametrize(
    ("path", "data", "says"),
    [
        ("/secrets/key/data", b"", "secret data must be larger than 0 and less than 512000 bytes"),
        ("/secrets/key/data?signal=HUP", b"n", "a signal is for programs whose file is rewritten"),
        ("/secrets/key/data?hot=1&signal=NO", b"n", "invalid signal: NO"),
        ("/secrets/none/data", b"n", "secret none not found"),
        ("/configs/key/data", b"n", "config key not found"),
        ("/secrets/key/data", b"n" * 600_000, "secret data must be larger than 0"),
    ],
)
async def test_refusals(manager: TestClient, used: Store, path: str, data: bytes, says: str):
    status, body = await asked(manager, path, data)
    assert status in {400, 404}
    assert says in body["message"]
    assert (await stored_in(used, pb.Secret, ID)).spec.data == b"old"


async def test_dockers_own_update_still_changes_labels_alone(manager: TestClient, used: Store):
    at = (await shown(manager))["Version"]["Index"]
    spec = {"Name": "key", "Data": "bmV3", "Labels": {}}
    async with manager.post(f"/secrets/key/update?version={at}", json=spec) as answer:
        assert answer.status == 400
        assert "only updates to Labels are allowed" in (await answer.json())["message"]


async def test_the_command_says_whom_it_touched(command, used: Store, tmp_path):
    (tmp_path / "key").write_bytes(b"by file")
    assert await command("secret", "update", "key", "key") == (
        *(0, "secret key: rolled out by web\n", ""),
    )
    hot = ("secret", "update", "--hot", "--signal", "HUP", "key", "-")
    rewritten = "secret key: rewritten in running containers of job, web\n"
    assert await command(*hot, stdin=b"by pipe") == (0, rewritten, "")
    stored = await stored_in(used, pb.Secret, ID)
    assert (stored.spec.data, stored.hot, stored.signal) == (b"by pipe", True, "HUP")
    untouched = "secret key: no service is touched\n"
    assert await command(*hot, stdin=b"by pipe") == (0, untouched, "")


async def test_the_command_refuses_in_one_sentence(command, used: Store):
    said = await command("config", "update", "none", "-", stdin=b"x")
    assert said == (1, "", "meshnet: config none not found\n")
