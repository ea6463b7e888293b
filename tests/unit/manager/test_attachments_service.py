"""A node's word on its containers: whose it is, what it may say, and how much."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from meshnet import drops
from meshnet_control.api import control_pb2 as pb
from meshnet_control.cluster.attachments import MOST
from meshnet_control.manager.attachments import AttachmentsService
from meshnet_control.orchestrate.pipeline import converge
from meshnet_control.orchestrate.store_view import StoreView
from meshnet_control.store.sqlite import SqliteStore
from meshnet_control.store.store import Put

NODE, OTHER, NET = "n" * 25, "o" * 25, "w" * 25
C1 = "1" * 64


class RefusedError(Exception):
    """The call ended with a status."""


class Context:
    """A call of one node."""

    def __init__(self, node: str) -> None:
        self.node = node

    async def abort(self, code: grpc.StatusCode, details: str) -> None:
        raise RefusedError(code, details)


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    """Name: store. Scope: function. Two nodes and an attachable network."""
    opened = SqliteStore.open(tmp_path / "s", tmp_path / "k")
    network = pb.Network(id=NET)
    network.spec.name, network.spec.attachable = "net", True
    network.spec.ipam_options.configs.add(subnet="10.9.0.0/24")
    await opened.commit([Put(network), *(Put(pb.Node(id=each)) for each in (NODE, OTHER))])
    yield opened
    await opened.close()


@pytest.fixture
def service(store: SqliteStore) -> AttachmentsService:
    """Name: service. Scope: function. Depends: store."""

    async def caller(context: Any) -> str:
        return str(context.node)

    return AttachmentsService(store, caller, lambda: 1_700_000_000.0)


async def attach(service: Any, node: str, *wanted: pb.Attachment) -> Any:
    request = pb.AttachRequest(attachments=wanted)
    return await service.Attach(request, Context(node))


async def test_what_a_node_says_is_kept_and_answered_with_how_it_is(store, service):
    wanted = pb.Attachment(container_id=C1, network_id=NET)
    reply = await attach(service, NODE, wanted)
    assert [(s.container_id, s.made, s.trouble) for s in reply.states] == [(C1, 0, "")]
    objects = [*await store.list(pb.Task), *await store.list(pb.Network)]
    view = StoreView([*objects, *await store.list(pb.Node)])
    await store.commit(list(converge(view, 1_700_000_000.0, random.Random(1)).writes))
    reply = await attach(service, NODE, wanted)
    assert [s.made for s in reply.states] == [1_700_000_000 * 10**9]
    await attach(service, OTHER)
    assert len(await store.list(pb.Task)) == 1  # of the other node
    await attach(service, NODE)
    assert await store.list(pb.Task) == []


async def test_a_node_that_was_removed_is_not_heard(service):
    with pytest.raises(RefusedError) as refused:
        await attach(service, "x" * 25)
    assert refused.value.args[0] is grpc.StatusCode.PERMISSION_DENIED


@pytest.mark.parametrize(
    "wanted",
    [
        [pb.Attachment(container_id="web", network_id=NET)],
        [pb.Attachment(container_id=C1, network_id="net\n")],
        [pb.Attachment(container_id=C1, network_id=NET, address="fe80::1")],
        [pb.Attachment(container_id=C1, network_id=NET, address="224.0.0.1")],
        [pb.Attachment(container_id=C1, network_id=NET)] * 2,
        [pb.Attachment(container_id=f"{n:064x}", network_id=NET) for n in range(MOST + 1)],
    ],
)
async def test_what_cannot_be_is_refused_whole(store, service, wanted):
    before = drops.snapshot().get("manager: attachments that cannot be", 0)
    with pytest.raises(RefusedError) as refused:
        await attach(service, NODE, *wanted)
    assert refused.value.args[0] is grpc.StatusCode.INVALID_ARGUMENT
    assert drops.snapshot()["manager: attachments that cannot be"] == before + 1
    assert await store.list(pb.Task) == []


@pytest.mark.parametrize(
    ("reference", "found"), [("net", True), (NET, True), ("ww", True), ("", False), ("x", False)]
)
async def test_a_network_is_found_as_a_user_means_it(service: Any, reference, found):
    request = pb.FindNetworkRequest(reference=reference)
    if found:
        reply = await service.Find(request, Context(NODE))
        assert reply.network.id == NET
        return
    with pytest.raises(RefusedError) as refused:
        await service.Find(request, Context(NODE))
    assert refused.value.args == (grpc.StatusCode.NOT_FOUND, f"network {reference} not found")


async def test_a_node_is_told_of_a_network_what_it_needs_and_no_more(store, service):
    local = pb.Network(id="m" * 25)
    local.spec.name, local.spec.attachable, local.spec.config_from = "mv", True, "lan"
    local.spec.driver_configuration.name = local.driver_state.name = "macvlan"
    overlay = await store.get(pb.Network, NET)
    overlay.vni, overlay.spec.labels["a"] = 4097, "b"
    await store.commit([Put(local), Put(overlay)])
    seen = {
        name: (await service.Find(pb.FindNetworkRequest(reference=name), Context(NODE))).network
        for name in ("net", "mv")
    }
    net = seen["net"]
    assert (net.id, net.spec.name, net.spec.attachable) == (NET, "net", True)
    said = (net.vni, dict(net.spec.labels), net.version.index, list(net.ipam_options.configs))
    assert said == (0, {}, 0, [])
    assert (seen["mv"].spec.config_from, seen["mv"].driver_state.name) == ("lan", "macvlan")
