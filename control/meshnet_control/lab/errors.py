"""The lab's one kind of error, and what a wrong name may have meant."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from typing import Final

from meshnet.errors import MeshnetError

_NEAR: Final = 0.5
"""Of names of two letters one may be wrong."""


class LabError(MeshnetError):
    """The lab cannot do what was asked; the sentence says why."""


def meant(name: str, known: Iterable[str]) -> str:
    """``; did you mean …?`` of the words that are near, or nothing."""
    near = get_close_matches(name, list(known), n=1, cutoff=_NEAR)
    return f"; did you mean {near[0]}?" if near else ""
