"""An answer of JSON lines that come one after the other, for as long as its client is there."""

from __future__ import annotations

import asyncio
from typing import Final

from aiohttp import web

_LOOK_S: Final = 1.0
"""How often an idle stream looks whether its client is still there."""


async def answer_lines(
    request: web.Request, lines: asyncio.Queue[bytes | None]
) -> web.StreamResponse:
    """The answer, once it has ended or its client has gone.

    Args:
        request: a GET.
        lines: with their newlines; None: that was the last.
    """
    response = web.StreamResponse(headers={"Content-Type": "application/json"})
    try:
        await response.prepare(request)
        while request.transport is not None and not request.transport.is_closing():
            try:
                async with asyncio.timeout(_LOOK_S):
                    line = await lines.get()
            except TimeoutError:
                continue
            if line is None:
                break
            await response.write(line)
    except ConnectionError:
        return response  # the client has gone
    return response
