"""The end: nothing of meshnet is left."""

from __future__ import annotations

import pytest
from vm_cluster import UNITS

pytestmark = [pytest.mark.vm, pytest.mark.timeout(3600)]


def test_down_leaves_nothing(play):
    play.on("h1", "docker service rm web client")
    play.on("h2", "docker swarm leave", timeout_s=120)
    play.on("h2", "meshnet down", timeout_s=120)
    units = play.on("h2", "systemctl list-unit-files --no-legend | cat")
    assert [unit for unit in UNITS if unit in units] == []
    left = play.on("h2", "nft list tables; ip netns; ip -o link | cut -d: -f2")
    assert "mn" not in left
    assert "meshnet" not in left
    assert "meshnet" not in play.on("h2", "DOCKER_HOST= docker context ls -q").split()
