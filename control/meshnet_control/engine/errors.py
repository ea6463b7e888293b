"""What can go wrong with the local engine, in the engine's own words where it has some.

Be aware: ``EngineGoneError`` says nothing of any container: it was not asked. Whoever gets it asks
again.
"""

from __future__ import annotations

import errno
import os
from http import HTTPStatus
from typing import Final

from meshnet.errors import ControlError

_STARVED: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS})


class EngineError(ControlError):
    """The engine refused; ``message`` is what it said."""


class EngineNotFoundError(EngineError):
    """No such container, network or image."""


class EngineConflictError(EngineError):
    """The name is taken, or the container is not in a state that allows it."""


class EngineGoneError(EngineError):
    """Nobody answers on the engine's socket."""


class EngineUnaskedError(EngineGoneError):
    """This process has nothing left to ask with: descriptors or memory; the engine may be well."""


def refused(message: str, status: int) -> EngineError:
    """The error of an answer that is one; ``status``: of HTTP, 400 or more."""
    if status == HTTPStatus.NOT_FOUND:
        return EngineNotFoundError(message, status)
    if status == HTTPStatus.CONFLICT:
        return EngineConflictError(message, status)
    return EngineError(message, status)


def unanswered(url: str, error: BaseException | None = None) -> EngineGoneError:
    """Docker's sentence for an engine that does not answer, unless it is we who could not ask.

    Args:
        url: ``unix:///run/docker.sock``.
        error: what the way to it ended with; None: it ended the stream.
    """
    number = error.errno if isinstance(error, OSError) else None
    if number in _STARVED:
        said = f"The Docker daemon at {url} cannot be asked: {os.strerror(number).lower()}"
        return EngineUnaskedError(said, HTTPStatus.SERVICE_UNAVAILABLE)
    said = f"Cannot connect to the Docker daemon at {url}. Is the docker daemon running?"
    return EngineGoneError(said, HTTPStatus.SERVICE_UNAVAILABLE)
