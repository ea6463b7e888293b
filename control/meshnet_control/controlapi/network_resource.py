"""Networks in the shape of ``GET /networks``: the swarm object turned into a NetworkResource.

PURE. ``verbose`` lists the services and peers of the whole cluster, read from the store (Docker
lists what the asked node has heard).

Source: moby daemon/cluster/convert/network.go BasicNetworkFromGRPC, api/types/network.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from meshnet_control.api.control_pb2 import (
    TASK_STATE_RUNNING,
    Network,
    NetworkCreateRequest,
    NetworkResource,
    Node,
    Service,
    Task,
)
from meshnet_control.controlapi import filters
from meshnet_control.controlapi.access import task_name
from meshnet_control.convert.engine_json import to_engine

FILTERS = ("dangling", "driver", "id", "label", "name", "scope", "type")


def resource(network: Network) -> dict[str, Any]:
    """One network as Engine JSON."""
    spec = network.spec
    shape = NetworkResource(
        name=spec.name,
        id=network.id,
        scope="swarm",
        driver=driver_of(network),
        enable_ipv6=spec.ipv6_enabled,
        internal=spec.internal,
        attachable=spec.attachable,
        ingress=spec.ingress,
    )
    shape.created.CopyFrom(network.created_at)
    shape.config_from.SetInParent()
    asked, given = spec.ipam_options, network.ipam_options
    shape.ipam.driver = given.driver.name or asked.driver.name or "default"
    shape.ipam.config.extend(given.configs or asked.configs)
    shape.options.update(spec.driver_configuration.options)
    shape.options.update(network.driver_state.options)
    shape.labels.update(spec.labels)
    shown = to_engine(shape)
    shown["Containers"] = None  # as the engine writes them
    shown["Options"] = shown.get("Options") or None
    shown["Labels"] = shown.get("Labels") or None
    shown["IPAM"] = {**shown["IPAM"], "Options": None}
    return shown


def driver_of(network: Network) -> str:
    """``overlay``."""
    return str(network.driver_state.name or network.spec.driver_configuration.name or "overlay")


def to_spec(request: NetworkCreateRequest) -> Network:
    """A new network, without id, from what a client asked for."""
    network = Network()
    spec = network.spec
    spec.name = request.name
    spec.labels.update(request.labels)
    spec.internal, spec.attachable = request.internal, request.attachable
    spec.ingress, spec.scope = request.ingress, "swarm"
    spec.driver_configuration.name = request.driver or "overlay"
    spec.driver_configuration.options.update(request.options)
    spec.ipam_options.driver.name = request.ipam.driver or "default"
    spec.ipam_options.driver.options.update(request.ipam.options)
    spec.ipam_options.configs.extend(request.ipam.config)
    return network


def matches(network: Network, wanted: filters.Filters, *, used: bool) -> bool:
    """True when a network passes the filters of ``GET /networks``.

    Args:
        network: one of ours.
        wanted: parsed with ``FILTERS``.
        used: a service or task is attached to it.

    Source: moby daemon/network/filter.go.
    """
    dangling = filters.flag(wanted.get("dangling"))
    return (
        filters.exact(wanted.get("driver"), driver_of(network))
        and filters.exact(wanted.get("scope"), "swarm")
        and filters.exact(wanted.get("type"), "custom")
        and filters.pattern(wanted.get("name"), network.spec.name)
        and filters.pattern(wanted.get("id"), network.id)
        and filters.labels(wanted.get("label"), network.spec.labels)
        and (dangling is None or dangling is not used)
    )


def users(network: Network, services: Iterable[Service], tasks: Iterable[Task]) -> str | None:
    """Who keeps a network from being removed: ``service <id>`` or ``task <id>``; None: nobody.

    A task whose service was removed keeps nothing: it is on its way out, and ``docker stack rm``
    removes services and then, at once, their networks.

    Source: swarmkit manager/controlapi/network.go removeNetwork.
    """
    services = list(services)
    known = {service.id for service in services}
    for service in services:
        if any(a.target == network.id for a in service.spec.task_template.networks):
            return f"service {service.id}"
        publishes = any(p.publish_mode == "ingress" for p in service.spec.endpoint_spec.ports)
        if network.spec.ingress and publishes:
            return f"service {service.id}"
    for task in tasks:
        if task.service_id and task.service_id not in known:
            continue
        if max(task.desired_state, task.status.state) <= TASK_STATE_RUNNING and any(
            a.network.id == network.id for a in task.networks_attachments
        ):
            return f"task {task.id}"
    return None


def verbose(
    network: Network, services: Iterable[Service], tasks: Iterable[Task], nodes: Iterable[Node]
) -> dict[str, Any]:
    """One network as Engine JSON, with ``Peers`` and ``Services``."""
    by_node = {n.id: n for n in nodes}
    here = [
        (task, address)
        for task in tasks
        if task.status.state == TASK_STATE_RUNNING
        for attachment in task.networks_attachments
        if attachment.network.id == network.id
        for address in attachment.addresses[:1]
    ]
    hosts = sorted({t.node_id for t, _ in here})
    shown = resource(network)
    shown["Peers"] = [
        {"Name": by_node[h].description.hostname, "IP": by_node[h].status.addr}
        for h in hosts
        if h in by_node
    ]
    shown["Services"] = {
        s.spec.name: _service(s, network, here, by_node)
        for s in services
        if any(t.service_id == s.id for t, _ in here)
    }
    return shown


def _service(
    service: Service, network: Network, here: list[tuple[Task, str]], nodes: Mapping[str, Node]
) -> dict[str, Any]:
    vips = [v.addr for v in service.endpoint.virtual_ips if v.network_id == network.id]
    ports = service.endpoint.ports if network.spec.ingress else []
    return {
        "VIP": vips[0].partition("/")[0] if vips else "",
        "Ports": [f"Target: {p.target_port}, Publish: {p.published_port}" for p in ports],
        "LocalLBIndex": 0,
        "Tasks": [
            {
                "Name": task_name(task),
                "EndpointID": task.id,
                "EndpointIP": address.partition("/")[0],
                "Info": {
                    "Host IP": nodes[task.node_id].status.addr if task.node_id in nodes else ""
                },
            }
            for task, address in here
            if task.service_id == service.id
        ],
    }
