"""``meshnet lab graph``: a picture of the lab as it is."""

from __future__ import annotations

from pathlib import Path

import click

from meshnet_control.cli import showing
from meshnet_control.lab import hearsay, link_state
from meshnet_control.lab.errors import LabError, writing
from meshnet_control.lab.lab import Lab, need_root
from meshnet_control.lab.picture import as_json, dot, picture
from meshnet_control.lab.picture_page import page


@click.command(short_help="Draw the lab: dot, HTML or JSON.")
@click.option("--dot", "style", flag_value="dot", default="dot", help="For Graphviz (as it is).")
@click.option("--html", "style", flag_value="html", help="A page that needs nothing else.")
@click.option("--format", "style", type=click.Choice(["dot", "html", "json"]), hidden=True)
@click.option(
    "-o", "--output", type=click.Path(dir_okay=False, path_type=Path), help="Into a file."
)
def graph(style: str, output: Path | None) -> None:
    """Draw machines, LANs, the router, links that are impaired, tasks, VIPs and VTEPs, as now."""
    need_root()
    lab = Lab.current()
    up = lab.observe()
    if not up.is_up:
        raise LabError("the lab is not up: meshnet lab up")
    whole = [machine.name for machine in lab.layout.machines if up.is_whole(machine.name)]
    drawn = picture(lab.layout, whole, hearsay.ask(lab), link_state.observe(lab.layout))
    if style == "json":
        showing.print_json(as_json(drawn))
        return
    text = page(drawn) if style == "html" else dot(drawn)
    if output is None:
        click.echo(text, nl=False)
        return
    with writing(output):
        output.write_text(text)
    click.echo(f"the lab is drawn in {output}")
