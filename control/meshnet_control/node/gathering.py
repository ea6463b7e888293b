"""The facts that ``meshnet doctor`` looks at: read from this host and asked of the way to others.

Be aware: blocks for a second, or some with more ports that do not answer than are asked at once;
moves no thread, changes nothing.
"""

from __future__ import annotations

import json
import os
import resource
import socket
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from meshnet.kernel import echo, host, netns, sysctl
from meshnet.kernel.libnftables import Libnftables
from meshnet.kernel.netns import NETNS_DIR, Identity, identity_of
from meshnet.kernel.nft import HOST
from meshnet.kernel.rtnl import RtnlClient
from meshnet.model import paths
from meshnet.model.esp import port_of
from meshnet.model.snapshot import Network, Node, Snapshot
from meshnet.model.wellknown import CONTROL_PORT, GOSSIP_PORT, PEER_PORT
from meshnet.overlay.desired import PREFIX, netns_name
from meshnet_control.api import explain_pb2 as xpb
from meshnet_control.explain.checks import MODULES, WANTED

WITHIN_S: Final = 1.0
"""For an answer of another host."""
_SMALL: Final = 84
"""Bytes of a packet that passes everywhere."""
_AT_ONCE: Final = 64
_OURS: Final = frozenset({"meshnet", "meshnet_dns"})
_ENGINES: Final = frozenset({("filter", "FORWARD")})
"""The engine's own chain; our rules stand at the head of it (``gwbridge/desired.py``)."""

Port = tuple[int, str]
"""Number and protocol."""
Way = tuple[str, str, int]
"""Name and address of a host, and a TCP port of it."""


def facts(snapshot: Snapshot, managers: Sequence[str], state_dir: Path) -> xpb.HostFacts:
    """What can be read here; who this is and what gossip knows is added by the caller.

    Args:
        snapshot: of this moment.
        managers: ``host:port`` of each.
        state_dir: whose disk is looked at.

    Raises:
        KernelError: something that is there cannot be read.
    """
    rtnl, library = RtnlClient(), Libnftables()
    try:
        found = xpb.HostFacts(
            reaches=reaches(snapshot, managers),
            narrow=narrow(snapshot),
            routes_in_way=list(_routes(snapshot, rtnl)),
            leftovers=_leftovers(snapshot),
            rooms=[*_rooms(state_dir), *pools(snapshot)],
            lacks=_lacks(),
        )
        for name in found.leftovers:
            with suppress(OSError):
                found.since[name] = (NETNS_DIR / name).stat().st_mtime
        identity = identity_of(HOST)
        if identity is not None:
            code, listed, _ = library.run(identity, HOST, "list chains")
            if not code:
                chains = json.loads(listed)["nftables"]
                found.droppers.extend(droppers(chains))
                found.droppers.extend(_dropped(chains, _vxlan_ports(snapshot), library, identity))
    finally:
        rtnl.close()
        library.close()
    for key in WANTED:
        value = sysctl.read(key)
        if value is not None:
            found.sysctls[key] = value
    return found


