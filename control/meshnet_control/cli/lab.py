"""``meshnet lab``: a cluster of hosts on this one machine. Arguments in, words out."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import click
from rich.console import Console
from rich.live import Live
from rich.table import Table

from meshnet.errors import MeshnetError
from meshnet_control.cli import showing
from meshnet_control.cli.showing import plain_console, wide_console
from meshnet_control.cli.visible import say
from meshnet_control.lab import finding, swarm
from meshnet_control.lab.errors import LabError
from meshnet_control.lab.lab import Lab, Report, lab_name, need_root
from meshnet_control.lab.layout import DEFAULT_NAME, MAX_HOSTS, Layout
from meshnet_control.lab.play import Play, Show, StepError
from meshnet_control.lab.scenario import DEMO_STEPS

_VMS = 2
"""Virtual machines, where nobody says how many: as many as two cores carry."""


@click.group()
def lab() -> None:
    """A cluster of hosts on this machine."""


@lab.command()
@click.option("-n", "--hosts", type=int, default=None, help="How many hosts (3 unless said).")
@click.option("-m", "--managers", type=int, help="One cluster of all, with so many managers.")
@click.option("--engine-only", is_flag=True, help="Docker Engines only, no meshnetd.")
@click.option("--vms", is_flag=True, help="Virtual machines that boot Debian (2 unless said).")
def up(*, hosts: int | None, managers: int | None, engine_only: bool, vms: bool) -> None:
    """Make the lab, or repair it."""
    if managers is not None and engine_only:
        raise LabError("--managers needs meshnetd: leave out --engine-only")
    current = Lab.current()
    if current.file and (hosts is not None or managers is not None or vms or engine_only):
        raise LabError(
            "this lab is of a file: change that and meshnet lab apply, or lab down first"
        )
    vms = vms or current.has_vms
    usual = current.layout.size if current.has_vms or not vms else _VMS
    layout = replace(current.layout, size=hosts if hosts is not None else usual)
    made = Lab.of_vms if vms else Lab
    wanted = current if current.file else made(layout, engine_only=engine_only)
    if managers is not None:
        swarm.check(layout, managers)
    began = time.monotonic()
    with progress() as report:
        wanted.up(report)
    names = ", ".join(host.name for host in wanted.layout.hosts)
    click.echo(f"{names} and client are up in {time.monotonic() - began:.1f} s")
    if managers is not None:
        for each in swarm.form(Play(wanted), managers):
            click.echo(f"{each.host}: joined as a {each.role}")
        click.echo(f"one cluster of {layout.size}, after {time.monotonic() - began:.1f} s")


@lab.command()
@click.option(
    "--all", "every", is_flag=True, help="Every lab of this machine, also what is broken."
)
def down(*, every: bool) -> None:
    """Remove the lab and everything in it, however much of it there is."""
    need_root()
    layout = Layout(lab_name(os.environ))
    if not every:
        with progress() as report:
            Lab.remains(layout).down(report)
        click.echo("the lab is gone")
        return
    failed = []
    names = finding.names(layout)
    for name in names:
        try:
            with progress() as report:
                Lab.remains(replace(layout, name=name)).down(report)
            click.echo(f"{name} is gone")
        except MeshnetError as error:
            failed.append(f"{name}: {error}")
    if not names:
        click.echo("there is no lab on this machine")
    if failed:
        raise LabError("; ".join(failed))


@lab.command()
@click.argument("host")
def env(host: str) -> None:
    """Print the setting that points a docker CLI outside of the lab at HOST."""
    click.echo(f"export DOCKER_HOST={Lab.current().socket(host)}")


@lab.command()
@click.argument("host")
def kill(host: str) -> None:
    """Power HOST off: every process of it dies at once."""
    Lab.current().kill(host)
    click.echo(f"{host} is dead")


@lab.command()
@click.argument("host")
def start(host: str) -> None:
    """Power a killed HOST on again."""
    with progress() as report:
        Lab.current().start(host, report)


@lab.command()
@click.argument("one")
@click.argument("other")
def partition(one: str, other: str) -> None:
    """Cut the cable between two machines."""
    Lab.current().partition(one, other)


@lab.command()
@click.argument("one")
@click.argument("other")
def heal(one: str, other: str) -> None:
    """Mend the cable between two machines."""
    Lab.current().heal(one, other)


@lab.command()
@click.argument("image")
def load(image: str) -> None:
    """Load IMAGE (a tar file, or an image of this machine's engine) into every engine."""
    with progress() as report:
        Lab.current().load(image, report)


@lab.command()
@showing.FORMAT
def status(style: str) -> None:
    """Show the lab's machines."""
    need_root()
    current = Lab.current()
    observed = current.observe()
    if style == "json":
        showing.print_json(
            [
                {
                    "machine": machine.name,
                    "lan": machine.lan,
                    "address": str(machine.address),
                    "up": observed.is_whole(machine.name),
                }
                for machine in current.layout.machines
                if observed.members
            ]
        )
        return
    if not observed.members:
        click.echo("the lab is not up")
        return
    table = Table(box=None)
    for title in ("MACHINE", "ADDRESS", "STATE", "DOCKER_HOST"):
        table.add_column(title)
    for machine in current.layout.machines:
        state = "up" if observed.is_whole(machine.name) else "down"
        socket = current.socket(machine.name) if machine.is_host and not current.has_vms else ""
        table.add_row(machine.name, str(machine.address.ip), state, socket)
    wide_console().print(table)


@contextmanager
def progress() -> Iterator[Report]:
    """A live table of machines on a terminal, one line for each step elsewhere."""
    console = plain_console(stderr=True)
    if not console.is_terminal:
        yield lambda name, what: say(f"{name}: {what}", err=True)
        return
    steps: dict[str, str] = {}
    began = time.monotonic()
    with Live(console=console, transient=True, refresh_per_second=10) as live:

        def report(name: str, what: str) -> None:
            steps[name] = what
            table = Table(box=None, show_header=False)
            for machine, step in sorted(steps.items()):
                table.add_row(machine, step, f"{time.monotonic() - began:.1f} s")
            live.update(table)

        yield report


@lab.command()
@click.option("--hosts", type=click.IntRange(3, MAX_HOSTS), default=3, show_default=True)
def demo(*, hosts: int) -> None:
    """Play the scenario aloud and leave the lab up; a lab that is up is made anew."""
    need_root()
    console = plain_console(highlight=False, soft_wrap=True)
    current = Lab.current()
    play = Play(Lab(Layout(current.layout.name, hosts)), show=audience(console))
    if current.observe().members:
        console.print("A lab is up: it is taken down first, the scenario begins with nothing.")
        current.down(lambda *_: None)
    began = time.monotonic()
    for number, step in enumerate(DEMO_STEPS, start=1):
        console.print(f"\n{number}. {step.title}", style="bold")
        try:
            step.play(play)
        except StepError as error:
            raise StepError(f"step {number}, {step.title!r}, does not hold: {error}") from None
    meshnet_command = _as_typed(current.layout.name)
    console.print(f"\nAll {len(DEMO_STEPS)} steps hold ({time.monotonic() - began:.0f} s).")
    console.print("The lab is still up. Go on with:", style="bold")
    console.print(f"  {meshnet_command} lab exec h1 -- docker service ps server")
    console.print(f"  {meshnet_command} lab exec client -- curl http://h1:8080/")
    console.print(f"  {meshnet_command} lab start {play.lab.layout.hosts[-1].name}")
    console.print("and take it down with:", style="bold")
    console.print(f"  {meshnet_command} lab down")


def _as_typed(lab_name: str) -> str:
    """How this command is typed from the current directory, by a user who is not root."""
    script = Path(sys.executable).with_name("meshnet")
    if script.is_relative_to(Path.cwd()):
        script = script.relative_to(Path.cwd())
    setting = "" if lab_name == DEFAULT_NAME else f"MESHNET_LAB={lab_name} "
    return f"sudo {setting}{script}"


def audience(console: Console) -> Show:
    """Shows what is typed in another colour than what is said."""

    def show(text: str) -> None:
        typed = text.partition("$ ")[0].isalnum() or text.startswith("$ ")
        if text.strip():
            console.print(text.rstrip(), style="cyan" if typed else None)

    return show
