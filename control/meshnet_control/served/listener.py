"""A listener that is where it is wanted, from when it can be, and nowhere else.

What is wanted is in a file, what is there is a listener: the two are compared every second, so an
address that is taken, or not this host's yet, is served as soon as it can be.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Final

from aiohttp import web

from meshnet.errors import ControlError
from meshnet_control.served.address import Served
from meshnet_control.served.connection import LIFE_S, MOST, connections

_log = logging.getLogger(__name__)

LOOK_S: Final = 1.0
ENDS_S: Final = 1.0
"""For an answer that is under way when this process ends."""


class FollowingListener:
    """The listener.

    Args:
        served: what.
        app: made anew for each address: what answers there.
        wanted: where; empty: nowhere.
        path: of its page, for the log.
        most: connections at once.
        life_s: of each connection.
    """

    def __init__(
        self,
        served: Served,
        app: Callable[[str], web.Application],
        wanted: Callable[[], str],
        path: str,
        most: int = MOST,
        life_s: float = LIFE_S,
    ) -> None:
        self._served, self._app, self._wanted = served, app, wanted
        self._path, self._most, self._life_s = path, most, life_s
        self._at, self._told = "", ""
        self._runner: web.AppRunner | None = None
        self._listener: asyncio.Server | None = None

    async def run(self) -> None:
        """Follow what is wanted, until cancelled."""
        try:
            while True:
                await self.follow()
                await asyncio.sleep(LOOK_S)
        finally:
            await self.end()

    async def follow(self) -> None:
        """Serve where it is wanted now."""
        wanted = await asyncio.to_thread(self._wanted)
        if wanted == self._at:
            return
        await self.end()
        if not wanted:
            self._told = ""
            return
        try:
            await self._begin(*self._served.parsed(wanted))
        except (ControlError, OSError) as error:
            await self.end()
            if self._told != str(error):
                self._told = str(error)
                _log.warning("not served: %s: %s", self._served.words, error)
        else:
            self._at, self._told = wanted, ""
            _log.info("serving %s at http://%s%s", self._served.words, wanted, self._path)

    async def _begin(self, host: str, port: int) -> None:
        # who is gone is answered no further
        self._runner = web.AppRunner(
            self._app(host), shutdown_timeout=ENDS_S, handler_cancellation=True
        )
        await self._runner.setup()
        server = self._runner.server
        if server is None:
            raise RuntimeError("aiohttp made no server")
        loop = asyncio.get_running_loop()
        made = connections(server, self._served.name, self._most, self._life_s)
        self._listener = await loop.create_server(made, host, port)

    async def end(self) -> None:
        """Serve nowhere; connections are closed."""
        self._at = ""
        if self._listener is not None:
            self._listener.close()
            self._listener = None
        if self._runner is not None:
            runner, self._runner = self._runner, None
            await runner.cleanup()