def droppers(listing: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """Base chains of others, in our packets' way, whose policy is to drop (libnftables-json(5)).

    Pure.
    """
    for entry in listing:
        chain = entry.get("chain", {})
        name = (chain.get("table", ""), chain.get("name", ""))
        drops = chain.get("policy") == "drop" and chain.get("hook") in {"input", "forward"}
        if drops and name[0] not in _OURS and name not in _ENGINES:
            yield f"{chain.get('family', '')} {name[0]} {name[1]}"


def _dropped(
    chains: Iterable[Mapping[str, Any]],
    vxlan: Set[int],
    library: Libnftables,
    identity: Identity,
) -> Iterator[str]:
    ours = {(each, "tcp") for each in (CONTROL_PORT, PEER_PORT, GOSSIP_PORT)}
    ours |= {(port, "udp") for port in (GOSSIP_PORT, *vxlan)}
    for entry in chains:
        chain = entry.get("chain", {})
        if chain.get("hook") in {"input", "prerouting"} and chain["table"] not in _OURS:
            name = f"{chain['family']} {chain['table']} {chain['name']}"
            code, listed, _ = library.run(identity, HOST, f"list chain {name}")
            rules = json.loads(listed)["nftables"] if not code else []
            for port, protocol in sorted(dropped(rules, ours)):
                yield f"{name}: {port}/{protocol}"


def dropped(listing: Iterable[Mapping[str, Any]], ours: Set[Port]) -> set[Port]:
    """Which of our ports rules of a chain drop or reject, whatever else they ask for. Pure.

    Be aware: rules that a chain jumps to, and matches of iptables' own that nft cannot say
    (``xt``), are not looked into.

    Args:
        listing: of ``nft -j list chain`` (libnftables-json(5)).
        ours: number and protocol.
    """
    found: set[Port] = set()
    for entry in listing:
        rule = entry.get("rule", {}).get("expr", ())
        if not any({"drop", "reject"} & set(each) or _rejects(each) for each in rule):
            continue
        for match in (each["match"] for each in rule if "match" in each):
            payload = match["left"].get("payload", {}) if isinstance(match["left"], dict) else {}
            if payload.get("field") == "dport" and match["op"] in {"==", "in"}:
                named = {"th": {"tcp", "udp"}}.get(payload["protocol"], {payload["protocol"]})
                found |= {
                    each for each in ours if each[1] in named and _in(each[0], match["right"])
                }
    return found


def _rejects(statement: Mapping[str, Any]) -> bool:
    return bool(statement.get("xt", {}).get("name") == "REJECT")


def _in(port: int, said: Any) -> bool:  # noqa: ANN401 - a number, a range or a set of them
    if isinstance(said, dict) and "set" in said:
        values = said["set"]
        return any(_in(port, each) for each in (values if isinstance(values, list) else [values]))
    if isinstance(said, dict) and "range" in said:
        first, last = said["range"]
        return bool(first <= port <= last)
    return bool(said == port)


def narrow(snapshot: Snapshot) -> Iterator[str]:
    """Ways from here that take less than the interfaces at both ends, as was measured. Pure."""
    itself = snapshot.nodes.get(snapshot.self_id)
    if itself is None:
        return
    for node in snapshot.nodes.values():
        size, full = paths.largest(itself, node), min(itself.underlay_mtu, node.underlay_mtu)
        if size < full and node.id != snapshot.self_id and not node.down:
            yield f"packets above {size} of {full} bytes do not come to {node.hostname} uncut"


def addresses(snapshot: Snapshot) -> Iterator[tuple[str, int, int]]:
    """(network, its addresses in use, all that hosts can have), as this node knows. Pure."""
    taken: Counter[str] = Counter()
    for endpoint in snapshot.endpoints.values():
        taken.update(map(str, endpoint.addresses))
    for service in snapshot.services.values():
        taken.update(map(str, service.vips))
    gateways = sum(node.ingress_address is not None for node in snapshot.nodes.values())
    for network in snapshot.networks.values():
        used = taken[network.id] + len(network.subnets) + (gateways if network.ingress else 0)
        most = sum(each.num_addresses - 2 for each in network.subnets)
        yield network.name, used, max(1, most)


def pools(snapshot: Snapshot) -> Iterator[xpb.Room]:
    """How many addresses of each network are taken, as this node knows. Pure."""
    for name, used, most in addresses(snapshot):
        yield xpb.Room(what=f"addresses of network {name}", used=used, most=most)


def reaches(snapshot: Snapshot, managers: Sequence[str]) -> list[xpb.Reach]:
    """The ways to every other node that is not known to be away."""
    others = [
        node
        for node in snapshot.nodes.values()
        if node.id != snapshot.self_id and node.live and not node.down
    ]
    ports = [(node.hostname, str(node.vtep), GOSSIP_PORT) for node in others]
    ports += ports_of_managers(snapshot, managers)
    with ThreadPoolExecutor(_AT_ONCE + 1, thread_name_prefix="reach") as together:
        packets = together.submit(lambda: list(_packets(snapshot, others)))
        found = list(together.map(lambda each: _connects(*each), ports))
        return [*found, *packets.result()]


def ports_of_managers(snapshot: Snapshot, managers: Sequence[str]) -> Iterator[Way]:
    """Where managers are asked, and where they have etcd when this node is one of several. Pure.

    Args:
        snapshot: of this moment.
        managers: ``host:port`` of each.
    """
    names = {str(node.vtep): node.hostname for node in snapshot.nodes.values()}
    itself = snapshot.nodes.get(snapshot.self_id)
    own = str(itself.vtep) if itself is not None else ""
    addresses = [manager.rpartition(":")[0] for manager in managers]
    for manager, address in zip(managers, addresses, strict=True):
        port = manager.rpartition(":")[2]
        name = names.get(address, address)
        yield name, address, int(port) if port.isdigit() else CONTROL_PORT
        if own in addresses and address != own:
            yield name, address, PEER_PORT


def _connects(name: str, address: str, port: int) -> xpb.Reach:
    reach = xpb.Reach(host=name, address=address, what=f"{port}/tcp")
    try:
        socket.create_connection((address, port), WITHIN_S).close()
    except OSError as error:
        reach.why = error.strerror or str(error)
    return reach


def _packets(snapshot: Snapshot, others: Sequence[Node]) -> Iterator[xpb.Reach]:
    """VXLAN, by the mesh's gateways, and the largest packets of the underlay and of the mesh."""
    itself, mesh = snapshot.nodes.get(snapshot.self_id), snapshot.ingress
    if itself is None:
        return
    wanted: list[tuple[Node, str, int, str]] = []
    for node in others:
        size = paths.largest(itself, node)
        wanted.append((node, str(node.vtep), size, f"{size} bytes"))
        if mesh is not None and node.ingress_address and itself.ingress_address:
            inner = paths.mtu_of(snapshot, mesh)
            address = str(node.ingress_address)
            wanted.append((node, address, _SMALL, _vxlan(snapshot, mesh)))
            wanted.append((node, address, inner, f"{inner} bytes"))
    probes = {(address, size) for _, address, size, _ in wanted}
    heard = echo.heard([*probes, *((address, _SMALL) for address, _ in probes)], WITHIN_S)
    for node, address, size, what in wanted:
        large = what.endswith("bytes")
        if large and not heard[address, _SMALL]:
            continue  # the way is closed or echo is filtered: sizes say nothing
        why = "" if heard[address, size] else f"no answer of {address} within {WITHIN_S:.0f} s"
        yield xpb.Reach(host=node.hostname, address=str(node.vtep), what=what, why=why)


def _vxlan(snapshot: Snapshot, network: Network) -> str:
    if network.encrypted:
        return f"VXLAN (ESP, and {port_of(snapshot.vxlan_port)}/udp in it)"
    return f"VXLAN ({snapshot.vxlan_port}/udp)"


def _vxlan_ports(snapshot: Snapshot) -> set[int]:
    """UDP ports that the networks here have."""
    encrypted = any(network.encrypted for network in snapshot.networks.values())
    return {snapshot.vxlan_port} | ({port_of(snapshot.vxlan_port)} if encrypted else set())


def _routes(snapshot: Snapshot, rtnl: RtnlClient) -> Iterator[str]:
    there = host.host_routes(rtnl)
    networks = snapshot.networks.values()
    for name, subnet in ((each.name, subnet) for each in networks for subnet in each.every_subnet):
        found = host.conflicting_route(subnet, there)
        if found is not None:
            yield f"network {name} ({subnet}) overlaps route {found[0]} dev {found[1]}"


def _leftovers(snapshot: Snapshot) -> list[str]:
    wanted = {netns_name(network) for network in snapshot.networks}
    return [name for name in netns.names(NETNS_DIR, PREFIX) if name not in wanted]


def _lacks() -> list[str]:
    folder = Path("/lib/modules", os.uname().release)
    try:
        listed = [(folder / name).read_text() for name in ("modules.builtin", "modules.dep")]
    except OSError:
        return []  # built without modules, or they are not here: the kernel may have all
    loaded = {each for each in MODULES if Path("/sys/module", each).exists()}
    return lacking("\n".join(listed), loaded)


def lacking(listed: str, loaded: Set[str]) -> list[str]:
    """Modules that meshnet uses and a kernel has neither built in, nor beside it. Pure.

    Args:
        listed: ``modules.builtin`` and ``modules.dep`` (depmod(8)).
        loaded: of those, the ones in memory.
    """
    names = {
        Path(line.partition(":")[0]).name.partition(".")[0].replace("-", "_")
        for line in listed.splitlines()
    }
    return [each for each in MODULES if each not in names | loaded]


def _rooms(state_dir: Path) -> Iterator[xpb.Room]:
    disk = os.statvfs(state_dir)
    whole, free = disk.f_blocks * disk.f_frsize, disk.f_bavail * disk.f_frsize
    yield xpb.Room(what=f"bytes of {state_dir}'s disk", used=max(0, whole - free), most=whole)
    files = f"files of {state_dir}'s disk"
    yield xpb.Room(what=files, used=disk.f_files - disk.f_favail, most=disk.f_files)
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    used = len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - a count
    yield xpb.Room(what="descriptors of meshnetd", used=used, most=limit)
    counted, most = sysctl.read(f"{_CT}count"), sysctl.read(f"{_CT}max")
    if counted and most:
        yield xpb.Room(what="connections tracked by the host", used=int(counted), most=int(most))
    threshold, neighbours = sysctl.read("ipv4/neigh/default/gc_thresh3"), _neighbours()
    if threshold and neighbours is not None:
        yield xpb.Room(what="neighbours of this kernel", used=neighbours, most=int(threshold))


def _neighbours() -> int | None:
    """ARP entries of all namespaces, from the first column of proc's table (arp(7))."""
    try:
        lines = Path("/proc/net/stat/arp_cache").read_text().splitlines()
        return int(lines[1].split()[0], 16)
    except (OSError, IndexError, ValueError):
        return None


_CT: Final = "netfilter/nf_conntrack_"
