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
from collections.abc import Sequence
from contextlib import AbstractContextManager, AsyncExitStack, suppress
from dataclasses import replace
from ipaddress import IPv4Network
from pathlib import Path
from typing import Final, Literal

from meshnet import ends
from meshnet.errors import ControlError
from meshnet_control.api import control_pb2 as pb
from meshnet_control.cluster.roles import MANAGER
from meshnet_control.dataplane.overlays import Overlays
from meshnet_control.dataplane.reconcilers import Spawn
from meshnet_control.engine.client import EngineClient
from meshnet_control.host import units
from meshnet_control.identity import identity
from meshnet_control.identity.identity import ALREADY_IN_SWARM, Identity
from meshnet_control.link.images import RemoteImages
from meshnet_control.link.locked import LOCKED, NOT_LOCKED, check_unlocked
from meshnet_control.link.logs import RemoteLogs
from meshnet_control.link.manager_link import STARTS_S, ManagerLink
from meshnet_control.node import advertise, dispatcher_client, underlay
from meshnet_control.node.attach_link import AttachLink
from meshnet_control.node.birth import Birth, birth
from meshnet_control.node.cleanup import clean_up, clear_way
from meshnet_control.node.courtesy import Courtesy
from meshnet_control.node.goodbye import say_goodbye, undo_join
from meshnet_control.node.managing import JOINS_S
from meshnet_control.node.member import Begins, ClusterMember, Places
from meshnet_control.node.prerequisites import GOSSIP, Port, need_for, vxlan
from meshnet_control.node.resuming import Resuming
from meshnet_control.node.standing_by import StandingBy
from meshnet_control.node.swarm_info import swarm_info
from meshnet_control.store import files
from meshnet_control.store.store import Store, StoreError

_log = logging.getLogger(__name__)

