"""The real engine keeps the contract that the fake is held to."""

from __future__ import annotations

import pytest
from engine_contract import TASK, Candidate, holds

from meshnet_control.engine.client import TASK_LABEL, EngineClient

pytestmark = [pytest.mark.docker, pytest.mark.timeout(120)]


async def test_the_contract(engine):
    client = EngineClient(engine.url)
    config = {
        "Image": "busybox:latest",
        "Cmd": ["sh", "-c", "trap 'exit 7' TERM; while :; do sleep 0.1; done"],
        "Labels": {TASK_LABEL: TASK},
        "Healthcheck": {"Test": ["CMD-SHELL", "true"], "Interval": 200_000_000},
    }
    try:
        await holds(Candidate(client, config))
    finally:
        await client.close()
        engine.docker("rm", "-f", "contract", check=False)
