"""Serves ``/metrics`` at the address that ``meshnet up --metrics`` keeps, as long as it is kept.

Be aware: no TLS and no password, as with others who serve it; who reaches the address reads names
of services. It can change nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from aiohttp import web

from meshnet_control.metrics import families
from meshnet_control.metrics.facts import Facts
from meshnet_control.served.address import METRICS
from meshnet_control.served.connection import LIFE_S, MOST, once
from meshnet_control.served.listener import FollowingListener

READS_S: Final = 8.0
"""For all that is read; Prometheus waits ten seconds unless it is told otherwise."""
SILENT: Final = "this node could not be read in time\n"
PATH: Final = "/metrics"


class MetricsServer(FollowingListener):
    """The listener.

    Args:
        read: what is scraped, now.
        wanted: where; empty: nowhere.
        most: connections at once.
        life_s: of each.
    """

    def __init__(
        self,
        read: Callable[[], Awaitable[Facts]],
        wanted: Callable[[], str],
        most: int = MOST,
        life_s: float = LIFE_S,
    ) -> None:
        super().__init__(METRICS, self._made, wanted, PATH, most, life_s)
        self._read = read
        self._one = asyncio.Lock()

    def _made(self, _: str) -> web.Application:
        app = web.Application(middlewares=[once])
        app.router.add_get(PATH, self._answer)
        return app

    async def _answer(self, _: web.Request) -> web.Response:
        """One scrape after the other: many who ask cost this node no more than one."""
        try:
            async with asyncio.timeout(READS_S), self._one:
                facts = await self._read()
        except TimeoutError:
            return web.Response(status=503, text=SILENT)
        return web.Response(
            body=families.text(facts), headers={"Content-Type": families.CONTENT_TYPE}
        )
