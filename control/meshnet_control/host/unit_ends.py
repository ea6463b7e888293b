"""How units of systemd ended, as its own journal tells.

systemd writes an entry when a main process ends badly, and one when the unit has failed with a
reason (``watchdog``, ``oom-kill`` …). An end that was asked for leaves neither.

Source: systemd.journal-fields(7); the message ids and fields of systemd's src/core/unit.c.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterable, Mapping
from typing import Any, Final

from meshnet_control.host.supervision import end_of

PROCESS_EXIT: Final = "98e322203f7a4ed290d09fe03c09fe15"
"""SD_MESSAGE_UNIT_PROCESS_EXIT."""
FAILURE_RESULT: Final = "d9b373ed55a64feb8242e02dbe79a49c"
"""SD_MESSAGE_UNIT_FAILURE_RESULT."""
_PLAIN_RESULTS: Final = frozenset({"exit-code", "signal", "core-dump"})
"""Those that say no more than how the process ended."""
_ASKS_S: Final = 10.0


def last_end(entries: Iterable[Mapping[str, Any]], now: float) -> str | None:
    """How the last end came about, in words; None: nothing ended badly. Pure.

    Args:
        entries: of one unit, oldest first.
        now: unix seconds.
    """
    exits = [entry for entry in entries if entry.get("MESSAGE_ID") == PROCESS_EXIT]
    if not exits:
        return None
    last = exits[-1]
    results = [
        str(entry.get("UNIT_RESULT"))
        for entry in entries
        if entry.get("MESSAGE_ID") == FAILURE_RESULT and _at(entry) >= _at(last)
    ]
    why = "".join(f" ({result})" for result in results if result not in _PLAIN_RESULTS)
    status = int(last.get("EXIT_STATUS", 0))
    how = end_of(status if last.get("EXIT_CODE") == "exited" else -status)
    return f"{how}{why} {max(0.0, now - _at(last)):.0f} s ago, {len(exits)} in all"


def read(unit: str) -> list[Mapping[str, Any]]:
    """The entries of this boot on a unit's ends; none where there is no journal."""
    argv = ["journalctl", "--quiet", "--boot", "--output=json", "--no-pager", "_PID=1"]
    which = [f"UNIT={unit}", f"MESSAGE_ID={PROCESS_EXIT}", f"MESSAGE_ID={FAILURE_RESULT}"]
    try:
        done = subprocess.run(
            [*argv, *which], capture_output=True, text=True, check=False, timeout=_ASKS_S
        )
        return [json.loads(line) for line in done.stdout.splitlines()]
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return []


def _at(entry: Mapping[str, Any]) -> float:
    return int(entry.get("__REALTIME_TIMESTAMP", 0)) / 1e6
