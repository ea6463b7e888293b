"""Ports that are published on this host: held against its processes, or left to one that had it.

```
 Snapshot.published ──> PublishedPorts.keep ──> sockets that hold them
                              └──> taken, and by whom ──> Snapshot.taken: no rule leads there
```
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Set
from dataclasses import replace
from operator import is_
from typing import NamedTuple, Protocol

from meshnet.model.ids import TaskId
from meshnet.model.snapshot import Port, Snapshot

_log = logging.getLogger(__name__)


class Sockets(Protocol):
    """What holds ports (meshnet.kernel.reserved_ports.ReservedPorts)."""

    @property
    def short(self) -> bool:
        """Not every port that is wanted is held."""
        ...

    def hold(self, wanted: Set[Port], /) -> Mapping[Port, str]:
        """Hold exactly these; those that processes of this host have, and who that is."""
        ...

    def others(self) -> frozenset[Port]:
        """Ports that others' sockets wait at."""
        ...

    def close(self) -> None:
        """Let all go."""
        ...


class OthersPorts(NamedTuple):
    """Ports of this host that are not a container's own.

    Attributes:
        published: by services on every node, or by other containers here.
        sockets: ports that processes of this host wait at.
    """

    published: frozenset[Port]
    sockets: frozenset[Port]


class PublishedPorts:
    """Keeps what is published on this host."""

    def __init__(self, sockets: Sockets) -> None:
        self._sockets = sockets
        self._holders: Mapping[Port, str] = {}
        self._wanted: frozenset[Port] = frozenset()
        self._made_of: tuple[object, object, object] = (None, None, None)

    def keep(self, before: Snapshot, now: Snapshot) -> Snapshot:
        """Hold what is published.

        Args:
            before: the last Snapshot.
            now: the next one, with ``taken`` as it was in the last.

        Returns:
            ``now`` itself, or what follows ``before`` with what is not to be had as ``taken``.
        """
        made_of = (now.services, now.networks, now.sandboxes)
        if not all(map(is_, made_of, self._made_of)):
            self._made_of, self._wanted = made_of, now.published
            self._hold()
        taken = self._holders.keys()
        if taken == now.taken:
            return now
        return replace(now, taken=frozenset(taken), revision=before.revision + 1)

    def look(self) -> bool:
        """Whether somebody gave a port back, or took one, that was not to be had."""
        before = self._holders.keys()
        if self._sockets.short:
            self._hold()
        return self._holders.keys() != before

    def _hold(self) -> None:
        before, self._holders = self._holders, self._sockets.hold(self._wanted)
        for port in sorted(self._holders.keys() - before.keys()):
            _log.warning("%s", _sentence(port, self._holders[port]))

    def troubles(self) -> list[str]:
        """What is published and not led to its service on this node, a sentence each."""
        return [_sentence(port, self._holders[port]) for port in sorted(self._holders)]

    def of_others(self, snapshot: Snapshot, task: TaskId) -> OthersPorts:
        """Ports that the container of a task cannot have.

        Args:
            snapshot: of this moment.
            task: whose own ports are not among them.
        """
        sandboxes = {key: box for key, box in snapshot.sandboxes.items() if key != task}
        published = replace(snapshot, sandboxes=sandboxes).published
        return OthersPorts(published, self._sockets.others())

    def close(self) -> None:
        """Let all go."""
        self._sockets.close()


def _sentence(port: Port, holder: str) -> str:
    return (
        f"published port {port[1]}/{port[0]} does not lead to its service on this node:"
        f" {holder or 'a process of this host'} had it before"
    )
