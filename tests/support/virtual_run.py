"""Runs a coroutine on a clock of its own."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any, TypeVar

from virtual_time import Inline, VirtualLoop

_T = TypeVar("_T")


def run(work: Coroutine[Any, Any, _T]) -> _T:
    """What it returns; hours of waiting take no time, threads are none."""
    loop = VirtualLoop()
    loop._default_executor = Inline()  # type: ignore[attr-defined]
    try:
        return loop.run_until_complete(work)
    finally:
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()
