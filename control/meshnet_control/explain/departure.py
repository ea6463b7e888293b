"""The way of a connection up to the host where it arrives: who is led where, by what. Pure.

```
 container ─ VIP ─ backends ─ interface ─ bridge ─┬─ FDB row ─ VTEP ─ underlay      to another host
                                                  └─ bridge port                    to this one
 client ─ published port ─ backends ─ mn-ingress ─┘
 container ─ default route ─ docker_gwbridge ─ masquerading                          to outside
```
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from ipaddress import IPv4Address, ip_address
from typing import Final

from meshnet.errors import ControlError
from meshnet.model.families import FAMILIES, Address, Family, Interface, order
from meshnet.model.ids import MacAddress, NetworkId
from meshnet.model.mesh import INGRESS_LINK
from meshnet.model.policy import ROUND_ROBIN
from meshnet.model.snapshot import Endpoint, Network, PublishedPort, Sandbox, Service, Snapshot
from meshnet.overlay.desired import BRIDGE, INGRESS_PEER, VXLAN, netns_name, veth_name
from meshnet_control.api import explain_pb2 as xpb
from meshnet_control.explain import choosing, containers, picture, references
from meshnet_control.explain.picture import GWBRIDGE, LB, NOTHING, OVERLAY, Picture
from meshnet_lb.chosen import Chosen
from meshnet_lb.dialect import IPV4, IPV6, Dialect
from meshnet_lb.service import TO_REFUSE, chain_name

HOST: Final = "host"
_DIALECTS: Final[Mapping[Family, Dialect]] = {4: IPV4, 6: IPV6}
_FORWARDS: Final[Mapping[Family, str]] = {4: "ipv4/ip_forward", 6: "ipv6/conf/all/forwarding"}


def from_container(
    seen: Picture,
    of: Endpoint,
    sandbox: Sandbox,
    addresses: Sequence[Address],
    port: int,
    protocol: str,
) -> xpb.PathAnswer:
    """The way of what a container of this node sends to an address, or to any that a name has.

    Args:
        seen: this host.
        of: the container.
        sandbox: its namespace.
        addresses: one at least; where the first one leads, the others are taken to lead, too.
        port: 0 is whichever.
        protocol: ``tcp`` or ``udp``.
    """
    address = addresses[0]
    found = xpb.PathAnswer(task=of.task, address=str(address), port=port)
    if sandbox.netns not in seen.states:
        lost = seen.step(of.name, "network namespace", NOTHING, sandbox.netns, OVERLAY)
        found.steps.append(lost)
        return found
    snapshot = seen.snapshot
    vip = _vip(snapshot, sandbox, address)
    if vip is not None:
        service, network = vip
        steps, backends = _balanced(seen, of.name, sandbox, address, service, network.id)
        found.steps.extend(steps)
        if found.steps[-1].ends:
            return found
        found.steps.append(_interface(seen, of.name, sandbox, network.id))
        _each(seen, found, network, backends, sandbox, port, protocol)
        return found
    direct = _network_of(snapshot, sandbox, address)
    if direct is None:
        found.steps.extend(_outside(seen, of.name, sandbox, address))
        return found
    found.steps.append(_interface(seen, of.name, sandbox, direct.id))
    ends = sorted({each for each in addresses if direct.has(each)}, key=order)
    _each(seen, found, direct, list(map(str, ends)), sandbox, port, protocol)
    return found


def from_client(
    seen: Picture, service: Service, port: PublishedPort, family: Family = 4
) -> xpb.PathAnswer:
    """The way of what comes to a published port of this host from outside, by a family."""
    found = xpb.PathAnswer(port=port.published)
    snapshot, key = seen.snapshot, f"{port.protocol} . {port.published}"
    network = snapshot.ingress
    if family != FAMILIES[0] and network is not None and not network.subnets6:
        found.steps.append(_of_ipv4(seen, network))
        return found
    is_, should = seen.element(None, "ports", key, family)
    name = f"port-{port.protocol}-{port.published}"
    refused = is_ in {TO_REFUSE, NOTHING}
    found.steps.append(seen.step(HOST, f"published port {key}", is_, should, LB, ends=refused))
    if refused or network is None:
        last = found.steps[-1]
        if is_ == TO_REFUSE:
            last.mend = last.mend or _nobody(service)
        elif last.ok:  # somebody had the port before the service: it is not led here
            last.ok, last.should = False, f"goto {name}"
            last.mend = f"see who else has the port: meshnet doctor on {seen.hostname}"
        return found
    found.steps.append(seen.step(HOST, "rule", *seen.chain(None, name, family), LB))
    is_ = picture.interface(seen.state(None), INGRESS_LINK)
    should = picture.interface(seen.spec(None), INGRESS_LINK)
    found.steps.append(seen.step(HOST, "way into the mesh", is_, should, OVERLAY))
    setting = _FORWARDS[family]
    forwards = seen.state(None).sysctls.get(setting) or NOTHING
    what = setting.rpartition("/")[2]
    found.steps.append(seen.step(HOST, what, forwards, "1", OVERLAY, ends=forwards != "1"))
    chosen = Chosen(_DIALECTS[family])
    chosen.follow(snapshot)
    ready = chosen.ready.get(network.id, {}).get(service.id, ())
    backends: Sequence[str] = [str(each) for each in ready]
    if service.policy != ROUND_ROBIN:
        led = choosing.led(seen, None, service, network.id, None, family)
        found.steps.append(seen.step(HOST, "backends", led.found, led.should, LB))
        backends = led.backends
    _each(seen, found, network, backends, None, port.target, port.protocol)
    return found


def _of_ipv4(seen: Picture, network: Network) -> xpb.Step:
    """Nothing is published by IPv6."""
    step = seen.step(HOST, f"network {network.name}", "IPv4 alone", "IPv4 alone", LB, ends=True)
    step.mend = (
        "where nothing publishes a port: docker network rm ingress, then docker network create "
        "-d overlay --ingress --ipv6 ingress (docs/networks.md)"
    )
    return step


def published(
    snapshot: Snapshot, to: str, port: int, protocol: str
) -> tuple[Service, PublishedPort]:
    """Which service is asked by a port of a host, or which port of a service is.

    Raises:
        ControlError: none is published so.
    """
    every = [
        (service, each)
        for service in snapshot.services.values()
        for each in service.ports
        if each.protocol == protocol
    ]
    if port and (not to or containers.host(snapshot, to) is not None):
        for service, each in every:
            if each.published == port:
                return _led(service, each)
        ports = " ".join(sorted({f"{each.published}/{each.protocol}" for _, each in every}))
        raise ControlError(
            f"no service publishes port {port}/{protocol} (published: {ports or 'none'})", 404
        )
    services = {str(each.id): each for each in snapshot.services.values()}
    names = {str(each.id): each.name for each in snapshot.services.values()}
    hosts = [node.hostname for node in snapshot.nodes.values()]
    service = references.found("service or host", to, services, names, hosts)
    own = [each for owner, each in every if owner.id == service.id]
    led = [each for each in own if port in {0, each.published}]
    if led:
        return _led(service, min(led, key=lambda each: each.mode == "host"))
    if own:
        ports = " ".join(sorted({f"{each.published}/{each.protocol}" for each in own}))
        raise ControlError(
            f"service {service.name} publishes no port {port}/{protocol} (published: {ports})", 404
        )
    raise ControlError(f"service {service.name} publishes no port (docker service update "
                       "--publish-add)", 404)  # fmt: skip


def _led(service: Service, port: PublishedPort) -> tuple[Service, PublishedPort]:
    """A port that the mesh leads; one of mode host is the engine's, and no step of it is ours."""
    if port.mode == "host":
        raise ControlError(
            f"port {port.published}/{port.protocol} of {service.name} is published by mode=host: "
            "the engine of each host with a task leads it there, not the mesh: docker service ps "
            f"{service.name}, and docker ps on that host",
            400,
        )
    return service, port


