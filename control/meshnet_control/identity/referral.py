"""The answer of a manager that does not lead to what only the leader does: who leads."""

from __future__ import annotations

from typing import Any, Final, NoReturn

import grpc
import grpc.aio

LEADER: Final = "meshnet-leader"
"""Key in a refusal's metadata: ``host:port`` of the manager that leads; empty: unknown."""
NOT_LEADING: Final = "this manager does not lead"


async def refer(context: grpc.aio.ServicerContext[Any, Any], leader: str) -> NoReturn:
    """End a call that only the leader answers.

    Args:
        context: of the call.
        leader: ``host:port`` of who leads; empty: unknown.
    """
    why = f"{NOT_LEADING}: {leader} does" if leader else NOT_LEADING
    await context.abort(grpc.StatusCode.FAILED_PRECONDITION, why, ((LEADER, leader),))


def leader_of(error: grpc.aio.AioRpcError) -> str | None:
    """``host:port`` of who leads, from a refusal; empty: unknown; None: it is another refusal."""
    said: Any = error.trailing_metadata()  # pairs, whatever the stubs say
    found = dict(said or ()).get(LEADER)
    return found if isinstance(found, str) else None
