"""Types of the generated services: grpcio-tools writes none. Keep in step with explain.proto."""

from collections.abc import AsyncIterator
from typing import Any, TypeAlias

import grpc.aio

from meshnet_control.api import explain_pb2 as xpb

_Context: TypeAlias = grpc.aio.ServicerContext[Any, Any]

class ExplainStub:
    def __init__(self, channel: grpc.aio.Channel) -> None: ...
    Ask: grpc.aio.UnaryUnaryMultiCallable[xpb.AskRequest, xpb.AskReply]
    Rebalance: grpc.aio.UnaryStreamMultiCallable[xpb.RebalanceRequest, xpb.Moved]

class ExplainServicer:
    async def Ask(self, request: xpb.AskRequest, context: _Context) -> xpb.AskReply: ...
    async def Rebalance(self, request: xpb.RebalanceRequest, context: _Context) -> None: ...

class QuestionsStub:
    def __init__(self, channel: grpc.aio.Channel) -> None: ...
    Listen: grpc.aio.StreamStreamMultiCallable[xpb.NodeReply, xpb.NodeQuestion]
    Ask: grpc.aio.UnaryUnaryMultiCallable[xpb.AskRequest, xpb.AskReply]

class QuestionsServicer:
    async def Listen(
        self, requests: AsyncIterator[xpb.NodeReply], context: _Context
    ) -> None: ...
    async def Ask(self, request: xpb.AskRequest, context: _Context) -> xpb.AskReply: ...

def add_ExplainServicer_to_server(servicer: ExplainServicer, server: grpc.aio.Server) -> None: ...
def add_QuestionsServicer_to_server(
    servicer: QuestionsServicer, server: grpc.aio.Server
) -> None: ...
