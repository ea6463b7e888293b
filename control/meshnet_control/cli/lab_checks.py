"""``meshnet lab check`` and ``meshnet lab exec``: what the machines of a lab do and say."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import click
from rich.table import Table

from meshnet_control.cli import showing
from meshnet_control.cli.lab_files import text_of
from meshnet_control.lab import lab_file, probing
from meshnet_control.lab.errors import LabError
from meshnet_control.lab.lab import Lab, need_root
from meshnet_control.lab.play import Play
from meshnet_control.lab.probing import Result


@click.command(short_help="Run the probes of the lab's file.")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path), required=False)
@showing.FORMAT
def check(file: Path | None, style: str) -> None:
    """Run the probes of FILE, or of the file that the lab was made from.

    Exit status 1 if one does not hold within its time.
    """
    need_root()
    current = Lab.current()
    if not current.observe().is_up:
        raise LabError("the lab is not up: meshnet lab apply FILE")
    topology = current.layout.topology
    if file is not None:
        topology = lab_file.parsed(text_of(file), str(file))
    if topology is None:
        raise LabError("this lab is of no file: meshnet lab check FILE")
    if not topology.probes:
        raise LabError("the file has no probes (docs/lab-file.md)")
    for probe in topology.probes:
        current.layout.machine(probe.on)
    results = probing.run(Play(current), topology.probes)
    if style == "json":
        showing.print_json(rows(results))
    else:
        showing.wide_console().print(table(results))
        held = sum(result.holds for result in results)
        click.echo(f"{held} of {len(results)} hold")
    if not all(result.holds for result in results):
        raise SystemExit(1)


def table(results: Sequence[Result]) -> Table:
    """A line for each probe. Pure."""
    shown = showing.table("PROBE", "ON", "RESULT", "SECONDS>", "SEEN")
    for each in results:
        word = "holds" if each.holds else "FAILS"
        shown.add_row(each.probe.name, each.probe.on, word, f"{each.seconds:.1f}", each.why)
    return shown


def rows(results: Sequence[Result]) -> list[dict[str, object]]:
    """The same for programs. Pure."""
    return [
        {
            "name": each.probe.name,
            "on": each.probe.on,
            "run": each.probe.run,
            "holds": each.holds,
            "seconds": round(each.seconds, 3),
            "seen": each.why,
        }
        for each in results
    ]


@click.command(context_settings={"allow_interspersed_args": False})
@click.option("--all", "every", is_flag=True, help="On every host at once; HOST is left out.")
@showing.FORMAT
@click.argument("words", metavar="[HOST] COMMAND...", nargs=-1, type=click.UNPROCESSED)
def exec_(words: tuple[str, ...], style: str, *, every: bool) -> None:
    """Run COMMAND on HOST (h1, h2, …, or client), DOCKER_HOST set.

    With --all each line begins with its host's name, and the exit status is 1 if any failed.
    """
    host, typed = ("", words) if every else (words[0] if words else "", words[1:])
    typed = typed[1:] if typed[:1] == ("--",) else typed
    if not typed:
        raise click.UsageError("Missing argument 'COMMAND'.")
    if every:
        _everywhere(Lab.current(), typed, style)
        return
    if style == "json":
        raise LabError("--format json is of --all: one host's output is its command's own")
    argv = Lab.current().command(host, typed, cwd=os.getcwd())  # noqa: PTH109
    sys.stdout.flush()
    os.execvp(argv[0], argv)  # noqa: S606


def _everywhere(lab: Lab, typed: Sequence[str], style: str) -> None:
    need_root()
    up = lab.observe()
    hosts = [host.name for host in lab.layout.hosts if up.is_whole(host.name)]
    if not hosts:
        raise LabError("the lab is not up: meshnet lab up")
    commands = {host: lab.command(host, typed, cwd=os.getcwd()) for host in hosts}  # noqa: PTH109

    def run(argv: list[str]) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            check=False,
        )

    with ThreadPoolExecutor(max_workers=8) as pool:
        done = dict(zip(hosts, pool.map(run, commands.values()), strict=True))
    if style == "json":
        showing.print_json(
            [
                {"host": h, "exit": each.returncode, "output": each.stdout}
                for h, each in done.items()
            ]
        )
    else:
        for host, each in done.items():
            for line in each.stdout.splitlines() or ["(no output)"]:
                click.echo(f"{host}: {line}")
    failed = [f"{host}: exit {each.returncode}" for host, each in done.items() if each.returncode]
    showing.complain(failed)
    if failed:
        raise SystemExit(1)


COMMANDS = {"check": check, "exec": exec_}
