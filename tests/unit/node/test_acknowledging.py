"""What a node acknowledges is what it took on the present stream: versions begin anew with each."""

from __future__ import annotations

import asyncio
import time
from typing import Any, Self

import pytest

from meshnet.errors import WireError
from meshnet_control.api import control_pb2 as pb
from meshnet_control.identity import ca
from meshnet_control.identity.identity import Certificates, Identity
from meshnet_control.node.dispatcher_client import DispatcherClient


class Manager:
    """A channel to a manager that says some things and ends."""

    def __init__(self, *replies: pb.SessionReply) -> None:
        self.replies = list(replies)
        self.requests: list[pb.SessionRequest] = []
        self._acknowledged = asyncio.Event()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        pass

    def stream_stream(self, _path: str, **_codec: Any) -> Any:
        return lambda: self

    unary_unary = stream_unary = unary_stream = stream_stream

    async def wait_for_connection(self) -> None:
        pass

    async def write(self, request: pb.SessionRequest) -> None:
        copy = pb.SessionRequest()
        copy.CopyFrom(request)
        self.requests.append(copy)
        if not self.replies:
            self._acknowledged.set()

    async def read(self) -> object:
        if self.replies:
            return self.replies.pop(0)
        await self._acknowledged.wait()
        return None

    async def details(self) -> str:
        return "over"

    def done(self) -> bool:
        return False

    def cancel(self) -> None:
        pass


async def test_what_was_taken_on_an_earlier_stream_is_acknowledged_on_no_other():
    now = int(time.time())
    root, root_key = ca.new_root("c", now)
    key, csr = ca.new_csr()
    leaf = ca.issue(root, root_key, csr, "n1", "worker", "c", now)
    identity = Identity("n1", "c", "worker", Certificates(key, leaf, root), ("m1:2377",))
    told = pb.SessionReply(assignments=pb.Assignments(full=True, version=7))
    first, second = Manager(told), Manager()
    client = DispatcherClient(identity, pb.NodeDescription(), lambda _: None)
    for manager in (first, second):
        client.dial = lambda _remote, _certs, link=manager: link  # type: ignore[misc]
        with pytest.raises(WireError, match="over"):
            async with asyncio.timeout(20):
                await client._stream("m1:2377", 5.0)
    assert first.requests[-1].acked == 7
    assert [request.acked for request in second.requests] == [0]
