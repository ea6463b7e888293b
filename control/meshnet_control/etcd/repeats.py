"""A log that says the same again and again: said once a minute, with how often it was. Pure.

etcd says of a member that is away dozens of times a second that its buffer is full.
"""

from __future__ import annotations

import string
from typing import Final

REPEAT_S: Final = 60.0
KINDS: Final = 200
"""Of sentences remembered; the oldest are forgotten, and said anew."""
_NO_DIGITS: Final = str.maketrans("", "", string.digits)


class Repeats:
    """What was said lately; two sentences are the same if they differ in digits alone."""

    def __init__(self) -> None:
        self._said: dict[str, tuple[float, int]] = {}

    def heard(self, sentence: str, now: float) -> str:
        """What is to be said for a sentence; empty: nothing.

        Args:
            sentence: the next one.
            now: monotonic seconds.
        """
        kind = sentence.translate(_NO_DIGITS)
        since, more = self._said.get(kind, (now, -1))
        if more >= 0 and now - since < REPEAT_S:
            self._said[kind] = (since, more + 1)
            return ""
        self._said.pop(kind, None)
        self._said[kind] = (now, 0)
        if len(self._said) > KINDS:
            del self._said[next(iter(self._said))]
        if more <= 0:
            return sentence
        return f"{sentence} (and {more} times more within {now - since:.0f} s)"
