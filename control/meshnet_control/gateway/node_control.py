"""What the gateway needs of the daemon around it: the node's part in the swarm, and its store."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import AbstractContextManager
from typing import Literal, Protocol

from meshnet_control.agent.attachments import Attachments
from meshnet_control.agent.node_networks import NodeNetworks
from meshnet_control.api.control_pb2 import Network, SwarmInfo, SwarmInitRequest, SwarmJoinRequest
from meshnet_control.api.manager_pb2 import LogRequest
from meshnet_control.dataplane.overlays import Overlays
from meshnet_control.link.images import Progress
from meshnet_control.store.store import Store

NodeState = Literal["inactive", "worker", "manager"]


class Logs(Protocol):
    """Logs of tasks, wherever they run."""

    def read(self, asked: LogRequest) -> AsyncGenerator[bytes, None]:
        """A log in the engine's frames; empty when nothing came for a second."""
        ...


class Images(Protocol):
    """Images for other nodes."""

    def push(
        self, node_id: str, image_id: str, tags: Sequence[str], archive: AsyncIterator[bytes]
    ) -> AsyncGenerator[Progress, None]:
        """See ``RemoteImages.push``."""
        ...


class Attaching(Protocol):
    """Containers on networks of the cluster."""

    containers: Attachments
    networks: NodeNetworks

    async def find(self, reference: str) -> Network:
        """The attachable network that a user means."""
        ...


class NodeControl(Protocol):
    """The operations on this node itself. Implemented by the daemon.

    Every method refuses with a ``ControlError`` whose message and status reach the user as they
    are. The gateway has checked ``state`` before it calls: ``init`` and ``join`` only when
    inactive, ``leave`` only when not.
    """

    @property
    def state(self) -> NodeState:
        """This node's part in the swarm now."""
        ...

    def answering(self, method: str) -> AbstractContextManager[None]:
        """To be entered while a request of this method of HTTP is answered."""
        ...

    @property
    def gives_way(self) -> bool:
        """Who had this node begin is still being answered: what nobody waits for comes later."""
        ...

    async def init(self, request: SwarmInitRequest) -> str:
        """Make a cluster of this node and return the node's id."""
        ...

    async def join(self, request: SwarmJoinRequest) -> None:
        """Join a cluster; returns once this node has its certificate."""
        ...

    async def leave(self, *, force: bool) -> None:
        """Leave the cluster; a last manager erases the cluster's state."""
        ...

    async def unlock(self, key: bytes) -> None:
        """Go on in the cluster with the key that opens a manager's store; only when locked."""
        ...

    def swarm_info(self) -> SwarmInfo:
        """The Swarm part of ``docker info``, without ``cluster`` on a worker."""
        ...

    def warnings(self) -> list[str]:
        """What this node cannot do now though it runs, a sentence each."""
        ...

    def store(self) -> Store | None:
        """The cluster's store; None when this node is not a manager."""
        ...

    def attaching(self) -> Attaching | None:
        """Who attaches containers to networks; None when this node is in no cluster now."""
        ...

    def logs(self) -> Logs | None:
        """Logs of all tasks; None when this node is not a manager."""
        ...

    def images(self) -> Images | None:
        """Sends images to nodes; None when this node is not a manager."""
        ...

    def overlays(self) -> Overlays | None:
        """What this node knows of overlay networks; None: it is in no cluster now."""
        ...

    async def overlays_changed(self) -> None:
        """Returns when that may be something else, or after a moment."""
        ...
