"""Ends of units, read from entries as systemd 252 writes them."""

from __future__ import annotations

import pytest

from meshnet_control.host.unit_ends import FAILURE_RESULT, PROCESS_EXIT, last_end

NOW = 1000.0


def exited(at: float, code: str, status: int) -> dict[str, str]:
    stamp = str(int(at * 1e6))
    return {
        "MESSAGE_ID": PROCESS_EXIT, "__REALTIME_TIMESTAMP": stamp, "EXIT_CODE": code,
        "EXIT_STATUS": str(status),
    }  # fmt: skip


def failed(at: float, result: str) -> dict[str, str]:
    stamp = str(int(at * 1e6))
    return {
        "MESSAGE_ID": FAILURE_RESULT, "__REALTIME_TIMESTAMP": stamp, "UNIT_RESULT": result,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("entries", "wanted"),
    [
        ([], None),
        ([exited(990, "killed", 9), failed(990.1, "signal")],
         "killed by SIGKILL 10 s ago, 1 in all"),
        ([exited(990, "dumped", 6), failed(990.1, "watchdog")],
         "killed by SIGABRT (watchdog) 10 s ago, 1 in all"),
        ([exited(990, "exited", 1), failed(990.1, "exit-code")],
         "exit status 1 10 s ago, 1 in all"),
        ([exited(900, "killed", 9), failed(900, "oom-kill"),
          exited(995, "killed", 15), failed(995, "timeout")],
         "killed by SIGTERM (timeout) 5 s ago, 2 in all"),
        ([exited(2000, "killed", 9)], "killed by SIGKILL 0 s ago, 1 in all"),
    ],
)  # fmt: skip
def test_the_last_end_in_words(entries, wanted):
    assert last_end(entries, NOW) == wanted
