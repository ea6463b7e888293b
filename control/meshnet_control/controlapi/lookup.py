"""Find the one object a user means: by its id, else by its name, else by a unique id prefix.

PURE. Source: moby daemon/cluster/helpers.go (getService, getNode, getTask, getSecret, ...).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

from meshnet_control.controlapi.refusals import ambiguous, not_found


class Identified(Protocol):
    """A stored object."""

    @property
    def id(self) -> str: ...  # noqa: D102


T = TypeVar("T", bound=Identified)


def find(kind: str, objects: Sequence[T], reference: str, name_of: Callable[[T], str]) -> T:
    """The object meant by ``reference``.

    Args:
        kind: its word in a refusal: ``service``.
        objects: all of that kind.
        reference: id, name or unique prefix of an id.
        name_of: the object's name.

    Raises:
        ControlError: none (404), or several (500).
    """
    found = search(objects, reference, name_of)
    if not found:
        raise not_found(kind, reference)
    if len(found) > 1:
        raise ambiguous(kind, reference, len(found))
    return found[0]


def search(objects: Sequence[T], reference: str, name_of: Callable[[T], str]) -> list[T]:
    """All objects that ``reference`` may mean; exact ids win over names, names over prefixes."""
    if not reference:
        return []
    return (
        [o for o in objects if o.id == reference]
        or [o for o in objects if name_of(o) == reference]
        or [o for o in objects if o.id.startswith(reference)]
    )
