"""Serves the page at the address that ``meshnet dashboard`` keeps, as long as it is kept.

    GET /          the page; ?token=… once, which a cookie remembers
    GET /events    server-sent events: everything, then what differs, once a second at most
    GET /shares    the same of one service's backends, every two seconds
    GET /traffic   the same of what goes from host to host
    GET /logs      the same of a task's log, as it comes; for who has the token, also on this host
    GET /page.js, /style.css and other parts

Nothing can be changed here, by anybody. Whoever may look is decided in ``guard``.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing
from importlib.resources import files
from typing import Any, Final

from aiohttp import web

from meshnet import drops, ends
from meshnet_control.dashboard import guard, view
from meshnet_control.dashboard.counted import FRESH_S, Shares, Traffic
from meshnet_control.dashboard.feed import Feed
from meshnet_control.dashboard.task_log import TaskLogs
from meshnet_control.dashboard.token import DASHBOARD
from meshnet_control.served.connection import LIFE_S, Connection, once
from meshnet_control.served.listener import FollowingListener

MOST: Final = 64
"""Connections at once: a page has one to three streams."""
MOST_STREAMS: Final = 48
"""The others are left for pages and their parts."""
MOST_LOGS: Final = 8
"""Of those, logs: each has a node read its engine."""
BEAT_S: Final = 15.0
"""Between two signs of life: proxies cut what is silent, and a page that is gone is noticed."""
LOG_BEAT_S: Final = 1.0
"""The same of a log, which is read no longer than somebody looks."""
AGAIN_MS: Final = 2000
"""A browser whose stream ended begins another one after that."""
LATE_S: Final = 30.0
"""For a browser to take what was written; one that does not is cut."""
FOREIGN: Final = "open the dashboard by an address of this host, or as localhost\n"
NO_TOKEN: Final = "this needs the address that 'sudo meshnet dashboard' prints on this host\n"  # noqa: S105
NO_LOGS: Final = (
    "logs are for who opened the page by the address that 'sudo meshnet dashboard' prints\n"
)
TOO_MANY_LOGS: Final = "as many logs are followed as can be: close another one\n"
TOO_MANY: Final = "as many look as can be served: close another page\n"
_SCRIPTS: Final = ("page.js", "elements.js", "traffic.js", "log.js")
_PARTS: Final = {
    "/": ("index.html", "text/html"),
    **{f"/{name}": (name, "text/javascript") for name in _SCRIPTS},
    "/style.css": ("style.css", "text/css"),
    "/icon.svg": ("icon.svg", "image/svg+xml"),
}
_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class DashboardServer(FollowingListener):
    """The listener.

    Args:
        feed: what is shown.
        shares: who answers for a service.
        traffic: what goes from host to host.
        logs: of tasks.
        wanted: where; empty: nowhere.
        token: that of this moment.
        most: connections at once.
        most_streams: of those, streams.
        life_s: of a connection that is no stream.
    """

    def __init__(
        self,
        feed: Feed,
        shares: Shares,
        traffic: Traffic,
        logs: TaskLogs,
        wanted: Callable[[], str],
        token: Callable[[], str],
        most: int = MOST,
        most_streams: int = MOST_STREAMS,
        life_s: float = LIFE_S,
    ) -> None:
        super().__init__(DASHBOARD, self._made, wanted, "/", most, life_s)
        self._feed, self._shares, self._token = feed, shares, token
        self._traffic_of, self._logs_of = traffic, logs
        self._most_streams, self._following = most_streams, 0
        self._streams: set[asyncio.Task[Any] | None] = set()
        page = files("meshnet_control.dashboard") / "page"
        self._parts = {
            path: ((page / name).read_bytes(), kind) for path, (name, kind) in _PARTS.items()
        }

    def _made(self, host: str) -> web.Application:
        local = guard.is_local(host)

        @web.middleware
        async def guarded(request: web.Request, handler: _Handler) -> web.StreamResponse:
            refused = await self._refused(request, local=local)
            return refused if refused is not None else await handler(request)

        app = web.Application(middlewares=[once, guarded], client_max_size=1)
        app.on_response_prepare.append(_with_headers)
        app.on_shutdown.append(self._cut)
        for path in self._parts:
            app.router.add_get(path, self._part, allow_head=False)
        app.router.add_get("/events", self._events, allow_head=False)
        app.router.add_get("/shares", self._backends, allow_head=False)
        app.router.add_get("/traffic", self._traffic, allow_head=False)
        app.router.add_get("/logs", self._logs, allow_head=False)
        return app

    async def _cut(self, _: web.Application) -> None:
        """Streams have no end of their own that could be waited for."""
        for stream in tuple(self._streams):
            if stream is not None:
                stream.cancel()

    async def _refused(self, request: web.Request, *, local: bool) -> web.Response | None:
        """The answer to who may not look, or has yet to be remembered."""
        if not guard.is_own_name(request.headers.get("Host", "")):
            drops.count("dashboard: asked for by another name")
            return web.Response(status=403, text=FOREIGN)
        said = request.query.get("token", "")
        token = await asyncio.to_thread(self._token)
        if request.path == "/" and guard.same(token, said):
            answer = web.Response(status=303, headers={"Location": "/"})
            remembered = guard.remembered(token, request.remote or "")
            answer.set_cookie(guard.COOKIE, remembered, httponly=True, samesite="Lax")
            return answer
        if local:
            return web.Response(status=303, headers={"Location": "/"}) if said else None
        if _knows(request, token):
            return None
        drops.count("dashboard: asked for without the token")
        return web.Response(status=401, text=NO_TOKEN, headers={"WWW-Authenticate": "Bearer"})

    async def _part(self, request: web.Request) -> web.Response:
        body, kind = self._parts[request.path]
        return web.Response(body=body, content_type=kind, charset="utf-8")

    async def _events(self, request: web.Request) -> web.StreamResponse:
        async def told() -> AsyncGenerator[dict[str, Any], None]:
            async with self._feed.looking() as looking:
                before: view.Picture = view.EMPTY
                first = True
                async for seen in looking:
                    said = view.difference(before, seen.picture)
                    yield {"whole": first, "trouble": seen.trouble, **said}
                    before, first = seen.picture, False

        return await self._stream(request, told())

    async def _backends(self, request: web.Request) -> web.StreamResponse:
        service = request.query.get("service", "")
        return await self._stream(request, _again(lambda: self._shares.of(service)))

    async def _traffic(self, request: web.Request) -> web.StreamResponse:
        return await self._stream(request, _again(self._traffic_of.now))

    async def _logs(self, request: web.Request) -> web.StreamResponse:
        if not _knows(request, await asyncio.to_thread(self._token)):
            drops.count("dashboard: asked for a log without the token")
            return web.Response(status=401, text=NO_LOGS, headers={"WWW-Authenticate": "Bearer"})
        if self._following >= MOST_LOGS:
            drops.count("dashboard: more logs than followed at once")
            return web.Response(status=503, text=TOO_MANY_LOGS, headers={"Retry-After": "5"})
        self._following += 1
        try:
            told = self._logs_of.of(request.query.get("task", ""))
            return await self._stream(request, told, LOG_BEAT_S)
        finally:
            self._following -= 1

    async def _stream(
        self,
        request: web.Request,
        told: AsyncGenerator[dict[str, Any], None],
        beat_s: float | None = None,
    ) -> web.StreamResponse:
        if len(self._streams) >= self._most_streams:
            drops.count("dashboard: more streams than served at once")
            return web.Response(status=503, text=TOO_MANY, headers={"Retry-After": "5"})
        self._streams.add(asyncio.current_task())
        answer = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        try:
            token = await asyncio.to_thread(self._token)
            if isinstance(request.protocol, Connection):
                request.protocol.stays()
            await answer.prepare(request)
            await _write(answer, f"retry: {AGAIN_MS}\n\n")
            async with aclosing(_beaten(told, beat_s or BEAT_S)) as beaten:
                async for said in beaten:
                    if await asyncio.to_thread(self._token) != token:
                        break
                    await _write(answer, ": here\n\n" if said is None else _event(said))
        except (ConnectionError, TimeoutError):
            request.protocol.force_close()
        finally:
            self._streams.discard(asyncio.current_task())
        return answer


def _knows(request: web.Request, token: str) -> bool:
    return guard.is_known(
        token,
        request.remote or "",
        cookie=request.cookies.get(guard.COOKIE, ""),
        authorization=request.headers.get("Authorization", ""),
    )


async def _again(
    newest: Callable[[], Awaitable[Mapping[str, Any]]],
) -> AsyncGenerator[dict[str, Any], None]:
    """What is newest, whenever it is something else."""
    before: dict[str, Any] = {}
    while True:
        said = dict(await newest())
        if said != before:
            yield said
        before = said
        await asyncio.sleep(FRESH_S)


def _event(said: dict[str, Any]) -> str:
    """As it is written: JSON has no line breaks of its own."""
    return f"data: {json.dumps(said, separators=(',', ':'))}\n\n"


async def _write(answer: web.StreamResponse, text: str) -> None:
    async with asyncio.timeout(LATE_S):
        await answer.write(text.encode())


async def _beaten(
    told: AsyncGenerator[dict[str, Any], None], beat_s: float
) -> AsyncGenerator[dict[str, Any] | None, None]:
    """What is told, until it ends; None each time that nothing was for ``beat_s``."""
    following: asyncio.Future[dict[str, Any]] | None = None
    try:
        while True:
            following = following or asyncio.ensure_future(anext(told))
            done, _ = await asyncio.wait({following}, timeout=beat_s)
            if done:
                ready, following = following, None
                try:
                    said = ready.result()
                except StopAsyncIteration:
                    return
                yield said
            else:
                yield None
    finally:
        if following is not None:
            await ends.ended(following)
        await told.aclose()


async def _with_headers(_: web.Request, answer: web.StreamResponse) -> None:
    answer.headers.update(guard.HEADERS)
