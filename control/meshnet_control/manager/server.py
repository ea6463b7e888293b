"""A manager's port 2377: listens, serves nodes and other managers, follows the store.

```
 port 2377 ── TLS ──> TlsListener ── unix socket, root alone ──> gRPC ──> the services below
 store ── watch ──> mirror ──> authority (trust)      CA.Issue
                          ├──> dispatcher (streams)   Dispatcher.Session, Membership.Leave
                          └──> logs (subscriptions)   LogBroker.Listen, LogBroker.Publish
                          images (offers)         Images.Listen, Images.Take
 store ─────────────────────────────────────────────  Attachments.Find, Attachments.Attach
 leadership ── term ──> dispatcher, keeper, rings     Managers.Join, Logs.Read (of other managers)
                                                      Questions.Listen, Questions.Ask (of managers)
```
"""

from __future__ import annotations

import asyncio
import secrets
import shutil
import ssl
import time
from collections.abc import Callable
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import Final, Protocol

import grpc.aio

from meshnet import ends
from meshnet.errors import ControlError
from meshnet_control.api import control_pb2 as pb
from meshnet_control.api import control_pb2_grpc, explain_pb2_grpc, manager_pb2_grpc
from meshnet_control.cluster.gossip_ring import OVERLAYS
from meshnet_control.cluster.hosts import Hosts
from meshnet_control.identity import ca
from meshnet_control.identity.channel import SERVER_OPTIONS
from meshnet_control.identity.identity import Identity
from meshnet_control.manager.attachments import AttachmentsService
from meshnet_control.manager.authority import Authority
from meshnet_control.manager.dispatcher import Dispatcher
from meshnet_control.manager.image_broker import ImageBroker
from meshnet_control.manager.leadership import Leadership, Sole
from meshnet_control.manager.log_broker import LogBroker
from meshnet_control.manager.managers_service import (
    Admitting,
    ManagersService,
    PeerImages,
    PeerLogs,
)
from meshnet_control.manager.members import Keeper, Members, OneMember
from meshnet_control.manager.mirror import Mirror
from meshnet_control.manager.questions import QuestionsService
from meshnet_control.manager.ring_keeper import RingKeeper
from meshnet_control.manager.tls_listener import TlsListener
from meshnet_control.store import store as st


class Managers(Members, Admitting, Protocol):
    """Who the managers are, and how another one becomes one."""


GRACE_S: Final = 0.2
PRIVATE: Final = "control"
"""Directory of gRPC's socket in the run directory."""


