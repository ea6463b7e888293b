"""Follows what a manager orders of a node by a stream: an order has an id, a task, and an end."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, Protocol, TypeVar

from meshnet import ends
from meshnet_control.identity.channel import CallEndedError, call_ends

_log = logging.getLogger(__name__)


class Order(Protocol):
    """What a manager says; ``close`` takes the order of that id back."""

    id: str
    close: bool


OrderT = TypeVar("OrderT", bound=Order)


async def follow(
    listen: Callable[[], Any],
    kind: type[OrderT],
    serve: Callable[[OrderT], Coroutine[Any, Any, None]],
    what: str,
    again_s: float,
) -> None:
    """Serve each order in a task of its own, until cancelled; with the stream all of them end.

    Args:
        listen: opens the stream, gRPC's call.
        kind: of the messages on it.
        serve: one order.
        what: the orders, for the log and the tasks' names.
        again_s: between a stream's end and the next one, also of a manager that knows no such.
    """
    running: dict[str, asyncio.Task[None]] = {}
    while True:
        try:
            call = listen()
            while True:
                with call_ends():
                    order = await call.read()
                if not isinstance(order, kind):
                    break
                if order.close:
                    if (task := running.pop(order.id, None)) is not None:
                        task.cancel()
                    continue
                task = asyncio.create_task(serve(order), name=f"{what} {order.id}")
                running[order.id] = task
                task.add_done_callback(partial(_forget, running, order.id))
        except CallEndedError as error:
            _log.debug("%s: %s", what, error)
        finally:
            await ends.ended(*running.values())
        await asyncio.sleep(again_s)


def _forget(running: dict[str, asyncio.Task[None]], name: str, task: asyncio.Task[None]) -> None:
    if running.get(name) is task:
        del running[name]
