"""What is on this node: it takes part in the networks of that, and says what others choose of it.

What is said on a network has an epoch of its own, as not everybody hears of it (``taking_part``).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Set
from dataclasses import replace

from meshnet.gossip.shares import TO_ALL
from meshnet.model.ids import NetworkId, NodeId, TaskId
from meshnet.model.snapshot import Endpoint, Sandbox
from meshnet_control.cluster import gossip_records
from meshnet_control.cluster.gossip_records import Epoch
from meshnet_control.cluster.node_state import NodeState
from meshnet_control.dataplane import claims, taking_part
from meshnet_control.dataplane.sayings import Sayings
from meshnet_control.dataplane.sources import Gossip
from meshnet_control.dataplane.taking_part import Following


class Own:
    """Containers and endpoints of one node, as its gossip has them.

    Args:
        self_id: this node.
        generation: of the epochs of this process.
        changed: called when a Snapshot may be other than before.

    Attributes:
        sandboxes: containers here that we wire; the same object while they are the same.
        endpoints: what this node says of its tasks.
        following: the networks that it is on, and what it knows of them.
        everywhere: networks that every node is on.
    """

    def __init__(self, self_id: NodeId, generation: int, changed: Callable[[], None]) -> None:
        self._self_id = self_id
        self._changed = changed
        self._sayings = Sayings(generation)
        self._gossip: Gossip | None = None
        self._assignments: NodeState | None = None
        self._placed: dict[TaskId, Mapping[str, Epoch]] = {}
        self._withdrawn = False
        self.sandboxes: Mapping[TaskId, Sandbox] = {}
        self.endpoints: dict[TaskId, Endpoint] = {}
        self.following = Following()
        self.everywhere: frozenset[NetworkId] = frozenset()

    # ---- inputs ----

    def attach(self, gossip: Gossip, underlay_mtu: int) -> None:
        """What there is to say is said by this gossip; call once."""
        self._gossip = gossip
        gossip.set_record(gossip_records.NODE_KEY, gossip_records.encode_node(underlay_mtu))
        self._take_part()

    def life(self, salt: bytes) -> None:
        """What this node's keys of encrypted overlays are fresh by; empty: it has none."""
        if self._gossip is not None:
            said = gossip_records.encode_salt(salt) if salt else None
            self._gossip.set_record(gossip_records.ESP_KEY, said)

    def close(self) -> None:
        """Nothing more is said."""
        self._gossip = None

    def assigned(self, assignments: NodeState) -> None:
        """What the managers say."""
        self._assignments = assignments
        self.everywhere |= taking_part.everywhere(assignments)
        self._take_part()

    def sandbox_added(self, sandbox: Sandbox) -> None:
        """A container of ours has a network namespace."""
        self.sandboxes = {**self.sandboxes, sandbox.task: sandbox}
        self.everywhere |= sandbox.mesh
        self._take_part()
        self._changed()

    def sandbox_removed(self, task: TaskId) -> None:
        """A container of ours is gone."""
        if task in self.sandboxes:
            self.sandboxes = {t: box for t, box in self.sandboxes.items() if t != task}
            self._take_part()
            self._changed()

    def endpoint(self, task: TaskId, endpoint: Endpoint | None) -> None:
        """What is said of one of its endpoints from now on; None: it is gone."""
        if endpoint is not None and self._withdrawn:
            endpoint = replace(endpoint, ready=False)
        if self.endpoints.get(task) == endpoint or self._gossip is None:
            return
        before = self.endpoints.pop(task, None)
        if endpoint is not None:
            self.endpoints[task] = endpoint
        self._sayings.say(self._gossip, task, endpoint, self.everywhere)
        if endpoint is None:
            self._placed.pop(task, None)
        elif before is None or claims.places(before) != claims.places(endpoint):
            epochs = self._sayings.epochs(task)
            self._placed[task] = {net: epoch for net, epoch in epochs.items() if net != TO_ALL}
        self._changed()

    def withdraw(self) -> None:
        """Nothing of this node is to be chosen, whatever is said of an endpoint from now on."""
        self._withdrawn = True
        for task, endpoint in list(self.endpoints.items()):
            self.endpoint(task, endpoint)

    def tell_epochs(self) -> None:
        """The others choose what was said, and nothing of what an earlier process said."""
        if self._gossip is not None:
            self._sayings.tell_epochs(self._gossip)

    def adopted(self) -> None:
        """Everything that runs here is said: epochs are told from now on."""
        self._sayings.adopted = True
        self.tell_epochs()

    # ---- asked ----

    @property
    def is_adopted(self) -> bool:
        """Whether everything that runs here is said."""
        return self._sayings.adopted

    def epochs(self, task: TaskId | None = None) -> dict[str, Epoch]:
        """Network, or to all -> epoch, of where a task is or last was said; None: of everything."""
        return self._sayings.epochs(task)

    def placed(self, task: TaskId) -> Mapping[str, Epoch]:
        """Network -> the epoch with which a task of ours got the addresses that it has."""
        return self._placed.get(task, {})

    def is_unknown(self, network: str, revision: int) -> bool:
        """Whether this node does not hear of a network, or did not before this Snapshot."""
        if self._gossip is None or network in self.everywhere:
            return False
        if network in self.following.networks:
            since = self.following.since([network])
            return since is None or since >= revision
        return not self._gossip.audiences.hears(self._self_id, network)

    # ---- inside ----

    def _take_part(self) -> None:
        """Be on the networks of what runs or is to run here."""
        if self._gossip is None:
            return
        networks = taking_part.networks_of(
            self._assignments, self._self_id, self.sandboxes.values(), self.everywhere
        )
        if networks == self.following.networks:
            return
        new = self.following.follow(networks)
        self._gossip.take_part(networks)
        self._sayings.begin(self._gossip, new)
        asyncio.get_running_loop().call_later(taking_part.PATIENCE_S, self._hurry, new)
        self._changed()

    def _hurry(self, networks: Set[str]) -> None:
        """Who has said nothing on these by now is not waited for."""
        if self.following.hurry(networks):
            self._changed()
