"""This node: in no cluster, or in one. Init, join and leave change that, all or nothing.

```
 inactive ── init, join ──> in a cluster ── leave, removed ──> inactive
                                 ^
 identity on disk ── resume ─────┴── cannot: says why, tries again until it can or leaves
```

Implements ``meshnet_control.gateway.node_control.NodeControl``.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import socket
import time
from contextlib import AsyncExitStack, suppress
from dataclasses import replace
from ipaddress import IPv4Network
from pathlib import Path
from typing import Final, Literal

from meshnet import ends
from meshnet.errors import ControlError, MeshnetError
from meshnet.kernel import host
from meshnet.kernel.rtnl import RtnlClient
from meshnet.model.wellknown import CONTROL_PORT, GOSSIP_PORT, VXLAN_PORT
from meshnet_control.agent.agent import remove_task_containers
from meshnet_control.api import control_pb2 as pb
from meshnet_control.dataplane.reconcilers import Spawn
from meshnet_control.engine.client import EngineClient, EngineError
from meshnet_control.host import manager_process, units
from meshnet_control.host.manager_process import STOPS_S
from meshnet_control.identity import identity
from meshnet_control.identity.identity import ALREADY_IN_SWARM, Identity
from meshnet_control.link.locked import INVALID_KEY, NOT_LOCKED
from meshnet_control.link.logs import RemoteLogs
from meshnet_control.link.manager_link import ManagerLink
from meshnet_control.node import advertise, dispatcher_client
from meshnet_control.node.advertise import Addresses
from meshnet_control.node.birth import Birth, birth
from meshnet_control.node.cleanup import clean_up
from meshnet_control.node.member import GOODBYE_S, ClusterMember, Places
from meshnet_control.store import files
from meshnet_control.store.store import Store, StoreError

_log = logging.getLogger(__name__)

_ANY: Final = "0.0.0.0"  # noqa: S104 - overlays and gossip come in on every address, as in Swarm
_FIRST_DELAY_S: Final = 1.0
_LAST_DELAY_S: Final = 30.0
"""Between two attempts to resume (moby daemon/cluster/noderunner.go reconnects likewise)."""
_PORTS: Final = (("tcp", GOSSIP_PORT), ("udp", GOSSIP_PORT), ("udp", VXLAN_PORT))
_USES: Final = {
    VXLAN_PORT: " (VXLAN needs this port)",
    GOSSIP_PORT: " (gossip needs this port)",
}


class Node:
    """This host's part in a cluster.

    Args:
        places: directories.
        engine: the local Docker Engine.
        hostname: of this host.
        spawn: starts a task whose failure ends the process.
    """

    def __init__(self, places: Places, engine: EngineClient, hostname: str, spawn: Spawn) -> None:
        self._places, self._engine, self._hostname, self._spawn = places, engine, hostname, spawn
        self._changing = asyncio.Lock()
        self._found: Identity | None = None
        self._again: asyncio.Task[None] | None = None
        self.membership: ClusterMember | None = None
        self.error = ""
        """Why this node is not what its state directory says."""

    @property
    def state(self) -> Literal["inactive", "worker", "manager"]:
        """This node's part in the swarm now."""
        who = self._identity
        return "inactive" if who is None else who.role

    async def resume(self) -> None:
        """Go on where the last process stopped, now or as soon as what is in the way is gone.

        Raises:
            ControlError: the identity cannot be read; one sentence.
        """
        try:
            self._found = identity.load(self._places.state_dir)
        except (OSError, ValueError) as error:
            raise ControlError(f"cannot read this node's identity: {error}", 500) from error
        if self._found is None or self._found.role != "manager":
            await self._end_manager()  # of a leave that a crash cut short
        if self._found is not None and not await self._resumed(self._found):
            self._again = self._spawn(self._resume_again(self._found), "resume")

    async def init(self, request: pb.SwarmInitRequest) -> str:
        """Make a cluster of this node and return the node's id.

        Raises:
            ControlError: an address or a port cannot be used; nothing is left.
        """
        if request.data_path_port not in {0, VXLAN_PORT}:
            raise ControlError(f"only {VXLAN_PORT} is supported as data path port")
        local = _local()
        listen = advertise.listen_address(request.listen_addr, local)
        told = advertise.advertise_address(request.advertise_addr, listen, local)
        data_path = str(advertise.data_path_address(request.data_path_addr, told[0], local))
        await self._clear_way(listen)
        born = birth(
            request,
            listen,
            told,
            data_path,
            time.time(),
            secrets.SystemRandom(),
            [destination for destination, _ in _routes()],
        )
        await self._become(born.identity, born)
        return born.identity.node_id

    async def join(self, request: pb.SwarmJoinRequest) -> None:
        """Join a cluster; returns once this node has its certificate and runs.

        Raises:
            ControlError: refused, unreachable, or a port cannot be used; nothing is left.
        """
        local = _local()
        listen = advertise.listen_address(request.listen_addr, local)
        told = request.advertise_addr or _way_to(request.remote_addrs[0])
        addr = advertise.advertise_address(told, listen, local)
        data_path = str(advertise.data_path_address(request.data_path_addr, addr[0], local))
        await self._clear_way()
        joined = await dispatcher_client.join(
            request.join_token,
            list(request.remote_addrs),
            await self._engine.describe(self._hostname),
            listen_addr=f"{listen[0]}:{listen[1]}",
            advertise_addr=f"{addr[0]}:{addr[1]}",
            data_path_addr=data_path,
            availability=request.availability.lower() or "active",
            routes=_routes(),
        )
        try:
            await self._become(replace(joined, data_path_port=VXLAN_PORT))
        except ControlError:
            goodbye = dispatcher_client.leave(joined)
            await ends.within(GOODBYE_S, goodbye, "no manager heard that this node leaves")
            raise

    async def unlock(self, key: bytes) -> None:
        """Go on in the cluster with the key that opens this manager's store.

        Raises:
            ControlError: it is not the key (401); or it is, and something else is in the way.
        """
        link = self.membership.link if self.membership is not None else None
        if link is None or not link.locked:
            raise ControlError(NOT_LOCKED, 409)
        said = await link.unlock(key)
        if said.locked:
            raise ControlError(INVALID_KEY, 401)
        if said.error:
            raise ControlError(f"swarm component could not be started: {said.error}", 500)

    async def leave(self, *, force: bool) -> None:
        """Leave the cluster; a last manager erases the cluster's state."""
        await self._give_up_resuming()
        async with self._changing:
            membership = self.membership
            if membership is not None:
                await membership.leave()
            elif self._found is not None:
                await self._leave_unresumed(self._found)
            else:
                return
            self.membership = self._found = None
            self.error = ""
            await self._forget()
            files.erase_aside(self._places.state_dir)

    async def stop(self) -> None:
        """End with the process; kernel and containers stay."""
        await self._give_up_resuming()
        waited = "an init, join or leave that goes on is left"
        changed = await ends.within(ends.STEP_S, self._changing.acquire(), waited)
        if changed and self.membership is not None:
            stops = await asyncio.to_thread(units.host_stops)
            await self.membership.stop(host_stops=stops)

    def swarm_info(self) -> pb.SwarmInfo:
        """The Swarm part of ``docker info``, without ``cluster`` on a worker."""
        membership, who = self.membership, self._identity
        if who is None:
            return pb.SwarmInfo(local_node_state="inactive", error=self.error)
        if membership is None:
            return pb.SwarmInfo(node_id=who.node_id, local_node_state="error", error=self.error)
        assigned, not_ready = membership.assignments, membership.not_ready
        locked = membership.link is not None and membership.link.locked
        return pb.SwarmInfo(
            node_id=who.node_id,
            node_addr=who.advertise_addr.rpartition(":")[0],
            local_node_state="locked" if locked else "error" if not_ready else "active",
            control_available=who.role == "manager" and not not_ready,
            error=not_ready or membership.session.error,
            remote_managers=list(assigned.managers)
            or [pb.RemoteManager(addr=addr) for addr in who.managers],
            nodes=len(assigned.nodes) if who.role == "manager" else 0,
            managers=len(assigned.managers) if who.role == "manager" else 0,
        )

    def warnings(self) -> list[str]:
        """What this node cannot do now though it runs, for ``docker info``."""
        return self.membership.troubles if self.membership is not None else []

    async def backup(self, path: Path) -> pb.BackupReply:
        """This manager in a file; also while it is locked, or cannot go on in its cluster.

        Raises:
            MeshnetError: it is none, or the file cannot be written.
        """
        async with AsyncExitStack() as stack:
            link = self.membership.link if self.membership is not None else None
            if self.membership is None and self._found is not None and self.state == "manager":
                link = ManagerLink(self._places.run_dir, self._found)
                stack.push_async_callback(ends.closed, link.close)
            if link is None:
                raise ControlError("this node is not a manager: there is nothing to back up")
            return await link.backup(path)

    def store(self) -> Store | None:
        """The cluster's store; None when this node is not a manager, or cannot manage now."""
        link = self._link
        return link.store if link is not None else None

    def logs(self) -> RemoteLogs | None:
        """Logs of all tasks; None as with ``store``."""
        link = self._link
        return link.logs if link is not None else None

    # ---- inside ----

    @property
    def _identity(self) -> Identity | None:
        return self._found if self.membership is None else self.membership.identity

    @property
    def _link(self) -> ManagerLink | None:
        membership = self.membership
        return None if membership is None or membership.not_ready else membership.link

    async def _resumed(self, who: Identity) -> bool:
        try:
            await self._become(who)
        except ControlError as error:
            if self.error != str(error):
                _log.error("cannot go on in the cluster, trying again: %s", error)
            self.error = str(error)
            return False
        return True

    async def _resume_again(self, who: Identity) -> None:
        delay = _FIRST_DELAY_S
        await asyncio.sleep(delay)
        while not await self._resumed(who):
            delay = min(delay * 2, _LAST_DELAY_S)
            await asyncio.sleep(delay)

    async def _give_up_resuming(self) -> None:
        again, self._again = self._again, None
        if again is not None:
            await ends.ended(again)

    async def _leave_unresumed(self, who: Identity) -> None:
        """Leave a cluster this process never got into; an earlier one left its traces."""
        if who.role == "worker":
            goodbye = dispatcher_client.leave(who)
            await ends.within(GOODBYE_S, goodbye, "no manager heard that this node leaves")
        await clean_up(self._places.run_dir, self._engine)

    async def _clear_way(self, manager: tuple[str, int] | None = None) -> None:
        """Remove what an earlier life left here, in which this node was in another cluster.

        Raises:
            ControlError: another program holds a port of ours.
        """
        async with self._changing:
            if self.membership is not None or self._found is not None:
                raise ControlError(ALREADY_IN_SWARM, 503)
            try:
                _need_ports(manager)
            except ControlError as error:
                _log.warning("%s: is it of an earlier life?", error)
                try:
                    for line in await clean_up(self._places.run_dir, self._engine):
                        _log.warning("%s", line)
                except* MeshnetError as group:
                    _log.warning("not everything could be removed: %s", group.exceptions)
                _need_ports(manager)
            with suppress(EngineError):  # it does not answer: said by what needs it
                await remove_task_containers(self._engine)

    async def _become(self, who: Identity, born: Birth | None = None) -> None:
        async with self._changing, AsyncExitStack() as stack:
            if self.membership is not None:  # another request was faster
                raise ControlError(ALREADY_IN_SWARM, 503)
            if self._found is None:
                stack.push_async_callback(self._forget)
                await self._keep(who, born)
            membership = ClusterMember(
                who, self._places, self._engine, self._hostname, self._spawn, self._removed
            )
            lock = born.cluster.unlock_key if born is not None else b""
            await membership.start(born=born is not None, unlock_key=lock)
            self.membership, self._found = membership, None
            self.error = ""
            stack.pop_all()

    async def _keep(self, who: Identity, born: Birth | None) -> None:
        """Write who this node is, the identity last: what is there without it counts for nothing.

        Raises:
            ControlError: the disk does not take it.
        """
        state = self._places.state_dir
        try:
            if born is not None:
                await self._end_manager()
                await files.begin(state, (born.cluster, born.node, born.ingress))
            identity.save(state, who)
        except StoreError as error:
            raise ControlError(str(error), 500) from error
        except OSError as error:
            raise ControlError(f"cannot keep this node's identity: {error}", 500) from error

    def _removed(self) -> None:
        """A manager removed this node: what it had goes too."""
        self._spawn(self._leave_removed(), "leave")

    async def _leave_removed(self) -> None:
        await self.leave(force=True)
        self.error = "this node was removed from the cluster"

    async def _forget(self) -> None:
        state = self._places.state_dir
        identity.wipe(state)
        await self._end_manager()
        files.erase(state)

    async def _end_manager(self) -> None:
        stopping = manager_process.stop(self._places.run_dir, self._places.state_dir)
        await ends.within(3 * STOPS_S, stopping, "meshnet-manager is left as it is")


