"""What the engine says of a file in a container, running or not (``HEAD … /archive``).

Pure.
"""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from typing import Final

STAT_HEADER: Final = "X-Docker-Container-Path-Stat"
_TYPE: Final = 0x8F280000
"""Go's io/fs ``ModeType``: a regular file has none of these bits."""
_EXECUTABLE: Final = 0o111


@dataclass(frozen=True, slots=True)
class Found:
    """A file of a container."""

    executable: bool
    """A regular file that somebody may run."""
    target: str = ""
    """Where the link leads that it is, as an absolute path; empty: no link."""


def found_in(header: str) -> Found | None:
    """The file that ``STAT_HEADER`` describes; None: it describes none."""
    try:
        said = json.loads(base64.b64decode(header))
        mode, target = int(said["mode"]), str(said.get("linkTarget") or "")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    return Found(not mode & _TYPE and bool(mode & _EXECUTABLE), target)
