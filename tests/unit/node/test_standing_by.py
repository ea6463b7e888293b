"""When meshnet-manager that was loaded beforehand is ended, and when it is left to go on."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from meshnet_control.host import manager_process, standby
from meshnet_control.node.standing_by import StandingBy


class Host:
    """A host on which processes are wanted, and asked to end."""

    def __init__(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.ended = 0
        self.in_cluster = False
        self.tasks: list[asyncio.Task[None]] = []
        monkeypatch.setattr(manager_process, "stand_by", lambda _: None)
        monkeypatch.setattr(manager_process, "stop", self._stop)
        self.stands = StandingBy(path, path, self._spawn, lambda: self.in_cluster)

    async def have(self) -> None:
        self.stands.have()
        await self.tasks[-1]

    async def _stop(self, *_: object) -> None:
        self.ended += 1

    def _spawn(self, work, name: str) -> asyncio.Task[None]:
        self.tasks.append(asyncio.create_task(work, name=name))
        return self.tasks[-1]


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    """Name: host. Scope: function. Depends: tmp_path."""
    return Host(tmp_path, monkeypatch)


async def test_one_that_still_loads_is_not_ended_for_the_cluster_that_it_is_to_manage(host: Host):
    await host.have()
    await host.stands.end()  # swarm init
    assert host.ended == 0
    await host.stands.end()  # swarm leave: it manages by now
    assert host.ended == 1


async def test_one_that_was_had_manage_is_ended(host: Host):
    await host.have()
    host.stands.begins()  # swarm join as a manager, resumed
    await host.stands.end()
    assert host.ended == 1


async def test_one_that_waits_is_ended_on_a_host_that_is_in_a_cluster_alone(
    host: Host, tmp_path: Path
):
    with standby.Standby(tmp_path):
        await host.stands.end()
        assert host.ended == 0
        host.in_cluster = True
        await host.stands.end()
    assert host.ended == 1
