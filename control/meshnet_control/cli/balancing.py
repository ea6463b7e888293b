"""``meshnet lb``: services as the load balancer has them, who answers and who got what."""

from __future__ import annotations

import click
from rich.table import Table

from meshnet_control.api import explain_pb2 as xpb
from meshnet_control.cli import showing
from meshnet_control.cli.admin_client import ask
from meshnet_control.cli.showing import wide_console
from meshnet_control.cli.visible import say
from meshnet_control.explain import balancing, references
from meshnet_control.host.processes import HostError


@click.group()
def lb() -> None:
    """Load balancing: virtual IPs, published ports, backends, counters."""


@lb.command("ls")
@showing.ALL
@showing.FORMAT
def list_(style: str, *, every: bool) -> None:
    """List services with their virtual IPs, ports and what they got."""
    whole, _, missing = _asked(every=every)
    if style == "json":
        showing.print_json(showing.as_json(whole)["services"])
    else:
        wide_console().print(services_table(whole))
    showing.complain(missing)


@lb.command()
@click.argument("service")
@showing.ALL
@showing.FORMAT
def show(service: str, style: str, *, every: bool) -> None:
    """Show who answers for SERVICE, and what each got.

    Connections are counted where they begin: on the node of the container that asks, or that a
    client asks for a published port. TCP connections are counted until two minutes after their end.
    """
    whole, counted, missing = _asked(every=every)
    by_id = {each.id: each for each in whole.services}
    names = {each.id: each.name for each in whole.services}
    found = references.found("service", service, by_id, names)
    if style == "json":
        showing.print_json(showing.as_json(found))
    else:
        console = wide_console()
        for line in heading(found, counted):
            say(line)
        if found.backends:
            console.print(backends_table(found))
    showing.complain(missing)


def services_table(answer: xpb.BalancingAnswer) -> Table:
    """A line for each service. Pure."""
    table = showing.table("SERVICE", "VIP", "PORTS", "READY>", "OPEN>", "CONNS>", "BYTES>")
    for service in answer.services:
        ready = sum(backend.state == balancing.READY for backend in service.backends)
        whole = balancing.total(service)
        table.add_row(
            service.name,
            " ".join(vip.address for vip in service.vips) or _without_vip(service),
            " ".join(map(_port, service.ports)),
            f"{ready}/{len(service.backends)}" if on_overlays(service) else "-",
            str(whole.open),
            str(whole.connections),
            showing.size(whole.bytes),
        )
    return table


def heading(service: xpb.BalancedService, counted: str) -> list[str]:
    """What stands above the backends. Pure."""
    lines = [f"{service.name} ({service.id[:12]}), counted on {counted}"]
    lines += [f"  {vip.address} on {vip.network}" for vip in service.vips]
    if service.mode != "vip":
        lines.append("  no virtual IP: names lead to the tasks (dnsrr)")
    lines += [f"  {_port(port)}" for port in service.ports]
    if service.policy and (service.vips or service.ports):
        lines.append(f"  chosen by {service.policy}")
    if not on_overlays(service):
        lines.append("  on no overlay network: nothing is balanced, (host) ports are the engine's")
    elif not service.backends:
        lines.append(f"  nobody answers: docker service ps --no-trunc {service.name}")
    return lines


def on_overlays(service: xpb.BalancedService) -> bool:
    """Whether names or ports lead to its tasks by an overlay; others are not ours to count. Pure.

    Be aware: a dnsrr service without a task says nothing of its networks, and counts as on one.
    """
    return bool(service.vips or service.backends or service.mode != "vip")


def _without_vip(service: xpb.BalancedService) -> str:
    return service.mode if service.mode != "vip" else "-"


def backends_table(service: xpb.BalancedService) -> Table:
    """A line for each backend. Pure."""
    table = showing.table(
        "TASK", "NODE", "ADDRESS", "STATE", "OPEN>", "CONNS>", "PACKETS>", "BYTES>", "SHARE>"
    )
    for backend, share in zip(service.backends, balancing.shares(service), strict=True):
        table.add_row(
            references.short(backend.name, backend.task),
            backend.node,
            " ".join(each.address for each in backend.addresses),
            backend.state,
            str(backend.counters.open),
            str(backend.counters.connections),
            str(backend.counters.packets),
            showing.size(backend.counters.bytes),
            f"{share:.0%}",
        )
    return table


def _port(port: xpb.BalancedPort) -> str:
    host = " (host)" if port.mode == "host" else ""
    return f"*:{port.published}->{port.target}/{port.protocol}{host}"


def _asked(*, every: bool) -> tuple[xpb.BalancingAnswer, str, list[str]]:
    """The answers as one, of whom, and what is missing."""
    reply = ask(xpb.Question(balancing=xpb.BalancingQuestion()), every=every)
    answered = [each for each in reply.answers if each.answer.WhichOneof("about") == "balancing"]
    missing = showing.missing(reply)
    if not answered:
        raise HostError("; ".join(missing) or "nobody answers")
    whole = balancing.merged([each.answer.balancing for each in answered])
    names = ", ".join(each.hostname for each in answered)
    return whole, names, [*missing, *whole.unread]