def _vip(snapshot: Snapshot, sandbox: Sandbox, address: Address) -> tuple[Service, Network] | None:
    on = {network for network, _ in sandbox.networks}
    for service in snapshot.services.values():
        for network, vip in (*service.vips.items(), *service.vips6.items()):
            if vip == address and network in on and service.mode == "vip":
                return service, snapshot.networks[network]
    return None


def _network_of(snapshot: Snapshot, sandbox: Sandbox, address: Address) -> Network | None:
    for network, _ in addresses_on(sandbox, address.version):
        known = snapshot.networks.get(network)
        if known is not None and known.has(address):
            return known
    return None


def _balanced(
    seen: Picture,
    place: str,
    sandbox: Sandbox,
    vip: Address,
    service: Service,
    network: NetworkId,
) -> tuple[list[xpb.Step], list[str]]:
    """The steps of a VIP, and where connections to it are led by the kernel."""
    netns, family = sandbox.netns, vip.version
    is_, should = seen.element(netns, "vips", str(vip), family)
    first = seen.step(place, f"virtual IP {vip}", is_, should, LB, ends=is_ == TO_REFUSE)
    if is_ == TO_REFUSE:
        first.mend = first.mend or _nobody(service)
    if first.ends:
        return [first], []
    name = chain_name(service.id, network)
    rule = seen.step(place, "rule", *seen.chain(netns, name, family), LB)
    own = next((address.ip for on, address in addresses_on(sandbox, family) if on == network), None)
    led = choosing.led(seen, netns, service, network, own, family)
    return [first, rule, seen.step(place, "backends", led.found, led.should, LB)], [*led.backends]


