"""Stack files and services over each other: the later one wins, lists grow. Pure.

``!reset`` takes away what the earlier one has, ``!override`` replaces it.

Source: the Compose specification, 13-merge.md.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from meshnet_control.stack.values import pairs


@dataclass(frozen=True, slots=True)
class Override:
    """A value that replaces the earlier one; None: that takes it away."""

    value: Any


_REPLACED: Final = frozenset({"command", "entrypoint", "test"})
"""Lists that do not grow."""
_PAIRS: Final = frozenset({"environment", "labels", "sysctls", "driver_opts", "options"})
_BY_NAME: Final = frozenset({"networks", "depends_on"})
"""Lists of names, or mappings by name."""


def merged(base: Any, over: Any, key: str = "") -> Any:  # noqa: ANN401 - any YAML value
    """What two values of one key are together; neither is changed.

    Args:
        base: the earlier one; None: there is none.
        over: the later one; None: it says nothing.
        key: their name, which says how lists grow.
    """
    if isinstance(over, Override):
        return settled(over.value)
    if base is None or over is None:
        return settled(over if base is None else base)
    if key in _PAIRS and (isinstance(base, list) or isinstance(over, list)):
        base, over = pairs(base, key), pairs(over, key)
    elif key in _BY_NAME:
        base, over = _by_name(base, key), _by_name(over, key)
    if isinstance(base, Mapping) and isinstance(over, Mapping):
        both = {
            name: merged(base.get(name), over.get(name), str(name))
            for name in dict.fromkeys([*base, *over])
        }
        return {name: value for name, value in both.items() if not _is_reset(over.get(name))}
    if isinstance(base, list) and isinstance(over, list) and key not in _REPLACED:
        identity = _place if key in {"volumes", "secrets", "configs"} else repr
        return list(_unique([*base, *settled(over)], identity).values())
    return settled(over)


def settled(value: Any) -> Any:  # noqa: ANN401 - any YAML value
    """A value whose ``!reset`` and ``!override`` have nothing to act on."""
    if isinstance(value, Override):
        return settled(value.value)
    if isinstance(value, dict):
        return {key: settled(one) for key, one in value.items() if not _is_reset(one)}
    return [settled(one) for one in value] if isinstance(value, list) else value


def _is_reset(value: object) -> bool:
    return isinstance(value, Override) and value.value is None


def _by_name(value: Any, key: str) -> Any:  # noqa: ANN401 - any YAML value
    if not isinstance(value, list):
        return value
    empty = {"condition": "service_started"} if key == "depends_on" else None
    return {str(name): empty for name in value}


def _unique(values: list[Any], identity: Callable[[Any], str]) -> dict[str, Any]:
    return {identity(value): value for value in values}


def _place(value: Any) -> str:  # noqa: ANN401 - any YAML value
    """Where a file or volume is in the container: one place holds one."""
    if isinstance(value, Mapping):
        return str(value.get("target") or value.get("source"))
    words = str(value).split(":")
    return words[1] if len(words) > 1 else words[0]
