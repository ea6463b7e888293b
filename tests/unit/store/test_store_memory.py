"""The law of watching: the batches, played one after the other, are the store's state."""

from __future__ import annotations

import asyncio

from hypothesis import given
from hypothesis import strategies as st

from meshnet_control.api.control_pb2 import Node, Task
from meshnet_control.store.memory import Memory
from meshnet_control.store.store import Delete, Key, Object, Put

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
