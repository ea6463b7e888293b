"""How the cluster's objects lie in etcd. Pure.

```
 /meshnet/store/head               {"index": 42, "by": "<who wrote it>", "parts": 0}
 /meshnet/store/o/Service/<id>     sealed bytes
 /meshnet/staged/<by>/<n>          parts of a commit that is too large for one transaction
 /meshnet/turn                     while it is there, only who wrote it commits; a lease ends it
```

A commit is one transaction: it compares the head's revision with that of the head it was decided on
and writes the objects and the next head. So commits have one order, ``index`` counts them, and a
transaction that is sent twice is carried out once. A large commit is staged first; its head names
the parts, and whoever reads a head with parts takes them as written (decision 29).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from meshnet_control.api import etcd_pb2 as pb
from meshnet_control.etcd import client as calls
from meshnet_control.etcd.arguments import TXN_OPERATIONS
from meshnet_control.store.sealer import Sealer
from meshnet_control.store.store import KINDS, Change, Kind, Object, StoreError

PREFIX: Final = b"/meshnet/store/"
HEAD: Final = PREFIX + b"head"
OBJECTS: Final = PREFIX + b"o/"
TURN: Final = b"/meshnet/turn"
STAGED: Final = b"/meshnet/staged/"
PART_BYTES: Final = 1024 * 1024
"""Of operations in one transaction; a single larger object goes alone."""
PART_OPERATIONS: Final = TXN_OPERATIONS // 2
_KINDS: Final = {kind.__name__: kind for kind in KINDS}


@dataclass(frozen=True)
class Head:
    """The last commit, as the store has it."""

    index: int
    by: str = ""
    """A word of its writer's alone, so that it recognises it."""
    parts: int = 0
    """How many parts of it are staged; 0: every object is in its place."""
    mod_revision: int = 0
    """etcd's revision that wrote it; 0: there is no head yet."""

    def value(self) -> bytes:
        """What is written."""
        return json.dumps({"index": self.index, "by": self.by, "parts": self.parts}).encode()

    def part_keys(self) -> list[bytes]:
        """Where its parts are."""
        return [part_key(self.by, n) for n in range(self.parts)]


NOTHING: Final = Head(0)


def head_of(kv: pb.KeyValue) -> Head:
    """What a head says.

    Raises:
        StoreError: it is none of ours.
    """
    try:
        said = json.loads(kv.value)
        return Head(int(said["index"]), str(said["by"]), int(said["parts"]), kv.mod_revision)
    except (ValueError, LookupError, TypeError):
        raise StoreError("the store in etcd has a head that this version does not know") from None


def part_key(by: str, number: int) -> bytes:
    """Where a part of a commit is staged; their order is that of the numbers."""
    return STAGED + f"{by}/{number:06}".encode()


def staged_of(by: str) -> tuple[bytes, bytes]:
    """First key and end of all parts of a commit."""
    prefix = STAGED + f"{by}/".encode()
    return prefix, calls.prefix_end(prefix)


def key_of(kind: Kind, name: str) -> bytes:
    """Where an object is."""
    return OBJECTS + f"{kind.__name__}/{name}".encode()


def named(key: bytes) -> tuple[Kind, str]:
    """Which object is there.

    Raises:
        StoreError: no object of this version's kinds.
    """
    kind, _, name = key.removeprefix(OBJECTS).decode(errors="replace").partition("/")
    if kind not in _KINDS or not name:
        raise StoreError(f"the store in etcd has {key!r}, which this version does not know")
    return _KINDS[kind], name


def operations(changes: Iterable[Change], sealer: Sealer) -> list[pb.RequestOp]:
    """What writes these changes."""
    return [
        calls.delete(key_of(change.kind, change.id))
        if change.message is None
        else calls.put(key_of(change.kind, change.id), sealer.sealed(change.message))
        for change in changes
    ]


def parts_of(operations: Sequence[pb.RequestOp]) -> list[list[pb.RequestOp]]:
    """The operations in order, in groups that one transaction takes each."""
    parts: list[list[pb.RequestOp]] = [[]]
    size = 0
    for operation in operations:
        bytes_ = operation.ByteSize()
        if parts[-1] and (size + bytes_ > PART_BYTES or len(parts[-1]) == PART_OPERATIONS):
            parts.append([])
            size = 0
        parts[-1].append(operation)
        size += bytes_
    return parts


def packed(part: Sequence[pb.RequestOp]) -> bytes:
    """A part as the bytes that are staged."""
    return pb.TxnRequest(success=part).SerializeToString()


def unpacked(value: bytes) -> list[pb.RequestOp]:
    """The operations of a staged part."""
    return list(pb.TxnRequest.FromString(value).success)


def changes_of(operations: Iterable[pb.RequestOp], revision: int, sealer: Sealer) -> list[Change]:
    """What operations of a commit change.

    Raises:
        SealError: an object is sealed with another key.
        StoreError: one is of a kind that this version does not know.
    """
    changes = []
    for operation in operations:
        if operation.HasField("request_put"):
            put = operation.request_put
            changes.append(_put(put.key, put.value, revision, sealer))
        else:
            changes.append(Change(*named(operation.request_delete_range.key), None, revision))
    return changes


def changes_in(events: Iterable[pb.Event], revision: int, sealer: Sealer) -> list[Change]:
    """What a watch tells of one commit; see ``changes_of``."""
    return [
        Change(*named(event.kv.key), None, revision)
        if event.type == pb.Event.DELETE
        else _put(event.kv.key, event.kv.value, revision, sealer)
        for event in events
        if event.kv.key != HEAD
    ]


def object_of(kv: pb.KeyValue, sealer: Sealer) -> Object:
    """The object that a key holds; see ``changes_of``."""
    kind, name = named(kv.key)
    return sealer.opened(kind, name, kv.value)


def _put(key: bytes, value: bytes, revision: int, sealer: Sealer) -> Change:
    kind, name = named(key)
    return Change(kind, name, sealer.opened(kind, name, value), revision)
