"""One cluster in one store: that which the node's identity names."""

from __future__ import annotations

from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, cast

import pytest

from meshnet.errors import ControlError
from meshnet_control.api import control_pb2 as pb
from meshnet_control.identity.identity import Certificates, Identity
from meshnet_control.node.member import ClusterMember, Places
from meshnet_control.store.files import STORE


def member(path: Path, cluster: str) -> ClusterMember:
    """A manager that has not started; nothing but its store is touched."""
    who = Identity("m1", cluster, "manager", Certificates(b"", b"", b""))
    unused = cast("Any", None)
    return ClusterMember(who, Places(path, path), unused, "h1", unused, unused)


async def clusters(path: Path, cluster: str, *, born: bool) -> list[str]:
    async with AsyncExitStack() as stack:
        first = (pb.Cluster(id=cluster), pb.Node(id="m1")) if born else ()
        store = await member(path, cluster)._open_store(stack, first)
        return [found.id for found in await store.list(pb.Cluster)]


async def test_a_store_without_an_identity_is_put_aside_by_the_next_init(tmp_path: Path) -> None:
    assert await clusters(tmp_path, "c1", born=True) == ["c1"]
    # the process died here, before it kept its identity
    assert await clusters(tmp_path, "c2", born=True) == ["c2"]
    assert (tmp_path / f"{STORE}.orphan").exists()


async def test_a_node_goes_on_with_the_store_of_its_cluster_alone(tmp_path: Path) -> None:
    assert await clusters(tmp_path, "c1", born=True) == ["c1"]
    assert await clusters(tmp_path, "c1", born=False) == ["c1"]
    with pytest.raises(ControlError, match="holds cluster c1, and this node is of cluster c2"):
        await clusters(tmp_path, "c2", born=False)


async def test_a_lost_store_is_said_and_not_replaced_by_an_empty_one(tmp_path: Path) -> None:
    with pytest.raises(ControlError, match="holds no cluster, and this node is of cluster c1"):
        await clusters(tmp_path, "c1", born=False)
