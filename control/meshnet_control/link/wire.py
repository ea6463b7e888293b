"""The store's values as the messages between meshnetd and meshnet-manager, and back. Pure.

Errors keep their class on the way: whoever handles a full disk handles it here and there.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, TypeVar, cast

from meshnet.errors import MeshnetError
from meshnet_control.api import manager_pb2 as mpb
from meshnet_control.store.store import (
    KINDS,
    Change,
    CompactedError,
    Delete,
    Expect,
    Key,
    Kind,
    NotLeadingError,
    Object,
    OutOfSequenceError,
    Put,
    StoreClosedError,
    StoreError,
    StoreFullError,
    StoreIoError,
    StoreLockedError,
    StoreNoLeaderError,
    StoreTooLargeError,
    StoreUnavailableError,
    Where,
)

T = TypeVar("T", bound=Object)

KIND: Final[Mapping[str, Kind]] = {kind.__name__: kind for kind in KINDS}
_FIELD: Final[Mapping[Kind, str]] = {kind: kind.__name__.lower() for kind in KINDS}
_ERRORS: Final[Mapping[str, type[StoreError]]] = {
    error.__name__: error
    for error in (
        StoreError,
        StoreFullError,
        StoreIoError,
        StoreLockedError,
        StoreClosedError,
        StoreTooLargeError,
        NotLeadingError,
    )
}
_UNAVAILABLE: Final = (StoreNoLeaderError.__name__, StoreUnavailableError.__name__)
CARRIED: Final = (StoreError, OutOfSequenceError, CompactedError)
"""The errors of a store that have a ``Fault``."""


def fault(error: MeshnetError) -> mpb.Fault:
    """One of ``CARRIED`` as a message; a subclass that is not known here as its nearest base."""
    known = (*_ERRORS, *_UNAVAILABLE, OutOfSequenceError.__name__, CompactedError.__name__)
    names = (cls.__name__ for cls in type(error).__mro__)
    revision = error.revision if isinstance(error, CompactedError) else 0
    return mpb.Fault(
        kind=next(name for name in names if name in known),
        text=str(error),
        revision=revision,
        uncertain=isinstance(error, StoreUnavailableError) and error.uncertain,
    )


def error(said: mpb.Fault) -> MeshnetError:
    """The error of a message; a class that is not known here is a StoreError."""
    if said.kind == OutOfSequenceError.__name__:
        return OutOfSequenceError()
    if said.kind == CompactedError.__name__:
        return CompactedError(said.revision)
    if said.kind == StoreNoLeaderError.__name__:
        return StoreNoLeaderError(uncertain=said.uncertain)
    if said.kind == StoreUnavailableError.__name__:
        return StoreUnavailableError(said.text, uncertain=said.uncertain)
    return _ERRORS.get(said.kind, StoreError)(said.text)


def stored(message: Object) -> mpb.StoredObject:
    """An object."""
    return mpb.StoredObject(**cast("Any", {_FIELD[type(message)]: message}))


def found(said: mpb.StoredObject, kind: type[T]) -> T:
    """The object of that kind in a message."""
    return cast("T", getattr(said, _FIELD[cast("Kind", kind)]))


def key(of: Key) -> mpb.ObjectKey:
    """What names an object."""
    return mpb.ObjectKey(kind=of[0].__name__, id=of[1])


def request(writes: Sequence[Put | Delete], expect: Expect) -> mpb.CommitRequest:
    """A commit."""
    asked = mpb.CommitRequest()
    for write in writes:
        if isinstance(write, Put):
            asked.writes.add(put=stored(write.message))
        else:
            asked.writes.add(delete=key((write.kind, write.id)))
    for (kind, name), version in expect.items():
        asked.expect.add(key=key((kind, name)), version=version)
    return asked


def asked(said: mpb.CommitRequest) -> tuple[list[Put | Delete], dict[Key, int]]:
    """The writes and the expectations of a commit.

    Raises:
        KeyError: a kind that is none.
    """
    writes: list[Put | Delete] = []
    for write in said.writes:
        if write.HasField("put"):
            writes.append(Put(_object(write.put)))
        else:
            writes.append(Delete(KIND[write.delete.kind], write.delete.id))
    return writes, {(KIND[each.key.kind], each.key.id): each.version for each in said.expect}


def batch(changes: Iterable[Change]) -> mpb.WatchReply:
    """One commit."""
    reply = mpb.WatchReply()
    for change in changes:
        said = reply.changes.add(key=key((change.kind, change.id)), revision=change.revision)
        if change.message is not None:
            said.object.CopyFrom(stored(change.message))
    return reply


def listing(kind: type, where: Where) -> mpb.ListRequest:
    """A question for objects."""
    return mpb.ListRequest(
        kind=kind.__name__,
        meant=where.meant,
        services=sorted(where.services),
        nodes=sorted(where.nodes),
        brief=where.brief,
        networks=sorted(where.networks),
    )


def listed(said: mpb.ListRequest) -> tuple[Kind, Where]:
    """The kind and the conditions of a question.

    Raises:
        KeyError: a kind that is none.
    """
    services, nodes, networks = map(frozenset, (said.services, said.nodes, said.networks))
    return KIND[said.kind], Where(said.meant, services, nodes, said.brief, networks)


def changes(said: mpb.WatchReply) -> list[Change]:
    """The changes of one commit.

    Raises:
        KeyError: a kind that is none.
    """
    return [
        Change(
            KIND[each.key.kind],
            each.key.id,
            _object(each.object) if each.HasField("object") else None,
            each.revision,
        )
        for each in said.changes
    ]


def _object(said: mpb.StoredObject) -> Object:
    name = said.WhichOneof("kind")
    if name is None:
        raise KeyError("an object of no kind")
    return cast("Object", getattr(said, name))
