"""Which nodes may be chosen, and which may still send: judged when anything that says so is new.

Decided in ``liveness``; here is what it was last decided of, and who is asked about.
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from ipaddress import IPv4Address

from meshnet.gossip.members import Member
from meshnet.model.ids import NodeId
from meshnet_control.cluster.node_state import NodeState
from meshnet_control.dataplane import liveness, snapshot
from meshnet_control.dataplane.sources import Probe


class Judge:
    """The nodes of the cluster as this one judges them.

    Args:
        self_id: this node.
        probe: what asks the hosts of silent daemons.

    Attributes:
        nodes: every node that the managers know; the same object while they are the same.
        gone: nodes that send nothing any more.
        not_chosen: nodes that nothing is chosen of; the same object while they are the same.
        doubted: nodes that are chosen only where nobody else is there; likewise.
    """

    def __init__(self, self_id: NodeId, probe: Probe) -> None:
        self._self_id, self._probe = self_id, probe
        self._addresses: Mapping[NodeId, IPv4Address] = {}
        self._down: Mapping[NodeId, bool] = {}
        self._judged = False
        self._told: object = None
        """What the managers said of nodes last."""
        self.nodes: frozenset[NodeId] = frozenset()
        self.gone: frozenset[NodeId] = frozenset()
        self.not_chosen: frozenset[NodeId] = frozenset()
        self.doubted: frozenset[NodeId] = frozenset()

    def assigned(self, assignments: NodeState) -> None:
        """What the managers say of nodes; the same object as before says nothing new."""
        if assignments.nodes is self._told:
            return
        self._told = assignments.nodes
        self._addresses = {
            NodeId(node.id): snapshot.address_of(node.addr)
            for node in assignments.nodes
            if node.addr
        }
        if self._addresses.keys() != self.nodes:
            self.nodes = frozenset(self._addresses)
        self._down = {NodeId(node.id): node.down for node in assignments.nodes}
        self.doubt()

    def doubt(self) -> None:
        """Something that says who is there is new."""
        self._judged = False

    def look(
        self,
        members: Mapping[NodeId, Member],
        unreached: Mapping[NodeId, frozenset[NodeId]],
    ) -> None:
        """Judge, if it has to be.

        Args:
            members: of gossip.
            unreached: who says that it cannot reach whom.
        """
        if self._judged:
            return
        self._judged = True
        others = self.nodes - {self._self_id}
        doubtful = liveness.doubtful((n for n in others if not self._down[n]), members)
        self._probe.watch({node: self._addresses[node] for node in doubtful})
        answering = self._probe.answering
        self.gone = frozenset(
            n
            for n, is_down in self._down.items()
            if is_down or liveness.is_gone(members.get(n), answering=answering.get(n))
        )
        cut = liveness.cut(self._self_id, members, unreached)
        if (not_chosen := (self.gone | cut) & others) != self.not_chosen:
            self.not_chosen = not_chosen
        doubted = frozenset(
            n for n in others if liveness.is_doubted(members.get(n), answering=answering.get(n))
        )
        if doubted != self.doubted:
            self.doubted = doubted

    def all_spoke(self, members: Mapping[NodeId, Member], spoke: Set[NodeId]) -> bool:
        """Whether every node that is there is among those that said what they have.

        Args:
            members: of gossip.
            spoke: nodes that did.
        """
        others = {n for n in self.nodes if not self._down[n]} - {self._self_id}
        return liveness.all_spoke(others, members, self._probe.answering, spoke)
