r"""Placement constraints as text: ``node.labels.zone != a`` in its three parts. Pure.

Read here both when a service is checked and when its tasks are placed.
Source: swarmkit manager/constraint/constraint.go Parse.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from meshnet.patterns import Pattern

OPERATORS: Final = ("==", "!=")
_LONGEST: Final = 1024
_KEY: Final = Pattern(r"(?i)[a-z_][a-z0-9\-_.]+", longest=_LONGEST)
_VALUE: Final = Pattern(r"(?i)[a-z0-9:\-_\s.*()?+\[\]\\^$|/]+", longest=_LONGEST)


@dataclass(frozen=True, slots=True)
class Constraint:
    """What a node must have, or must not."""

    key: str
    equal: bool
    """``==``; else ``!=``."""
    value: str


def parse(text: str) -> Constraint:
    """A constraint from its text.

    Raises:
        ValueError: it is none, in swarmkit's words.
    """
    operator = next((o for o in OPERATORS if o in text), None)
    if operator is None:
        raise ValueError(f"constraint expected one operator from {', '.join(OPERATORS)}")
    key, _, value = (part.strip() for part in text.partition(operator))
    if not _KEY.fits(key):
        raise ValueError(f"key '{key}' is invalid")
    if not _VALUE.fits(value):
        raise ValueError(f"value '{value}' is invalid")
    return Constraint(key, operator == "==", value)