_LOOK_S: Final = 0.25
"""How often it is looked whether this node is in a cluster, or in another one."""


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
        self._standing_by = StandingBy(
            places.run_dir, places.state_dir, spawn, lambda: self._identity is not None
        )
        self._found: Identity | None = None
        self._resuming = Resuming(spawn, self._resumed)
        self._courtesy = Courtesy()
        self.membership: ClusterMember | None = None
        self.error = ""
        """Why this node is not what its state directory says."""

    def answering(self, method: str) -> AbstractContextManager[None]:
        """To be entered while a request of this method of HTTP is answered."""
        return self._courtesy.answering(method)

    @property
    def gives_way(self) -> bool:
        """Who had this node begin is still being answered: what nobody waits for comes later."""
        return self._courtesy.gives_way

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
        if self._found is None or self._found.role != MANAGER:
            await self._standing_by.end()  # of a leave or a demotion that a crash cut short
        if self._found is None:
            self._standing_by.have()
        if self._found is not None and self._found.role != MANAGER:
            files.erase(self._places.state_dir)
        if self._found is not None:
            await self._resuming.begin(self._found)

    async def init(self, request: pb.SwarmInitRequest) -> str:
        """Make a cluster of this node and return the node's id.

        Raises:
            ControlError: an address or a port cannot be used; nothing is left.
        """
        if request.force_new_cluster and self.state == "manager":
            return await self._force_new_cluster(request)
        local = underlay.local_addresses()
        listen = advertise.listen_address(request.listen_addr, local)
        told = advertise.advertise_address(request.advertise_addr, listen, local)
        data_path = advertise.data_path_address(
            request.data_path_addr, told[0], local, (listen[0], underlay.way_to(underlay.FAR_AWAY))
        )
        await self._clear_way((("tcp", *listen), vxlan(request.data_path_port)))
        described = await self._engine.describe(self._hostname)
        born = birth(
            request,
            listen,
            told,
            str(data_path),
            time.time(),
            secrets.SystemRandom(),
            [to for to, _ in underlay.routes() if isinstance(to, IPv4Network)],
            described,
        )
        await self._become(born.identity, described, born)
        return born.identity.node_id

    async def join(self, request: pb.SwarmJoinRequest) -> None:
        """Join a cluster; returns once this node has its certificate and runs.

        Raises:
            ControlError: refused, unreachable, or a port cannot be used; nothing is left.
        """
        local = underlay.local_addresses()
        listen = advertise.listen_address(request.listen_addr, local)
        told = request.advertise_addr or underlay.way_to(request.remote_addrs[0])
        addr = advertise.advertise_address(told, listen, local)
        data_path = advertise.data_path_address(
            request.data_path_addr,
            addr[0],
            local,
            (
                listen[0],
                underlay.way_to(request.remote_addrs[0]),
                underlay.way_to(underlay.FAR_AWAY),
            ),
        )
        await self._clear_way()
        described = await self._engine.describe(self._hostname)
        joined = await dispatcher_client.join(
            request.join_token,
            list(request.remote_addrs),
            described,
            listen_addr=f"{listen[0]}:{listen[1]}",
            advertise_addr=f"{addr[0]}:{addr[1]}",
            data_path_addr=str(data_path),
            availability=request.availability.lower() or "active",
            routes=underlay.routes(),
        )
        await self._become(joined, described, joins=True)

    async def unlock(self, key: bytes) -> None:
        """Go on in the cluster with the key that opens this manager's store.

        Raises:
            ControlError: it is not the key (401); or it is, and something else is in the way. Too
                few managers are not: of many that are locked one is the first.
        """
        link = self.membership.link if self.membership is not None else None
        if link is None or not link.locked:
            raise ControlError(NOT_LOCKED, 409)
        check_unlocked(await link.unlock(key))

    async def leave(self, *, force: bool) -> None:
        """Leave the cluster; a last manager erases the cluster's state."""
        await self._resuming.give_up()
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
        await self._resuming.give_up()
        waited = "an init, join or leave that goes on is left"
        changed = await ends.within(ends.STEP_S, self._changing.acquire(), waited)
        if changed and self.membership is not None:
            stops = await asyncio.to_thread(units.host_stops)
            if stops:
                _log.info("%s", units.HOST_STOPS)
            await self.membership.stop(host_stops=stops)

    def swarm_info(self) -> pb.SwarmInfo:
        """The Swarm part of ``docker info``, without ``cluster`` on a worker."""
        return swarm_info(self._identity, self.membership, self.error)

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

    def attaching(self) -> AttachLink | None:
        """Who attaches containers to networks; None when this node is in no cluster now."""
        return self.membership.attaching if self.membership is not None else None

    def logs(self) -> RemoteLogs | None:
        """Logs of all tasks; None as with ``store``."""
        link = self._link
        return link.logs if link is not None else None

    def images(self) -> RemoteImages | None:
        """Sends images to nodes; None as with ``store``."""
        link = self._link
        return link.images if link is not None else None

    def overlays(self) -> Overlays | None:
        """What this node knows of overlay networks; None: it is in no cluster now."""
        return self.membership.overlays if self.membership is not None else None

    async def overlays_changed(self) -> None:
        """Returns when that may be something else, or after a moment."""
        if self.membership is None:
            await asyncio.sleep(_LOOK_S)
            return
        with suppress(TimeoutError):  # a membership that ends tells nobody
            async with asyncio.timeout(_LOOK_S):
                await self.membership.kernel.dataplane.news()

    # ---- inside ----

    @property
    def _identity(self) -> Identity | None:
        return self._found if self.membership is None else self.membership.identity

    @property
    def _link(self) -> ManagerLink | None:
        membership = self.membership
        return None if membership is None or membership.not_ready else membership.link

    def _save(self, who: Identity) -> None:
        """Write who this node is.

        Raises:
            ControlError: the disk does not take it.
        """
        try:
            identity.save(self._places.state_dir, who)
        except OSError as error:
            raise ControlError(f"cannot keep this node's identity: {error}", 500) from error

    async def _force_new_cluster(self, request: pb.SwarmInitRequest) -> str:
        """Go on as the only manager of this cluster, with all its state.

        Addresses that are not given stay; the cluster's settings do in any case.
        """
        membership = self.membership
        if membership is None or membership.link is None:
            raise ControlError(self.error or "this manager is not ready", 503)
        if membership.link.locked:
            raise ControlError(LOCKED, 503)
        who, local = membership.identity, underlay.local_addresses()
        fresh = advertise.elsewhere(who, request, local)
        async with self._changing:
            self._save(fresh)  # before anything: a crash leaves it at its new place, alone or not
            await membership.link.force_new_cluster(fresh.advertise_addr, fresh.listen_addr)
            if fresh == who:
                return who.node_id
            await membership.stop()
            self.membership, self._found = None, replace(fresh, certs=membership.identity.certs)
            self._save(self._found)  # once more: a renewal meanwhile has written the old addresses
        await self._resuming.begin(self._found)
        return who.node_id

    async def _resumed(self, who: Identity) -> bool:
        try:
            await self._become(who)
        except ControlError as error:
            if self.error != str(error):
                _log.error("cannot go on in the cluster, trying again: %s", error)
            self.error = str(error)
            return False
        return True

    async def _leave_unresumed(self, who: Identity) -> None:
        """Leave a cluster this process never got into; an earlier one left its traces."""
        await say_goodbye(who)
        await clean_up(self._places.run_dir, self._engine)

    async def _clear_way(self, ports: Sequence[Port] = ()) -> None:
        """Remove what an earlier life left here, in which this node was in another cluster.

        Args:
            ports: that it will need, beside gossip's.

        Raises:
            ControlError: another program holds a port of ours.
        """
        async with self._changing:
            if self.membership is not None or self._found is not None:
                raise ControlError(ALREADY_IN_SWARM, 503)
            await clear_way(self._places.run_dir, self._engine, (*ports, *GOSSIP))

    async def _become(
        self,
        who: Identity,
        described: pb.NodeDescription | None = None,
        born: Birth | None = None,
        *,
        joins: bool = False,
    ) -> None:
        """Be in a cluster.

        Args:
            who: this node in it.
            described: what the engine says of this host, of one that begins; None: it goes on.
            born: the cluster is new, and nobody else's.
            joins: it is others'.
        """
        async with self._changing, AsyncExitStack() as stack:
            if self.membership is not None:  # another request was faster
                if joins:
                    await say_goodbye(who, resigns=True)
                raise ControlError(ALREADY_IN_SWARM, 503)
            if who.role == MANAGER and born is None:
                self._standing_by.begins()
            if self._found is None:
                stack.push_async_callback(self._forget)
                if joins:
                    stack.push_async_callback(undo_join, who, self._places.state_dir)
                    need_for(who)
                await self._keep(who, born)
            membership = ClusterMember(
                who, self._places, self._engine, self._hostname, self._spawn, self._removed
            )
            begins = None
            if described is not None:
                begins = Begins(
                    described,
                    self._courtesy.over,
                    self._courtesy.hurry,
                    within_s=JOINS_S if born is None else STARTS_S,
                    unlock_key=born.cluster.unlock_key if born is not None else b"",
                    ready=born is not None,
                )
            await membership.start(begins)
            self.membership, self._found = membership, None
            self.error = ""
            stack.pop_all()
            if joins and who.role != MANAGER:  # nobody waits for it
                self._spawn(self._end_standing_by(), "end meshnet-manager that stood by")

    async def _keep(self, who: Identity, born: Birth | None) -> None:
        """Write who this node is, the identity last: what is there without it counts for nothing.

        Raises:
            ControlError: the disk does not take it.
        """
        state = self._places.state_dir
        try:
            if born is not None:
                await self._standing_by.end()
                await files.begin(state, (born.cluster, born.node, born.ingress))
            identity.save(state, who)
        except StoreError as error:
            raise ControlError(str(error), 500) from error
        except OSError as error:
            raise ControlError(f"cannot keep this node's identity: {error}", 500) from error

    async def _end_standing_by(self) -> None:
        await self._courtesy.over()
        await self._standing_by.end()

    def _removed(self) -> None:
        """A manager removed this node: what it had goes too."""
        self._spawn(self._leave_removed(), "leave")

    async def _leave_removed(self) -> None:
        await self.leave(force=True)
        self.error = "this node was removed from the cluster"

    async def _forget(self) -> None:
        state = self._places.state_dir
        identity.wipe(state)
        await self._standing_by.end()
        files.erase(state)
        self._standing_by.have()


def hostname() -> str:
    """This host's name."""
    return socket.gethostname()
