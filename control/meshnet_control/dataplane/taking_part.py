"""On which networks this node is, and whether it knows all that was said there.

Pure but for the memory of ``Following``.
A node is on the networks of its tasks, of containers that are attached and of those that still
stop. A manager hears of all networks besides: it is asked about all of them (``meshnet trace``,
``lb show``, ``docker network inspect --verbose``).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set
from typing import Final

from meshnet.gossip.audiences import EVERY, Audiences
from meshnet.gossip.shares import Share, share_of
from meshnet.model.ids import NetworkId, NodeId
from meshnet.model.snapshot import Sandbox
from meshnet_control.cluster.gossip_records import Epoch
from meshnet_control.cluster.node_state import NodeState
from meshnet_control.cluster.roles import MANAGER

PATIENCE_S: Final = 5.0
"""How long a task waits for what was said on its network; by then who is there has been asked."""


def everywhere(assignments: NodeState) -> frozenset[NetworkId]:
    """Networks that every node is on: what is said there goes to all."""
    return frozenset(NetworkId(each.id) for each in assignments.networks if each.spec.ingress)


def networks_of(
    assignments: NodeState | None,
    self_id: NodeId,
    sandboxes: Iterable[Sandbox],
    everywhere: Set[NetworkId],
) -> frozenset[str]:
    """The networks that this node is on, but for those that everybody is on.

    Args:
        assignments: everything the managers said, merged.
        self_id: this node.
        sandboxes: containers on this node that we wire.
        everywhere: networks that every node is on.
    """
    wired = {network for sandbox in sandboxes for network, _ in sandbox.networks}
    if assignments is None:
        return frozenset(wired - everywhere)
    assigned = {NetworkId(each.id) for each in assignments.networks}
    manages = any(each.id == self_id and each.role == MANAGER for each in assignments.nodes)
    found = (wired | assigned) - everywhere
    return frozenset({*found, EVERY} if manages else found)


def heard_all(
    network: str, members: Set[NodeId], gone: Set[NodeId], epochs: Mapping[Share, Epoch]
) -> bool:
    """Whether everybody who is on a network was heard there.

    A process that has not found its tasks yet is not waited for: what it finds is news.

    Args:
        network: not one that everybody is on.
        members: who says that it is on it, this node excluded.
        gone: nodes that nothing is to be heard of.
        epochs: of what each said, to all and on networks.
    """
    return all(
        node in gone or node not in epochs or share_of(node, network) in epochs for node in members
    )


class Following:
    """The networks of this node, and since when all is known of each.

    Attributes:
        networks: that it is on; those that everybody is on excluded.
    """

    def __init__(self) -> None:
        self.networks: frozenset[str] = frozenset()
        self._whole: dict[str, int] = {}
        self._hurried: frozenset[str] = frozenset()

    def follow(self, networks: frozenset[str]) -> frozenset[str]:
        """It is on these from now on; those that are new."""
        new, self.networks = networks - self.networks, networks
        self._whole = {each: since for each, since in self._whole.items() if each in networks}
        self._hurried &= networks
        return new - {EVERY}

    def hurry(self, networks: Set[str]) -> bool:
        """Who has said nothing on these by now is not waited for; whether anybody was."""
        late = self._lacking() & networks
        self._hurried |= late
        return bool(late)

    def heard(
        self,
        self_id: NodeId,
        audiences: Audiences,
        gone: Set[NodeId],
        epochs: Mapping[Share, Epoch],
    ) -> frozenset[str]:
        """Networks on which everybody is heard now, who was not when this was noted last."""
        return frozenset(
            each
            for each in self._lacking()
            if each in self._hurried
            or heard_all(each, audiences.members(each) - {self_id}, gone, epochs)
        )

    def note(self, heard: Set[str], revision: int) -> None:
        """All that was said on these is in the Snapshot of this revision."""
        self._whole |= dict.fromkeys(heard, revision)

    def whole_with(self, heard: Set[str]) -> bool:
        """Whether nothing is lacking but for these."""
        return self._lacking() <= heard

    def since(self, networks: Iterable[str]) -> int | None:
        """The revision of the first Snapshot with all that was said on these; None: there is none.

        Args:
            networks: those that this node does not follow are left out.
        """
        found = [self._whole.get(each) for each in self.networks.intersection(networks)]
        known = [each for each in found if each is not None]
        return max(known, default=0) if len(known) == len(found) else None

    def _lacking(self) -> frozenset[str]:
        return self.networks - self._whole.keys() - {EVERY}
