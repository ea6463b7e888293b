"""Types of the generated services: grpcio-tools writes none. Keep in step with control.proto."""

from collections.abc import AsyncIterator

import grpc.aio

from meshnet_control.api import control_pb2 as pb

class CAStub:
    def __init__(self, channel: grpc.aio.Channel) -> None: ...
    Issue: grpc.aio.UnaryUnaryMultiCallable[pb.IssueRequest, pb.IssueReply]

class CAServicer:
    async def Issue(
        self,
        request: pb.IssueRequest,
        context: grpc.aio.ServicerContext[pb.IssueRequest, pb.IssueReply],
    ) -> pb.IssueReply: ...

class DispatcherStub:
    def __init__(self, channel: grpc.aio.Channel) -> None: ...
    def Session(self) -> grpc.aio.StreamStreamCall[pb.SessionRequest, pb.SessionReply]: ...

class DispatcherServicer:
    async def Session(
        self,
        requests: AsyncIterator[pb.SessionRequest],
        context: grpc.aio.ServicerContext[pb.SessionRequest, pb.SessionReply],
    ) -> None: ...

class MembershipStub:
    def __init__(self, channel: grpc.aio.Channel) -> None: ...
    Leave: grpc.aio.UnaryUnaryMultiCallable[pb.LeaveRequest, pb.LeaveReply]

class MembershipServicer:
    async def Leave(
        self,
        request: pb.LeaveRequest,
        context: grpc.aio.ServicerContext[pb.LeaveRequest, pb.LeaveReply],
    ) -> pb.LeaveReply: ...

class ManagersStub:
    def __init__(self, channel: grpc.aio.Channel) -> None: ...
    Standing: grpc.aio.UnaryUnaryMultiCallable[pb.ManagerStandingRequest, pb.ManagerStandingReply]
    Join: grpc.aio.UnaryUnaryMultiCallable[pb.ManagerJoinRequest, pb.ManagerJoinReply]

class ManagersServicer:
    async def Standing(
        self,
        request: pb.ManagerStandingRequest,
        context: grpc.aio.ServicerContext[pb.ManagerStandingRequest, pb.ManagerStandingReply],
    ) -> pb.ManagerStandingReply: ...
    async def Join(
        self,
        request: pb.ManagerJoinRequest,
        context: grpc.aio.ServicerContext[pb.ManagerJoinRequest, pb.ManagerJoinReply],
    ) -> pb.ManagerJoinReply: ...

class LogBrokerStub:
    def __init__(self, channel: grpc.aio.Channel) -> None: ...
    def Listen(
        self, request: pb.ListenRequest
    ) -> grpc.aio.UnaryStreamCall[pb.ListenRequest, pb.LogSubscription]: ...
    def Publish(self) -> grpc.aio.StreamUnaryCall[pb.LogBatch, pb.PublishReply]: ...

class LogBrokerServicer:
    async def Listen(
        self,
        request: pb.ListenRequest,
        context: grpc.aio.ServicerContext[pb.ListenRequest, pb.LogSubscription],
    ) -> None: ...
    async def Publish(
        self,
        requests: AsyncIterator[pb.LogBatch],
        context: grpc.aio.ServicerContext[pb.LogBatch, pb.PublishReply],
    ) -> pb.PublishReply: ...

class ImagesStub:
    def __init__(self, channel: grpc.aio.Channel) -> None: ...
    def Listen(
        self, request: pb.ListenRequest
    ) -> grpc.aio.UnaryStreamCall[pb.ListenRequest, pb.ImageOffer]: ...
    def Take(self) -> grpc.aio.StreamStreamCall[pb.ImageWord, pb.ImageChunk]: ...

class ImagesServicer:
    async def Listen(
        self,
        request: pb.ListenRequest,
        context: grpc.aio.ServicerContext[pb.ListenRequest, pb.ImageOffer],
    ) -> None: ...
    async def Take(
        self,
        requests: AsyncIterator[pb.ImageWord],
        context: grpc.aio.ServicerContext[pb.ImageWord, pb.ImageChunk],
    ) -> None: ...

class AttachmentsStub:
    def __init__(self, channel: grpc.aio.Channel) -> None: ...
    Find: grpc.aio.UnaryUnaryMultiCallable[pb.FindNetworkRequest, pb.FindNetworkReply]
    Attach: grpc.aio.UnaryUnaryMultiCallable[pb.AttachRequest, pb.AttachReply]

class AttachmentsServicer:
    async def Find(
        self,
        request: pb.FindNetworkRequest,
        context: grpc.aio.ServicerContext[pb.FindNetworkRequest, pb.FindNetworkReply],
    ) -> pb.FindNetworkReply: ...
    async def Attach(
        self,
        request: pb.AttachRequest,
        context: grpc.aio.ServicerContext[pb.AttachRequest, pb.AttachReply],
    ) -> pb.AttachReply: ...

class AdminStub:
    def __init__(self, channel: grpc.aio.Channel) -> None: ...
    Status: grpc.aio.UnaryUnaryMultiCallable[pb.StatusRequest, pb.StatusReply]

class AdminServicer:
    async def Status(
        self,
        request: pb.StatusRequest,
        context: grpc.aio.ServicerContext[pb.StatusRequest, pb.StatusReply],
    ) -> pb.StatusReply: ...

def add_AttachmentsServicer_to_server(
    servicer: AttachmentsServicer, server: grpc.aio.Server
) -> None: ...
def add_CAServicer_to_server(servicer: CAServicer, server: grpc.aio.Server) -> None: ...
def add_DispatcherServicer_to_server(
    servicer: DispatcherServicer, server: grpc.aio.Server
) -> None: ...
def add_MembershipServicer_to_server(
    servicer: MembershipServicer, server: grpc.aio.Server
) -> None: ...
def add_ManagersServicer_to_server(servicer: ManagersServicer, server: grpc.aio.Server) -> None: ...
def add_LogBrokerServicer_to_server(
    servicer: LogBrokerServicer, server: grpc.aio.Server
) -> None: ...
def add_ImagesServicer_to_server(servicer: ImagesServicer, server: grpc.aio.Server) -> None: ...
def add_AdminServicer_to_server(servicer: AdminServicer, server: grpc.aio.Server) -> None: ...
