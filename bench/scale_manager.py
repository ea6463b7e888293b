"""What a manager's work costs in clusters of 1, 3 and 10 times a thousand services.

A thousand services of ten tasks on a hundred nodes, three times and ten times as many of all
(``scale_cluster``). No containers: pure functions, a real SQLite store, meshnet-manager's store
service over a unix socket, and a thousand simulated agents on real gRPC (``scale_agents``, without
TLS, in a process of their own).

The exponent says how a cost grows with the cluster: 0 not at all, 1 as the cluster does. Costs are
processor time of one process, so that other work on the machine counts little.

Be aware: 10 000 new tasks are a thousand services of ten, asked for one after the other, of a
leader that has looked at all there was before. What another request waits is told twice: by the
clock, and as the processor time that this process spent meanwhile, whatever else the machine does.
"""

from __future__ import annotations

import asyncio
import math
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, TypeAlias, cast

import grpc.aio

from bench.rounds import BenchError, Goal, Line
from bench.scale_agents import NODE_KEY
from bench.scale_cluster import NODES, NOW, SERVICES, TASKS, node, service, settled
from meshnet.model.ids import Rng
from meshnet.process import garbage
from meshnet_control.api import control_pb2 as pb
from meshnet_control.api import control_pb2_grpc, manager_pb2_grpc
from meshnet_control.controlapi.access import Access
from meshnet_control.controlapi.tasks import Tasks
from meshnet_control.convert import engine_json
from meshnet_control.identity.identity import Certificates, Identity
from meshnet_control.link.remote_store import RemoteStore
from meshnet_control.manager.dispatcher import Dispatcher
from meshnet_control.manager.leader import Manager, beside
from meshnet_control.manager.mirror import Mirror
from meshnet_control.manager.store_service import StoreService
from meshnet_control.orchestrate.plan import Decision, Plan, decide
from meshnet_control.orchestrate.store_view import Put, StoreView, changed
from meshnet_control.store.sqlite import SqliteStore
from meshnet_control.store.store import Object

SIZES = (1, 3, 10)
ROUNDS = 7
NEW = 10_000
LARGE = (10, 1_000, 10_000)
"""Tasks of one service."""
REPLACED = 2
"""Writes: the task that failed, and what follows it."""
AGENTS = 1_000
AGENTS_S = 20
OPTIONS = (("grpc.max_receive_message_length", -1),)


def measure() -> list[Line]:
    """All rows."""
    garbage.rare()  # as meshnet-manager does
    return rows()


def rows(sizes: Sequence[int] = SIZES) -> list[Line]:
    """The manager's rows of the table."""
    costs: dict[str, dict[int, list[float]]] = {}
    for size in sizes:
        for what, found in _decisions(size).items():
            costs.setdefault(what, {})[size] = found
        costs.setdefault(PS, {})[size] = asyncio.run(_listed(size))
    lines = [line for what in GOALS for line in _lines(what, costs[what])]
    for tasks in LARGE:
        what = f"one task of a service of {tasks} failed, on {NODES} nodes: the decision"
        lines.append(Line(what, Goal(20, at_least=False), _one_of_many(tasks), unit="ms"))
    return [*lines, *asyncio.run(_placed()), *asyncio.run(_agents())]


NOTHING = "one task says that it runs on: the decision that there is nothing to do"
FAILED = "one task failed: the decision to replace it, on which node"
PS = "`docker service ps`: the tasks of one service, from the store to JSON"
GOALS = {NOTHING: 5.0, FAILED: 20.0, PS: 50.0}


def _lines(what: str, costs: dict[int, list[float]]) -> Iterable[Line]:
    for size, found in costs.items():
        yield Line(f"{_sized(size)}: {what}", Goal(GOALS[what], at_least=False), found, unit="ms")
    low, high = min(costs), max(costs)
    if low != high:
        grown = statistics.median(costs[high]) / statistics.median(costs[low])
        exponent = math.log(grown) / math.log(high / low)
        yield Line(f"{what}: exponent of growth", Goal(1.0, at_least=False), [exponent])


def _sized(size: int) -> str:
    return f"{SERVICES * size} services, {SERVICES * size * TASKS} tasks, {NODES * size} nodes"


def _times(work: Callable[[], object], rounds: int = ROUNDS) -> list[float]:
    """Milliseconds of processor time, once for each round; the first is for warming up."""
    found = []
    for _ in range(rounds + 1):
        began = time.process_time()
        work()
        found.append((time.process_time() - began) * 1e3)
    return found[1:]


def _stored(objects: Iterable[Object]) -> Iterable[Object]:
    """As the store has them."""
    for each in objects:
        each.version.index = 1
        yield each


