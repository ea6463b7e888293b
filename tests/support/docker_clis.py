"""Which docker CLIs a machine has."""

from __future__ import annotations

import os
import shutil


def distinct_clis() -> list[str]:
    """The docker CLIs on PATH and in the usual places, one for each file."""
    places = [*os.environ.get("PATH", "").split(":"), "/usr/local/bin", "/usr/bin"]
    found = {
        os.path.realpath(path): path
        for path in (shutil.which("docker", path=place) for place in places if place)
        if path is not None
    }
    return list(found.values()) or ["docker"]
