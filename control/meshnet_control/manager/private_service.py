"""What meshnetd tells its host's meshnet-manager and asks of it, but for the store."""

from __future__ import annotations

import asyncio
import resource
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

from meshnet import drops, ends, measures
from meshnet.errors import MeshnetError
from meshnet_control.api import control_pb2 as pb
from meshnet_control.api import manager_pb2 as mpb
from meshnet_control.api import manager_pb2_grpc
from meshnet_control.identity.channel import CallEndedError, call_ends
from meshnet_control.link.logs import said_missing
from meshnet_control.link.manager_link import certs_of, hosts_of
from meshnet_control.manager import image_service, log_service
from meshnet_control.manager.authority import AnyContext
from meshnet_control.manager.lead import Lead

_LOOK_S: Final = 1.0
_NOT_READY: Final = "the manager is not ready"


class LogService(manager_pb2_grpc.LogsServicer):
    """Reads logs for clients of this host's gateway.

    Args:
        lead: whose log broker.
    """

    def __init__(self, lead: Lead) -> None:
        self._lead = lead

    async def Read(  # noqa: N802 - the service's name
        self, request: mpb.LogRequest, context: AnyContext
    ) -> None:
        """One reader's log, in the engine's frames; each second a sign of life."""
        server = self._lead.server
        if server is None:
            with call_ends():
                await context.write(mpb.LogChunk(data=said_missing([_NOT_READY], tty=request.tty)))
            return
        leader = server.leader()
        if leader is None:
            await log_service.read(server.logs, request, context)
        else:
            await log_service.pass_on(leader, self._lead.certs, request, context)


class ImageService(manager_pb2_grpc.ImagesServicer):
    """Images from this host's meshnetd.

    Args:
        lead: whose image broker.
    """

    def __init__(self, lead: Lead) -> None:
        self._lead = lead

    async def Push(  # noqa: N802 - the service's name
        self, requests: AsyncIterator[mpb.ImagePush], context: AnyContext
    ) -> None:
        """One image for one node."""
        server = self._lead.server
        if server is None:
            await image_service.say(context, _NOT_READY)
        elif (leader := server.leader()) is None:
            await image_service.take(server.images, requests, context)
        elif not leader:
            await image_service.say(context, image_service.NO_LEADER)
        else:
            await image_service.pass_on(leader, self._lead.certs, requests, context)


class ManagerService(manager_pb2_grpc.ManagerServicer):
    """Takes what meshnetd knows, says how this process is.

    Args:
        lead: whom it is for.
    """

    def __init__(self, lead: Lead) -> None:
        self._lead = lead
        self._newest: asyncio.Task[None] | None = None

    async def Attend(  # noqa: N802 - the service's name
        self, requests: AsyncIterator[mpb.NodeNews], context: AnyContext
    ) -> None:
        """What meshnetd knows, for as long as it lives; what it has said last stays."""
        hearing = asyncio.create_task(self._hear(requests), name="hear")
        self._newest = hearing
        said: mpb.ManagerState | None = None
        try:
            while not hearing.done():
                changed = self._lead.changed
                if (state := self._state()) != said:
                    said = state
                    with call_ends():
                        await context.write(said)
                changing = asyncio.create_task(changed.wait(), name="changed")
                try:
                    await asyncio.wait({hearing, changing}, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    await ends.ended(changing)
        except CallEndedError:
            pass
        finally:
            await ends.ended(hearing)
            if self._newest is hearing:
                self._lead.unattended()

    async def Unlock(  # noqa: N802 - the service's name
        self, request: mpb.UnlockRequest, _context: AnyContext
    ) -> mpb.ManagerState:
        """Try a key; the state after it."""
        if self._lead.locked:
            await self._lead.unlock(request.key)
        return self._state()

    async def ForceNewCluster(  # noqa: N802 - the service's name
        self, request: mpb.ForceNewClusterRequest, _context: AnyContext
    ) -> mpb.ManagerState:
        """Go on as the only manager; the state after it."""
        try:
            await self._lead.force_new_cluster(request.advertise_addr, request.listen_addr)
        except MeshnetError as error:
            return mpb.ManagerState(error=str(error))
        return self._state()

    async def Backup(  # noqa: N802 - the service's name
        self, request: pb.BackupRequest, _context: AnyContext
    ) -> mpb.ManagerBackupReply:
        """Write a file."""
        try:
            done = await self._lead.backup(Path(request.path))
        except MeshnetError as error:
            return mpb.ManagerBackupReply(error=str(error))
        told = pb.BackupReply(cluster_id=done.cluster_id, locked=done.locked)
        return mpb.ManagerBackupReply(done=told)

    async def Status(  # noqa: N802 - the service's name
        self, _request: mpb.ManagerStatusRequest, _context: AnyContext
    ) -> mpb.ManagerStatusReply:
        """How it is."""
        lead = self._lead
        process = pb.ManagerProcess(
            error=lead.error,
            revision=lead.revision,
            sessions=lead.server.sessions if lead.server is not None else 0,
            memory_bytes=_resident(),
            etcd=await lead.etcd_status(),
        )
        made = [pb.SnapshotStatus(path=str(path), made=at) for path, at in lead.snapshots()]
        return mpb.ManagerStatusReply(
            process=process,
            drops=drops.snapshot(),
            snapshots=made,
            leads=lead.leads,
            metrics=measures.text(measures.MANAGER),
        )

    def _state(self) -> mpb.ManagerState:
        state = mpb.ManagerState(error=self._lead.error, locked=self._lead.locked)
        issued = self._lead.issued
        if issued is not None:
            state.key, state.certificate, state.root = issued.key, issued.certificate, issued.root
        return state

    async def _hear(self, requests: AsyncIterator[mpb.NodeNews]) -> None:
        coming = aiter(requests)
        try:
            while True:
                with call_ends():
                    news = await anext(coming, None)
                if news is None:
                    return
                self._lead.hear(certs_of(news), hosts_of(news))
        except CallEndedError:
            return


def _resident() -> int:
    """Bytes (proc(5), statm)."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()
