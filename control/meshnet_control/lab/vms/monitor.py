"""What is done to a virtual machine from outside of it: stop it, and let it go on.

QEMU's own socket, one JSON value a line. Source: QEMU Machine Protocol Specification.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from meshnet_control.lab.adapter import wait_for
from meshnet_control.lab.errors import LabError
from meshnet_control.lab.layout import Layout

_ANSWERS_S: Final = 60.0
_ASLEEP_S: Final = 300.0


def socket_of(layout: Layout, name: str) -> Path:
    """Where QEMU listens for a machine of the lab."""
    return layout.run_dir(name) / "qmp"


def suspend(layout: Layout, name: str) -> None:
    """Stop a machine between two instructions; its own clock stands still, others' go on.

    Raises:
        LabError: it does not run, or QEMU's own words.
    """
    _told(layout, name, "stop")


def resume(layout: Layout, name: str) -> None:
    """Let a machine that was stopped go on.

    Raises:
        LabError: it does not run, or QEMU's own words.
    """
    _told(layout, name, "cont")


def wake(layout: Layout, name: str) -> None:
    """Press the button of a machine that sleeps (ACPI S3).

    Raises:
        LabError: it does not run, or QEMU's own words.
    """
    _told(layout, name, "system_wakeup")


def until_asleep(layout: Layout, name: str) -> None:
    """Wait until a machine that was asked to sleep does.

    Raises:
        LabError: it does not run, or does not sleep in time.
    """
    wait_for(
        f"{name} to sleep",
        lambda: _told(layout, name, "query-status") == "suspended",
        timeout_s=_ASLEEP_S,
        interval_s=0.5,
    )


def _told(layout: Layout, name: str, command: str) -> str:
    """Have QEMU do it; the status in its answer, empty where it has none."""
    with socket.socket(socket.AF_UNIX) as made:
        made.settimeout(_ANSWERS_S)
        try:
            made.connect(str(socket_of(layout, name)))
            with made.makefile("rw") as lines:
                lines.readline()  # the greeting
                said: dict[str, Any] = {}
                for each in ("qmp_capabilities", command):
                    lines.write(json.dumps({"execute": each}) + "\n")
                    lines.flush()
                    said = _answered(name, each, lines.readline)
                return str(said.get("status", ""))
        except OSError as error:
            raise LabError(f"{name}: {command}: {error}") from None


def _answered(name: str, command: str, readline: Callable[[], str]) -> dict[str, Any]:
    """Read until the answer of a command; events come between."""
    while True:
        said = json.loads(readline() or '{"error": {"desc": "QEMU ended"}}')
        if "error" in said:
            raise LabError(f"{name}: {command}: {said['error']['desc']}")
        if "return" in said:
            found: dict[str, Any] = said["return"]
            return found
