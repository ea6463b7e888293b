"""``meshnet rebalance``: tasks spread as if they were placed today, by the fewest moves."""

from __future__ import annotations

import click

from meshnet_control.api import explain_pb2 as xpb
from meshnet_control.cli import showing
from meshnet_control.cli.admin_client import stream_admin
from meshnet_control.cli.visible import say

EVEN = "every service is spread as evenly as it can be"


@click.command(short_help="Spread tasks evenly again, by the fewest moves, one by one.")
@click.option("--dry-run", is_flag=True, help="Say what would be moved, and move nothing.")
@showing.FORMAT
def rebalance(style: str, *, dry_run: bool) -> None:
    """Spread the tasks of services evenly over the nodes again, one after the other.

    Of two nodes that a service's tasks fit on, none has two tasks more than the other afterwards,
    and no task is moved that need not be. A task that is moved drains and ends, its successor
    begins elsewhere; the next one is moved when that runs. Services with placement preferences
    or in an update, global ones and jobs are left alone. Typed on a manager.
    """
    told = []
    for moved in stream_admin(xpb.RebalanceRequest(dry_run=dry_run)):
        told.append(moved)
        if style != "json":
            say(line(moved, dry=dry_run))
    if style == "json":
        showing.print_json([showing.as_json(each) for each in told if each.done or dry_run])
    elif not told:
        click.echo(EVEN)


def line(moved: xpb.Moved, *, dry: bool) -> str:
    """One move as a person reads it. Pure."""
    name = showing.short_task(moved.task)
    if dry:
        return f"{name} would move from {moved.source} to {moved.target}"
    if moved.done:
        return f"{name} runs on {moved.target}; {moved.left} to go"
    return f"{name} moves from {moved.source}"
