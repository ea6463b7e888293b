"""One member, or three, or whole managers, for a test."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from etcd_cluster import EtcdCluster
from managers_bed import Cluster


@pytest.fixture
async def one(tmp_path):
    """Name: one. Scope: function. A cluster of one member."""
    async with EtcdCluster(tmp_path, 1) as cluster:
        yield cluster


@pytest.fixture
async def three(tmp_path):
    """Name: three. Scope: function. A cluster of three members."""
    async with EtcdCluster(tmp_path, 3) as cluster:
        yield cluster


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[Cluster]:
    """Name: cluster. Scope: function. One manager, and how others join; all ended."""
    made = Cluster(tmp_path)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(made.close)
        await made.first()
        yield made
