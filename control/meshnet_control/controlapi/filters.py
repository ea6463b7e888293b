"""The ``filters`` query parameter: parsed in both of its forms, and matched.

PURE. ``{"key":{"value":true}}`` is what the docker CLI sends, ``{"key":["value"]}`` what docker-py
and aiodocker send. Keys are ANDed, values of a key are ORed; labels are ANDed.

Source: moby api/types/filters/parse.go; swarmkit manager/controlapi/common.go.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from meshnet.errors import ControlError
from meshnet.patterns import Pattern
from meshnet_control.convert.json_text import parse_json

_LONGEST = 255
"""Characters of a name or an id that a pattern of a user's is tried on."""
Filters = Mapping[str, frozenset[str]]


def parse(raw: str | None, accepted: Iterable[str]) -> Filters:
    """Read the parameter.

    Args:
        raw: its JSON; None or empty: no filter.
        accepted: keys this list understands.

    Raises:
        ControlError: not JSON, or an unknown key (400).
    """
    if not raw:
        return {}
    try:
        said = parse_json(raw.encode(errors="surrogateescape"))
    except ControlError as error:
        raise ControlError(f"invalid filters: {error.message}") from None
    if said is None:
        return {}
    if not isinstance(said, dict):
        raise ControlError("invalid filters: expected a JSON object")
    filters: dict[str, frozenset[str]] = {}
    for key, values in said.items():
        if key not in set(accepted):
            raise ControlError(f"Invalid filter '{key}'")
        if not isinstance(values, list | dict) or not all(isinstance(v, str) for v in values):
            raise ControlError(f"invalid filters: values of '{key}' must be strings")
        filters[key] = frozenset(values)
    return filters


def prefix(wanted: Iterable[str] | None, *candidates: str) -> bool:
    """One of the candidates starts with one of the wanted values; true when nothing is wanted."""
    values = tuple(wanted or ())
    return not values or any(c.startswith(values) for c in candidates)


def exact(wanted: Iterable[str] | None, *candidates: str) -> bool:
    """One of the candidates is one of the wanted values; true when nothing is wanted."""
    values = frozenset(wanted or ())
    return not values or not values.isdisjoint(candidates)


def pattern(wanted: Iterable[str] | None, candidate: str) -> bool:
    """The candidate is, or contains a match of, a wanted value: network names and ids.

    Source: moby filters.Args.Match; a value that is no regular expression matches as text.
    """
    values = tuple(wanted or ())
    return not values or any(_found(value, candidate) for value in values)


def _found(value: str, candidate: str) -> bool:
    try:
        return value == candidate or Pattern(value, longest=_LONGEST).within(candidate)
    except ValueError:
        return value in candidate


def labels(wanted: Iterable[str] | None, has: Mapping[str, str]) -> bool:
    """Every wanted ``key`` or ``key=value`` is there."""
    for label in wanted or ():
        key, given, value = label.partition("=")
        if key not in has or (given and value and has[key] != value):
            return False
    return True


def flag(wanted: Iterable[str] | None) -> bool | None:
    """A boolean filter (``{"_up-to-date":{"true":true}}``); None when it is not given."""
    values = frozenset(wanted or ())
    if not values:
        return None
    return bool(values & {"1", "true", "True", "t"})
