"""Ports that are published on this host: held against its processes, or left to one that had it.

```
 Snapshot.published ──> PublishedPorts.keep ──> sockets that hold them
                              └──> taken, and by whom ──> Snapshot.taken: no rule leads there
```
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping, Set
from dataclasses import replace
from operator import is_
from typing import NamedTuple, Protocol

from meshnet.kernel.reserved_ports import Holders
from meshnet.model.ids import ServiceId, TaskId
from meshnet.model.shared_map import difference
from meshnet.model.snapshot import Port, Service, Snapshot, in_mesh

_log = logging.getLogger(__name__)


class Sockets(Protocol):
    """What holds ports (meshnet.kernel.reserved_ports.ReservedPorts)."""

    @property
    def short(self) -> bool:
        """Not every port that is wanted is held."""
        ...

    def hold(self, wanted: Set[Port], wanted6: Set[Port], /) -> Holders:
        """Hold exactly these, of each family; those that processes have, and who that is."""
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
        self._holders = Holders()
        self._wanted: tuple[frozenset[Port], frozenset[Port]] = (frozenset(), frozenset())
        self._made_of: tuple[object, object, object] = (None, None, None)
        self._services: Mapping[ServiceId, Service] = {}
        self._in_mesh: Counter[Port] = Counter()
        """By how many of those services each port is published in the mesh."""

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
            self._made_of = made_of
            published = self._published(now)
            mesh = now.ingress
            wanted6 = (
                frozenset(self._in_mesh) if mesh is not None and mesh.subnets6 else frozenset()
            )
            if (wanted := (published, wanted6)) != self._wanted:
                self._wanted = wanted
                self._hold()
        taken, taken6 = map(frozenset, self._holders)
        if taken == now.taken and taken6 == now.taken6:
            return now
        return replace(now, taken=taken, taken6=taken6, revision=before.revision + 1)

    def _published(self, now: Snapshot) -> frozenset[Port]:
        """``now.published``, at the cost of the services that are others than before."""
        services = now.services if now.ingress is not None else {}
        for id_ in difference(self._services, services):
            for service, sign in ((self._services.get(id_), -1), (services.get(id_), 1)):
                for port in in_mesh(service) if service is not None else ():
                    self._in_mesh[port] += sign
                    if not self._in_mesh[port]:
                        del self._in_mesh[port]
        self._services = services
        return now.published_here.union(self._in_mesh)

    def look(self) -> bool:
        """Whether somebody gave a port back, or took one, that was not to be had."""
        before = self._holders
        if self._sockets.short:
            self._hold()
        return any(one.keys() != now.keys() for one, now in zip(before, self._holders, strict=True))

    def _hold(self) -> None:
        before, self._holders = self._holders, self._sockets.hold(*self._wanted)
        for sentence in sorted({*_sentences(self._holders)} - {*_sentences(before)}):
            _log.warning("%s", sentence)

    def troubles(self) -> list[str]:
        """What is published and not led to its service on this node, a sentence each."""
        return _sentences(self._holders)

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


def _sentences(holders: Holders) -> list[str]:
    """Of what IPv6 alone has lost it is said so; who has both is said once."""
    first, second = holders
    only6 = {port: who for port, who in second.items() if port not in first}
    return [
        f"published port {port[1]}/{port[0]} does not lead to its service on this node{by}:"
        f" {who or 'a process of this host'} had it before"
        for those, by in ((first, ""), (only6, " by IPv6"))
        for port, who in sorted(those.items())
    ]
