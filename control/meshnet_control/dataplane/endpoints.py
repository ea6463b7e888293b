"""The cluster's endpoints, kept up with what nodes say of them. Pure but for its own memory.

```
 records ──> said (task, node, network) ──> one endpoint a task ──> claims on addresses ──> settled
```
Law: after any changes ``settled`` is what ``gossip_records.decode_endpoints`` and
``claims.settled`` make of the whole. A change costs what has to do with its addresses.
"""

from __future__ import annotations

from collections.abc import Container, Set

from meshnet.gossip.shares import placed
from meshnet.model.ids import NodeId, TaskId
from meshnet.model.placed import Placed
from meshnet.model.snapshot import Endpoint
from meshnet_control.cluster import gossip_records
from meshnet_control.dataplane import claims
from meshnet_control.dataplane.claims import Place
from meshnet_control.dataplane.known_records import News


class Endpoints:
    """What is said, and whose each address is.

    Attributes:
        settled: every endpoint with the addresses that are its own.
    """

    def __init__(self) -> None:
        self.settled = Placed()
        self._said: dict[TaskId, dict[NodeId, dict[str, Endpoint]]] = {}
        self._chosen: dict[TaskId, Endpoint] = {}
        self._claimants: dict[Place, tuple[TaskId, ...]] = {}
        self._taken: Container[Place] = frozenset()

    def change(
        self, news: News, taken: Container[Place], changed: Set[Place] = frozenset()
    ) -> None:
        """Take what is new.

        Args:
            news: records that changed; those of endpoints are looked at.
            taken: addresses that the managers gave to no task (``claims.taken``).
            changed: those that were not among them the last time, or were.
        """
        said = {self._say(node, key, value) for (node, key), value in news.items()}
        tasks = {task for task in said if task is not None}
        places: set[Place] = set()
        for task in tasks:
            places |= self._choose(task)
        places |= {place for place in changed if place in self._claimants}
        self._taken = taken
        tasks |= {task for place in places for task in self._claimants.get(place, ())}
        put = {task: self._settled(self._chosen[task]) for task in tasks if task in self._chosen}
        self.settled = self.settled.placed(put, tasks - put.keys())

    def _say(self, node: NodeId, key: str, value: bytes | None) -> TaskId | None:
        """Note what a node says of a task; the task, if the record is of one."""
        task = gossip_records.task_of(key)
        if task is None:
            return None
        network, _ = placed(key)
        nodes = self._said.setdefault(task, {})
        said = nodes.setdefault(node, {})
        endpoint = None if value is None else gossip_records.decode_endpoint(node, task, value)
        if endpoint is not None:
            said[network] = endpoint
        else:
            said.pop(network, None)
            if not said:
                del nodes[node]
            if not nodes:
                del self._said[task]
        return task

    def _choose(self, task: TaskId) -> set[Place]:
        """Take the endpoint of those that are said; the addresses that it had and has."""
        said = map(gossip_records.whole, self._said.get(task, {}).values())
        had, has = self._chosen.pop(task, None), gossip_records.of_several(said)
        before = claims.places(had) if had is not None else set()
        now = claims.places(has) if has is not None else set()
        if has is not None:
            self._chosen[task] = has
        for place in before - now:
            left = tuple(other for other in self._claimants[place] if other != task)
            if left:
                self._claimants[place] = left
            else:
                del self._claimants[place]
        for place in now - before:
            self._claimants[place] = (*self._claimants.get(place, ()), task)
        return before | now

    def _settled(self, endpoint: Endpoint) -> Endpoint:
        return claims.with_own(endpoint, lambda place: self._owner(place) == endpoint.task)

    def _owner(self, place: Place) -> TaskId | None:
        if place in self._taken:
            return None
        claimants = self._claimants[place]
        if len(claimants) == 1:
            return claimants[0]
        return max(claimants, key=lambda task: claims.word(self._chosen[task]))
