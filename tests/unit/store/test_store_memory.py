"""The law of watching: the batches, played one after the other, are the store's state."""

from __future__ import annotations

import asyncio

from hypothesis import example, given
from hypothesis import strategies as st

from meshnet_control.api.control_pb2 import Node, Task
from meshnet_control.store.index import task_name
from meshnet_control.store.memory import Memory
from meshnet_control.store.store import Change, Delete, Key, Object, Put, Where

KINDS = st.sampled_from([Task, Node])
IDS = st.sampled_from("abc")
WRITES = st.one_of(
    st.builds(lambda kind, name: Put(kind(id=name)), KINDS, IDS), st.builds(Delete, KINDS, IDS)
)


@given(st.lists(st.lists(WRITES, max_size=5), max_size=12), st.integers(0, 12))
def test_replaying_a_watch_gives_the_state(commits: list[list[Put | Delete]], start: int):
    asyncio.run(_replay(commits, start))


async def _replay(commits: list[list[Put | Delete]], start: int) -> None:
    memory = Memory(0, [])
    seen: dict[Key, Object] = {}
    watch = None
    for now_ns, writes in enumerate(commits):
        if memory.revision >= start and watch is None:
            watch, seen = memory.watch(memory.revision), _state(memory)
        changes = memory.prepare(writes, {}, now_ns)
        assert {c.revision for c in changes} <= {memory.revision + 1}
        if changes:
            memory.apply(changes)
    memory.close()
    if watch is None:
        return
    revision = None
    async for batch in watch:
        assert revision is None or batch[0].revision == revision + 1
        revision = batch[0].revision
        for change in batch:
            if change.message is None:
                del seen[change.kind, change.id]
            else:
                assert change.message.version.index == revision
                seen[change.kind, change.id] = change.message
    assert seen == _state(memory)


def _state(memory: Memory) -> dict[Key, Object]:
    objects: list[Object] = [*memory.all(Task), *memory.all(Node)]
    return {(type(o), o.id): o for o in objects}


def _task(name: str, of: str, on: str, called: str, networks: list[str]) -> Task:
    task = Task(id=name, service_id=of, node_id=on, name=called)
    for network in networks:
        task.networks_attachments.add().network.id = network
    return task


TASKS = st.builds(
    _task,
    st.sampled_from(["a", "ab", "b"]),
    st.sampled_from("st"),
    st.sampled_from(["", "n"]),
    st.sampled_from(["", "ab", "x"]),
    st.lists(st.sampled_from("lm"), max_size=3),
)
NETS = st.frozensets(st.sampled_from("lmn"), max_size=2)
SOME = st.frozensets(st.sampled_from(["s", "t", "n"]), max_size=2)


@example(
    [_task("a", "s", "", "", []), _task("a", "t", "", "", [])],
    Where(services=frozenset({"s", "t"})),
)
@example(
    [_task("a", "s", "", "", ["l"]), _task("b", "s", "", "", ["m"])],
    Where(services=frozenset({"s"}), networks=frozenset({"l"})),
)
@given(
    st.lists(st.one_of(TASKS, st.sampled_from(["a", "ab", "b"])), max_size=12),
    st.builds(Where, st.sampled_from(["", "a", "ab", "x", "q"]), SOME, SOME, networks=NETS),
)
def test_what_an_index_finds_is_what_a_look_at_all_finds(
    history: list[Task | str], where: Where
) -> None:
    memory = Memory(0, [])
    for each in history:
        task = None if isinstance(each, str) else each
        memory.apply([Change(Task, each if isinstance(each, str) else each.id, task, 1)])
    every = memory.all(Task)
    meant = (
        [t for t in every if t.id == where.meant]
        or [t for t in every if task_name(t) == where.meant]
        or [t for t in every if t.id.startswith(where.meant)]
    )
    wanted = {
        t.id
        for t in (meant if where.meant else every)
        if (not where.services or t.service_id in where.services)
        and (not where.nodes or t.node_id in where.nodes)
        and (not where.networks or where.networks & {a.network.id for a in t.networks_attachments})
    }
    assert sorted(t.id for t in memory.all(Task, where)) == sorted(wanted), "each once"
