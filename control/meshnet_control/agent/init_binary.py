"""docker-init on this host: what the engine has as the first process of ``--init``."""

from __future__ import annotations

import os
import shutil
from typing import Final

_BEFORE_PATH: Final = (
    "/usr/local/libexec/docker",
    "/usr/libexec/docker",
    "/usr/local/lib/docker",
    "/usr/lib/docker",
)
"""Where an engine looks first. Source: moby daemon/config/config_linux.go ``lookupBinPath``."""


def path_of(said: str) -> str:
    """Where the engine has it; empty: it is not there, and the engine is to say so.

    Args:
        said: ``InitBinary`` of ``GET /info``: a path of its own, or a name.
    """
    places = (*_BEFORE_PATH, os.environ.get("PATH", os.defpath))
    return shutil.which(said, path=os.pathsep.join(places)) or "" if said else ""
