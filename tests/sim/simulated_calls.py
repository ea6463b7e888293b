"""Calls between nodes and managers on a simulated underlay, in the place of gRPC's channels.

The services are added by the generated code, messages travel as bytes. Of gRPC it does what
``meshnet_control`` relies on: a call waits for its connection, keeps the order, tells a refusal
with its code and metadata, and is cancelled on the other side when one side ends.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping
from functools import partial
from typing import Any

import grpc
import grpc.aio
from simulated_underlay import RETRY_S, Underlay

from meshnet.gossip.members import Address
from meshnet_control.identity.identity import Certificates
from meshnet_control.manager.tls_listener import Caller

_END = object()
_EOF: Any = grpc.aio.EOF  # type: ignore[attr-defined]


class MemoryServer:
    """Who answers at one address; services are added as to ``grpc.aio.server()``."""

    def __init__(self, underlay: Underlay, at: Address) -> None:
        self._underlay, self.at = underlay, at
        self.methods: dict[str, Any] = {}
        self.callers: dict[str, Caller] = {}
        self.calls: set[asyncio.Task[None]] = set()
        self._number = 0

    def add_generic_rpc_handlers(self, handlers: Any) -> None:
        """The same as the registered ones."""

    def add_registered_method_handlers(self, service: str, handlers: Mapping[str, Any]) -> None:
        self.methods |= {f"/{service}/{name}": handler for name, handler in handlers.items()}

    def start(self) -> None:
        self._underlay.servers[self.at] = self

    async def stop(self, _: float) -> None:
        self.die()

    def die(self) -> None:
        """Its process ends: the kernel closes its connections, unless the host is off as well."""
        if self._underlay.servers.get(self.at) is self:
            del self._underlay.servers[self.at]
        for call in list(self.calls):
            call.cancel()

    def name(self, caller: Caller) -> str:
        """What a connection is called here."""
        self._number += 1
        name = f"memory:{self._number}"
        self.callers[name] = caller
        return name


class MemoryChannel:
    """A channel (``grpc.aio.Channel``) of a process on one host to a manager."""

    def __init__(self, underlay: Underlay, own: str, remote: str, certs: Certificates) -> None:
        host, _, port = remote.rpartition(":")
        self.underlay, self.own, self.remote = underlay, own, (host, int(port))
        self.caller = Caller(certs.certificate, own)
        self._open: list[_Call] = []

    async def __aenter__(self) -> MemoryChannel:
        return self

    async def __aexit__(self, *_: object) -> None:
        for call in self._open:
            call.cancel()

    def stream_stream(self, path: str, **codec: Any) -> Callable[[], _Call]:
        return partial(self._call, path, codec)

    def unary_unary(self, path: str, **codec: Any) -> Any:
        async def ask(request: Any, timeout: float | None = None) -> Any:  # noqa: ASYNC109 - gRPC's
            call = self._call(path, codec)
            try:
                async with asyncio.timeout(timeout):
                    await call.write(request)
                    return await call.read()
            except TimeoutError:
                raise _error(grpc.StatusCode.DEADLINE_EXCEEDED, "Deadline Exceeded") from None
            finally:
                call.cancel()

        return ask

    stream_unary = unary_stream = unary_unary

    def _call(self, path: str, codec: Mapping[str, Any]) -> _Call:
        call = _Call(self, path, codec)
        self._open.append(call)
        return call


class _Pipe:
    """One direction of a call: bytes arrive in order, late, and once the way is whole."""

    def __init__(self, underlay: Underlay, sender: str, to: str) -> None:
        self._underlay, self._sender, self._to = underlay, sender, to
        self._under_way: deque[tuple[float, Any]] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self.arrived: asyncio.Queue[Any] = asyncio.Queue()

    def put(self, item: Any) -> None:
        loop = asyncio.get_running_loop()
        if isinstance(item, bytes):
            self._underlay.messages[self._sender] += 1
            self._underlay.call_bytes[self._sender] += len(item)
        due = loop.time() + self._underlay.delay_s()
        if self._under_way:
            due = max(due, self._under_way[-1][0])
        self._under_way.append((due, item))
        if self._timer is None:
            self._timer = loop.call_at(due, self._deliver)

    def _deliver(self) -> None:
        loop, self._timer = asyncio.get_running_loop(), None
        if not self._underlay.reaches(self._sender, self._to):
            self._timer = loop.call_later(RETRY_S, self._deliver)
            return
        while self._under_way and self._under_way[0][0] <= loop.time():
            self.arrived.put_nowait(self._under_way.popleft()[1])
        if self._under_way:
            self._timer = loop.call_at(self._under_way[0][0], self._deliver)

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._under_way.clear()


class _Call:
    """A call as its client has it (``grpc.aio.StreamStreamCall``)."""

    def __init__(self, channel: MemoryChannel, path: str, codec: Mapping[str, Any]) -> None:
        self._underlay, self._path = channel.underlay, path
        self._remote, self._caller = channel.remote, channel.caller
        self._encode, self._decode = codec["request_serializer"], codec["response_deserializer"]
        self.ends = (channel.own, channel.remote[0])
        self.requests = _Pipe(self._underlay, *self.ends)
        self.replies = _Pipe(self._underlay, *reversed(self.ends))
        self._status: grpc.aio.AioRpcError | object | None = None
        self._connected: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._served: asyncio.Task[None] | None = None
        self._opening = asyncio.ensure_future(self._open())
        self._underlay.streams.add(self)

    # ---- the client's side ----

    async def wait_for_connection(self) -> None:
        await asyncio.shield(self._connected)

    async def write(self, request: Any) -> None:
        self._raise_if_over()
        self.requests.put(self._encode(request))
        await asyncio.sleep(0)

    async def read(self) -> Any:
        if self._status is None:
            item = await self.replies.arrived.get()
            if isinstance(item, bytes):
                return self._decode(item)
            self._status = item
            self._closed()
        self._raise_if_over()
        return _EOF

    def cancel(self) -> bool:
        if self._status is not None:
            return False
        self._status = _error(grpc.StatusCode.CANCELLED, "Locally cancelled by application!")
        self.replies.arrived.put_nowait(self._status)
        self._closed()
        if self._served is not None:  # told by the kernel, over the same way
            self.requests.put(_END)
        return True

    def done(self) -> bool:
        if self._status is None and not self.replies.arrived.empty():
            first = self.replies.arrived._queue[0]  # type: ignore[attr-defined]
            return not isinstance(first, bytes)
        return self._status is not None

    async def details(self) -> str:
        if isinstance(self._status, grpc.aio.AioRpcError):
            return self._status.details() or ""
        return ""

    def _raise_if_over(self) -> None:
        if isinstance(self._status, grpc.aio.AioRpcError):
            raise self._status

    # ---- between ----

    def check(self) -> None:
        """Pings of the server are not answered."""
        if self._served is not None and not self._underlay.reaches(*self.ends):
            self._served.cancel()

    async def _open(self) -> None:
        await asyncio.sleep(3 * self._underlay.delay_s())
        while not self._underlay.reaches(*self.ends):  # noqa: ASYNC110 - SYN is sent again
            await asyncio.sleep(RETRY_S)
        server = self._underlay.servers.get(self._remote)
        if server is None:
            refused = _error(grpc.StatusCode.UNAVAILABLE, "Connection refused")
            self.replies.arrived.put_nowait(refused)
            if not self._connected.done():
                self._connected.set_exception(refused)
                self._connected.exception()  # nobody may wait for it
            return
        if not self._connected.done():
            self._connected.set_result(None)
        task = self._served = asyncio.ensure_future(self._serve(server))
        server.calls.add(task)
        task.add_done_callback(server.calls.discard)

    def _closed(self) -> None:
        self._opening.cancel()
        if not self._connected.done():
            self._connected.cancel()
        if self._served is None:
            self._underlay.streams.discard(self)

    # ---- the server's side ----

    async def _serve(self, server: MemoryServer) -> None:
        handler = server.methods[self._path]
        peer = server.name(self._caller)
        context = _Context(self, peer, handler.response_serializer)
        working = asyncio.ensure_future(self._handled(handler, context))
        watching = asyncio.ensure_future(context.over.wait())
        try:
            await asyncio.wait((working, watching), return_when=asyncio.FIRST_COMPLETED)
            status = working.result() if working.done() and not working.cancelled() else None
        except asyncio.CancelledError:
            status = _error(grpc.StatusCode.UNAVAILABLE, "Socket closed")
        finally:
            server.callers.pop(peer, None)
            for each in (working, watching):
                each.cancel()
            self._underlay.streams.discard(self)
        if status is not None:
            self.replies.put(status)
        self.requests.close()

    async def _handled(self, handler: Any, context: _Context) -> Any:
        try:
            if handler.stream_stream is not None:
                await handler.stream_stream(context.requests(handler), context)
            else:
                request = await anext(context.requests(handler))
                await context.write(await handler.unary_unary(request, context))
        except grpc.aio.AbortError:
            return context.aborted
        return _END


class _Context:
    """A call as its service has it (``grpc.aio.ServicerContext``)."""

    def __init__(self, call: _Call, peer: str, encode: Callable[[Any], bytes]) -> None:
        self._call, self._peer, self._encode = call, peer, encode
        self.over = asyncio.Event()
        """The client has ended it."""
        self.aborted: grpc.aio.AioRpcError | None = None

    def peer(self) -> str:
        return self._peer

    async def write(self, message: Any) -> None:
        self._call.replies.put(self._encode(message))
        await asyncio.sleep(0)

    async def abort(
        self, code: grpc.StatusCode, details: str = "", metadata: tuple[tuple[str, str], ...] = ()
    ) -> None:
        self.aborted = _error(code, details, metadata)
        raise grpc.aio.AbortError(details)

    async def requests(self, handler: Any) -> AsyncIterator[Any]:
        while (item := await self._call.requests.arrived.get()) is not _END:
            yield handler.request_deserializer(item)
        self.over.set()


def _error(
    code: grpc.StatusCode, details: str, metadata: tuple[tuple[str, str], ...] = ()
) -> grpc.aio.AioRpcError:
    return grpc.aio.AioRpcError(
        code, grpc.aio.Metadata(), grpc.aio.Metadata(*metadata), details, None
    )
