"""What a user means by a name, an id or the beginning of one; who else may be meant. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Final, TypeVar

from meshnet.errors import ControlError

T = TypeVar("T")
FEW: Final = 6
"""Names that fit into a sentence."""


def found(
    kind: str,
    reference: str,
    known: Mapping[str, T],
    names: Mapping[str, str],
    others: Iterable[str] = (),
) -> T:
    """The only one that is meant.

    Args:
        kind: such as ``service``, for the error.
        reference: as typed.
        known: id -> object.
        names: id -> name.
        others: words that may have been meant as well, and that something else is said by.

    Raises:
        ControlError: none is (404) or several are (400), in Docker's words.
    """
    exact = [id_ for id_ in known if reference in {id_, names.get(id_)}]
    fits = exact or [id_ for id_ in known if reference and id_.startswith(reference)]
    if not fits:  # a task by its name less its id, as docker service ps prints it
        fits = [id_ for id_ in known if reference and short(names.get(id_, ""), id_) == reference]
    if len(fits) == 1:
        return known[fits[0]]
    if fits:
        raise ControlError(f"{kind} {reference} is ambiguous ({len(fits)} matches found)", 400)
    words = {*others, *(short(names[id_], id_) for id_ in known if id_ in names)}
    raise ControlError(f"no such {kind}: {reference}{meant(reference, sorted(words))}", 404)


def short(name: str, task: str) -> str:
    """A task's name less its id, as docker service ps prints it."""
    return name.removesuffix(f".{task}")


def meant(reference: str, known: Iterable[str]) -> str:
    """``; did you mean …?`` of the names that are near; else what there is, where that is few."""
    words = sorted(set(known))
    near = get_close_matches(reference, words, n=3)
    if near:
        return f"; did you mean {' or '.join(near)}?"
    return f" (there is {', '.join(words)})" if 0 < len(words) <= FEW else ""