def addresses_on(sandbox: Sandbox, family: Family) -> Sequence[tuple[NetworkId, Interface]]:
    """Networks that a container has addresses of a family on."""
    return sandbox.networks if family == FAMILIES[0] else sandbox.networks6


def _interface(seen: Picture, place: str, sandbox: Sandbox, network: NetworkId) -> xpb.Step:
    at = next(n for n, (on, _) in enumerate(sandbox.networks) if on == network)
    name = sandbox.interface(at)
    is_, should = (
        picture.interface(rows, name)
        for rows in (seen.state(sandbox.netns), seen.spec(sandbox.netns))
    )
    return seen.step(place, "interface", is_, should, OVERLAY)


def _each(
    seen: Picture,
    found: xpb.PathAnswer,
    network: Network,
    backends: Sequence[str],
    sandbox: Sandbox | None,
    port: int,
    protocol: str,
) -> None:
    """Append the ways through the overlay to each backend; ``sandbox`` None: from the mesh."""
    snapshot = seen.snapshot
    netns = _path(seen, network)
    place = f"network {network.name}"
    port_ = INGRESS_PEER if sandbox is None else veth_name(sandbox.task)
    found.steps.append(bridge_port(seen, netns, place, port_))
    family: Family = 6 if any(":" in each for each in backends) else 4
    itself, dialect = snapshot.nodes.get(snapshot.self_id), _DIALECTS[family]
    if sandbox is not None:
        own = (address.ip for on, address in addresses_on(sandbox, family) if on == network.id)
        source = str(next(own, ""))
    else:
        source = str(dialect.gateway(itself)) if itself is not None else ""
    ends = {
        str(at): each
        for each in snapshot.endpoints.values()
        if (at := dialect.addresses(each).get(network.id)) is not None
    }
    for address in backends:
        end = ends.get(address)
        if end is None:
            lost = xpb.Step(host=seen.hostname, place=place, what=address, ends=True)
            lost.found = "an address that no endpoint has"
            lost.should, lost.mend = "an endpoint", f"nobody has {address} on {network.name}"
            found.steps.append(lost)
            continue
        node = snapshot.nodes.get(end.node)
        if end.node != snapshot.self_id:
            vtep = node.vtep if node is not None else None
            blocked = seen.blocked(vtep) if vtep is not None else ()
            way = rows(seen, netns, place, network.id, ip_address(address))
            for step in (*way, _underlay(seen, vtep), *blocked):
                step.target = end.task
                found.steps.append(step)
        found.targets.add(
            task=end.task,
            name=end.name,
            node=end.node,
            hostname=node.hostname if node is not None else "",
            network=network.id,
            address=address,
            port=port,
            protocol=protocol,
            source=source,
            mesh=sandbox is None,
        )


