"""What else would show, or keep, the gate of a task's container (``gateway.own_words``)."""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import Any
from urllib.parse import quote

from aiohttp import web

from meshnet_control.agent import gate
from meshnet_control.convert.json_text import parse_json, parse_object, part
from meshnet_control.gateway import own_words, responses
from meshnet_control.gateway.request import HandlerContext


class OwnWordsRoutes:
    """Handlers of what is asked of a container's files and made of it."""

    def __init__(self, context: HandlerContext) -> None:
        self._engine = context.engine

    def routes(self) -> responses.Routes:
        """Method, path and handler."""
        return [
            ("GET", "/containers/{id}/changes", self.changes),
            ("POST", "/commit", self.commit),
            ("GET", "/images/{name:.+}/json", self.image),
        ]

    async def changes(self, request: web.Request) -> web.StreamResponse:
        """``GET /containers/{id}/changes``."""
        answer = await self._engine.relay(request, b"")
        if answer.status != HTTPStatus.OK or not isinstance(answer.body, bytes):
            return answer
        found = parse_json(answer.body) or []
        shown = own_words.changed(found)
        return answer if len(shown) == len(found) else responses.ok(shown)

    async def commit(self, request: web.Request) -> web.StreamResponse:
        """``POST /commit``: an image runs the program, without a gate, and is nobody's."""
        raw = await request.read()
        name = quote(request.query.get("container", ""), safe="")
        config = (await self._engine.json(f"/containers/{name}/json")).get("Config") or {}
        labels = config.get("Labels") or {}
        words, ours = gate.words_in(labels), own_words.emptied(labels)
        own: dict[str, Any] = {}
        if words is not None and (config.get("Entrypoint") or [""])[0] == gate.SHELL_TARGET:
            own = {"Entrypoint": list(words.entrypoint), "Cmd": list(words.command)}
        if own or ours:
            asked = parse_object(raw) if raw.strip() not in {b"", b"null"} else {}
            own |= {key: value for key, value in asked.items() if value}
            own["Labels"] = {**ours, **part(asked, "Labels")}
            raw = json.dumps(own).encode()
        return await self._engine.relay(request, raw)

    async def image(self, request: web.Request) -> web.StreamResponse:
        """``GET /images/{name}/json``."""
        answer = await self._engine.relay(request, b"")
        if answer.status != HTTPStatus.OK or not isinstance(answer.body, bytes):
            return answer
        found = parse_object(answer.body)
        shown = own_words.image(found)
        return answer if shown is found else responses.ok(shown)
