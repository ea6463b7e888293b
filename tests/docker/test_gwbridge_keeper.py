"""docker_gwbridge comes back as it was, whatever takes it from a real engine."""

from __future__ import annotations

import asyncio
import json
import time
from contextlib import suppress
from subprocess import CalledProcessError

import pytest

from meshnet_control.engine.client import GWBRIDGE, EngineClient
from meshnet_control.engine.gwbridge_keeper import GwbridgeKeeper, recipe

pytestmark = pytest.mark.docker
OPTIONS = {"com.docker.network.bridge.name": GWBRIDGE, "com.docker.network.driver.mtu": "1400"}


@pytest.fixture
async def client(engine):
    made = EngineClient(engine.url)
    yield made
    await made.close()
    engine.docker("network", "rm", GWBRIDGE, check=False)


def inspected(engine):
    """(the network, the bridge's addresses); ``({}, "")`` when there is none."""
    found = json.loads(engine.docker("network", "inspect", GWBRIDGE, check=False) or "[]")
    if not found:
        return {}, ""
    with suppress(CalledProcessError, IndexError):
        return found[0], engine.inside("ip", "-4", "-br", "address", "show", GWBRIDGE).split()[2]
    return found[0], ""


async def comes_back(engine, before, seconds=10.0):
    deadline = time.monotonic() + seconds
    while True:
        now, address = await asyncio.to_thread(inspected, engine)
        if now and recipe(now) == recipe(before[0]) and address == before[1]:
            return now
        assert time.monotonic() < deadline, (now, address)
        await asyncio.sleep(0.05)


@pytest.mark.parametrize("made_by", ["meshnet", "user"])
@pytest.mark.parametrize(
    "damage",
    [
        ["docker", "network", "rm", GWBRIDGE],
        ["docker", "network", "prune", "-f"],
        ["ip", "link", "del", GWBRIDGE],
    ],
)
async def test_it_comes_back(engine, client, tmp_path, damage, made_by):
    if made_by == "user":
        options = [word for key, value in OPTIONS.items() for word in ("-o", f"{key}={value}")]
        engine.docker("network", "create", "--subnet", "172.30.9.0/24", *options, GWBRIDGE)
    keeper = GwbridgeKeeper(client, tmp_path, f"/proc/{engine.pid}/ns/net")
    bridge = await keeper.start()
    keeping = asyncio.create_task(keeper.run())
    try:
        await asyncio.sleep(0)
        before = inspected(engine)
        assert before[1] == f"{bridge.gateway}/{bridge.subnet.prefixlen}"
        for _ in range(2):
            await asyncio.to_thread(engine.inside, *damage)
            await comes_back(engine, before)
    finally:
        keeping.cancel()
        await asyncio.gather(keeping, return_exceptions=True)


async def test_what_was_taken_while_nobody_looked_comes_back_with_its_addresses(
    engine, client, tmp_path
):
    options = ["-o", f"com.docker.network.bridge.name={GWBRIDGE}"]
    engine.docker("network", "create", "--subnet", "172.30.9.0/24", *options, GWBRIDGE)
    host = f"/proc/{engine.pid}/ns/net"
    bridge = await GwbridgeKeeper(client, tmp_path, host).start()
    engine.docker("network", "rm", GWBRIDGE)
    assert await GwbridgeKeeper(client, tmp_path, host).start() == bridge