def bridge_port(seen: Picture, netns: str, place: str, name: str) -> xpb.Step:
    """That a link is a port of the network's bridge, and up."""
    state = seen.state(netns)
    link = state.links.get(name)
    is_ = NOTHING if link is None else f"{name} in {state.masters.get(name, 'no bridge')}"
    if link is not None and not link.up:
        is_ += ", down"
    return seen.step(place, "bridge port", is_, f"{name} in {BRIDGE}", OVERLAY)


def rows(
    seen: Picture, netns: str, place: str, network: NetworkId, address: Address
) -> Iterator[xpb.Step]:
    """By which MAC and which VTEP an address of another host is reached."""
    state, spec = seen.state(netns), seen.spec(netns)
    mac = seen.mac(network, address) or MacAddress("")
    yield seen.step(
        place,
        f"neighbour {address}",
        picture.neighbour(state, address, VXLAN),
        picture.neighbour(spec, address, VXLAN),
        OVERLAY,
    )
    yield seen.step(
        place,
        f"FDB row {mac}",
        picture.fdb(state, mac, VXLAN),
        picture.fdb(spec, mac, VXLAN),
        OVERLAY,
    )


def _underlay(seen: Picture, vtep: IPv4Address | None) -> xpb.Step:
    """The host's route to a VTEP: nobody says what it should be, but there must be one."""
    route = picture.way(seen.state(None), vtep) if vtep is not None else None
    is_ = picture.shown(route)
    step = seen.step(HOST, f"route to VTEP {vtep}", is_, is_, OVERLAY, ends=route is None)
    if route is None:
        step.ok, step.should = False, "a route"
        step.mend = f"give {seen.hostname} a route to {vtep}"
    return step


def _outside(seen: Picture, place: str, sandbox: Sandbox, address: Address) -> Iterator[xpb.Step]:
    snapshot = seen.snapshot
    other = next((net for net in snapshot.networks.values() if net.has(address)), None)
    if other is not None:
        names = " ".join(sorted(
            snapshot.networks[on].name for on, _ in sandbox.networks if on in snapshot.networks
        ))  # fmt: skip
        step = seen.step(place, f"network of {address}", other.name, other.name, OVERLAY, ends=True)
        step.ok = False
        step.should = f"one of the container's: {names}"
        step.mend = f"docker service update --network-add {other.name} SERVICE, of the caller's"
        yield step
        return
    first = address.version == FAMILIES[0]
    gateway = snapshot.gwbridge if first else None
    wanted = f"default via {gateway.gateway}" if gateway and sandbox.gateway_address else NOTHING
    route = picture.way(seen.state(sandbox.netns), address)
    is_ = picture.shown(route)
    same = is_ == wanted or is_.startswith(f"{wanted} dev")
    step = seen.step(place, f"route to {address}", is_, is_ if same else wanted, GWBRIDGE,
                     ends=route is None)  # fmt: skip
    if wanted == NOTHING and same:
        step.mend = (
            "all networks of the container are internal: it has no way out"
            if first
            else "containers have a way out by IPv4 alone (docs/networks.md)"
        )
    yield step
    if route is None:
        return
    yield seen.step(HOST, "masquerading", *seen.chain(None, "postrouting"), LB)
    onward = picture.shown(picture.way(seen.state(None), address))
    last = seen.step(HOST, f"route to {address}", onward, onward, GWBRIDGE, ends=onward == NOTHING)
    if last.ends:
        last.ok, last.should, last.mend = False, "a route", "the host itself has no way there"
    yield last


def _path(seen: Picture, network: Network) -> str:
    """Of the network's namespace on this host."""
    name = netns_name(network.id)
    return next((path for path in seen.specs if path and path.endswith(f"/{name}")), name)


def _nobody(service: Service) -> str:
    return f"no task of {service.name} is ready: docker service ps --no-trunc {service.name}"
