"""What is scraped, read where it is at that moment: gossip, kernel, resolver, agent, manager.

Each part is read for itself: one that does not answer is missing in ``Facts``, and said to be.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

from meshnet import drops
from meshnet.reconcile import ReconcilerStatus
from meshnet_control.api import explain_pb2 as xpb
from meshnet_control.api import manager_pb2 as mpb
from meshnet_control.node import gathering
from meshnet_control.node.member import ClusterMember
from meshnet_control.node.node import Node
from meshnet_dns import operations
from meshnet_dns.control import NAME

KERNEL: Final = "kernel"
RESOLVER: Final = "resolver"
MANAGER: Final = "manager"
NO_WAY: Final = "unreached"
"""A member that others reach, and no packet passes between it and this node."""


@dataclass(frozen=True)
class Facts:
    """Everything of one moment.

    Attributes:
        version: of meshnet.
        role: none, worker, manager.
        dropped: process -> reason -> how often.
        node_id: empty: in no cluster.
        hostname: of this host.
        members: state -> how many others gossip knows in it.
        reconcilers: of this node.
        tasks: state -> how many tasks of this host.
        networks: (name, addresses in use, all that it has) of those that this node is on.
        services: what the kernel counted of them; None: it could not be read.
        resolver: what it counts; None: it does not answer.
        manager: what meshnet-manager says; None: this node is no manager.
    """

    version: str
    role: str
    dropped: Mapping[str, Mapping[str, int]]
    node_id: str = ""
    hostname: str = ""
    members: Mapping[str, int] = field(default_factory=dict)
    reconcilers: Sequence[ReconcilerStatus] = ()
    tasks: Mapping[str, int] = field(default_factory=dict)
    networks: Sequence[tuple[str, int, int]] = ()
    services: xpb.BalancingAnswer | None = None
    resolver: Mapping[str, Any] | None = None
    manager: mpb.ManagerStatusReply | None = None

    @property
    def parts(self) -> Mapping[str, bool]:
        """Part -> whether it could be read."""
        found = {RESOLVER: self.resolver is not None}
        if self.node_id:
            found[KERNEL] = self.services is not None and not self.services.unread
        if self.manager is not None:
            found[MANAGER] = not self.manager.process.error
        return found


async def read(node: Node, hostname: str, run_dir: Path) -> Facts:
    """Of this node, now.

    Args:
        node: this one.
        hostname: of this host.
        run_dir: where the resolver's socket is.
    """
    here = version("meshnet")
    resolver = asyncio.to_thread(_resolver, run_dir / NAME)
    membership = node.membership
    if membership is None:
        role = "none" if node.state == "inactive" else node.state
        return Facts(
            here, role, {"meshnetd": drops.snapshot()}, hostname=hostname, resolver=await resolver
        )
    counted, services, manager = await asyncio.gather(
        resolver, _services(membership), _manager(membership)
    )
    dropped = {"meshnetd": drops.snapshot()}
    if manager is not None:
        dropped["meshnet-manager"] = manager.drops
    return Facts(
        version=here,
        role=membership.identity.role,
        dropped=dropped,
        node_id=membership.identity.node_id,
        hostname=hostname,
        members=Counter(
            member.state.value if member.direct else NO_WAY
            for member in membership.gossip.members().values()
            if member.id != membership.identity.node_id
        ),
        reconcilers=membership.kernel.statuses,
        tasks=membership.agent.states,
        networks=tuple(gathering.addresses(membership.kernel.dataplane.snapshot)),
        services=services,
        resolver=counted,
        manager=manager,
    )


def _resolver(path: Path) -> Mapping[str, Any] | None:
    try:
        return operations.status(path).counters
    except operations.ResolverError:
        return None


async def _services(membership: ClusterMember) -> xpb.BalancingAnswer | None:
    question = xpb.Question(balancing=xpb.BalancingQuestion())
    answer = await membership.questions.answer(question)
    return None if answer.error else answer.balancing


async def _manager(membership: ClusterMember) -> mpb.ManagerStatusReply | None:
    return await membership.link.status() if membership.link is not None else None
