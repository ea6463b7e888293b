"""Reads what is on a way through this host: namespaces, tables, sockets. Changes nothing.

Be aware: moves the calling thread; everything is opened for one look and closed after it.
"""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace
from ipaddress import IPv4Interface
from pathlib import Path
from typing import Final

from meshnet.errors import KernelError, NotFoundError
from meshnet.kernel import flow_reader, listeners, netns, observer, vxlan_counters
from meshnet.kernel.libnftables import Libnftables
from meshnet.kernel.netns import NETNS_DIR, identity_of
from meshnet.kernel.nft import HOST, NftContext
from meshnet.kernel.rtnl import RtnlClient
from meshnet.model.ids import NetworkId
from meshnet.model.snapshot import Sandbox, Snapshot
from meshnet.netstate.values import Desired
from meshnet.overlay.desired import VXLAN, desired, netns_name
from meshnet_control.api import explain_pb2 as xpb
from meshnet_control.explain import firewalls
from meshnet_control.explain.picture import Picture
from meshnet_lb import rules
from meshnet_lb.ingress import VTEPS

_LOOPBACK: Final = frozenset({("lo", IPv4Interface("127.0.0.1/8"))})
PROBE_S: Final = 3.0
"""Two SYNs, the second after a second, and their answers."""


def look(
    snapshot: Snapshot,
    sandboxes: Iterable[Sandbox],
    networks: Iterable[NetworkId],
    netns_dir: Path = NETNS_DIR,
    host_netns: str | None = None,
) -> Picture:
    """The host's namespace, and those of some containers and networks.

    Args:
        snapshot: of this moment.
        sandboxes: the containers.
        networks: the networks.
        netns_dir: where the networks' namespaces are named.
        host_netns: stands for the host's; None: this thread's.

    Raises:
        KernelError: something that is there cannot be read.
    """
    boxes = [sandbox.netns for sandbox in sandboxes]
    overlays = [str(netns_dir / netns_name(network)) for network in networks]
    whole = desired(snapshot, netns_dir)
    specs = {path: whole.specs[path] for path in (None, *boxes, *overlays) if path in whole.specs}
    # Routes are read where addresses are wanted; those of the host are, whatever is wanted there.
    asked = {**specs, None: replace(specs[None], addresses=specs[None].addresses | _LOOPBACK)}
    rtnl, library = RtnlClient(host_netns), Libnftables()
    contexts: list[NftContext] = []
    try:
        found = observer.observe(rtnl, Desired(asked), frozenset())
        for error in found.unreadable.values():
            raise error
        tables = {}
        for path in (None, *boxes):
            try:
                contexts.append(NftContext(path or host_netns or HOST, library))
                tables[path] = contexts[-1].tables()
            except NotFoundError:
                continue
        wanted = rules.rulesets(snapshot)
        return Picture(
            snapshot,
            specs,
            whole.veths,
            {path: wanted[path] for path in (None, *boxes) if path in wanted},
            found.states,
            tables,
            {path: listeners.listening(path) for path in boxes if path in found.states},
            _foreign(library, host_netns or HOST),
        )
    finally:
        rtnl.close()
        for context in contexts:
            context.close()
        library.close()


def _foreign(library: Libnftables, path: str) -> list[firewalls.Entry]:
    """Tables of others; those that this libnftables cannot say in JSON are left out."""
    identity = identity_of(path)
    if identity is None:
        return []
    code, listed, _ = library.run(identity, path, "list chains")
    tables = firewalls.of_others(json.loads(listed)["nftables"]) if not code else set()
    found: list[firewalls.Entry] = []
    for family, table in sorted(tables):
        code, listed, _ = library.run(identity, path, f"list table {family} {table}")
        if not code:
            found += json.loads(listed)["nftables"]
    return found


def probe(path: str, address: str, port: int) -> xpb.ProbeAnswer:
    """One TCP connection from a namespace, and what conntrack made of it.

    Raises:
        KernelError: the namespace cannot be entered.
    """
    try:
        with netns.inside(path):
            family = socket.AF_INET6 if ":" in address else socket.AF_INET
            asking = socket.socket(family, socket.SOCK_STREAM)
    except OSError as error:
        raise KernelError("open", f"socket in {path}", error.errno or 0) from error
    found, began = xpb.ProbeAnswer(result="connected"), time.monotonic()
    with asking:
        asking.settimeout(PROBE_S)
        try:
            asking.bind(("", 0))
            found.source_port = asking.getsockname()[1]
            asking.connect((address, port))
        except TimeoutError:
            found.result = f"no answer within {PROBE_S:.0f} s"
        except OSError as error:
            found.result = error.strerror or str(error)
        found.seconds = time.monotonic() - began
        for flow in flow_reader.flows([path])[0].get(path, []):
            if flow.source_port == found.source_port and flow.asked == address:
                found.backend, found.answered = flow.backend, not flow.unanswered
    return found


def sight(snapshot: Snapshot, address: str, source_port: int) -> xpb.SightAnswer:
    """Whether a probe came into the namespace of the container with that address."""
    for sandbox in snapshot.sandboxes.values():
        own = {str(at.ip) for _, at in sandbox.networks}
        own |= {str(at.ip) for _, at in sandbox.networks6}
        if address in own:
            flows = flow_reader.flows([sandbox.netns])[0].get(sandbox.netns, [])
            arrived = any(f.source_port == source_port and f.asked == address for f in flows)
            return xpb.SightAnswer(task=sandbox.task, arrived=arrived)
    return xpb.SightAnswer()


def traffic(
    snapshot: Snapshot, netns_dir: Path = NETNS_DIR, host_netns: str = HOST
) -> xpb.TrafficAnswer:
    """What came from each other node, and went through each overlay.

    Raises:
        KernelError: something that is there cannot be read.
    """
    nodes = {str(node.vtep): node.id for node in snapshot.nodes.values()}
    found = xpb.TrafficAnswer()
    for vtep, counted in vxlan_counters.of_vteps(VTEPS, host_netns).items():
        if vtep in nodes:
            found.links.add(node=nodes[vtep], packets=counted.packets, bytes=counted.bytes)
    for network in snapshot.networks.values():
        with suppress(NotFoundError):  # it goes, or is not here yet
            path = str(netns_dir / netns_name(network.id))
            seen = vxlan_counters.of_interface(path, VXLAN)
            if seen is not None:
                found.overlays.add(
                    network=network.name,
                    received_packets=seen.received.packets,
                    received_bytes=seen.received.bytes,
                    sent_packets=seen.sent.packets,
                    sent_bytes=seen.sent.bytes,
                )
    found.at = time.monotonic()
    return found
