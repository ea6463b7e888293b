"""``meshnet doctor``: every look that a person would take after an hour of searching."""

from __future__ import annotations

import socket
import textwrap
import time
from collections.abc import Sequence
from dataclasses import asdict
from typing import Final

import click

from meshnet.model.wellknown import VXLAN_PORT
from meshnet_control.api import control_pb2
from meshnet_control.api import explain_pb2 as xpb
from meshnet_control.cli import showing
from meshnet_control.cli.admin_client import ask, call_admin, no_meshnetd
from meshnet_control.cli.visible import say
from meshnet_control.explain import checks
from meshnet_control.explain.checks import Finding
from meshnet_control.host import firewalls, processes

_WIDTH: Final = 80
_INDENT: Final = " " * 6
FINE: Final = "nothing is wrong that can be seen from here"


@click.command()
@click.option("--all", "every", is_flag=True, help="Look at every node; typed on a manager.")
@showing.FORMAT
def doctor(style: str, *, every: bool) -> None:
    """Look for what is in this host's way, and say what to do.

    Ports and packet sizes between hosts, clocks, firewalls, settings, routes, leftovers, the
    certificate, disk, versions, what each node knows of the others, what is nearly full, and
    what the kernel lacks. Since when is said where it is known; "at least": an earlier look of
    this meshnetd found it.

    Exit status: 0 nothing is found, 1 something may be in the way, 2 something is.
    """
    processes.need_root()
    reply = call_admin("control.Admin/Status", control_pb2.StatusRequest(), control_pb2.StatusReply)
    found, missing = [], []
    if reply is None:
        found.append(Finding("error", socket.gethostname(), no_meshnetd(), "meshnet up"))
    elif reply.node_id:
        began = time.time()
        answers = ask(xpb.Question(facts=xpb.FactsQuestion()), every=every)
        facts = [each.answer.facts for each in answers.answers if each.answer.HasField("facts")]
        found, missing = checks.examined(facts, began, time.time()), showing.missing(answers)
    else:
        found += [
            Finding("error", reply.hostname, said, "meshnet status")
            for said in dict.fromkeys((reply.error, *reply.warnings))
            if said
        ]
    port = (reply.data_path_port if reply is not None else 0) or VXLAN_PORT
    closed = firewalls.findings(manager=processes.manages(), data_path_port=port)
    mend = "the commands are in docs/firewalls.md"
    found += [Finding("warning", socket.gethostname(), sentence, mend) for sentence in closed]
    found += [Finding("error", "", sentence, "meshnet status there") for sentence in missing]
    if style == "json":
        shown = [asdict(each) for each in found]
        showing.print_json([{k: v for k, v in one.items() if k != "about"} for one in shown])
    else:
        for line in lines(found, time.time()) or [FINE]:
            say(line)
    if found:
        raise SystemExit(checks.status(found))


def lines(found: Sequence[Finding], now: float) -> list[str]:
    """Each finding on a few lines of 80 columns: what, where, since when, what to do. Pure."""
    said: list[str] = []
    for each in found:
        where = f"{each.host}: " if each.host else ""
        seconds = f"{max(0.0, now - each.since):.0f} s"
        since = f" (since {seconds}{' at least' if each.at_least else ''})" if each.since else ""
        said += _wrapped(f"{each.level}: {where}{each.what}{since}")
        said += _wrapped(f"{_INDENT}do: {each.mend}")
    return said


def _wrapped(line: str) -> list[str]:
    return textwrap.wrap(line, _WIDTH, subsequent_indent=_INDENT + "  ", break_on_hyphens=False)
