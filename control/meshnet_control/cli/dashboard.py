"""``meshnet dashboard``: where the page is, and whether there is one."""

from __future__ import annotations

import click

from meshnet_control.dashboard import token
from meshnet_control.dashboard.token import DASHBOARD
from meshnet_control.host import processes
from meshnet_control.served.address import OFF, is_here


@click.command(short_help="Show the cluster in a browser; says at which address.")
@click.argument("address", required=False, metavar="[[ADDR:]PORT|off]")
@click.option("--new-token", is_flag=True, help="Have who knows the token of now see nothing more.")
def dashboard(address: str | None, *, new_token: bool) -> None:
    """Serve a page that shows the cluster, and print its address.

    Without ADDR only this host itself may look, at port 9000 unless another one is given. At any
    other address, and for logs of tasks, the token is needed that is part of what is printed. Kept
    until 'off'.
    """
    processes.need_root()
    there = DASHBOARD.kept(processes.state_dir())
    for line in kept(address or there or str(DASHBOARD.port), anew=new_token):
        click.echo(line)
    if not processes.serving() and address != OFF:
        click.echo("meshnet does not run here now: the page is served from meshnet up on", err=True)


def kept(address: str, *, anew: bool = False) -> list[str]:
    """Keep where it is served, and the lines that say so.

    Args:
        address: as typed.
        anew: with another token.

    Raises:
        ControlError: it is no address.
    """
    state_dir = processes.state_dir()
    served = DASHBOARD.keep(state_dir, address)
    if not served:
        return ["dashboard: off"]
    host, _ = DASHBOARD.parsed(served)
    lines = [f"dashboard: {token.url(state_dir, served, anew=anew)}"]
    if not is_here(host):
        lines.append(f"this host does not have {host} now: it is served once it has")
    return lines
