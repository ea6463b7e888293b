"""Refusals in the engine's words: the gRPC code in the text, the HTTP status beside it.

PURE. Source: moby errdefs and daemon/cluster/errors.go; swarmkit manager/controlapi.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import Final

from meshnet.errors import ControlError
from meshnet_control.store.store import NO_LEADER

INVALID: Final = "rpc error: code = InvalidArgument desc = "


def invalid(why: str) -> ControlError:
    """A request that can never be served as it is: 400."""
    return ControlError(f"{INVALID}{why}", HTTPStatus.BAD_REQUEST)


def precondition(why: str) -> ControlError:
    """A request that does not fit what the cluster looks like now: 400."""
    return ControlError(
        f"rpc error: code = FailedPrecondition desc = {why}", HTTPStatus.BAD_REQUEST
    )


def exists(why: str) -> ControlError:
    """A name that is taken: 409."""
    return ControlError(f"rpc error: code = AlreadyExists desc = {why}", HTTPStatus.CONFLICT)


def unimplemented(why: str) -> ControlError:
    """Something this version cannot do, in one sentence of ours: 501."""
    return ControlError(why, HTTPStatus.NOT_IMPLEMENTED)


def not_to_be_changed(why: str) -> ControlError:
    """Something that no update can change: 501, in the engine's words."""
    return ControlError(f"rpc error: code = Unimplemented desc = {why}", HTTPStatus.NOT_IMPLEMENTED)


def not_found(kind: str, reference: str) -> ControlError:
    """``service web not found``: 404."""
    return ControlError(f"{kind} {reference} not found", HTTPStatus.NOT_FOUND)


def ambiguous(kind: str, reference: str, matches: int) -> ControlError:
    """A name or prefix that several objects share: 500, as the engine has it."""
    return ControlError(
        f"{kind} {reference} is ambiguous ({matches} matches found)",
        HTTPStatus.INTERNAL_SERVER_ERROR,
    )


def no_leader() -> ControlError:
    """Too few managers are there to write anything: 500, as the engine has it."""
    return ControlError(
        f"rpc error: code = Unknown desc = {NO_LEADER}", HTTPStatus.INTERNAL_SERVER_ERROR
    )


def out_of_sequence() -> ControlError:
    """The object changed since the caller read it: 500, as the engine has it."""
    return ControlError(
        "rpc error: code = Unknown desc = update out of sequence",
        HTTPStatus.INTERNAL_SERVER_ERROR,
    )
