r"""Regular expressions for what others say: length first, the whole text, linear time.

``Pattern("[a-z]+", longest=63).match(text)``

The engine is RE2, as in Go: time is linear in the text whatever the expression is, also when the
expression itself is a stranger's; look-around and back references do not exist; ``\w``, ``\d`` and
``\s`` are ASCII. Nothing else in meshnet imports ``re`` or ``re2`` (an import contract).

Source: https://github.com/google/re2/wiki/Syntax.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import re2

_MEMORY_BYTES: Final = 1 << 20
"""Of one compiled expression; RE2 refuses larger ones (``a{1000}{1000}``)."""


class Pattern:
    """An expression that a whole text fits, or does not.

    Args:
        expression: in RE2's syntax.
        longest: characters of the longest text that is looked at; longer ones do not fit.

    Raises:
        ValueError: no expression, or one that takes too much memory.
    """

    def __init__(self, expression: str, *, longest: int) -> None:
        self.expression = expression
        self.longest = longest
        self._compiled = _compiled(expression)

    def match(self, text: str) -> Mapping[str | int, str] | None:
        """The groups by number and name when the whole text fits, else None.

        A group that took no part is the empty text.
        """
        if not _is_text(text, self.longest):
            return None
        found = self._compiled.fullmatch(text)
        if found is None:
            return None
        groups = {**dict(enumerate(found.groups(), start=1)), **found.groupdict()}
        return {name: said or "" for name, said in groups.items()}

    def fits(self, text: str) -> bool:
        """True when the whole text fits."""
        return _is_text(text, self.longest) and self._compiled.fullmatch(text) is not None

    def within(self, text: str) -> bool:
        """True when some part of a text, no longer than ``longest`` as a whole, fits."""
        return _is_text(text, self.longest) and self._compiled.search(text) is not None


def _compiled(expression: str) -> re2._Regexp:
    options = re2.Options()
    options.log_errors = False
    options.max_mem = _MEMORY_BYTES
    try:
        return re2.compile(expression, options)
    except (re2.error, UnicodeEncodeError) as error:
        raise ValueError(f"not a regular expression: {expression!r}: {error}") from None


def _is_text(text: str, longest: int) -> bool:
    """Not too long, and no half of a surrogate pair in it, which UTF-8 cannot say."""
    if len(text) > longest:
        return False
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
