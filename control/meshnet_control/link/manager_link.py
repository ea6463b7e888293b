"""meshnetd's connection to the meshnet-manager of its host.

```
 what gossip and questions say of hosts, this node's certificate ──> Attend ──> meshnet-manager
 why it does not serve <───────────────────────────────────────────────┘
```
The whole is said again each time it changes, and to each new meshnet-manager; nothing waits for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Final

import grpc.aio

from meshnet import ends
from meshnet.errors import ControlError
from meshnet_control.api import control_pb2 as pb
from meshnet_control.api import manager_pb2 as mpb
from meshnet_control.api import manager_pb2_grpc
from meshnet_control.cluster.hosts import Hosts
from meshnet_control.host.paths import MANAGER_SOCKET
from meshnet_control.identity.channel import CallEndedError, call_ends
from meshnet_control.identity.identity import Certificates, Identity
from meshnet_control.link.images import RemoteImages
from meshnet_control.link.logs import RemoteLogs
from meshnet_control.link.remote_store import ABSENT, AGAIN_S, RemoteStore

STARTS_S: Final = 60.0
"""For a meshnet-manager that was asked for to say whether it serves; a slow machine takes 20."""
STATUS_S: Final = 2.0
OPTIONS: Final = (
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.enable_http_proxy", 0),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 250),
)
"""Of both ends: neither is a stranger to the other."""


class ManagerLink:
    """The other process, as this one sees it. ``run`` is to run as long as it is used.

    Args:
        run_dir: where its socket is.
        identity: of this node, a manager.
        on_certificate: it has issued itself another one than this node has, which has ended.
    """

    def __init__(
        self,
        run_dir: Path,
        identity: Identity,
        on_certificate: Callable[[Certificates], None] = lambda _: None,
    ) -> None:
        self._on_certificate = on_certificate
        self._channel = grpc.aio.insecure_channel(
            f"unix:{run_dir / MANAGER_SOCKET}", options=OPTIONS
        )
        self._stub = manager_pb2_grpc.ManagerStub(self._channel)
        self.store = RemoteStore(self._channel)
        self.logs = RemoteLogs(self._channel)
        self.images = RemoteImages(self._channel)
        self.error = ""
        """Why it does not serve, in its own words; empty: it does, or is silent."""
        self.locked = False
        """Because its store waits for the unlock key."""
        self._said = asyncio.Event()
        self._certs, self._hosts = identity.certs, Hosts()
        self._fresh = asyncio.Event()

    def hosts(self, hosts: Hosts) -> None:
        """What is known of hosts now."""
        if hosts != self._hosts:
            self._hosts = hosts
            self._fresh.set()

    def certify(self, identity: Identity) -> None:
        """This node's certificate was renewed."""
        self._certs = identity.certs
        self._fresh.set()

    async def run(self) -> None:
        """Keep both sides told, until cancelled."""
        await asyncio.gather(self.store.follow(), self._attend())

    async def started(self, unlock_key: bytes = b"", within_s: float = STARTS_S) -> None:
        """Wait until it serves.

        Args:
            unlock_key: opens a store that was locked at its birth.
            within_s: the bound.

        Raises:
            ControlError: it does not, for its own reasons or because there is none.
        """
        try:
            async with asyncio.timeout(within_s):
                await self._said.wait()
        except TimeoutError:
            raise ControlError("meshnet-manager does not start: see its log", 500) from None
        if self.locked and unlock_key:
            await self.unlock(unlock_key)
        if self.error:
            raise ControlError(self.error, 500)

    async def unlock(self, key: bytes) -> mpb.ManagerState:
        """Give it the key of its store; the state after it.

        Raises:
            ControlError: it does not answer.
        """
        try:
            with call_ends():
                state = await self._stub.Unlock(mpb.UnlockRequest(key=key), timeout=STARTS_S)
        except CallEndedError:
            raise ControlError(ABSENT, 503) from None
        self._heard(state)
        return state

    async def force_new_cluster(self, advertise_addr: str, listen_addr: str) -> None:
        """Have it go on as the only manager, at these addresses, ``host:port`` each.

        Raises:
            ControlError: it does not, for its own reasons, or does not answer.
        """
        asked = mpb.ForceNewClusterRequest(advertise_addr=advertise_addr, listen_addr=listen_addr)
        try:
            with call_ends():
                state = await self._stub.ForceNewCluster(asked, timeout=STARTS_S)
        except CallEndedError:
            raise ControlError(ABSENT, 503) from None
        if state.error:
            raise ControlError(state.error, 500)
        self._heard(state)

    async def backup(self, path: Path) -> pb.BackupReply:
        """Have it write all that it knows to a file.

        Raises:
            ControlError: it cannot, or does not answer.
        """
        try:
            with call_ends():
                said = await self._stub.Backup(pb.BackupRequest(path=str(path)))
        except CallEndedError:
            raise ControlError(ABSENT, 503) from None
        if said.error:
            raise ControlError(said.error, 500)
        return said.done

    async def status(self) -> mpb.ManagerStatusReply:
        """What it says of itself; an error where it says nothing."""
        try:
            with call_ends():
                return await self._stub.Status(mpb.ManagerStatusRequest(), timeout=STATUS_S)
        except CallEndedError:
            process = pb.ManagerProcess(error="it does not answer")
            return mpb.ManagerStatusReply(process=process)

    async def close(self) -> None:
        """Say and hear nothing more; it goes on."""
        await ends.closed(self.store.close)
        await self._channel.close(None)

    def _heard(self, state: mpb.ManagerState) -> None:
        self.error, self.locked = state.error, state.locked
        if state.certificate:
            self._on_certificate(Certificates(state.key, state.certificate, state.root))
        self._said.set()

    async def _attend(self) -> None:
        while True:
            call = self._stub.Attend(self._news(), wait_for_ready=True)
            try:
                while True:
                    with call_ends():
                        state = await call.read()
                    if not isinstance(state, mpb.ManagerState):
                        break
                    self._heard(state)
            except CallEndedError:
                pass  # there will be another one
            finally:
                call.cancel()
            await asyncio.sleep(AGAIN_S)

    async def _news(self) -> AsyncIterator[mpb.NodeNews]:
        while True:
            self._fresh.clear()
            yield news(self._certs, self._hosts)
            await self._fresh.wait()


def news(certs: Certificates, hosts: Hosts) -> mpb.NodeNews:
    """Both as a message."""
    said = mpb.NodeNews(
        key=certs.key,
        certificate=certs.certificate,
        root=certs.root,
        gone=sorted(hosts.gone),
        there=sorted(hosts.there),
    )
    for node, unreached in hosts.unreached.items():
        said.unreached[node].ids.extend(sorted(unreached))
    return said


def certs_of(said: mpb.NodeNews) -> Certificates:
    """The certificate in a message."""
    return Certificates(key=said.key, certificate=said.certificate, root=said.root)


def hosts_of(said: mpb.NodeNews) -> Hosts:
    """What a message says of hosts."""
    return Hosts(
        gone=frozenset(said.gone),
        there=frozenset(said.there),
        unreached={node: frozenset(each.ids) for node, each in said.unreached.items()},
    )
