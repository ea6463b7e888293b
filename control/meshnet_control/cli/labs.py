"""``meshnet lab`` with all of its commands."""

from __future__ import annotations

from meshnet_control.cli import lab_files
from meshnet_control.cli.lab import lab

for _command in lab_files.COMMANDS:
    lab.add_command(_command)

__all__ = ["lab"]
