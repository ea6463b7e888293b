"""What the data plane hears of one task, and what it is asked: its sandbox, its endpoint."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from ipaddress import IPv4Interface
from typing import Final

from meshnet.errors import MeshnetError
from meshnet.model.ids import TaskId
from meshnet_control.agent import draining, host_ports, task_networks
from meshnet_control.agent.host import Host
from meshnet_control.api import control_pb2 as pb

_log = logging.getLogger(__name__)

_TROUBLE_S: Final = 2.0
"""A network that is not wired by then is told of, and again as often."""


class Announcement:
    """A task on networks of ours.

    Args:
        host: its data plane is told.
        task_id: of the task.
    """

    def __init__(self, host: Host, task_id: str) -> None:
        self.hostname = ""
        """The container's name for itself."""
        self.gateway: IPv4Interface | None = None
        """Its address on docker_gwbridge."""
        self._dataplane = host.dataplane
        self._node_id = host.place.node_id
        self._id = TaskId(task_id)

    def sandbox(self, task: pb.Task, netns: str) -> None:
        """Its container runs, in that network namespace."""
        self._dataplane.sandbox_added(task_networks.sandbox_of(task, netns, self.gateway))

    def port_conflict(self, task: pb.Task) -> str:
        """Why it cannot have its ports of this host, in the engine's words; empty: it can."""
        own = [port for port in task.endpoint_spec.ports if port.publish_mode == "host"]
        if not own:
            return ""
        others = self._dataplane.ports_of_others(self._id)
        name = task_networks.name_of(task)
        return host_ports.conflict(host_ports.of(own), name, others.published, others.sockets)

    def endpoint(self, task: pb.Task, container: str, *, ready: bool) -> None:
        """Where it is found, and whether it is a backend.

        Args:
            task: the task.
            container: ID of its container.
            ready: it is.
        """
        said = task_networks.endpoint_of(
            task, self._node_id, container, hostname=self.hostname, ready=ready
        )
        self._dataplane.endpoint(self._id, said)

    def withdraw(self) -> None:
        """Nothing of it runs any more."""
        self._dataplane.endpoint(self._id, None)
        self._dataplane.sandbox_removed(self._id)

    async def wired(self, complain: Callable[[str], None]) -> None:
        """Returns when the task's network is.

        Args:
            complain: gets what is in its way meanwhile.
        """
        ready = asyncio.ensure_future(self._dataplane.ready(self._id))
        try:
            while not (await asyncio.wait({ready}, timeout=_TROUBLE_S))[0]:
                complain(self._dataplane.trouble(self._id))
        finally:
            ready.cancel()
        await ready

    async def drained(self, within_s: float) -> None:
        """Returns when no node chooses it any more, or after that many seconds."""
        await self._dataplane.drained(self._id, within_s)

    def others_serve(self) -> bool:
        """Another task of its service takes new connections."""
        return self._dataplane.others_serve(self._id)

    async def emptied(self, waits: Callable[[], bool], tell: Callable[[int], None]) -> None:
        """Returns when nobody is connected to it any more, or nobody is waited for any longer.

        Args:
            waits: whether it would wait for a connection now.
            tell: gets how many are left, with each count.
        """
        while waits():
            try:
                left = await self._dataplane.connections(self._id)
            except MeshnetError as error:
                _log.warning(
                    "task %s stops although its connections were not counted: %s", self._id, error
                )
                return
            if not left:
                return
            tell(left)
            await asyncio.sleep(draining.LOOK_S)
