"""How the commands that docker has no word for ask the Engine API on meshnet's socket."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from typing import Any, TypeVar
from urllib.parse import urlencode

from meshnet_control.engine.connection import Connection, Request
from meshnet_control.host.paths import docker_host

T = TypeVar("T")


class Api:
    """The Engine API of this host's meshnet.

    Args:
        connection: to its socket.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def ask(
        self,
        method: str,
        path: str,
        params: Mapping[str, str] | None = None,
        *,
        json_body: object = None,
        body: bytes = b"",
        headers: Mapping[str, str] | None = None,
    ) -> Any:  # noqa: ANN401 - any JSON value
        """The answer's JSON; None: it has none.

        Raises:
            ControlError: refused, or nobody answers.
        """
        kind = "application/octet-stream" if json_body is None else "application/json"
        raw = body if json_body is None else json.dumps(json_body).encode()
        said = {**({"Content-Type": kind} if raw else {}), **(headers or {})}
        query = f"?{urlencode(params)}" if params else ""
        request = Request(method, path + query, headers=said, body=raw)
        async with self._connection.open(request) as answer:
            await answer.accepted()
            found = await answer.read()
        return json.loads(found) if found.strip() else None

    async def lines(
        self, method: str, path: str, params: Mapping[str, str]
    ) -> AsyncGenerator[Any, None]:
        """The JSON lines of an answer that may take long.

        Raises:
            ControlError: refused, or nobody answers.
        """
        request = Request(method, f"{path}?{urlencode(params)}", limit_s=None)
        async with self._connection.open(request) as answer:
            await answer.accepted()
            async for line in answer.lines():
                yield json.loads(line)


def asking(work: Callable[[Api], Awaitable[T]]) -> T:
    """What ``work`` finds out at meshnet's socket.

    Raises:
        ControlError: refused, or nobody answers.
    """
    logging.getLogger("meshnet_control").addHandler(logging.NullHandler())  # the error says it

    async def whole() -> T:
        connection = Connection(docker_host())
        try:
            return await work(Api(connection))
        finally:
            await connection.close()

    return asyncio.run(whole())
