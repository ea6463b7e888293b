"""meshnet-manager follows this node's role, whatever becomes of those who are to start it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from meshnet import ends
from meshnet.errors import ControlError
from meshnet.process import revival
from meshnet_control.host.paths import MARK
from meshnet_control.identity.identity import Certificates, Identity
from meshnet_control.node.managing import Managing
from meshnet_control.store import files

MANAGER = Identity("n1", "c1", "manager", Certificates(b"", b"", b""))
WORKER = replace(MANAGER, role="worker")
NOBODY = "nobody is here who starts meshnet-manager"


class Bed:
    """A node without systemd; whether a supervisor is there is what a test says."""

    def __init__(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.run_dir, self.state_dir, self._monkeypatch = path / "run", path / "state", monkeypatch
        for folder in (self.run_dir, self.state_dir):
            folder.mkdir()
        monkeypatch.delenv(revival.VARIABLE, raising=False)
        self.managing = Managing(
            self.run_dir, self.state_dir, self._spawn, lambda _: None, lambda: None
        )
        self._tasks: list[asyncio.Task[None]] = []

    def _spawn(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        self._tasks.append(asyncio.create_task(work, name=name))
        return self._tasks[-1]

    def supervised(self) -> None:
        """A supervisor is there; it has just died, and looks for itself when it is back."""
        said = {"argv": ["x"], "run_dir": str(self.run_dir), "log": "x", "name": "x", "keeps": []}
        self._monkeypatch.setenv(revival.VARIABLE, json.dumps(said))

    def run(self) -> None:
        self._spawn(self.managing.run(), "run")

    @property
    def wanted(self) -> bool:
        """By what outlives a boot."""
        return (self.state_dir / MARK).exists()

    async def until(self, holds: Callable[[], object]) -> None:
        async with asyncio.timeout(10):
            while not holds():  # noqa: ASYNC110 - it tells nobody
                await asyncio.sleep(0.005)

    async def close(self) -> None:
        await self.managing.close()
        await ends.ended(*self._tasks)


@pytest.fixture
async def bed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Bed]:
    """Name: bed. Scope: function."""
    made = Bed(tmp_path, monkeypatch)
    yield made
    await made.close()


async def test_a_cluster_does_not_begin_where_no_manager_can(bed: Bed) -> None:
    with pytest.raises(ControlError, match=NOBODY):
        await bed.managing.begin(MANAGER)


async def test_a_node_whose_manager_cannot_be_started_goes_on_and_tries_again(bed: Bed) -> None:
    bed.managing.follow(MANAGER)
    assert bed.managing.link is not None, "requests wait for it"
    bed.run()
    await bed.until(lambda: NOBODY in bed.managing.error)
    bed.supervised()
    await bed.until(lambda: not bed.managing.error)
    assert bed.wanted


async def test_a_promoted_node_has_it_started_and_a_demoted_one_is_rid_of_it(bed: Bed) -> None:
    bed.supervised()
    bed.managing.follow(WORKER)
    bed.run()
    await asyncio.sleep(0)
    assert bed.managing.link is None
    bed.managing.follow(MANAGER)
    await bed.until(lambda: bed.wanted)
    assert bed.managing.link is not None
    left = [bed.state_dir / name for name in (files.STORE_KEY, files.STORE, files.ETCD)]
    for path in left[:2]:
        path.write_text("secrets")
    left[2].mkdir()
    bed.managing.follow(WORKER)
    await bed.until(lambda: not any(path.exists() for path in left))
    assert not bed.wanted
    assert bed.managing.link is None


async def test_the_last_role_counts(bed: Bed) -> None:
    bed.supervised()
    bed.run()
    for who in (MANAGER, WORKER, MANAGER, WORKER, MANAGER):
        bed.managing.follow(who)
    await bed.until(lambda: bed.wanted and bed.managing.link is not None)
    bed.managing.follow(WORKER)
    await asyncio.sleep(0)  # it is being ended
    bed.managing.follow(MANAGER)
    await bed.until(lambda: bed.wanted and bed.managing.link is not None)


async def test_a_worker_that_is_a_worker_touches_nothing(bed: Bed) -> None:
    (bed.state_dir / files.STORE).write_text("of an init that a crash cut short")
    bed.managing.follow(WORKER)
    bed.run()
    for _ in range(3):
        await asyncio.sleep(0)
    assert (bed.state_dir / files.STORE).exists()
