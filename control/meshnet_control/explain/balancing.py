"""Who answers for a service, and who got what: a Snapshot and flows, as one answer. Pure.

The model: a connection is counted where it was translated: to a VIP in the namespace of the
container that asked, to a published port in the host's. So each is counted once, and the sum over
all nodes is the cluster's.

Be aware: conntrack remembers a TCP connection for two minutes after its end; nothing is counted for
longer. Packets and bytes are 0 where a kernel does not count.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final

from meshnet.model.ids import NetworkId, ServiceId, TaskId
from meshnet.model.snapshot import Endpoint, Service, Snapshot
from meshnet.nft.flows import Flow
from meshnet_control.api import explain_pb2 as xpb

READY: Final = "ready"
DRAINING: Final = "draining"
NOT_READY: Final = "not ready"
HOST_SILENT: Final = "host silent"
HOST_DOUBTED: Final = "host doubted"
"""Silent, and not called dead yet: chosen only where no other backend is."""
HOST_DOWN: Final = "host down"

Flows = Mapping[str | None, Sequence[Flow]]
"""Path of a namespace, None the host's -> what conntrack knows there."""
_Key = tuple[ServiceId, str]
"""A service and the address of one of its backends."""


def answer(snapshot: Snapshot, flows: Flows, unread: Iterable[str] = ()) -> xpb.BalancingAnswer:
    """Every service with its backends and what this node counted of them.

    Args:
        snapshot: of this moment.
        flows: of the host and of the containers of this node.
        unread: what could not be counted, a sentence each.
    """
    counted = _counted(snapshot, flows)
    tasks: defaultdict[ServiceId, list[Endpoint]] = defaultdict(list)
    for endpoint in snapshot.endpoints.values():
        if endpoint.service is not None:
            tasks[endpoint.service].append(endpoint)
    found = xpb.BalancingAnswer(unread=unread)
    for service in sorted(snapshot.services.values(), key=lambda each: each.name):
        said = found.services.add(
            id=service.id, name=service.name, mode=service.mode, policy=str(service.policy)
        )
        said.vips.extend(_addresses(snapshot, service.vips, service.vips6))
        for port in service.ports:
            said.ports.add(
                protocol=port.protocol,
                published=port.published,
                target=port.target,
                mode=port.mode,
            )
        for endpoint in sorted(tasks[service.id], key=lambda each: _order(each.name)):
            said.backends.append(_backend(snapshot, endpoint, counted))
    return found


def merged(answers: Sequence[xpb.BalancingAnswer]) -> xpb.BalancingAnswer:
    """Several nodes' answers as one: the first one's words, the sum of all counters."""
    whole = xpb.BalancingAnswer()
    if not answers:
        return whole
    whole.CopyFrom(answers[0])
    backends = {each.task: each for service in whole.services for each in service.backends}
    for other in answers[1:]:
        whole.unread.extend(other.unread)
        for service in other.services:
            for backend in service.backends:
                if backend.task in backends:
                    _add(backends[backend.task].counters, backend.counters)
    for backend in backends.values():
        backend.state = _left(backend.state, backend.counters)
    return whole


def shares(service: xpb.BalancedService) -> list[float]:
    """What part of the service's connections each backend has, 0 to 1."""
    whole = sum(backend.counters.connections for backend in service.backends)
    return [backend.counters.connections / whole if whole else 0.0 for backend in service.backends]


def total(service: xpb.BalancedService) -> xpb.Counters:
    """Of all backends."""
    whole = xpb.Counters()
    for backend in service.backends:
        _add(whole, backend.counters)
    return whole


def _backend(
    snapshot: Snapshot, endpoint: Endpoint, counted: Mapping[TaskId, xpb.Counters]
) -> xpb.Backend:
    node = snapshot.nodes.get(endpoint.node)
    counters = counted.get(endpoint.task, xpb.Counters())
    if node is not None and node.down:
        state = HOST_DOWN
    elif node is not None and not node.live:
        state = HOST_SILENT
    elif node is not None and node.doubted and endpoint.ready:
        state = HOST_DOUBTED
    else:
        state = READY if endpoint.ready else NOT_READY
    return xpb.Backend(
        task=endpoint.task,
        name=endpoint.name,
        node=node.hostname if node is not None else endpoint.node,
        addresses=_addresses(snapshot, endpoint.addresses, endpoint.addresses6),
        state=_left(state, counters),
        counters=counters,
    )


def _left(state: str, counters: xpb.Counters) -> str:
    """Who is chosen no more drains while it has connections left."""
    return DRAINING if state == NOT_READY and counters.open else state


def _addresses(
    snapshot: Snapshot, addresses: Mapping[NetworkId, object], second: Mapping[NetworkId, object]
) -> Iterator[xpb.NetworkAddress]:
    for network, address in sorted(addresses.items()):
        known = snapshot.networks.get(network)
        name = known.name if known is not None else network
        for each in (address, second.get(network)):
            if each is not None:
                yield xpb.NetworkAddress(network=name, address=str(each))


def _counted(snapshot: Snapshot, flows: Flows) -> Mapping[TaskId, xpb.Counters]:
    backends: dict[_Key, TaskId] = {
        (endpoint.service, str(address)): endpoint.task
        for endpoint in snapshot.endpoints.values()
        if endpoint.service is not None
        for address in (*endpoint.addresses.values(), *endpoint.addresses6.values())
    }
    local = {
        str(sandbox.gateway_address.ip): sandbox.task
        for sandbox in snapshot.sandboxes.values()
        if sandbox.gateway_address is not None
    }
    vips, ports = _vips(snapshot.services.values()), _ports(snapshot.services.values())
    counted: defaultdict[TaskId, xpb.Counters] = defaultdict(xpb.Counters)
    for path, there in flows.items():
        for flow in there:
            if flow.backend == flow.asked:
                continue
            service = ports.get((flow.protocol, flow.port)) if path is None else None
            if path is not None:
                service = vips.get(flow.asked)
            task = backends.get((service, flow.backend)) if service is not None else None
            if task is None and path is None:
                task = local.get(flow.backend)
            if task is not None:
                _count(counted[task], flow)
    return counted


def _vips(services: Iterable[Service]) -> Mapping[str, ServiceId]:
    return {
        str(vip): service.id
        for service in services
        if service.mode == "vip"
        for vip in (*service.vips.values(), *service.vips6.values())
    }


def _ports(services: Iterable[Service]) -> Mapping[tuple[str, int], ServiceId]:
    """By what conntrack says of a protocol: ``other`` than TCP and UDP is SCTP."""
    return {
        ("other" if port.protocol == "sctp" else port.protocol, port.published): service.id
        for service in services
        for port in service.ports
        if port.mode == "ingress"
    }


def _count(counters: xpb.Counters, flow: Flow) -> None:
    counters.open += not flow.ended
    counters.connections += 1
    counters.packets += flow.packets
    counters.bytes += flow.octets


def _add(counters: xpb.Counters, more: xpb.Counters) -> None:
    counters.open += more.open
    counters.connections += more.connections
    counters.packets += more.packets
    counters.bytes += more.bytes


def _order(name: str) -> tuple[str, int, str]:
    """``web.2.<id>`` before ``web.10.<id>``."""
    service, _, rest = name.partition(".")
    slot, _, task = rest.partition(".")
    return service, int(slot) if slot.isascii() and slot.isdigit() else 0, task
