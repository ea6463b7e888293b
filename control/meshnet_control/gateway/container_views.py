"""What is shown of a container otherwise than the engine says it, whatever its networks. Pure.

A view is a function from the engine's JSON to what is shown; it returns the same object where it
has nothing to say. They are applied in turn.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from meshnet_control.agent import engine_socket
from meshnet_control.gateway import own_words

View = Callable[[Mapping[str, Any]], Mapping[str, Any]]

LISTED: Final[tuple[View, ...]] = (own_words.listed, engine_socket.listed)
"""Of one container in ``docker ps``."""
INSPECTED: Final[tuple[View, ...]] = (own_words.inspected, engine_socket.inspected)
"""Of ``docker inspect``."""


def seen(found: Mapping[str, Any], views: tuple[View, ...]) -> Mapping[str, Any]:
    """A container through all views."""
    for view in views:
        found = view(found)
    return found
