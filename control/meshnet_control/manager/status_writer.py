"""Task statuses on their way from agents to the store: collected for a moment, one commit for all.

What cannot be written now, because the disk is full or fails, is kept and tried again: one status
of each task, the one that got furthest. Nothing of it is dropped, as its node would not say it
again on the same stream.

Be aware: a task's state only grows, and only the node a task is assigned to may report it. Whatever
breaks either rule is late or wrong news and is dropped. A state's time is when it was first
reached: an agent that started again says what it finds, and nothing of that has just happened.
Whoever adds knows that the task is there; that bounds what waits. A few may be unknown to it: a
manager that has just begun to lead may hear of a task before its own picture of the cluster has it.
"""

from __future__ import annotations

import asyncio
import logging
import random
from typing import Final

from meshnet import drops
from meshnet_control.api import control_pb2 as pb
from meshnet_control.store import store as st

_log = logging.getLogger(__name__)

BATCH_S: Final = 0.005
MOST_UNKNOWN: Final = 1000
"""Tasks that only the store may know, at a time."""
_Reports = dict[str, dict[str, pb.TaskStatus]]
"""Task -> who reported -> the newest of its furthest state."""


def advanced(task: pb.Task, node_id: str, status: pb.TaskStatus, manager: str) -> pb.Task | None:
    """A task with a status reported by a node; None when the report changes nothing. Pure.

    Args:
        task: as stored; not changed.
        node_id: who reports.
        status: what it reports.
        manager: id of the manager that writes, kept as ``applied_by``.
    """
    if task.node_id != node_id or status.state < task.status.state:
        return None
    fresh = pb.Task()
    fresh.CopyFrom(task)
    fresh.status.CopyFrom(status)
    fresh.status.applied_by = task.status.applied_by
    if status.state == task.status.state and task.status.HasField("timestamp"):
        fresh.status.timestamp.CopyFrom(task.status.timestamp)
    if fresh.status == task.status:
        return None
    fresh.status.applied_by = manager
    return fresh


class StatusWriter:
    """Writes what agents report.

    Args:
        store: where tasks are.
        manager: id of this manager.
    """

    def __init__(self, store: st.Store, manager: str) -> None:
        self._store, self._manager = store, manager
        self._pending: _Reports = {}
        self._unknown: set[str] = set()
        self._some = asyncio.Event()

    def add(self, node_id: str, update: pb.TaskStatusUpdate, *, known: bool = True) -> None:
        """Take a report of a task; written within a few milliseconds.

        Args:
            node_id: who reports.
            update: the report.
            known: the task is there. What is not there in the store either is dropped, and what is
                more than ``MOST_UNKNOWN`` of such.
        """
        if not known and update.task_id not in self._unknown:
            if len(self._unknown) >= MOST_UNKNOWN:
                drops.count("manager: statuses of tasks that are not known")
                return
            self._unknown.add(update.task_id)
        _note(self._pending.setdefault(update.task_id, {}), node_id, update.status)
        self._some.set()

    async def run(self) -> None:
        """Write until cancelled, or until the store is closed."""
        delays = st.RETRY.delays(random.random)
        while True:
            await self._some.wait()
            await asyncio.sleep(BATCH_S)
            self._some.clear()
            batch, self._pending = self._pending, {}
            try:
                await self._write(batch)
            except st.StoreClosedError:
                return
            except st.StoreError as error:
                _log.warning("statuses are not written, trying again: %s", error)
                self._keep(batch)
                await asyncio.sleep(next(delays))
            else:
                delays = st.RETRY.delays(random.random)
                self._unknown -= batch.keys() - self._pending.keys()

    def _keep(self, batch: _Reports) -> None:
        """Back to what waits, before what has come meanwhile."""
        for task_id, reports in batch.items():
            for node_id, status in self._pending.pop(task_id, {}).items():
                _note(reports, node_id, status)
        self._pending = batch | self._pending
        self._some.set()

    async def _write(self, batch: _Reports) -> None:
        while True:
            writes: list[st.Put] = []
            expect: dict[st.Key, int] = {}
            for task_id, reports in batch.items():
                stored = task = await self._store.get(pb.Task, task_id)
                for node_id, status in reports.items():
                    if task is not None:
                        task = advanced(task, node_id, status, self._manager) or task
                if task is not None and stored is not None and task is not stored:
                    writes.append(st.Put(task))
                    expect[pb.Task, task_id] = stored.version.index
            try:
                await self._store.commit(writes, expect)
            except st.OutOfSequenceError:
                continue  # somebody else wrote one of them: read again
            return


def _note(reports: dict[str, pb.TaskStatus], node_id: str, status: pb.TaskStatus) -> None:
    """Keep a report, unless its node reported a further state; a state keeps its first time."""
    known = reports.get(node_id)
    if known is None:
        reports[node_id] = status
    elif status.state >= known.state:
        kept = pb.TaskStatus()
        kept.CopyFrom(status)
        if status.state == known.state and known.HasField("timestamp"):
            kept.timestamp.CopyFrom(known.timestamp)
        reports[node_id] = kept
