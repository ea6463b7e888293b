"""Asks this host's meshnetd, on the socket that only root may open."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final, TypeVar

import grpc
from google.protobuf.message import Message

from meshnet_control.api import explain_pb2 as xpb
from meshnet_control.cli import showing
from meshnet_control.host import processes
from meshnet_control.host.processes import HostError
from meshnet_control.host.supervision import WATCHDOG_S

_M = TypeVar("_M", bound=Message)
_ANSWERS_S: Final = WATCHDOG_S
"""A meshnetd that is silent for longer is hung, and ended by who keeps it."""


def call_admin(
    name: str, request: Message, answer: type[_M], seconds: float = _ANSWERS_S
) -> _M | None:
    """What meshnetd answers; None: no meshnetd is there.

    Args:
        name: such as ``control.Admin/Status``.
        request: the question.
        answer: the type of the answer.
        seconds: the bound.

    Raises:
        HostError: it refuses, or gives no answer.
    """
    with grpc.insecure_channel(f"unix://{_socket()}") as channel:
        try:
            ask = channel.unary_unary(
                f"/meshnet.{name}",
                request_serializer=type(request).SerializeToString,
                response_deserializer=answer.FromString,
            )
            reply: _M = ask(request, timeout=seconds)
        except grpc.RpcError as error:
            if error.code() == grpc.StatusCode.UNAVAILABLE:
                return None
            raise _refused(error, seconds) from None
    return reply


def stream_admin(request: xpb.RebalanceRequest) -> Iterator[xpb.Moved]:
    """What meshnetd says of each move, as it happens.

    Raises:
        HostError: no meshnetd is there, or it refuses.
    """
    processes.need_root()
    with grpc.insecure_channel(f"unix://{_socket()}") as channel:
        try:
            yield from channel.unary_stream(
                "/meshnet.explain.Explain/Rebalance",
                request_serializer=xpb.RebalanceRequest.SerializeToString,
                response_deserializer=xpb.Moved.FromString,
            )(request)
        except grpc.RpcError as error:
            if error.code() == grpc.StatusCode.UNAVAILABLE:
                raise HostError(no_meshnetd()) from None
            raise _refused(error, 0.0) from None


def _refused(error: grpc.RpcError, seconds: float) -> HostError:
    """In meshnetd's words, where it gave any."""
    if error.code() == grpc.StatusCode.DEADLINE_EXCEEDED:
        return HostError(f"meshnetd gives no answer within {seconds:.0f} s")
    if error.code() == grpc.StatusCode.FAILED_PRECONDITION:
        return HostError(error.details())
    if error.code() == grpc.StatusCode.UNIMPLEMENTED:
        return HostError("meshnetd is of an older version: meshnet restart")
    return HostError(f"meshnetd: {error.details()}")


def ask(
    question: xpb.Question, *, every: bool = False, nodes: tuple[str, ...] = ()
) -> xpb.AskReply:
    """What this node, or every one, or those with these ids, answer.

    Raises:
        HostError: no meshnetd is there, or it refuses.
    """
    processes.need_root()
    request = xpb.AskRequest(question=question, all=every, nodes=nodes)
    whom = "every node" if every else "other nodes" if nodes else "meshnetd"
    with showing.doing(f"asking {whom} …"):
        reply = call_admin("explain.Explain/Ask", request, xpb.AskReply)
    if reply is None:
        raise HostError(no_meshnetd())
    return reply


def ask_one(question: xpb.Question) -> xpb.NodeAnswer:
    """The answer of the node that the question is about.

    Raises:
        HostError: there is none; the reason.
    """
    reply = ask(question)
    if not reply.answers:
        raise HostError(reply.missing or "nobody answers")
    answered = reply.answers[0]
    if answered.answer.error:
        raise HostError(answered.answer.error)
    return answered


def no_meshnetd() -> str:
    """That nobody answers, how the last one ended, and what to do."""
    how = processes.last_ends(time.time()).get("meshnetd")
    last = f"; last end: {how}" if how else ""
    return f"no meshnetd answers on {_socket()}{last} (meshnet up starts it)"


def _socket() -> Path:
    return processes.run_dir() / "admin.sock"
