"""The answer of a manager that does not lead to what only the leader does: who leads."""

from __future__ import annotations

from typing import Any, Final, NoReturn

import grpc
import grpc.aio

LEADER: Final = "meshnet-leader"
"""Key in a refusal's metadata: ``host:port`` of the manager that leads."""
NOT_LEADING: Final = "this manager does not lead"


async def refer(context: grpc.aio.ServicerContext[Any, Any], leader: str) -> NoReturn:
    """End a call that only the leader answers.

    Args:
        context: of the call.
        leader: ``host:port`` of who leads; empty: unknown.
    """
    why = f"{NOT_LEADING}: {leader} does" if leader else NOT_LEADING
    metadata = ((LEADER, leader),) if leader else ()
    await context.abort(grpc.StatusCode.FAILED_PRECONDITION, why, metadata)


def leader_of(error: grpc.aio.AioRpcError) -> str:
    """``host:port`` of who leads, from a refusal; empty: it does not say."""
    said: Any = error.trailing_metadata()  # pairs, whatever the stubs say
    found = dict(said or ()).get(LEADER, "")
    return found if isinstance(found, str) else ""
