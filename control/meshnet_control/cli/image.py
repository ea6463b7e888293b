"""``meshnet image push``: an image of this host's engine goes to other nodes, with no registry."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import click
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn

from meshnet.errors import ControlError
from meshnet_control.cli.asking import Api, asking
from meshnet_control.cli.beside import beside
from meshnet_control.cli.visible import say
from meshnet_control.explain import references
from meshnet_control.host.processes import HostError

_AT_ONCE: Final = 4
"""Nodes that are sent to at one time."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How it went with one node."""

    node: str
    sent: int = 0
    """Bytes; 0: it had the image."""
    error: str = ""

    @property
    def sentence(self) -> str:
        """For a person."""
        if self.error:
            return f"{self.node}: {self.error}"
        how = f"loaded, {self.sent / 1e6:.1f} MB" if self.sent else "has it already"
        return f"{self.node}: {how}"


@click.command()
@click.option("--node", "nodes", multiple=True, metavar="NODE", help="Only to these; else to all.")
@click.argument("image")
def push(*, image: str, nodes: Sequence[str]) -> None:
    """Send IMAGE of this host's engine to nodes of the cluster, with no registry between.

    Whoever has it already is not sent it; run it again after an error. It goes through the
    managers' own connections, a few nodes at a time. service create --no-resolve-image finds it.
    """
    console = Console(stderr=True)
    with Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        DownloadColumn(),
        transient=True,
        console=console,
        disable=not console.is_terminal,
    ) as shown:
        outcomes = asking(lambda api: _push(api, image, nodes, shown))
    for outcome in outcomes:
        say(outcome.sentence, err=bool(outcome.error))
    failed = sum(bool(outcome.error) for outcome in outcomes)
    if failed:
        raise HostError(f"{failed} of {len(outcomes)} nodes did not get {image}")


async def _push(api: Api, image: str, wanted: Sequence[str], shown: Progress) -> list[Outcome]:
    found = await api.ask("GET", "/nodes") or []
    nodes = chosen(found, wanted)
    slots = asyncio.Semaphore(_AT_ONCE)

    async def one(node: dict[str, Any]) -> Outcome:
        name = node["Description"]["Hostname"]
        if node["Status"]["State"] != "ready":
            return Outcome(name, error=f"is {node['Status']['State']}")
        async with slots:
            return await _send(api, node["ID"], name, image, shown)

    return list(await asyncio.gather(*(one(node) for node in nodes)))


async def _send(api: Api, node_id: str, name: str, image: str, shown: Progress) -> Outcome:
    bar: TaskID = shown.add_task(name, total=None)
    said: dict[str, Any] = {}
    try:
        async for said in api.lines("POST", f"/nodes/{node_id}/images", {"image": image}):
            shown.update(bar, completed=said["Sent"], total=max(said["Size"], said["Sent"]))
    except ControlError as error:
        return Outcome(name, error=error.message)
    finally:
        shown.remove_task(bar)
    if not said.get("Done"):
        return Outcome(name, error=said.get("Error") or "the connection broke off")
    return Outcome(name, said["Sent"])


def chosen(nodes: Sequence[dict[str, Any]], wanted: Sequence[str]) -> list[dict[str, Any]]:
    """The nodes meant by names and ids, in order of name; all of them when none is wanted. Pure.

    Raises:
        HostError: there is none of that name.
    """
    names = {name: node for node in nodes for name in (node["ID"], node["Description"]["Hostname"])}
    missing = [name for name in wanted if name not in names]
    if missing:
        hosts = [str(node["Description"]["Hostname"]) for node in nodes]
        hint = references.meant(missing[0], hosts)
        raise HostError(f"no such node: {', '.join(missing)}{hint}")
    picked = {names[name]["ID"] for name in wanted} or {node["ID"] for node in nodes}
    there = [node for node in nodes if node["ID"] in picked]
    return sorted(there, key=lambda node: str(node["Description"]["Hostname"]))


image = beside("image", push)
