"""Moves tasks one after the other until services are spread evenly again (``meshnet rebalance``).

Each move is decided anew from the store as it is then: what failed, was scaled or was updated
meanwhile is seen. Nothing is remembered: who ends it half-way leaves every service as it should be.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable
from typing import Final

from meshnet.errors import ControlError
from meshnet_control.api import control_pb2 as pb
from meshnet_control.api import explain_pb2 as xpb
from meshnet_control.orchestrate.rebalance import Move, moves, settled
from meshnet_control.orchestrate.store_view import StoreView
from meshnet_control.store.store import OutOfSequenceError, Put, Store

RUNS_S: Final = 120.0
"""For a successor to run: its image may have to be pulled there."""
LOOK_S: Final = 0.2


async def rebalanced(
    store: Store,
    *,
    dry: bool,
    runs_s: float = RUNS_S,
    wall: Callable[[], float] = time.time,
) -> AsyncGenerator[xpb.Moved, None]:
    """Every move twice: when it begins, and when its successor runs; ``dry``: those planned, once.

    Raises:
        ControlError: a successor does not come to run; nothing more is moved.
        StoreError: the store fails.
    """
    view = await _view(store)
    planned = moves(view, wall())
    if dry:
        for at, move in enumerate(planned):
            yield _said(view, move, len(planned) - at - 1)
        return
    most = len(planned)  # what others change meanwhile must not keep us here for ever
    while planned and most:
        most -= 1
        move = planned[0]
        said = _said(view, move, min(most, len(planned) - 1))
        yield said
        key = (pb.Task, move.task.id)
        try:
            await store.commit([Put(move.ended)], {key: move.task.version.index})
        except OutOfSequenceError:
            view = await _view(store)
            planned = moves(view, wall())
            continue
        said.target = await _runs(store, move, runs_s)
        said.done = True
        yield said
        view = await _view(store)
        planned = moves(view, wall())


async def _runs(store: Store, move: Move, within_s: float) -> str:
    """Wait until the service is whole again; the name of the host that its slot runs on."""
    try:
        async with asyncio.timeout(within_s):
            while True:
                view = await _view(store)
                service = view.services.get(move.task.service_id)
                if service is None or settled(service, view):
                    break
                await asyncio.sleep(LOOK_S)
    except TimeoutError:
        raise ControlError(
            f"the successor of {move.task.name} does not run after {within_s:.0f} s, so nothing "
            "more is moved: docker service ps --no-trunc has the reason"
        ) from None
    for task in view.tasks_of_service(move.task.service_id):
        if task.slot == move.task.slot and task.desired_state == pb.TASK_STATE_RUNNING:
            return _host(view, task.node_id)
    return ""


async def _view(store: Store) -> StoreView:
    kinds = (pb.Cluster, pb.Node, pb.Network, pb.Service, pb.Task)
    return StoreView.of([each for kind in kinds for each in await store.list(kind)])


def _said(view: StoreView, move: Move, left: int) -> xpb.Moved:
    return xpb.Moved(
        task=move.task.name or move.task.id,
        source=_host(view, move.task.node_id),
        target=_host(view, move.to),
        left=left,
    )


def _host(view: StoreView, node_id: str) -> str:
    node = view.nodes.get(node_id)
    return node.description.hostname if node is not None else node_id
