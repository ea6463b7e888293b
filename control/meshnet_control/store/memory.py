"""The parsed objects a store's backend keeps in memory, and the commits its watchers still need.

Decides what a commit writes (``prepare``) and makes it seen (``apply``); a backend writes the same
changes to its durable copy in between. Commits form a chain that watchers walk at their own pace:

    history: [c41] -> [c42] -> [c43] -> (next, not there yet)      c41 and older: forgotten when the
                ^ slow watcher    ^ fast watcher waits here        last watcher has walked past

Be aware: no lock here. The backend runs one commit at a time and calls ``apply`` only once the
changes are durable.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import TypeVar, cast

from google.protobuf.timestamp_pb2 import Timestamp

from meshnet_control.api.control_pb2 import Task
from meshnet_control.store.index import Index, brief
from meshnet_control.store.store import (
    KINDS,
    Change,
    CompactedError,
    Delete,
    Expect,
    Key,
    Kind,
    Object,
    OutOfSequenceError,
    Put,
    Where,
    key_of,
)

_SECOND = 1_000_000_000
HISTORY = 1024
"""Commits remembered for watches that start in the past."""

_M = TypeVar("_M", bound=Object)


class _Commit:
    """One link of the chain; ``done`` when the next one is there, or the store closed."""

    __slots__ = ("changes", "done", "following", "revision")

    def __init__(self, revision: int, changes: Sequence[Change]) -> None:
        self.revision = revision
        self.changes = changes
        self.following: _Commit | None = None
        self.done = asyncio.Event()


class Memory:
    """Every object, by kind and id, and the recent commits.

    Args:
        revision: of the last commit in the durable copy.
        objects: what it holds; taken over, not copied.
    """

    def __init__(self, revision: int, objects: Sequence[Object]) -> None:
        self._objects: dict[type, dict[str, Object]] = {kind: {} for kind in KINDS}
        self._indexes: dict[type, Index] = {kind: Index() for kind in KINDS}
        for message in objects:
            self._set(type(message), message.id, message)
        self._newest = _Commit(revision, ())
        self._history: deque[_Commit] = deque([self._newest], maxlen=HISTORY)

    @property
    def revision(self) -> int:
        """Of the last commit."""
        return self._newest.revision

    def get(self, kind: type[_M], name: str) -> _M | None:
        """A copy of one object."""
        found = self._objects[kind].get(name)
        return None if found is None else cast("_M", _copy(found))

    def all(self, kind: type[_M], where: Where | None = None) -> list[_M]:
        """Copies of a kind's objects that meet the conditions; None: of all."""
        found = self._indexes[kind].found(self._objects[kind], where or Where())
        if where is not None and where.brief:
            return [
                cast("_M", brief(m, where.networks) if isinstance(m, Task) else _copy(m))
                for m in found
            ]
        return [cast("_M", _copy(m)) for m in found]

    def everything(self) -> Iterator[Object]:
        """Every object of every kind, not copied: only to be read."""
        return (message for objects in self._objects.values() for message in objects.values())

    def prepare(self, writes: Sequence[Put | Delete], expect: Expect, now_ns: int) -> list[Change]:
        """What these writes change as the next commit, stamped; [] when nothing.

        Raises:
            OutOfSequenceError: an expectation does not hold.
        """
        for (kind, name), index in expect.items():
            if self._index(kind, name) != index:
                raise OutOfSequenceError
        last: dict[Key, Put | Delete] = {}
        for write in writes:
            key = key_of(write)
            last.pop(key, None)
            last[key] = write
        revision = self.revision + 1
        seconds, nanos = divmod(now_ns, _SECOND)
        at = Timestamp(seconds=seconds, nanos=nanos)
        changes: list[Change] = []
        for (kind, name), write in last.items():
            known = self._objects[kind].get(name)
            if isinstance(write, Put):
                stamped = _stamped(write.message, known, revision, at)
                changes.append(Change(kind, name, stamped, revision))
            elif known is not None:
                changes.append(Change(kind, name, None, revision))
        return changes

    def become(self, revision: int, objects: Sequence[Object]) -> None:
        """Be what the durable copy is after commits that nobody here saw; watchers see one commit.

        Args:
            revision: of the last of those commits.
            objects: what the durable copy holds; taken over, not copied.
        """
        there = {(type(message), message.id) for message in objects}
        changes = [
            Change(type(message), message.id, message, message.version.index)
            for message in objects
            if self._index(type(message), message.id) != message.version.index
        ]
        changes += [
            Change(type(message), message.id, None, revision)
            for message in self.everything()
            if (type(message), message.id) not in there
        ]
        self.apply(changes, revision)

    def apply(self, changes: Sequence[Change], revision: int = 0) -> None:
        """Make a commit the current state and wake the watchers.

        Args:
            changes: prepared here, or by whom the durable copy is shared with.
            revision: of this commit; 0: the next.
        """
        commit = _Commit(revision or self.revision + 1, tuple(changes))
        for change in commit.changes:
            self._set(change.kind, change.id, change.message)
        before, self._newest = self._newest, commit
        before.following = commit
        before.done.set()
        self._history.append(commit)

    def _set(self, kind: Kind, name: str, message: Object | None) -> None:
        objects, index = self._objects[kind], self._indexes[kind]
        old = objects.pop(name, None)
        if message is not None:
            index.put(message, old)
            objects[name] = message
        elif old is not None:
            index.drop(old)

    def _index(self, kind: Kind, name: str) -> int:
        """The version of an object; 0: there is none."""
        known = self._objects[kind].get(name)
        return 0 if known is None else known.version.index

    def watch(self, from_revision: int) -> AsyncIterator[Sequence[Change]]:
        """The commits after a revision; see ``Store.watch``.

        Raises:
            CompactedError: they are not remembered any more.
        """
        if from_revision < self._history[0].revision:
            raise CompactedError(from_revision)
        past = (c for c in reversed(self._history) if c.revision <= from_revision)
        return _walk(next(past))

    def close(self) -> None:
        """End the watches, once each has walked to the newest commit."""
        self._newest.done.set()


async def _walk(commit: _Commit) -> AsyncIterator[Sequence[Change]]:
    while True:
        await commit.done.wait()
        if commit.following is None:
            return
        commit = commit.following
        if not commit.changes:
            continue  # of several that nobody saw, each undone by the next
        yield [
            Change(c.kind, c.id, None if c.message is None else _copy(c.message), c.revision)
            for c in commit.changes
        ]


def _copy(message: Object) -> Object:
    copied = type(message)()
    copied.CopyFrom(message)  # type: ignore[arg-type] # the same type, which a union cannot say
    return copied


def _stamped(message: Object, known: Object | None, revision: int, at: Timestamp) -> Object:
    stamped = _copy(message)
    stamped.version.index = revision
    stamped.version.asked = stamped.version.asked or revision
    stamped.updated_at.CopyFrom(at)
    if known is not None and known.HasField("created_at"):
        stamped.created_at.CopyFrom(known.created_at)
    elif not stamped.HasField("created_at"):
        stamped.created_at.CopyFrom(stamped.updated_at)
    return stamped
