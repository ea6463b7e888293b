"""How often functions are called: costs as counts, which no other work on the machine changes."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable
from types import FrameType
from typing import Any


def visits(work: Callable[[], object], *functions: Callable[..., Any]) -> list[int]:
    """Calls of each of these functions of ours while some work is done, in this thread.

    Args:
        work: what is done.
        functions: plain ones, as they are defined; generators count each time that they go on.
    """
    wanted = {function.__code__: at for at, function in enumerate(functions)}
    found: Counter[int] = Counter()

    def called(frame: FrameType, event: str, _: object) -> None:
        if event == "call" and frame.f_code in wanted:
            found[wanted[frame.f_code]] += 1

    before = sys.getprofile()
    sys.setprofile(called)
    try:
        work()
    finally:
        sys.setprofile(before)
    return [found[at] for at in range(len(functions))]
