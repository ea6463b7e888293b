"""Types of the generated services: grpcio-tools writes none. Keep in step with manager.proto."""

from collections.abc import AsyncIterator
from typing import Any, TypeAlias

import grpc.aio

from meshnet_control.api import control_pb2 as pb
from meshnet_control.api import manager_pb2 as mpb

_Context: TypeAlias = grpc.aio.ServicerContext[Any, Any]

class StoreStub:
    def __init__(self, channel: grpc.aio.Channel) -> None: ...
    Get: grpc.aio.UnaryUnaryMultiCallable[mpb.ObjectKey, mpb.GetReply]
    List: grpc.aio.UnaryUnaryMultiCallable[mpb.ListRequest, mpb.ListReply]
    Commit: grpc.aio.UnaryUnaryMultiCallable[mpb.CommitRequest, mpb.CommitReply]
    Watch: grpc.aio.UnaryStreamMultiCallable[mpb.WatchRequest, mpb.WatchReply]
    Follow: grpc.aio.UnaryStreamMultiCallable[mpb.FollowRequest, mpb.StoreState]

class StoreServicer:
    async def Get(self, request: mpb.ObjectKey, context: _Context) -> mpb.GetReply: ...
    async def List(self, request: mpb.ListRequest, context: _Context) -> mpb.ListReply: ...
    async def Commit(self, request: mpb.CommitRequest, context: _Context) -> mpb.CommitReply: ...
    async def Watch(self, request: mpb.WatchRequest, context: _Context) -> None: ...
    async def Follow(self, request: mpb.FollowRequest, context: _Context) -> None: ...

class LogsStub:
    def __init__(self, channel: grpc.aio.Channel) -> None: ...
    Read: grpc.aio.UnaryStreamMultiCallable[mpb.LogRequest, mpb.LogChunk]

class LogsServicer:
    async def Read(self, request: mpb.LogRequest, context: _Context) -> None: ...

class ManagerStub:
    def __init__(self, channel: grpc.aio.Channel) -> None: ...
    Attend: grpc.aio.StreamStreamMultiCallable[mpb.NodeNews, mpb.ManagerState]
    Unlock: grpc.aio.UnaryUnaryMultiCallable[mpb.UnlockRequest, mpb.ManagerState]
    Backup: grpc.aio.UnaryUnaryMultiCallable[pb.BackupRequest, mpb.ManagerBackupReply]
    Status: grpc.aio.UnaryUnaryMultiCallable[mpb.ManagerStatusRequest, mpb.ManagerStatusReply]

class ManagerServicer:
    async def Attend(self, requests: AsyncIterator[mpb.NodeNews], context: _Context) -> None: ...
    async def Unlock(
        self, request: mpb.UnlockRequest, context: _Context
    ) -> mpb.ManagerState: ...
    async def Backup(
        self, request: pb.BackupRequest, context: _Context
    ) -> mpb.ManagerBackupReply: ...
    async def Status(
        self, request: mpb.ManagerStatusRequest, context: _Context
    ) -> mpb.ManagerStatusReply: ...

def add_StoreServicer_to_server(servicer: StoreServicer, server: grpc.aio.Server) -> None: ...
def add_LogsServicer_to_server(servicer: LogsServicer, server: grpc.aio.Server) -> None: ...
def add_ManagerServicer_to_server(servicer: ManagerServicer, server: grpc.aio.Server) -> None: ...