class ControlServer:
    """The manager that other nodes see.

    Args:
        store: the cluster; holds a Cluster with root certificate, key and join tokens.
        identity: of this manager.
        listen: ``host:port`` to listen on; port 0: any free one.
        run_dir: for sockets.
        leadership: when this manager leads; None: it is the only one.
        managers: the others; None: there are none, and none is let in.
        clock: monotonic seconds.
        wall: Unix seconds.
    """

    def __init__(
        self,
        store: st.Store,
        identity: Identity,
        *,
        listen: str,
        run_dir: Path,
        leadership: Leadership | None = None,
        managers: Managers | None = None,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._node_id = identity.node_id
        self._leadership = leadership or Sole(store, identity.node_id)
        self._managers = managers
        self._listen, self._private = listen, run_dir / PRIVATE
        self._store = store
        self._mirror = Mirror(store, self._changed)
        inner = self._private / "grpc.sock"
        self._listener = TlsListener(self._tls, self._identify, inner)
        self._inner = f"unix:{inner}"
        self._authority = Authority(store, identity.certs, self._listener.caller)
        self._dispatcher = Dispatcher(
            store,
            self._authority,
            identity,
            lambda: self._mirror.objects,
            self._other,
            self._mirror.touched_since,
            clock,
            on_ring=self._ring_taken,
        )
        self._rings = RingKeeper(
            lambda: self._mirror.objects, self._dispatcher.rings, wall, secrets.SystemRandom()
        )
        self._overlay_rings = RingKeeper(
            lambda: self._mirror.objects,
            self._dispatcher.overlay_rings,
            wall,
            secrets.SystemRandom(),
            OVERLAYS,
        )
        self._keeper = Keeper(
            identity.node_id,
            managers or OneMember(identity.node_id, identity.advertise_addr),
            lambda: self._mirror.objects.nodes,
            clock,
        )
        self.logs = LogBroker(self._authority.node, lambda: self._mirror.objects)
        self.images = ImageBroker(self._authority.node)
        self._server: grpc.aio.Server | None = None
        self._jobs: list[asyncio.Task[None]] = []
        self.port = 0
        """The port in use, once started."""

    async def start(self) -> None:
        """Read the store, bind the port, serve.

        Raises:
            ControlError: 500, the port cannot be had, or the store holds no cluster; one sentence.
        """
        await self._mirror.load()
        if not self._mirror.objects.cluster.ca_certificate:
            raise ControlError("the store holds no cluster to serve", 500)
        await self._serve()
        self._jobs = [
            asyncio.create_task(self._mirror.run(), name="mirror"),
            asyncio.create_task(self._lead(), name="lead"),
            asyncio.create_task(self._dispatcher.goodbyes.run(), name="goodbyes"),
        ]

    async def wait(self) -> None:
        """Until the store closes; an error of the server's own tasks comes out here."""
        done, _ = await asyncio.wait(self._jobs, return_when=asyncio.FIRST_COMPLETED)
        for job in done:
            job.result()

    def leader(self) -> str | None:
        """``host:port`` of who leads, empty: unknown; None: this manager does."""
        return None if self._dispatcher.leading else self._other()

    async def close(self) -> None:
        """Stop serving; streams end. Twice is fine."""
        if self._server is not None:
            await self._server.stop(GRACE_S)
            self._server = None
            shutil.rmtree(self._private, ignore_errors=True)
        await self._listener.close()
        jobs, self._jobs = self._jobs, []
        await ends.ended(*jobs)

    def hosts(self, hosts: Hosts) -> None:
        """What gossip and questions to hosts say of them; the whole, each time it changes."""
        self._dispatcher.hosts(hosts)

    @property
    def sessions(self) -> int:
        """Nodes that are connected."""
        return self._dispatcher.sessions

    @property
    def cluster(self) -> pb.Cluster:
        """As the store last told, also while it cannot be asked."""
        return self._mirror.objects.cluster

    def certify(self, identity: Identity) -> None:
        """This manager's certificate or addresses were renewed; new connections see them."""
        self._dispatcher.identity = identity
        self._authority.certify(identity.certs)

    async def _serve(self) -> None:
        """Bind the port and answer on it."""
        self._listener.bind(self._listen)
        _make_private(self._private)
        server = grpc.aio.server(options=SERVER_OPTIONS)
        self._offer(server)
        try:
            server.add_insecure_port(self._inner)
        except RuntimeError:
            raise ControlError(f"listen {self._inner}: bind: failed", 500) from None
        await server.start()
        self._server = server
        await self._listener.listen()
        self.port = self._listener.port

    def _offer(self, server: grpc.aio.Server) -> None:
        """Every service that nodes and other managers find here."""
        control_pb2_grpc.add_CAServicer_to_server(self._authority, server)
        control_pb2_grpc.add_DispatcherServicer_to_server(self._dispatcher, server)
        control_pb2_grpc.add_MembershipServicer_to_server(self._dispatcher, server)
        control_pb2_grpc.add_LogBrokerServicer_to_server(self.logs, server)
        control_pb2_grpc.add_ImagesServicer_to_server(self.images, server)
        attaching = AttachmentsService(self._store, self._authority.node)
        control_pb2_grpc.add_AttachmentsServicer_to_server(attaching, server)
        asking = QuestionsService(self._store, self._authority, self.leader)
        explain_pb2_grpc.add_QuestionsServicer_to_server(asking, server)
        if self._managers is not None:
            managers = ManagersService(self._store, self._authority, self._managers, self.leader)
            control_pb2_grpc.add_ManagersServicer_to_server(managers, server)
            logs = PeerLogs(self._store, self._authority, self.logs, self.leader)
            manager_pb2_grpc.add_LogsServicer_to_server(logs, server)
            images = PeerImages(self._store, self._authority, self.images, self.leader)
            manager_pb2_grpc.add_ImagesServicer_to_server(images, server)

    def _other(self) -> str:
        """``host:port`` of another manager that leads; empty: unknown."""
        who = self._leadership.leader
        node = self._mirror.objects.nodes.get(who) if who != self._node_id else None
        return node.manager_status.addr if node is not None else ""

    async def _lead(self) -> None:
        """Have the streams of nodes, and keep the managers, while this one leads."""
        while True:
            term = await self._leadership.term()
            await term.store.get(pb.Cluster, "")  # has what was committed before the term
            await self._mirror.reach(term.store.revision)
            over = asyncio.create_task(term.over.wait(), name="term")
            jobs = {
                asyncio.create_task(self._dispatcher.lead(term.store), name="dispatcher"),
                asyncio.create_task(self._keeper.run(term.store), name="keeper"),
                asyncio.create_task(self._rings.run(term.store), name="rings"),
                asyncio.create_task(self._overlay_rings.run(term.store), name="overlay rings"),
            }
            try:
                waited = {over, *jobs}
                while not over.done():
                    done, waited = await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
                    for job in done:
                        job.result()
            finally:
                await ends.ended(over, *jobs)

    def _tls(self) -> ssl.SSLContext:
        if self._authority.tls is None:
            raise ControlError("the store holds no cluster to serve", 500)
        return self._authority.tls

    def _identify(self, leaf: bytes) -> ca.Peer | None:
        return self._authority.identify(leaf)

    def _ring_taken(self) -> None:
        self._rings.look()
        self._overlay_rings.look()

    def _changed(self, concerned: AbstractSet[str] | None) -> None:
        self._authority.follow(self._mirror.objects)
        self._dispatcher.follow(concerned)
        if concerned is None:
            self._ring_taken()
        self.logs.follow()


def _make_private(directory: Path) -> None:
    """An empty directory that only root may enter, whatever an earlier life left there."""
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(mode=0o700, parents=True)
