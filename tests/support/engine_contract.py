"""What an engine does for the agent, whichever it is: the real one and the fake are held to it."""

from __future__ import annotations

import asyncio
from contextlib import aclosing, suppress
from dataclasses import dataclass
from typing import Any

import pytest

from meshnet_control.agent.collaborators import Engine
from meshnet_control.engine.client import (
    RESYNC,
    TASK_LABEL,
    EngineConflictError,
    EngineNotFoundError,
    Event,
)
from meshnet_control.engine.files import Found

TASK = "t" * 25


@dataclass(frozen=True)
class Candidate:
    """An engine, and a container's config whose program ends with 7 at SIGTERM."""

    engine: Engine
    config: dict[str, Any]


class Heard:
    """The events of an engine, until cancelled."""

    def __init__(self, engine: Engine) -> None:
        self.events: list[Event] = []
        self._engine = engine
        self._more = asyncio.Event()

    async def follow(self) -> None:
        async with aclosing(self._engine.events()) as events:
            async for event in events:
                self.events.append(event)
                self._more.set()

    async def until(self, action: str) -> Event:
        """The first event of that action; it is taken out."""
        async with asyncio.timeout(20):
            while True:
                for event in self.events:
                    if event.action == action:
                        self.events.remove(event)
                        return event
                self._more.clear()
                await self._more.wait()


async def holds(candidate: Candidate) -> None:
    """The whole contract."""
    heard = Heard(candidate.engine)
    following = asyncio.create_task(heard.follow())
    try:
        await heard.until(RESYNC)
        await _life(candidate, heard)
        await _end(candidate, heard)
        await _networks(candidate)
        await _nothing_there(candidate)
    finally:
        following.cancel()
        with suppress(asyncio.CancelledError):
            await following


async def _life(candidate: Candidate, heard: Heard) -> None:
    engine, config = candidate.engine, candidate.config
    assert await engine.init_binary() == "docker-init"
    made = await engine.create("contract", config)
    assert len(made) == 64
    with pytest.raises(EngineConflictError):
        await engine.create("contract", config)
    found = await engine.inspect(made)
    assert (found["Id"], found["State"]["Running"]) == (made, False)
    assert found["State"]["StartedAt"].startswith("0001-")
    assert found["Config"]["Labels"][TASK_LABEL] == TASK
    await engine.kill(made, "SIGTERM")  # does not run: no error
    await _files(engine, made)
    await engine.start(made)
    await engine.start(made)
    assert (await heard.until("start")).task == TASK
    found = await engine.inspect(made)
    assert found["State"]["Running"]
    assert found["State"]["Pid"] > 0
    assert not found["State"]["StartedAt"].startswith("0001-")
    assert found["NetworkSettings"]["SandboxKey"]
    await heard.until("health_status: healthy")
    assert (await engine.inspect(made))["State"]["Health"]["Status"] == "healthy"
    for label in (TASK_LABEL, f"{TASK_LABEL}={TASK}"):
        assert [entry["Id"] for entry in await engine.containers([label])] == [made]
    assert await engine.containers([f"{TASK_LABEL}=another"]) == []
    await engine.kill(made, "SIGTERM")
    died = await heard.until("die")
    assert (died.container, died.task, died.exit_code) == (made, TASK, 7)
    found = await engine.inspect(made)
    assert (found["State"]["Running"], found["State"]["ExitCode"]) == (False, 7)
    # What it says of a health check that it no longer makes is no word on the program.
    assert found["State"]["Health"]["Status"] == "unhealthy"
    assert [entry["Id"] for entry in await engine.containers([TASK_LABEL])] == [made]


async def _files(engine: Engine, container: str) -> None:
    """Of a container that does not run."""
    link = await engine.file(container, "/bin/sh")
    assert link == Found(executable=False, target="/bin/busybox")
    assert await engine.file(container, "/bin/busybox") == Found(executable=True)
    assert await engine.file(container, "/etc/passwd") == Found(executable=False)
    assert await engine.file(container, "/bin/no such") is None
    assert await engine.file("f" * 64, "/bin/sh") is None


async def _end(candidate: Candidate, heard: Heard) -> None:
    engine = candidate.engine
    [entry] = await engine.containers([TASK_LABEL])
    await engine.start(entry["Id"])
    await engine.remove(entry["Id"])
    assert (await heard.until("die")).exit_code == 137
    assert (await heard.until("destroy")).container == entry["Id"]
    await engine.remove(entry["Id"])
    await engine.kill(entry["Id"], "SIGKILL")
    for call in (engine.inspect, engine.start):
        with pytest.raises(EngineNotFoundError, match="No such container"):
            await call(entry["Id"])


async def _networks(candidate: Candidate) -> None:
    engine, label = candidate.engine, "contract.network"
    wanted = {"Name": "contract", "Driver": "bridge", "Labels": {label: "1"}}
    assert await engine.network("contract") is None
    made = await engine.create_network(wanted)
    with pytest.raises(EngineConflictError, match="network with name contract already exists"):
        await engine.create_network(wanted | {"CheckDuplicate": True})
    assert [each["Id"] for each in await engine.networks(f"{label}=1")] == [made]
    assert await engine.networks(f"{label}=2") == []
    found = await engine.network("contract")
    assert found is not None
    assert (found["Id"], found["Labels"]) == (made, {label: "1"})
    assert not await engine.on_network("contract", made)
    box = await engine.create("contract-net", candidate.config | {"HostConfig": {}})
    await engine.connect("contract", box, {"Aliases": ["x"]})
    assert await engine.on_network("contract", made), "though it never ran"
    await engine.remove(box)
    await engine.remove_network(made)
    await engine.remove_network(made)
    assert await engine.network(made) is None


async def _nothing_there(candidate: Candidate) -> None:
    engine, config = candidate.engine, candidate.config
    found = await engine.image(config["Image"])
    assert found["Config"]["Cmd"] == ["sleep", "1000"]
    with pytest.raises(EngineNotFoundError, match=r"No such image: 127\.0\.0\.1:9/nope:latest"):
        await engine.image("127.0.0.1:9/nope:latest")
    with pytest.raises(EngineNotFoundError):
        await engine.create("contract", config | {"Image": "127.0.0.1:9/nope:latest"})
    await engine.answers(1.0)