def _local() -> Addresses:
    rtnl = RtnlClient()
    try:
        return host.local_addresses(rtnl)
    finally:
        rtnl.close()


def _routes() -> list[tuple[IPv4Network, str]]:
    rtnl = RtnlClient()
    try:
        return host.host_routes(rtnl)
    finally:
        rtnl.close()


def _way_to(remote: str) -> str:
    """The address this host would use towards ``remote``; empty: no route."""
    address = remote.rpartition(":")[0] or remote
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((address, CONTROL_PORT))  # sends nothing
        except OSError:
            return ""
        found: str = probe.getsockname()[0]
        return found


def _need_ports(manager: tuple[str, int] | None = None) -> None:
    """Refuse when another program holds a port of ours, before anything is begun.

    Args:
        manager: (address, port) where this node will serve as a manager; None: it will not.

    Raises:
        ControlError: the first port that is taken, in Docker's words.
    """
    wanted = [(kind, _ANY, port) for kind, port in _PORTS]
    if manager is not None:
        wanted.insert(0, ("tcp", *manager))
    for kind, address, port in wanted:
        trial_kind = socket.SOCK_STREAM if kind == "tcp" else socket.SOCK_DGRAM
        with socket.socket(socket.AF_INET, trial_kind) as trial:
            if kind == "tcp":  # connections of an earlier life do not hold the port
                trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                trial.bind((address, port))
            except OSError as error:
                reason = (error.strerror or str(error)).lower()
                raise ControlError(
                    f"listen {kind} {address}:{port}: bind: {reason}{_USES.get(port, '')}", 500
                ) from error


def hostname() -> str:
    """This host's name."""
    return socket.gethostname()
