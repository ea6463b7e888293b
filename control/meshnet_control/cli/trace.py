"""``meshnet trace``: the way of a connection, step by step, as it is and as it should be."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence
from typing import Final

import click

from meshnet_control.api import explain_pb2 as xpb
from meshnet_control.cli import showing
from meshnet_control.cli.admin_client import ask, ask_one
from meshnet_control.cli.visible import say
from meshnet_control.explain.containers import CLIENT
from meshnet_control.host.processes import HostError

_WIDTH: Final = 80
_PORTS: Final = 65535
CONNECTED: Final = "connected"
NOT_PASSED: Final = (
    "all steps are as they should be, and yet no connection came about: see what is in the way "
    "between the hosts: meshnet doctor --all"
)
_INDENT: Final = " " * 6


@click.command(short_help="Show a connection's whole way: what is, what should be.")
@click.argument("source", metavar="FROM")
@click.argument("to", metavar="TO[:PORT]")
@click.option("--udp", is_flag=True, help="UDP instead of TCP.")
@click.option("-6", "--ipv6", is_flag=True, help="By IPv6, where TO is no address.")
@click.option("--send", is_flag=True, help="Connect, too, and say where it went.")
@showing.FORMAT
def trace(source: str, to: str, style: str, *, udp: bool, ipv6: bool, send: bool) -> None:
    """Show the whole way from FROM to TO, what is in the kernel and what should be.

    FROM is a container, a task, a service, an address, or "client": somebody outside, who asks a
    published port. TO is a container, a service, a name or an address, of IPv6 in brackets before
    a port; for a client a host, such as h2:8080, or a service. Other hosts' part is asked of them,
    from a manager.

    What another firewall may drop is marked "??": not all that its rule asks is known.

    Exit status: 0 when every step is as it should be, nothing ends on the way and what was sent
    was answered, else 1.
    """
    host, port = parsed(to)
    if not host and source != CLIENT:
        raise HostError(f"{to} names nobody: a container, a service, a name or an address")
    asked = xpb.PathQuestion(to=host, port=port, protocol="udp" if udp else "tcp", ipv6=ipv6)
    asked.source = source
    if send and (udp or source == CLIENT):
        raise HostError("--send connects from a container by TCP: name one, and leave out --udp")
    path = ask_one(xpb.Question(path=asked)).answer.path
    steps, missing = list(path.steps), []
    if path.targets:
        reply = ask(
            xpb.Question(arrival=xpb.ArrivalQuestion(targets=path.targets)),
            nodes=tuple(sorted({each.node for each in path.targets})),
        )
        missing = showing.missing(reply)
        for each in reply.answers:
            steps.extend(each.answer.arrival.steps)
    sent, passed = _send(path) if send else ([], True)
    if style == "json":
        whole = xpb.PathAnswer()
        whole.CopyFrom(path)
        del whole.steps[:]
        whole.steps.extend(steps)
        showing.print_json({**showing.as_json(whole), "sent": sent})
    else:
        last = textwrap.wrap(verdict(steps, passed=passed), _WIDTH)
        for line in [*step_lines(steps, path.targets), *sent, "", *last]:
            say(line)
    showing.complain(missing)
    if missing or not whole_way(steps, passed=passed):
        raise SystemExit(1)


def parsed(to: str) -> tuple[str, int]:
    """Host and port of TO; port 0: none was said. Pure.

    Raises:
        HostError: what stands behind the colon is no port.
    """
    bracketed, closed, behind = to.removeprefix("[").partition("]")
    if to.startswith("[") and closed:
        if not behind:
            return bracketed, 0
        host, colon, port = bracketed, behind[:1], behind[1:]
        if colon != ":":
            raise HostError(f"{to} is no address and port: [ADDRESS]:PORT")
    elif to.count(":") > 1:  # an address of IPv6 alone
        return to, 0
    else:
        host, colon, port = to.rpartition(":")
    digits = port.isascii() and port.isdigit()
    if digits and 0 < int(port) <= _PORTS:
        return host, int(port)
    if digits or colon:
        raise HostError(f"{port or to} is no port: TO:PORT, of 1 to {_PORTS}")
    return to, 0


def step_lines(steps: Sequence[xpb.Step], targets: Sequence[xpb.Target]) -> list[str]:
    """Each step on a line or several of 80 columns; what is wrong stands out. Pure.

    What is common comes first, then the way to each target in turn.
    """
    lines = _lines(step for step in steps if not step.target)
    for target in targets:
        lines.append(f"-- to {showing.short_task(target.name)} on {target.hostname}")
        lines += _lines(step for step in steps if step.target == target.task)
    return lines


def _lines(steps: Iterable[xpb.Step]) -> list[str]:
    lines: list[str] = []
    before = ("", "")
    for step in steps:
        if (step.host, step.place) != before:
            before = (step.host, step.place)
            lines.append(f"{step.host}: {showing.short_task(step.place)}")
        mark = "XX" if step.ends or not step.ok else "??" if step.warns else "ok"
        lines += _wrapped(f"  {mark}  {step.what}: {step.found}")
        if not step.ok:
            lines += _wrapped(f"{_INDENT}should be: {step.should}")
        if step.mend:
            lines += _wrapped(f"{_INDENT}do: {step.mend}")
    return lines


def whole_way(steps: Sequence[xpb.Step], *, passed: bool) -> bool:
    """Whether all is as it should be, nothing ends and what was sent was answered. Pure."""
    return passed and all(step.ok and not step.ends for step in steps)


def verdict(steps: Sequence[xpb.Step], *, passed: bool = True) -> str:
    """One sentence on all of them, and on whether what was sent was answered. Pure."""
    wrong = [step for step in steps if not step.ok]
    ended = next((step for step in steps if step.ends), None)
    if ended is not None:
        some = "what goes to that task ends" if ended.target else "it ends"
        return f"{some} on {ended.host}, at {ended.what}"
    if wrong:
        return f"{len(wrong)} of {len(steps)} steps are not as they should be"
    if not passed:
        return NOT_PASSED
    doubtful = sum(step.warns for step in steps)
    if doubtful:
        sure = len(steps) - doubtful
        return f"{sure} of {len(steps)} steps are as they should be; of the others see the mark ??"
    return f"all {len(steps)} steps are as they should be"


def _wrapped(line: str) -> list[str]:
    return textwrap.wrap(line, _WIDTH, subsequent_indent=_INDENT + "  ", break_on_hyphens=False)


def _send(path: xpb.PathAnswer) -> tuple[list[str], bool]:
    """Connect, and say what became of it, a sentence each; and whether it was connected."""
    if not path.port or not path.address:
        raise HostError("--send needs a port, and a way to an address: TO:PORT")
    asked = xpb.ProbeQuestion(task=path.task, address=path.address, port=path.port)
    said = ask_one(xpb.Question(probe=asked)).answer.probe
    passed = said.result == CONNECTED
    words = [f"sent: {path.address}:{path.port}: {said.result} ({said.seconds * 1e3:.1f} ms)"]
    if not said.backend:
        if not passed:
            words.append("  conntrack has nothing of it: what is refused is forgotten at once")
        return words, passed
    words.append(f"  led to {said.backend}, {'answered' if said.answered else 'no answer'}")
    target = next((each for each in path.targets if each.address == said.backend), None)
    if target is None:
        return words, passed
    sight = xpb.SightQuestion(address=said.backend, source_port=said.source_port)
    reply = ask(xpb.Question(sight=sight), nodes=(target.node,))
    for each in reply.answers:
        arrived = each.answer.sight.arrived
        where = f"{showing.short_task(target.name)} on {each.hostname}"
        words.append(f"  {'arrived at' if arrived else 'never arrived at'} {where}")
    return words, passed
