"""Networks in the shape of ``GET /networks``: the swarm object turned into a NetworkResource.

PURE. Who is on a network is a node's to say: ``meshnet_control.gateway.network_json``.

Source: moby daemon/cluster/convert/network.go BasicNetworkFromGRPC, api/types/network.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from meshnet_control.api.control_pb2 import (
    TASK_STATE_COMPLETE,
    TASK_STATE_RUNNING,
    Network,
    NetworkCreateRequest,
    NetworkResource,
    Service,
    Task,
)
from meshnet_control.cluster import node_local, service_networks
from meshnet_control.controlapi import filters
from meshnet_control.convert.engine_json import to_engine

_AS_PRINTED: Final = (
    *("Name", "Id", "Created", "Scope", "Driver", "EnableIPv6", "IPAM", "Internal", "Attachable"),
    *("Ingress", "ConfigFrom", "ConfigOnly", "Containers", "Options", "Labels"),
)
"""The CLI prints a network as it gets it."""
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
    shape.config_from.network = spec.config_from
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
    ipam = shown["IPAM"]
    shown["IPAM"] = {"Driver": ipam["Driver"], "Options": None, "Config": ipam["Config"]}
    return {key: shown[key] for key in _AS_PRINTED if key in shown}


def driver_of(network: Network) -> str:
    """``overlay``, ``macvlan``."""
    return node_local.driver_of(network)


def to_spec(request: NetworkCreateRequest) -> Network:
    """A new network, without id, from what a client asked for."""
    network = Network()
    spec = network.spec
    spec.name = request.name
    spec.labels.update(request.labels)
    spec.internal, spec.attachable = request.internal, request.attachable
    spec.ipv6_enabled = request.enable_ipv6
    spec.ingress, spec.scope = request.ingress, "swarm"
    spec.config_from = request.config_from.network
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
        if any(a.target == network.id for a in service_networks.template(service.spec).networks):
            return f"service {service.id}"
        publishes = any(p.publish_mode == "ingress" for p in service.spec.endpoint_spec.ports)
        if network.spec.ingress and publishes:
            return f"service {service.id}"
    for task in tasks:
        if task.service_id and task.service_id not in known:
            continue
        wanted = task.desired_state <= TASK_STATE_COMPLETE
        if (
            wanted
            and task.status.state <= TASK_STATE_RUNNING
            and any(a.network.id == network.id for a in task.networks_attachments)
        ):
            return f"task {task.id}"
    return None
