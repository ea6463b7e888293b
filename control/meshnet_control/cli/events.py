"""``meshnet events``: what changed in cluster and kernel, by whom, and when it was put right."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from datetime import datetime
from typing import Final

import click

from meshnet_control.api import explain_pb2 as xpb
from meshnet_control.cli import showing
from meshnet_control.cli.admin_client import ask
from meshnet_control.cli.visible import say

LOOK_S: Final = 0.5
Told = tuple[str, xpb.Event]
"""A host name, and what its meshnetd tells."""


@click.command(short_help="Tell what changed, by whom, and when it was put right.")
@click.option("-f", "--follow", is_flag=True, help="Go on with what comes.")
@showing.ALL
@showing.FORMAT
def events(style: str, *, every: bool, follow: bool) -> None:
    """Tell what changed in cluster and kernel, who changed it, and when it was put right.

    The last thousand changes since meshnetd was started; json is a line for each. "others" is
    whoever is not meshnet: a firewall, a person, another program.
    """
    known: dict[str, int] = {}
    complained: set[str] = set()
    while True:
        question = xpb.Question(events=xpb.EventsQuestion(after=known))
        reply = ask(question, every=every)
        for host, event in in_order(reply):
            shown = {**showing.as_json(event), "host": host}
            say(json.dumps(shown) if style == "json" else line(host, event))
        for each in reply.answers:
            numbers = [event.number for event in each.answer.events.events]
            known[each.node_id] = max([known.get(each.node_id, 0), *numbers])
        missing = [sentence for sentence in showing.missing(reply) if sentence not in complained]
        showing.complain(missing)
        complained.update(missing)
        if not follow:
            return
        time.sleep(LOOK_S)


def in_order(reply: xpb.AskReply) -> Sequence[Told]:
    """The events of all hosts by time. Pure."""
    told = [(each.hostname, event) for each in reply.answers for event in each.answer.events.events]
    return sorted(told, key=lambda one: (one[1].at, one[0], one[1].number))


def line(host: str, event: xpb.Event) -> str:
    """One event as a person reads it. Pure, but for the time zone."""
    at = datetime.fromtimestamp(event.at).astimezone().strftime("%H:%M:%S.%f")[:-3]
    who = f" by {event.who}" if event.who else ""
    put = f" (put right after {event.repaired_s:.2f} s)" if event.repaired_s >= 0 else ""
    return f"{at} {host} {event.part}{who}: {event.what}{put}"
