"""``meshnet lab play``: a lesson, aloud."""

from __future__ import annotations

import time
from pathlib import Path

import click

from meshnet_control.cli import showing
from meshnet_control.cli.lab import audience
from meshnet_control.cli.lab_files import text_of
from meshnet_control.lab import lesson
from meshnet_control.lab.errors import LabError, writing
from meshnet_control.lab.lab import Lab, need_root
from meshnet_control.lab.play import Play
from meshnet_control.lab.playing import Playing


@click.command(short_help="Play a lesson (docs/lessons) on the lab.")
@click.option("--step", is_flag=True, help="Wait for Enter before each command.")
@click.option("--write", is_flag=True, help="Write what is seen into FILE, in place of what was.")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
def play(file: Path, *, step: bool, write: bool) -> None:
    """Play a lesson: show its text, run its commands, and insist on what the text says.

    The lessons are in docs/lessons, their lab is docs/lessons/lab.yaml. Exit status 1 where
    something else is seen.
    """
    need_root()
    current = Lab.current()
    if not current.observe().is_up:
        raise LabError("the lab is not up: meshnet lab apply docs/lessons/lab.yaml")
    told = lesson.parsed(text_of(file), str(file))
    began = time.monotonic()
    show = audience(showing.plain_console(highlight=False, soft_wrap=True))

    def wait() -> None:
        if step:
            click.prompt("Enter", default="", show_default=False, prompt_suffix=" …")

    playing = Playing(Play(current, show=show), wait)
    playing.run(told)
    if write:
        text = lesson.written(told, lambda command: playing.seen[command])
        with writing(file):
            file.write_text(text)
    click.echo(f"{file.stem}: all holds, after {time.monotonic() - began:.0f} s")
