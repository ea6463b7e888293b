"""One member, or three, for a test."""

from __future__ import annotations

import pytest
from etcd_cluster import EtcdCluster


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
