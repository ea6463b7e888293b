"""What every handler works with: node, engine, control API, and how to read a request."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Callable
from http import HTTPStatus
from pathlib import Path
from typing import Final, TypeVar

from aiohttp import web
from google.protobuf.message import Message

from meshnet import drops
from meshnet.errors import ControlError
from meshnet_control.controlapi.access import Access
from meshnet_control.controlapi.api import ControlApi
from meshnet_control.controlapi.refusals import no_leader
from meshnet_control.convert.engine_json import from_engine
from meshnet_control.convert.json_text import parse_object
from meshnet_control.gateway.engine_http import EngineHttp
from meshnet_control.gateway.node_control import NodeControl
from meshnet_control.store.store import NO_LEADER, Store

NOT_IN_SWARM: Final = (
    'This node is not a swarm manager. Use "docker swarm init" or "docker swarm join" '
    "to connect this node to swarm and try again."
)
NOT_MANAGER: Final = (
    "This node is not a swarm manager. Worker nodes can't be used to view or modify cluster state. "
    "Please run this command on a manager node or promote the current node to a manager."
)
LOCKED_STATE: Final = "locked"
"""A node's state while its manager's keys are locked (moby LocalNodeStateLocked)."""

SPEC_BYTES: Final = 1024 * 1024
"""Of a specification; a task carries it to its node, and gossip none of it."""
FILE_BYTES: Final = 2 * 1024 * 1024
"""Of a secret or config: 1000 KiB in base64, and its labels."""
_LARGEST_VERSION: Final = 2**64 - 1
M = TypeVar("M", bound=Message)


class HandlerContext:
    """Shared by all handlers of a gateway.

    Args:
        node: this node.
        engine: its local engine.
        conflicting_route: name of a host route that overlaps a subnet, None when there is none.
        lent: the socket that containers get in place of docker.sock; None: the engine's own.
    """

    def __init__(
        self,
        node: NodeControl,
        engine: EngineHttp,
        conflicting_route: Callable[[str], str | None],
        lent: Path | None = None,
    ) -> None:
        self.node = node
        self.engine = engine
        self._lent = lent
        self._conflicting_route = conflicting_route
        self._bound: tuple[Store, ControlApi] | None = None

    @property
    def leaderless(self) -> bool:
        """This node is a manager, and too few others are there: what is read may be old."""
        store = self.node.store()
        return store is not None and NO_LEADER in store.trouble

    @property
    def lent(self) -> Path | None:
        """The socket that containers get in place of docker.sock; None: the engine's own."""
        return self._lent if self._lent is not None and self._lent.is_socket() else None

    def api_or_none(self) -> ControlApi | None:
        """The control API; None when this node is no manager."""
        store = self.node.store()
        if store is None:
            self._bound = None
            return None
        if self._bound is None or self._bound[0] is not store:
            access = Access(store, secrets.SystemRandom(), time.time, self._conflicting_route)
            self._bound = (store, ControlApi(access))
        return self._bound[1]

    def api(self) -> ControlApi:
        """The control API.

        Raises:
            ControlError: this node is no manager (503), or begins without a quorum (500).
        """
        api = self.api_or_none()
        if api is None:
            raise self.refusal("")
        return api

    def refusal(self, why: str) -> ControlError:
        """Why this node does not manage now.

        Args:
            why: where this node says nothing itself.
        """
        if self.node.state == "inactive":
            why = NOT_IN_SWARM
        elif self.node.state != "manager":
            why = NOT_MANAGER
        else:  # by its identity, but it could not go on
            info = self.node.swarm_info()
            if NO_LEADER in info.error:
                return no_leader()
            locked = info.local_node_state == LOCKED_STATE
            why = info.error if locked else f"This manager is not ready: {info.error or why}"
        return ControlError(why, HTTPStatus.SERVICE_UNAVAILABLE)


async def read(request: web.Request, cls: type[M], most: int = SPEC_BYTES) -> M:
    """The request's JSON body as a message.

    Args:
        request: a POST.
        cls: of control.proto.
        most: bytes that such a body may have.

    Raises:
        ControlError: not JSON, or it carries a value we do not know (400).
    """
    return from_engine(cls, parse_object(await body(request, most)))


async def body(request: web.Request, most: int) -> bytes:
    """The request's body.

    Raises:
        ControlError: longer than that (400).
    """
    raw = b"" if (request.content_length or 0) > most else await request.read()
    if (request.content_length or 0) > most or len(raw) > most:
        drops.count("gateway: request body too large")
        raise ControlError("http: request body too large")
    return raw


def version(request: web.Request, kind: str) -> int:
    """The ``version`` parameter of an update.

    Raises:
        ControlError: missing or no number (400).
    """
    raw = request.query.get("version", "")
    number = raw.isascii() and raw.isdigit()
    if number and len(raw) <= len(str(_LARGEST_VERSION)) and int(raw) <= _LARGEST_VERSION:
        return int(raw)
    raise ControlError(
        f"invalid {kind} version '{raw}': strconv.ParseUint: "
        f"parsing {json.dumps(raw)}: {'value out of range' if number else 'invalid syntax'}"
    )


def flag(request: web.Request, name: str) -> bool:
    """A boolean parameter. Source: moby api/server/httputils BoolValue."""
    value = request.query.get(name, "").strip().lower()
    return value not in {"", "0", "no", "false", "none"}


def reference(request: web.Request) -> str:
    """The object's id, name or prefix in the path."""
    return request.match_info["id"]
