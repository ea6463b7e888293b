"""``meshnet lab save`` and ``restore``: a lab with its cluster in a file."""

from __future__ import annotations

import os
import time
from pathlib import Path

import click

from meshnet_control.cli.lab import progress
from meshnet_control.lab import saving
from meshnet_control.lab.lab import Lab, lab_name
from meshnet_control.lab.layout import Layout

FILE = click.argument("file", type=click.Path(dir_okay=False, path_type=Path))


@click.command(short_help="Write the lab and its cluster to FILE.")
@FILE
def save(file: Path) -> None:
    """Write the lab to FILE: its lab file, its cluster (as meshnet backup), nodes' labels.

    Not in it: data of containers and volumes, and images that were loaded.
    """
    saved = saving.save(Lab.current(), file)
    what = "the lab and its cluster are" if saved.nodes is not None else "the lab is"
    click.echo(f"{what} in {file}")
    if saved.nodes is not None:
        click.echo(f"meshnet: whoever reads {file} has the cluster's keys and secrets", err=True)


@click.command(short_help="Make the lab that FILE holds.")
@FILE
def restore(file: Path) -> None:
    """Make the lab that FILE holds, where none is up: hosts, cluster, services.

    Its first manager is who it was; the other hosts join anew, and tasks are placed again.
    """
    began = time.monotonic()
    with progress() as report:
        lab = saving.restore(Layout(lab_name(os.environ)), file, report)
    names = ", ".join(host.name for host in lab.layout.hosts)
    click.echo(f"{names} and client are up in {time.monotonic() - began:.1f} s")


COMMANDS = (save, restore)
