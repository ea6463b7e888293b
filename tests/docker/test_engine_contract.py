"""What the agent relies on: the engine in memory has the manners of the real one."""

from __future__ import annotations

import asyncio
import uuid
from contextlib import aclosing

import pytest

from meshnet_control.agent.agent import has_run
from meshnet_control.engine.client import EngineClient
from meshnet_control.engine.errors import EngineConflictError, EngineNotFoundError
from meshnet_control.engine.fake import FakeEngine

pytestmark = [pytest.mark.docker, pytest.mark.timeout(120)]
IMAGE = "busybox:latest"
TASK = "com.docker.swarm.task.id"


@pytest.fixture(params=["real", "fake"])
async def kind(request):
    """Name: kind; Scope: function; Depends: engine. A client of a real engine; one in memory."""
    if request.param == "fake":
        yield FakeEngine(images={IMAGE: {"Config": {}}})
        return
    real = EngineClient(request.getfixturevalue("engine").url)
    yield real
    await real.close()


@pytest.fixture
async def name(kind):
    """Name: name; Scope: function; Depends: kind. Of a container that is gone afterwards."""
    chosen = f"contract-{uuid.uuid4().hex[:8]}"
    yield chosen
    for found in await kind.containers([f"{TASK}={chosen}"]):
        await kind.remove(found["Id"])


def config(name):
    return {
        "Image": IMAGE,
        "Cmd": ["sleep", "1000"],
        "Labels": {TASK: name},
        "HostConfig": {"NetworkMode": "none"},
    }


async def test_the_life_of_a_container(kind, name):
    made = await kind.create(name, config(name))
    with pytest.raises(EngineConflictError, match=name):
        await kind.create(name, config(name))
    found = await kind.inspect(made)
    assert (found["Id"], found["State"]["Running"], has_run(found)) == (made, False, False)
    assert [each["Id"] for each in await kind.containers([f"{TASK}={name}"])] == [made]
    assert await kind.containers([f"{TASK}=other"]) == []
    await kind.kill(made, "SIGTERM")  # it does not run: no error
    await kind.start(made)
    await kind.start(made)
    found = await kind.inspect(made)
    assert (found["State"]["Running"], has_run(found)) == (True, True)
    assert found["Config"]["Labels"] == {TASK: name}
    await kind.kill(made, "SIGKILL")
    deadline = asyncio.get_running_loop().time() + 20
    while (await kind.inspect(made))["State"]["Running"]:
        assert asyncio.get_running_loop().time() < deadline
        await asyncio.sleep(0.02)
    assert (await kind.inspect(made))["State"]["ExitCode"] == 137
    await kind.remove(made)
    await kind.remove(made)
    with pytest.raises(EngineNotFoundError, match=made):
        await kind.inspect(made)


async def test_its_events(kind, name):
    seen = []
    async with aclosing(kind.events()) as events, asyncio.timeout(20):
        assert (await anext(events)).action == "resync"
        made = await kind.create(name, config(name))
        await kind.start(made)
        await kind.remove(made)
        async for event in events:
            if event.task == name and event.action in {"start", "die", "destroy"}:
                seen.append((event.action, event.container, event.exit_code))
            if event.action == "destroy":
                break
    assert seen == [("start", made, 0), ("die", made, 137), ("destroy", made, 0)]


async def test_an_unknown_image(kind):
    with pytest.raises(EngineNotFoundError, match=r"No such image: 127\.0\.0\.1:9/nope"):
        await kind.image("127.0.0.1:9/nope:latest")
