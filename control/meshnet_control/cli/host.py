"""This host: ``meshnet up``, ``down``, ``restart``, ``status``, ``backup`` and others.

Two processes make a host: ``meshnet-resolver`` and ``meshnetd``; a manager has a third one,
``meshnet-manager``. ``meshnet-supervisor`` keeps them alive where systemd does not. ``up`` starts
them (or has systemd start them) and returns when the Engine API is served, however long that takes;
running already is success. ``down`` stops them, then ``meshnetd --cleanup`` removes every kernel
object of ours. ``restart`` is for a new version.

Be aware: without ``--install`` nothing starts them after a boot; logs are in the state directory.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
from google.protobuf.json_format import MessageToDict
from rich.table import Table

from meshnet_control.api import control_pb2
from meshnet_control.cli import dashboard as dashboards
from meshnet_control.cli import showing
from meshnet_control.cli.admin_client import call_admin, no_meshnetd
from meshnet_control.cli.showing import wide_console
from meshnet_control.cli.visible import say
from meshnet_control.host import processes
from meshnet_control.host.paths import docker_host
from meshnet_control.host.processes import HostError
from meshnet_control.identity import identity
from meshnet_control.manager import archive
from meshnet_control.served.address import METRICS, is_here
from meshnet_dns import operations
from meshnet_dns.control import NAME

CONTEXT = "meshnet"
"""The docker context that ``up`` registers."""
_WRITES_S = 900.0
"""For a backup; a large store on a slow disk."""


@click.command()
@click.option("--foreground", is_flag=True, help="Stay in the foreground, log to standard error.")
@click.option("--install", is_flag=True, help="Write, enable and start systemd units.")
@click.option("--context/--no-context", default=True, help="Register the docker context 'meshnet'.")
@click.option(
    "--allow-privileged/--no-allow-privileged",
    default=None,
    help="Let services be privileged here, have devices and GPUs; kept until it is said otherwise.",
)
@click.option(
    "--metrics",
    metavar="[ADDR:]PORT",
    help="Serve Prometheus' metrics there, without ADDR for this host alone; kept until 'off'.",
)
@click.option(
    "--dashboard",
    metavar="[ADDR:]PORT",
    help="Serve the dashboard there: see meshnet dashboard; kept until 'off'.",
)
def up(
    *,
    foreground: bool,
    install: bool,
    context: bool,
    allow_privileged: bool | None,
    metrics: str | None,
    dashboard: str | None,
) -> None:
    """Start meshnet on this host."""
    processes.need_root()
    for line in dashboards.kept(dashboard) if dashboard is not None else ():
        click.echo(line, err=True)
    if metrics is not None and (served := METRICS.keep(processes.state_dir(), metrics)):
        click.echo(f"metrics: http://{served}/metrics", err=True)
        host, _ = METRICS.parsed(served)
        if not is_here(host):
            click.echo(f"this host does not have {host} now: they are served once it has", err=True)
    serving = processes.serving() and not install
    changes = allow_privileged is not None and processes.allow_privileged(allow=allow_privileged)
    if changes and serving:
        click.echo("privileged services: counts from meshnet restart on", err=True)
    if not serving:
        processes.need_engine()
    if context:
        _register_context()
    if foreground and not serving:
        raise SystemExit(processes.run_in_foreground())
    if install:
        processes.install(_say)
    elif not serving:
        processes.start(_say)
    click.echo(f"meshnet is up: {docker_host()}")
    if os.environ.get("DOCKER_HOST") != docker_host():
        click.echo('Point docker at it: eval "$(meshnet env)"', err=True)


@click.command()
def down() -> None:
    """Stop meshnet and remove every kernel object of it."""
    processes.need_root()
    if _context() == docker_host() and _docker("context", "rm", "-f", CONTEXT) is not None:
        click.echo(f"removed docker context: {CONTEXT}")
    with showing.doing("stopping meshnet and removing what it made …"):
        said = list(processes.stop())
    for line in said:
        click.echo(line)
    click.echo("meshnet is down")
    if identity.exists(processes.state_dir()):
        click.echo(
            f"This node's place in its cluster stays in {processes.state_dir()}: meshnet up takes "
            "it again (docker swarm leave --force, before meshnet down, gives it up)."
        )


@click.command(short_help="Run anew what runs here, by the version that is installed.")
def restart() -> None:
    """Have what runs here run anew, by the version that is installed now; nothing is lost."""
    processes.need_root()
    done = processes.restart(_say)
    click.echo(f"restarted: {', '.join(done)}" if done else "meshnet does not run here")


@click.command(short_help="Print the setting that points docker at meshnet.")
def env() -> None:
    """Print the setting that points the docker CLI at meshnet: eval "$(meshnet env)"."""
    click.echo(f"export DOCKER_HOST={docker_host()}")


@click.command()
@click.option("--format", "style", type=click.Choice(["table", "json"]), default="table")
def status(style: str) -> None:
    """Show what runs here."""
    reply = _ask_status()
    ends = processes.last_ends(time.time())
    counted = _resolver_counters()
    if style == "json":
        shown = MessageToDict(
            reply, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
        )
        shown["last_ends"], shown["resolver"] = ends, counted
        click.echo(json.dumps(shown, indent=2))
        return
    console = wide_console()
    for table in status_tables(reply, time.time(), ends, counted):
        console.print(table)
        console.print()
    for sentence in dict.fromkeys(filter(None, (reply.error, *reply.warnings))):
        say(f"meshnet: {sentence}", err=True)


@click.command(short_help="Write all that this manager knows to FILE.")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
def backup(file: Path) -> None:
    """Write all that this manager knows to FILE, whether meshnet runs or not."""
    processes.need_root()
    path = file.absolute()
    archive.vacant(path)
    written = archive.beside(processes.state_dir())
    try:
        asked = control_pb2.BackupRequest(path=str(written))
        with showing.doing(f"writing {path} …"):
            reply = call_admin("control.Admin/Backup", asked, control_pb2.BackupReply, _WRITES_S)
            if reply is not None:
                archive.deliver(written, path)
    finally:
        written.unlink(missing_ok=True)
    if reply is None and processes.manages():
        raise HostError("meshnet-manager runs without meshnetd: meshnet up, then backup")
    if reply is None:  # nobody has the store open
        done = asyncio.run(archive.backup(path, processes.state_dir(), None, time.time()))
        reply = control_pb2.BackupReply(cluster_id=done.cluster_id, locked=done.locked)
    click.echo(f"cluster {reply.cluster_id} is backed up in {path}")
    keys = (
        "its keys are locked, so keep the unlock key (docker swarm unlock-key) elsewhere"
        if reply.locked
        else "whoever reads it has every secret, the CA's key and the join tokens"
    )
    click.echo(f"meshnet: {path} holds the cluster with its keys: {keys}", err=True)


@click.group()
def key() -> None:
    """The key that gossip between the hosts is sealed with."""


@key.command("rotate")
def rotate_key() -> None:
    """Give all nodes another key, which they use within seconds; a manager's command.

    It is also replaced every 12 hours, and whenever a node is removed.
    """
    processes.need_root()
    asked = control_pb2.RotateGossipKeyRequest()
    if call_admin("control.Admin/RotateGossipKey", asked, control_pb2.RotateGossipKeyReply) is None:
        raise HostError("meshnet is not up on this host: meshnet up")
    click.echo("another key goes to all nodes; the present one opens nothing when they have it")


@click.command()
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--replace", is_flag=True, help="Also where this host is a node already.")
def restore(file: Path, *, replace: bool) -> None:
    """Make this host the manager that a backup or a snapshot holds."""
    processes.need_root()
    if processes.runs():
        raise HostError("meshnet runs on this host: meshnet down, then restore, then meshnet up")
    done = archive.restore(file.absolute(), processes.state_dir(), replace=replace)
    click.echo(
        f"this host is node {done.node_id} of cluster {done.cluster_id}, as of {done.made}: "
        "meshnet up goes on with it"
    )


def status_tables(
    reply: control_pb2.StatusReply,
    now: float,
    ends: Mapping[str, str],
    resolver: Mapping[str, Any],
) -> list[Table]:
    """The status as a person reads it: this node, its peers, its reconcilers.

    Args:
        reply: what meshnetd says.
        now: unix seconds, for ages.
        ends: process -> how it ended last, where one did.
        resolver: what meshnet-resolver counts; empty when it does not answer.
    """
    alive = sum(peer.state.startswith("alive") for peer in reply.peers)
    node = Table(box=None, show_header=False)
    rows = [
        ("node", f"{reply.hostname} {reply.node_id}".strip() or "-"),
        ("role", reply.role or "none"),
        ("address", reply.addr or "-"),
        ("cluster", reply.cluster_id or "-"),
        ("peers alive", f"{alive} of {len(reply.peers)}"),
        ("networks", ", ".join(_with_mtu(name, reply.mtus) for name in reply.networks) or "-"),
        ("tasks", str(reply.tasks)),
        ("engine", reply.engine or "-"),
        ("meshnet", reply.version),
        *([("privileged services", "allowed")] if reply.allows_privileged else ()),
    ]
    if reply.snapshots:
        newest = next((s for s in reply.snapshots if s.made <= now), reply.snapshots[0])
        age = f"{max(0.0, now - newest.made) / 60:.0f} min"
        rows.append(("snapshots", f"{len(reply.snapshots)}, the newest {age} old"))
    if reply.HasField("manager"):
        rows[2:2] = _manager(reply.manager)
    rows += [(f"last end of {name}", how) for name, how in sorted(ends.items())]
    if resolver:
        number = f"{resolver['queries']} asked, {resolver['forwarded']} forwarded"
        lost = [f"{times} {why}" for why, times in sorted(resolver["dropped"].items())]
        rows.append(("names", ", ".join([number, *lost])))
    for name, value in rows:
        node.add_row(name, value)
    tables = [node]
    if reply.peers:
        peers = Table("PEER", "ADDRESS", "PACKETS", "STATE", box=None)
        for peer in sorted(reply.peers, key=lambda peer: peer.hostname):
            size = f"{peer.packet_bytes} B" if peer.packet_bytes else "-"
            peers.add_row(peer.hostname or peer.node_id, peer.addr, size, peer.state)
        tables.append(peers)
    if reply.reconcilers:
        loops = Table("RECONCILER", "REVISION", "LAST", "CHANGES", "ROUNDS", "ERROR", box=None)
        for loop in reply.reconcilers:
            age = f"{max(0.0, now - loop.last_round):.0f} s ago" if loop.last_round else "never"
            loops.add_row(
                loop.name, str(loop.revision), age, str(loop.changes), str(loop.rounds), loop.error
            )
        tables.append(loops)
    if reply.happened:
        lately = Table("HAPPENED", "LAST", "TIMES", box=None)
        for event in reversed(reply.happened):
            age = f"{max(0.0, now - event.at):.0f} s ago"
            lately.add_row(event.what, age, str(event.times))
        tables.append(lately)
    if reply.drops:
        dropped = Table("DROPPED", "TIMES", box=None)
        for reason, times in sorted(reply.drops.items()):
            dropped.add_row(reason, str(times))
        tables.append(dropped)
    return tables


def _with_mtu(name: str, mtus: Mapping[str, int]) -> str:
    return f"{name} (MTU {mtus[name]})" if name in mtus else name


def _manager(said: control_pb2.ManagerProcess) -> list[tuple[str, str]]:
    nodes = f"{said.sessions} node{'' if said.sessions == 1 else 's'} connected"
    serves = f"{nodes}, revision {said.revision}, {said.memory_bytes / 1e6:.0f} MB"
    rows = [("manager", said.error or serves)]
    return [*rows, ("etcd", _etcd(said.etcd))] if said.HasField("etcd") else rows


def _etcd(said: control_pb2.EtcdStatus) -> str:
    memory = f"{said.memory_bytes / 1e6:.0f} MB"
    if said.error:
        return f"{said.error} ({memory})"
    part = f"{said.part} of {said.voters}" if said.part else "knows no leader"
    used, whole = said.used_bytes / 1e6, said.database_bytes / 1e6
    return f"{part}, {memory}, database {whole:.1f} MB, {used:.1f} MB of it used"


def _resolver_counters() -> Mapping[str, Any]:
    try:
        return operations.status(processes.run_dir() / NAME).counters
    except operations.ResolverError:
        return {}


def _ask_status() -> control_pb2.StatusReply:
    processes.need_root()
    reply = call_admin("control.Admin/Status", control_pb2.StatusRequest(), control_pb2.StatusReply)
    if reply is None:
        raise HostError(no_meshnetd())
    return reply


def _say(sentence: str) -> None:
    say(f"meshnet: {sentence}", err=True)


def _register_context() -> None:
    there = _context()
    if there != docker_host():
        verb = "create" if there is None else "update"
        _docker("context", verb, CONTEXT, "--docker", f"host={docker_host()}")


def _context() -> str | None:
    """Where the docker context leads; None: there is none."""
    return _docker("context", "inspect", CONTEXT, "--format", "{{.Endpoints.docker.Host}}")


def _docker(*arguments: str) -> str | None:
    """What the docker CLI printed; an old CLI, or none, is no reason to fail."""
    environ = {key: value for key, value in os.environ.items() if key != "DOCKER_HOST"}
    argv = ["docker", *arguments]
    try:
        done = subprocess.run(argv, capture_output=True, text=True, check=False, env=environ)
    except FileNotFoundError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None
