"""The fake engine keeps the contract that the real one is held to in the docker tier."""

from __future__ import annotations

import asyncio

from engine_contract import TASK, Candidate, holds

from meshnet_control.engine.client import TASK_LABEL
from meshnet_control.engine.fake import FakeEngine
from meshnet_control.engine.files import Found


async def test_the_contract():
    engine = FakeEngine()
    engine.add_image("polite:latest", stops_with=7)
    shell = Found(executable=False, target="/bin/busybox")
    engine.files["polite:latest"] = {
        "/bin/sh": shell,
        "/bin/busybox": Found(executable=True),
        "/etc/passwd": Found(executable=False),
    }
    config = {
        "Image": "polite:latest",
        "Labels": {TASK_LABEL: TASK},
        "Healthcheck": {"Test": ["CMD-SHELL", "true"]},
    }

    async def check() -> None:
        async for event in engine.events():
            if event.action == "start":
                engine.health(event.container, "healthy")

    checking = asyncio.create_task(check())
    try:
        await holds(Candidate(engine, config))
    finally:
        checking.cancel()
        await asyncio.gather(checking, return_exceptions=True)
