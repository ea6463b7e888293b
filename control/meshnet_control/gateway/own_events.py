"""The engine's events as its user would see them: containers have no labels of ours, nor ``none``.

What meshnet wires has the engine's network ``none``. An event of that network names its container
alone, so the container is asked for, once; most have told whose they are by an event of their own
by then. One ``OwnEvents`` for a stream.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import AsyncIterator, Mapping
from typing import Any, Final
from urllib.parse import quote

from meshnet.errors import ControlError
from meshnet_control.convert.json_text import part
from meshnet_control.gateway import own_words, responses
from meshnet_control.gateway.engine_http import EngineHttp

_MOST: Final = 1024
"""Containers that are remembered."""


class OwnEvents:
    """What is shown of the engine's stream.

    Args:
        engine: says whose a container is.
    """

    def __init__(self, engine: EngineHttp) -> None:
        self._engine = engine
        self._wired: OrderedDict[str, bool] = OrderedDict()

    async def shown(self, lines: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """The lines to tell; one in which nothing is of meshnet is told byte for byte."""
        async for line in lines:
            kept = await self._line(line) if b"meshnet" in line or b'"null"' in line else line
            if kept is not None:
                yield kept

    async def _line(self, line: bytes) -> bytes | None:
        try:
            said = json.loads(line)
        except (ValueError, RecursionError):
            return line
        if not isinstance(said, dict):
            return line
        container = own_words.on_none(said)
        if container:
            return None if await self._is_wired(container) else line
        shown = own_words.event(said)
        if shown is said:
            return line
        actor = part(said, "Actor")
        self._remember(str(actor.get("ID")), part(actor, "Attributes"))
        return responses.dumps(shown)

    async def _is_wired(self, container: str) -> bool:
        if container not in self._wired:
            try:
                seen = await self._engine.json(f"/containers/{quote(container, safe='')}/json")
            except ControlError:  # gone, or nobody can say
                return False
            self._remember(container, part(part(seen, "Config"), "Labels"))
        return self._wired[container]

    def _remember(self, container: str, labels: Mapping[str, Any]) -> None:
        self._wired[container] = own_words.wired(labels)
        while len(self._wired) > _MOST:
            self._wired.popitem(last=False)
