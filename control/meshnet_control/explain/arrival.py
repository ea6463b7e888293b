"""The rest of a connection's way, on the host where it arrives, and the way back. Pure.

```
 VTEP ─ vx0 ─ bridge port ─ interface ─ (published: target port, mark) ─ who listens
      <─ FDB row of who asked ─ (published: mark's table, MAC of the entry node)
```
"""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Address, ip_address

from meshnet.model.families import Address, Family
from meshnet.model.ids import MacAddress, NetworkId, TaskId
from meshnet.model.snapshot import Network, Sandbox
from meshnet.netstate.values import NetnsSpec, NetnsState
from meshnet.overlay.desired import VXLAN, netns_name, veth_name
from meshnet.overlay.ends import RETURN_TABLE
from meshnet_control.api import explain_pb2 as xpb
from meshnet_control.explain import picture
from meshnet_control.explain.departure import HOST, addresses_on, bridge_port, rows
from meshnet_control.explain.picture import LB, NOTHING, OVERLAY, Picture
from meshnet_lb.sandbox import mark_of


def steps(seen: Picture, target: xpb.Target) -> list[xpb.Step]:
    """What happens to a connection to a task of this node."""
    found = list(_steps(seen, target))
    for step in found:
        step.target = target.task
    return found


def _steps(seen: Picture, target: xpb.Target) -> Iterator[xpb.Step]:
    snapshot = seen.snapshot
    network = snapshot.networks.get(NetworkId(target.network))
    sandbox = snapshot.sandboxes.get(TaskId(target.task))
    if network is None or sandbox is None:
        step = seen.step(target.name, "container", NOTHING, target.name, OVERLAY)
        step.mend = f"it ended: docker service ps --no-trunc, and docker ps -a on {seen.hostname}"
        yield step
        return
    name = netns_name(network.id)
    netns = next((path for path in seen.specs if path and path.endswith(name)), "")
    place, source = f"network {network.name}", ip_address(target.source)
    local = _is_here(seen, network, source)
    if not local:
        yield from _received(seen, netns, place, network.id, source)
    yield bridge_port(seen, netns, place, veth_name(sandbox.task))
    at = next((n for n, (on, _) in enumerate(sandbox.networks) if on == network.id), 0)
    name = sandbox.interface(at)
    yield seen.step(
        target.name,
        "interface",
        picture.interface(seen.state(sandbox.netns), name),
        picture.interface(seen.spec(sandbox.netns), name),
        OVERLAY,
    )
    if target.mesh:
        yield from _published(seen, sandbox, target, source)
    yield from _listens(seen, sandbox, target)
    if target.mesh:
        yield from _marked_back(seen, sandbox, target.name, source)
    if not local:
        for step in rows(seen, netns, place, network.id, source):
            step.what = f"way back: {step.what}"
            yield step


def _is_here(seen: Picture, network: Network, source: Address) -> bool:
    """Whether who is answered is on this host."""
    snapshot = seen.snapshot
    itself = snapshot.nodes.get(snapshot.self_id)
    gateways = (itself.ingress_address, itself.ingress_address6) if itself is not None else ()
    if network.ingress and source in gateways:
        return True
    return any(
        on == network.id and address.ip == source
        for sandbox in snapshot.sandboxes.values()
        for on, address in addresses_on(sandbox, source.version)
    )


def _received(
    seen: Picture, netns: str, place: str, network: NetworkId, source: Address
) -> Iterator[xpb.Step]:
    """That this host takes VXLAN packets of the network from the other one."""
    wanted = seen.spec(netns).vxlans.get(VXLAN)
    link = seen.state(netns).links.get(VXLAN)
    should = f"VNI {wanted.vxlan.vni}, UDP {wanted.vxlan.port}" if wanted else NOTHING
    is_ = NOTHING
    if link is not None and link.vxlan is not None:
        is_ = f"VNI {link.vxlan.vni}, UDP {link.vxlan.port}" + ("" if link.up else ", down")
    yield seen.step(place, "VXLAN device", is_, should, OVERLAY)
    vtep = picture.fdb(seen.spec(netns), seen.mac(network, source) or MacAddress(""), VXLAN)
    if vtep != NOTHING:
        yield seen.step(HOST, f"VXLAN from {vtep} is taken", *seen.element(None, "vteps", vtep), LB)
        yield from seen.blocked(IPv4Address(vtep))


def _published(
    seen: Picture, sandbox: Sandbox, target: xpb.Target, source: Address
) -> Iterator[xpb.Step]:
    key, family = f"{target.protocol} . {target.port}", source.version
    is_, should = seen.element(sandbox.netns, "targets", key, family)
    yield seen.step(target.name, f"published to {key}", is_, should, LB, ends=is_ == NOTHING)
    mac = seen.mac(NetworkId(target.network), source) or MacAddress("")
    is_, should = seen.element(sandbox.netns, "gateways", mac, family)
    yield seen.step(target.name, f"mark of entry {mac}", is_, should, LB)


def _listens(seen: Picture, sandbox: Sandbox, target: xpb.Target) -> Iterator[xpb.Step]:
    """Who listens is the program's affair; that nobody does is where a connection ends."""
    there = seen.listening.get(sandbox.netns)
    if there is None:
        return
    ports = sorted(port for protocol, port in there if protocol == target.protocol)
    listed = f"{target.protocol} {' '.join(map(str, ports)) or NOTHING}"
    missing = bool(target.port) and target.port not in ports
    is_ = f"{target.protocol} {target.port}" if target.port and not missing else listed
    step = seen.step(target.name, "who listens", is_, is_, LB, ends=missing)
    if missing:
        step.ok, step.should = False, f"{target.protocol} {target.port}"
        step.mend = f"the program in {target.name} listens elsewhere, or not at all: its log"
    yield step


def _marked_back(
    seen: Picture, sandbox: Sandbox, place: str, source: Address
) -> Iterator[xpb.Step]:
    """Replies go out by the interface of the mesh, to the node that they came in by."""
    yield seen.step(
        place,
        "way back: table of the mark",
        _marked(seen.state(sandbox.netns), source.version),
        _marked(seen.spec(sandbox.netns), source.version),
        OVERLAY,
    )
    gateway = source
    for node in seen.snapshot.nodes.values():
        if node.ingress_address6 == source and node.ingress_address is not None:
            gateway = node.ingress_address  # which the mark is made of
    key = f"{mark_of(gateway):#010x}" if isinstance(gateway, IPv4Address) else NOTHING
    wanted = [
        each.elements.get(key, NOTHING)
        for ruleset in seen.rulesets.get(sandbox.netns, ())
        for each in ruleset.sets
        if each.name == "macs"
    ]
    table = seen.tables.get(sandbox.netns, {}).get(("netdev", "meshnet"))
    found = table.sets.get("macs") if table is not None else None
    is_ = found.elements.get(key, NOTHING) if found is not None else NOTHING
    yield seen.step(place, f"way back: MAC of mark {key}", is_, (wanted or [NOTHING])[0], LB)


def _marked(of: NetnsSpec | NetnsState, family: Family) -> str:
    rules = [
        rule
        for rule in of.rules
        if rule.table == RETURN_TABLE and rule.mark and rule.family == family
    ]
    routes = [
        route
        for route in of.routes
        if route.table == RETURN_TABLE and route.destination.version == family
    ]
    if not rules or not routes:
        return NOTHING
    return f"table {RETURN_TABLE}: {picture.shown(routes[0])}"
