"""What the shell starts: the command is loaded here, so that Ctrl-C ends it then as well."""

from __future__ import annotations

import importlib
import sys


def main() -> None:
    """Load the command and run it; exit as ``main.main``, 130 also when loading is interrupted."""
    try:
        command = importlib.import_module("meshnet_control.cli.main")
    except KeyboardInterrupt:
        sys.exit(130)
    command.main()