def _decisions(size: int) -> dict[str, list[float]]:
    rng = random.Random(1)
    plan = _rested(settled(size), rng)
    some = random.Random(2).sample(range(SERVICES * size), 4 * ROUNDS)
    names = iter([f"task{number:015d}{3:06d}" for number in some])

    def one(state: pb.TaskState, decided: int) -> None:
        task = changed(plan.view.tasks[next(names)])
        task.status.state, task.status.message = state, "said"
        task.status.timestamp.seconds = int(NOW)
        found = decide(plan.noted([Put(task)]), NOW, rng)
        if sum(map(len, found.batches)) != decided:
            raise BenchError(f"decided {found.batches}")

    return {
        NOTHING: _times(lambda: one(pb.TASK_STATE_RUNNING, 0)),
        FAILED: _times(lambda: one(pb.TASK_STATE_FAILED, REPLACED)),
    }


def _rested(objects: Iterable[Object], rng: random.Random) -> Plan:
    """Of a cluster in which an address of each node on the ingress network is all that lacks."""
    view = StoreView.of(_stored(objects))
    plan = Plan(view.rested())
    for each in view.nodes.values():
        plan = plan.noted([Put(changed(each))])
    while (due := plan.due_at()) is not None and due <= NOW:
        decision = decide(plan, NOW, rng)
        writes = [write for batch in decision.batches for write in batch]
        plan = decision.after.written(writes)
    return plan


def _one_of_many(tasks: int) -> list[float]:
    """A task of a service of so many fails: the decision."""
    rng = random.Random(1)
    plan = _rested(settled(1, 1, tasks), rng)
    slots = iter(random.Random(2).sample(range(1, tasks + 1), ROUNDS + 1))

    def fails() -> None:
        task = changed(plan.view.tasks[f"task{0:015d}{next(slots):06d}"])
        task.status.state, task.status.message = pb.TASK_STATE_FAILED, "said"
        task.status.timestamp.seconds = int(NOW)
        found = decide(plan.noted([Put(task)]), NOW, rng)
        if sum(map(len, found.batches)) != REPLACED:
            raise BenchError(f"decided {found.batches}")

    return _times(fails)


@asynccontextmanager
async def _store(size: int) -> AsyncIterator[SqliteStore]:
    with tempfile.TemporaryDirectory(prefix="mb-scale") as path:
        store = SqliteStore.open(Path(path) / "store.db", Path(path) / "store.key")
        objects = list(settled(size))
        for first in range(0, len(objects), 5000):
            await store.commit([Put(each) for each in objects[first : first + 5000]])
        garbage.put_aside()
        try:
            yield store
        finally:
            await store.close()


async def _listed(size: int) -> list[float]:
    async with AsyncExitStack() as stack:
        store = await stack.enter_async_context(_store(size))
        path = stack.enter_context(tempfile.TemporaryDirectory(prefix="mb-scale"))
        server = grpc.aio.server(options=OPTIONS)
        manager_pb2_grpc.add_StoreServicer_to_server(StoreService(lambda: store), server)
        server.add_insecure_port(f"unix:{path}/store")
        await server.start()
        stack.push_async_callback(server.stop, None)
        channel = grpc.aio.insecure_channel(f"unix:{path}/store", options=OPTIONS)
        stack.push_async_callback(channel.close, None)
        tasks = Tasks(Access(RemoteStore(channel), random.Random(1), time.time))
        found = []
        for number in range(ROUNDS + 1):
            began = time.process_time()
            shown = await tasks.select(f'{{"service":{{"s{number}":true}}}}')
            said = [engine_json.to_engine(task) for task in shown]
            found.append((time.process_time() - began) * 1e3)
            if len(said) != TASKS:
                raise BenchError(f"{len(said)} tasks of one service")
        return found[1:]


_Wait: TypeAlias = tuple[float, float]
"""Seconds by the clock, and of them those in which this process had a processor, at most."""


