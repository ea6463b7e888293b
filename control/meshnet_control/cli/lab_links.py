"""``meshnet lab link``: what a machine's cable, or the way between two, does to packets."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any, TypeVar

import click

from meshnet_control.cli import showing
from meshnet_control.lab import link_state, topology
from meshnet_control.lab.errors import LabError, meant
from meshnet_control.lab.lab import Lab, need_root
from meshnet_control.lab.layout import Layout
from meshnet_control.lab.topology import Ends, Impairment, Links

T = TypeVar("T")


class _Links(click.Group):
    """``link h1 h2 --loss 10%`` is ``link set h1 h2 --loss 10%``."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The first word is a command, or the first end of a link."""
        if args[0] not in self.commands:
            args = ["set", *args]
        return super().resolve_command(ctx, args)


def _read(read_as: Callable[[str], T]) -> Callable[..., T | None]:
    def callback(_ctx: click.Context, _param: click.Parameter, said: str | None) -> T | None:
        try:
            return None if said is None else read_as(said)
        except ValueError as error:
            raise click.BadParameter(str(error)) from None

    return callback


@click.group(cls=_Links, short_help="Loss, rate, delay of links, or down.")
def link() -> None:
    """Links: loss, rate, delay, down; of one machine, two machines or two LANs.

    meshnet lab link h1 h2 --loss 10% is meshnet lab link set h1 h2 --loss 10%.
    """


@link.command("set")
@click.argument("link_ends", metavar="END [END]", nargs=-1, required=True)
@click.option("--loss", callback=_read(topology.loss), help="Packets that are lost, such as 10%.")
@click.option(
    "--rate",
    callback=_read(lambda text: 0 if text == "0" else topology.rate(text)),
    help="What passes, such as 10mbit; 0: all.",
)
@click.option(
    "--delay", callback=_read(topology.delay_ms), help="To one machine, such as 50ms; needs netem."
)
@click.option("--down/--up", default=None, help="Whether nothing passes.")
def set_(
    *,
    link_ends: tuple[str, ...],
    loss: int | None,
    rate: int | None,
    delay: int | None,
    down: bool | None,
) -> None:
    """Set what is named and leave the rest of the link as it is."""
    layout = _layout()
    key = known_ends(layout, link_ends)
    said = {"loss": loss, "rate": rate, "delay_ms": delay, "down": down}
    told = {name: value for name, value in said.items() if value is not None}
    if not told:
        raise LabError("say what the link does: --loss, --rate, --delay, --down or --up")
    if len(key) > 1 and delay:
        raise LabError("a delay is of a machine's cable: meshnet lab link h1 --delay 50ms")
    with link_state.changing(layout) as links:
        changes: dict[str, Any] = told
        links[key] = replace(links.get(key, Impairment()), **changes)
        now = links[key]
    click.echo(f"{' '.join(key)}: {now}")


@link.command()
@showing.FORMAT
def show(style: str) -> None:
    """Show links that do anything to packets, as the kernel has them."""
    found = link_state.observe(_layout())
    if style == "json":
        showing.print_json(rows(found))
        return
    if not found:
        click.echo("all links take packets as they come")
        return
    table = showing.table("LINK", "LOSS", "RATE", "DELAY", "STATE")
    for key, each in sorted(found.items()):
        parts = dict(part.partition(" ")[::2] for part in each.parts())
        words = [parts.get(word, "-") for word in ("loss", "rate", "delay")]
        table.add_row(" ".join(key), *words, "down" if each.down else "up")
    showing.wide_console().print(table)


@link.command()
@click.argument("link_ends", metavar="[END [END]]", nargs=-1)
def reset(link_ends: tuple[str, ...]) -> None:
    """Make a link, or all of them, take packets as they come."""
    layout = _layout()
    key = known_ends(layout, link_ends) if link_ends else None
    with link_state.changing(layout) as links:
        for each in list(links) if key is None else [key]:
            links.pop(each, None)
    click.echo(f"{' '.join(key) if key else 'all links'}: as it comes")


def known_ends(layout: Layout, names: Iterable[str]) -> Ends:
    """A link of the lab by its ends as typed. Pure.

    Raises:
        LabError: no such machine or LAN, or not one machine, two machines or two LANs.
    """
    typed = list(names)
    lans = {lan.name for lan in layout.lans}
    machines = {machine.name for machine in layout.machines}
    for name in typed:
        if name not in lans | machines:
            known = sorted(lans | machines)
            raise LabError(
                f"no machine or LAN {name!r} in this lab{meant(name, known)} "
                f"(it has {', '.join(known)})"
            )
    two = len(set(typed)) == len(typed) == 2  # noqa: PLR2004
    if not (two and (lans.issuperset(typed) or machines.issuperset(typed))) and not (
        len(typed) == 1 and typed[0] in machines
    ):
        raise LabError("a link has one machine, or two machines, or two LANs")
    return topology.ends(typed)


def rows(links: Links) -> list[dict[str, object]]:
    """For programs: numbers and no words. Pure."""
    return [
        {
            "ends": list(key),
            "loss_percent": each.loss / 100,
            "rate_bit_s": each.rate or None,
            "delay_ms": each.delay_ms,
            "down": each.down,
        }
        for key, each in sorted(links.items())
    ]


def _layout() -> Layout:
    need_root()
    current = Lab.current()
    if not current.observe().is_up:
        raise LabError("the lab is not up: meshnet lab up")
    return current.layout
