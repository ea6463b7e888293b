"""The lab's one kind of error, and what a wrong name may have meant."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path
from typing import Final

from meshnet.errors import MeshnetError

_NEAR: Final = 0.5
"""Of names of two letters one may be wrong."""


class LabError(MeshnetError):
    """The lab cannot do what was asked; the sentence says why."""


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """What is done inside writes this file.

    Raises:
        LabError: it cannot be written, and why.
    """
    try:
        yield
    except FileNotFoundError:
        raise LabError(f"cannot write {path}: there is no directory {path.parent}") from None
    except OSError as error:
        raise LabError(f"cannot write {path}: {error.strerror or error}") from None


def meant(name: str, known: Iterable[str]) -> str:
    """``; did you mean …?`` of the words that are near, or nothing."""
    near = get_close_matches(name, list(known), n=1, cutoff=_NEAR)
    return f"; did you mean {near[0]}?" if near else ""