async def _placed() -> list[Line]:
    """New tasks, from the request to a node, while others ask the store."""
    async with _store(1) as store:
        rested = asyncio.Event()

        async def deciding(plan: Plan, now: float, rng: Rng) -> Decision:
            """As ever; and whether there is nothing left to decide."""
            decision = await beside(plan, now, rng)
            if not decision.batches and decision.after.due_at() is None:
                rested.set()
            return decision

        def clock() -> float:
            return NOW + time.monotonic()

        manager = Manager(store, random.Random(1), clock, deciding=deciding)
        leading = asyncio.create_task(manager.run())
        waits: list[_Wait] = []
        asking = asyncio.create_task(_asking(store, waits))
        async with asyncio.timeout(120):
            await rested.wait()
        changes = store.watch(store.revision)
        waits.clear()
        began, processor = time.monotonic(), time.process_time()
        for number in range(NEW // TASKS):
            await store.commit([Put(service(SERVICES + number))])
        placed: set[str] = set()
        async for batch in changes:
            for change in batch:
                if (
                    isinstance(change.message, pb.Task)
                    and change.message.status.state == pb.TASK_STATE_ASSIGNED
                ):
                    placed.add(change.id)
            if len(placed) >= NEW:
                break
        took, used = time.monotonic() - began, time.process_time() - processor
        asking.cancel()
        leading.cancel()
        await asyncio.gather(asking, leading, return_exceptions=True)
    what = f"{NEW} new tasks beside {_sized(1)}"
    by_clock, by_us = (sorted(each) for each in zip(*waits, strict=True))
    return [
        Line(f"{what}: placed per second of processor time", Goal(1500, at_least=True),
             [NEW / used], unit="tasks/s"),
        Line(f"{what}: placed per second by the clock", None, [NEW / took], unit="tasks/s"),
        Line(f"{what}: longest time that another request waited for us", Goal(100, at_least=False),
             [by_us[-1] * 1e3], unit="ms", note="processor time of this process"),
        Line(f"{what}: 99 of 100 other requests waited for us less than", Goal(20, at_least=False),
             [by_us[len(by_us) * 99 // 100] * 1e3], unit="ms"),
        Line(f"{what}: longest time that another request waited by the clock",
             Goal(100, at_least=False), [by_clock[-1] * 1e3], unit="ms"),
        Line(f"{what}: 99 of 100 other requests waited by the clock less than",
             Goal(20, at_least=False), [by_clock[len(by_clock) * 99 // 100] * 1e3], unit="ms"),
    ]  # fmt: skip


async def _asking(store: SqliteStore, waits: list[_Wait]) -> None:
    """A request every few milliseconds."""
    pause = 0.005
    while True:
        due, used = time.perf_counter() + pause, time.process_time()
        await asyncio.sleep(pause)
        await store.get(pb.Service, "")
        late = max(0.0, time.perf_counter() - due)
        waits.append((late, min(late, time.process_time() - used)))


class _Caller:
    """Who calls is in the metadata: there is no TLS here."""

    async def node(self, context: Any) -> str:
        return str(dict(context.invocation_metadata())[NODE_KEY])

    def address(self, _context: Any) -> str:
        return ""


async def _agents() -> list[Line]:
    """A manager's dispatcher with a thousand agents, each beating, and one change a second."""
    async with AsyncExitStack() as stack:
        store = await stack.enter_async_context(_store(1))
        path = stack.enter_context(tempfile.TemporaryDirectory(prefix="mb-scale"))
        nodes = [node(number) for number in range(AGENTS)]
        for each in nodes:
            each.status.state = "down"  # until its agent comes
        await store.commit([Put(each) for each in nodes])
        holder: list[Dispatcher] = []
        mirror = Mirror(store, lambda concerned: holder and holder[0].follow(concerned))
        await mirror.load()
        who = Identity("m1", "c1", "manager", Certificates(b"", b"", b""))
        dispatcher = Dispatcher(
            store, cast("Any", _Caller()), who, lambda: mirror.objects, since=mirror.touched_since
        )
        holder.append(dispatcher)
        server = grpc.aio.server(options=OPTIONS)
        control_pb2_grpc.add_DispatcherServicer_to_server(dispatcher, server)
        server.add_insecure_port(f"unix:{path}/agents")
        await server.start()
        stack.push_async_callback(server.stop, None)
        jobs = [asyncio.create_task(mirror.run()), asyncio.create_task(dispatcher.lead(store))]
        command = [sys.executable, "-m", "bench.scale_agents", f"{path}/agents", "0", str(AGENTS)]
        process = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE)
        try:
            assert process.stdout is not None
            async with asyncio.timeout(120):
                await process.stdout.readline()
            await asyncio.sleep(5)
            used = []
            for second in range(AGENTS_S):
                before = _processor()
                task = await store.get(pb.Task, f"task{second:015d}{3:06d}")
                if task is None:
                    raise BenchError("there is no such task")
                task.desired_state = pb.TASK_STATE_SHUTDOWN
                await store.commit([Put(task)])
                await asyncio.sleep(1)
                used.append((_processor() - before) * 100)
        finally:
            process.terminate()
            await process.wait()
            for job in jobs:
                job.cancel()
            await asyncio.gather(*jobs, return_exceptions=True)
        if dispatcher.sessions == 0:
            raise BenchError("no agent is connected")
    what = f"{AGENTS} agents on gRPC, heartbeats and one change a second: processor time"
    return [Line(what, Goal(30, at_least=False), used, unit="% of a core")]


def _processor() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime
