"""``meshnet dns``: what a container hears when it asks for a name, and why; all names of a node."""

from __future__ import annotations

from collections.abc import Iterable

import click
from rich.table import Table

from meshnet_control.api import explain_pb2 as xpb
from meshnet_control.cli import showing
from meshnet_control.cli.admin_client import ask_one
from meshnet_control.cli.showing import wide_console
from meshnet_control.cli.visible import say

_CONTAINER = "Its id, the beginning of one, its name, or its task's."


@click.group()
def dns() -> None:
    """Names: what is answered, and why."""


@dns.command()
@click.option("--from", "container", required=True, metavar="CONTAINER", help=_CONTAINER)
@click.argument("name")
@click.argument("kind", metavar="[TYPE]", default="A")
@showing.FORMAT
def query(container: str, name: str, kind: str, style: str) -> None:
    """Ask for NAME as CONTAINER does, and say why it is answered so.

    A container of another node is asked about from a manager.
    """
    asked = xpb.NameQuestion(container=container, name=name, type=kind)
    answered = ask_one(xpb.Question(name=asked))
    found = answered.answer.name
    if style == "json":
        showing.print_json(showing.as_json(found))
    else:
        for line in answer_lines(found, answered.hostname):
            say(line)
        if found.claims:
            wide_console().print(records_table(found.claims))
    showing.complain(found.differs)
    if found.differs:
        raise SystemExit(1)


@dns.command()
@click.argument("container", required=False, default="")
@showing.FORMAT
def dump(container: str, style: str) -> None:
    """List every name that this node answers, or those that CONTAINER sees."""
    found = ask_one(xpb.Question(names=xpb.NamesQuestion(container=container))).answer.names
    if style == "json":
        showing.print_json(showing.as_json(found))
    else:
        console = wide_console()
        for network in found.networks:
            say(f"{network.network} ({network.subnet})")
            console.print(records_table(network.records))
            click.echo()
        if container:
            others = " ".join(found.upstreams) or "nobody"
            say(f"asked for all other names: {others}")
    showing.complain(each.differs for each in found.networks)


def answer_lines(found: xpb.NameAnswer, hostname: str) -> list[str]:
    """What was heard and why. Pure."""
    heard = f"{found.result} after {found.seconds * 1e3:.1f} ms" if found.result else "nothing"
    lines = [
        f"{found.container} on {hostname} asks for {found.name} {found.type}",
        f"heard: {heard}",
        *(f"  {record}" for record in found.records),
        f"why: {found.reason}",
    ]
    if found.upstreams:
        lines.append(f"asked: {' '.join(found.upstreams)}")
    return lines


def records_table(records: Iterable[xpb.NameRecord]) -> Table:
    """A line for each record. Pure."""
    table = showing.table("NAME", "ADDRESSES", "RECORD", "OF")
    for record in records:
        owner = showing.short_task(record.owner)
        table.add_row(record.name, " ".join(record.addresses) or "-", record.kind, owner)
    return table
