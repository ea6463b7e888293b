"""The cluster's objects behind one narrow interface: read, commit with compare, watch.

Touches nothing itself; a backend (sqlite.py) is the durable copy. The model is etcd's:

    commit 41 ── commit 42 ── commit 43     one revision for the whole store, plus one a commit
                  │ Put web, Delete db      an object's Version.Index = revision that wrote it last
                  └─> watchers: one batch   what changed together is seen together, in order

A commit is all or nothing. ``expect`` names the version each object must still have, so that a
decision made from an older reading is refused instead of overwriting a newer one.

Be aware: there is no query language: ``list`` finds by what is indexed (``index.py``), or all.
Every message that goes in or comes out is a copy: changing it changes nothing in the store.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol, TypeAlias, TypeVar

from meshnet.backoff import Backoff
from meshnet.errors import MeshnetError
from meshnet_control.api.control_pb2 import (
    Cluster,
    Config,
    Network,
    Node,
    Secret,
    Service,
    Task,
)

Object: TypeAlias = Cluster | Node | Service | Task | Network | Secret | Config
Kind: TypeAlias = type[Object]
Key: TypeAlias = tuple[Kind, str]
"""Kind and id: what names one object."""

Expect: TypeAlias = Mapping[tuple[Any, str], int]
"""Key to version. Any: a mapping's keys are invariant, and callers have one kind's type."""

KINDS: tuple[Kind, ...] = (Cluster, Node, Service, Task, Network, Secret, Config)

T = TypeVar("T", bound=Object)


@dataclass(frozen=True)
class Where:
    """Which objects of a kind: those for which every condition holds that is given; none: all."""

    meant: str = ""
    """What a user says: an id; else a name; else the beginning of ids."""
    services: frozenset[str] = frozenset()
    """Of tasks: their services."""
    nodes: frozenset[str] = frozenset()
    """Of tasks: their nodes."""
    brief: bool = False
    """Of tasks no more than what they are counted by, and their addresses on ``networks``."""
    networks: frozenset[str] = frozenset()
    """Of tasks: networks that they are attached to."""


@dataclass(frozen=True)
class Put:
    """Write an object whole; its id says which. Version and times are the store's to set."""

    message: Object


@dataclass(frozen=True)
class Delete:
    """Remove an object; one that is gone already is no change."""

    kind: Kind
    id: str


def key_of(write: Put | Delete) -> Key:
    """What a write is to.

    Raises:
        ValueError: an object without an id.
    """
    if isinstance(write, Delete):
        return write.kind, write.id
    if not write.message.id:
        raise ValueError(f"a {type(write.message).__name__} without an id cannot be stored")
    return type(write.message), write.message.id


@dataclass(frozen=True)
class Change:
    """One object as a commit left it."""

    kind: Kind
    id: str
    message: Object | None
    """None: deleted."""
    revision: int


NO_LEADER: Final = (
    "The swarm does not have a leader. It's possible that too few managers are online. Make sure "
    "more than half of the managers are online."
)
"""Docker's words (swarmkit manager/state/raft: ErrNoClusterLeader, as the docker CLI shows it)."""


class StoreError(MeshnetError):
    """The store cannot be opened, read or written; the text says which file and why.

    What was to be written is not: whoever must write it tries again (``RETRY``). The one
    exception is a ``StoreUnavailableError`` that says so.
    """


class StoreFullError(StoreError):
    """There is no room on the disk."""


class StoreIoError(StoreError):
    """The disk does not do what it is told: an I/O error, a filesystem that became read-only."""


class StoreLockedError(StoreError):
    """Another process holds the file."""


class StoreUnavailableError(StoreError):
    """The managers that hold the store did not answer in time.

    Attributes:
        uncertain: what was to be written may have been, or may yet be, before anything else is.
            Whoever must know reads again once they answer.
    """

    def __init__(self, why: str, *, uncertain: bool) -> None:
        self.uncertain = uncertain
        super().__init__(why)


class StoreNoLeaderError(StoreUnavailableError):
    """Fewer than half of the managers can be reached; in Docker's words."""

    def __init__(self, *, uncertain: bool = False) -> None:
        super().__init__(NO_LEADER, uncertain=uncertain)


class NotLeadingError(StoreError):
    """Another manager leads now: what this one decided while it led is not written."""


class StoreTooLargeError(StoreError):
    """One object is larger than the store takes."""


class StoreClosedError(StoreError):
    """The store was closed; nothing will be written any more."""


RETRY: Final = Backoff(0.25, 5.0)
"""Between attempts of a write that must not be lost."""


class OutOfSequenceError(MeshnetError):
    """An object is not at the version the writer read: read again and decide again."""

    def __init__(self) -> None:
        super().__init__("update out of sequence")


class CompactedError(MeshnetError):
    """The store no longer remembers the commits after this revision: list again, then watch."""

    def __init__(self, revision: int) -> None:
        self.revision = revision
        super().__init__(f"revision {revision} has been compacted")


class Store(Protocol):
    """The cluster's objects. One event loop; any number of readers, writers and watchers."""

    @property
    def revision(self) -> int:
        """Of the last commit; 0: nothing was ever written."""
        ...

    @property
    def trouble(self) -> str:
        """Why commits fail now, and since when; empty: they do not."""
        ...

    async def get(self, kind: type[T], id: str) -> T | None:  # noqa: A002 - the field's name
        """An object by its exact id; None when there is none."""
        ...

    async def list(self, kind: type[T], where: Where | None = None) -> list[T]:
        """The objects of a kind that meet the conditions, in no promised order.

        Args:
            kind: of the objects.
            where: what they are asked by; None: all of them.
        """
        ...

    async def commit(self, writes: Sequence[Put | Delete], expect: Expect | None = None) -> int:
        """Write all or nothing; of several writes to one object the last counts.

        Each put object gets ``version.index`` = the new revision, ``updated_at`` = now, and
        ``created_at`` = that of the stored object, or else its own, or else now. Its
        ``version.asked``, which users see, stays; unset, it is the new revision: who writes what a
        user asked for clears it, who writes what the cluster makes of that leaves it alone.

        Args:
            writes: what to write. Without an effect (no writes, or deletes of what is not there)
                nothing is committed.
            expect: the ``version.index`` objects must have now; 0: must not exist. The objects
                need not be among the written.

        Returns:
            The revision of this commit, or the current one when nothing was committed.

        Raises:
            OutOfSequenceError: an expectation does not hold; nothing is written.
            StoreError: the backend cannot write, or is closed; nothing is written.
        """
        ...

    def watch(self, from_revision: int) -> AsyncIterator[Sequence[Change]]:
        """The commits after ``from_revision``, one batch each, in order, none missed.

        Read ``revision``, list, then watch from it: a change may be seen twice, none is missed.
        Ends when the store closes.

        Raises:
            CompactedError: that revision is too long ago; raised by the call or the first step.
        """
        ...

    async def close(self) -> None:
        """Finish the running commit, end the watches, let go of the file. Twice is fine."""
        ...
