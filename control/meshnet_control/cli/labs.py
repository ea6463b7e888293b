"""``meshnet lab`` with all of its commands."""

from __future__ import annotations

from meshnet_control.cli import (
    lab_capture,
    lab_checks,
    lab_files,
    lab_graph,
    lab_links,
    lab_play,
    lab_saves,
)
from meshnet_control.cli.lab import lab

for _command in (
    *lab_files.COMMANDS,
    *lab_saves.COMMANDS,
    lab_links.link,
    lab_capture.capture,
    lab_graph.graph,
    lab_play.play,
):
    lab.add_command(_command)
for _name, _command in lab_checks.COMMANDS.items():
    lab.add_command(_command, _name)

__all__ = ["lab"]
