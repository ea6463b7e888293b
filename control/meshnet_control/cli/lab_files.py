"""``meshnet lab validate`` and ``apply``: a lab as a file says."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import click

from meshnet_control.cli import showing
from meshnet_control.cli.lab import progress
from meshnet_control.cli.visible import say
from meshnet_control.lab import lab_file
from meshnet_control.lab.apply_plan import Step
from meshnet_control.lab.applying import applying
from meshnet_control.lab.errors import LabError
from meshnet_control.lab.lab import lab_name
from meshnet_control.lab.layout import Layout

DEFAULT_FILE = "lab.yaml"
LONGEST_BYTES = 1 << 20
"""Of a lab file or lesson: 80 hosts and hundreds of probes have some ten thousand."""
FILE = click.argument(
    "file", type=click.Path(dir_okay=False, path_type=Path), default=Path(DEFAULT_FILE)
)


def text_of(file: Path) -> str:
    """A lab file's text.

    Raises:
        LabError: it cannot be read, or is longer than any such file.
    """
    try:
        with file.open("rb") as opened:
            content = opened.read(LONGEST_BYTES + 1)
        if len(content) > LONGEST_BYTES:
            raise LabError(f"{file} has more than {LONGEST_BYTES >> 20} MiB: it is no such file")
        return content.decode()
    except FileNotFoundError:
        raise LabError(f"{file}: no such file (its words: docs/lab-file.md)") from None
    except (OSError, UnicodeDecodeError) as error:
        raise LabError(f"{file}: {error}") from None


@click.command(short_help="Say what is wrong with a lab file.")
@FILE
@showing.FORMAT
def validate(file: Path, style: str) -> None:
    """Say all that is wrong with FILE (lab.yaml), with lines; exit status 1 if anything is."""
    text = text_of(file)
    try:
        found = lab_file.parsed(text, str(file))
    except lab_file.LabFileError as error:
        if style == "json":
            shown = [{"line": c.line, "where": c.where, "why": c.why} for c in error.complaints]
            showing.print_json({"file": str(file), "wrong": shown})
        else:
            say(str(error), err=True)
        raise SystemExit(1) from None
    if style == "json":
        showing.print_json({"file": str(file), "wrong": []})
        return
    counts = {
        "host": len(found.hosts),
        "LAN": len(found.lans),
        "link": len(found.links),
        "probe": len(found.probes),
    }
    told = ", ".join(f"{n} {what}{'' if n == 1 else 's'}" for what, n in counts.items())
    click.echo(f"{file} is a lab: {told}")


@click.command(short_help="Make the lab as a lab file says.")
@FILE
@click.option("--dry-run", is_flag=True, help="Say what there is to do, and do nothing.")
@showing.FORMAT
def apply(file: Path, style: str, *, dry_run: bool) -> None:
    """Make the lab as FILE (lab.yaml) says, whatever it is now; what fits is left alone.

    It is made if there is none. Hosts are added and removed, move to other LANs, join and leave
    the cluster; links change. To apply the same file again changes nothing.
    """
    began = time.monotonic()
    text = text_of(file)
    with progress() as report:
        work = applying(Layout(lab_name(os.environ)), text, str(file), report)
        steps = work.plan() if dry_run else work.run()
    if style == "json":
        showing.print_json({"dry_run": dry_run, "steps": said(steps)})
        return
    for line in said(steps):
        click.echo(line)
    if not steps:
        click.echo("the lab is as the file says")
    elif not dry_run:
        click.echo(f"the lab is as the file says, after {time.monotonic() - began:.1f} s")


def said(steps: list[Step]) -> list[Any]:
    """A line for each thing that is done. Pure."""
    return [line for step in steps for line in str(step).split("; ")]


COMMANDS = (validate, apply)
