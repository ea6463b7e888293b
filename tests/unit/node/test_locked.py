"""A manager that was locked when its process ended: it waits, and goes on with the right key."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any, cast

import pytest

from meshnet.errors import ControlError
from meshnet_control.api import control_pb2 as pb
from meshnet_control.identity import ca
from meshnet_control.identity import identity as identities
from meshnet_control.identity.identity import Certificates, Identity
from meshnet_control.node import node as nodes
from meshnet_control.node.locked import LOCKED
from meshnet_control.node.member import Places
from meshnet_control.node.node import Node
from meshnet_control.store.files import STORE, STORE_KEY
from meshnet_control.store.sqlite import SqliteStore
from meshnet_control.store.store import Put

KEY = b"k" * 32
NOWHERE = "203.0.113.7:2377"
"""No host has this address (RFC 5737): a manager that got past its lock ends here."""


@pytest.fixture
async def node(tmp_path: Path) -> Node:
    """Name: node. Scope: function. A manager whose store was locked, in a new process."""
    store = SqliteStore.open(tmp_path / STORE, tmp_path / STORE_KEY)
    now = time.time()
    root, root_key = ca.new_root("c1", now)
    cluster = pb.Cluster(id="c1", ca_certificate=root, ca_key=root_key, unlock_key=KEY)
    await store.commit([Put(cluster)])
    await store.close()
    key, csr = ca.new_csr()
    leaf = ca.issue(root, root_key, csr, "m1", "manager", "c1", now)
    who = Identity("m1", "c1", "manager", Certificates(key, leaf, root), listen_addr=NOWHERE)
    identities.save(tmp_path, who)
    made = Node(
        Places(tmp_path, tmp_path),
        cast("Any", None),
        "h1",
        lambda work, name: asyncio.get_running_loop().create_task(work, name=name),
    )
    await made.resume()
    return made


async def test_it_waits_for_its_key_and_does_not_try_again_by_itself(node: Node) -> None:
    info = node.swarm_info()
    assert (info.local_node_state, info.error, node.state) == ("locked", LOCKED, "manager")
    assert node.store() is None
    assert node._again is None


async def test_a_wrong_key_is_refused_and_it_stays_locked(node: Node) -> None:
    with pytest.raises(ControlError) as refused:
        await node.unlock(b"x" * 32)
    assert (refused.value.status, refused.value.message) == (
        401,
        "swarm could not be unlocked: invalid key provided",
    )
    assert node.swarm_info().local_node_state == "locked"


async def test_the_right_key_opens_it_and_is_kept_while_something_else_is_in_the_way(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nodes, "_FIRST_DELAY_S", 0.001)
    tried, resumed = asyncio.Queue[str](), node._resumed

    async def watched(who: Identity, unlock_key: bytes = b"") -> bool:
        done = await resumed(who, unlock_key)
        tried.put_nowait(node.swarm_info().local_node_state)
        return done

    monkeypatch.setattr(node, "_resumed", watched)
    with pytest.raises(ControlError, match=f"could not be started: .*{NOWHERE}") as refused:
        await node.unlock(KEY)
    assert refused.value.status == 500
    info = node.swarm_info()
    assert (info.local_node_state, NOWHERE in info.error) == ("error", True)
    assert node._again is not None
    assert not node._again.done()
    with pytest.raises(ControlError, match="swarm is not locked"):
        await node.unlock(KEY)
    assert await asyncio.wait_for(tried.get(), 20) == "error"  # past its lock again
    await node.stop()
