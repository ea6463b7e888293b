"""What of a task is meshnet's to wire: its networks, its sandbox, its endpoint, its names. Pure."""

from __future__ import annotations

from ipaddress import (
    IPv4Address,
    IPv4Interface,
    IPv4Network,
    IPv6Address,
    IPv6Interface,
    ip_address,
)
from typing import Final

from meshnet.errors import ControlError
from meshnet.model.ids import NetworkId, NodeId, ServiceId, TaskId
from meshnet.model.snapshot import Endpoint, Sandbox
from meshnet.model.wellknown import RESOLVER_ADDRESS
from meshnet_control.api import control_pb2 as pb
from meshnet_control.cluster import host_entries, node_local
from meshnet_control.cluster.published_ports import ports_of

BEHIND_ENGINES: Final = 10
"""Number of our first interface where the engine has interfaces, too: it counts from 0."""
_STACK: Final = "com.docker.stack.namespace"
"""Label of the containers of a stack (docker/cli compose/convert/service.go)."""
_ENGINE_DRIVERS: Final = frozenset({"bridge", "host", "null", "macvlan", "ipvlan"})


def name_of(task: pb.Task) -> str:
    """``web.1.<task id>``; for a global service ``web.<node id>.<task id>`` (swarmkit naming)."""
    if not task.service_name:
        return task.name or task.id
    return f"{task.service_name}.{task.slot or task.node_id}.{task.id}"


def overlays_of(task: pb.Task) -> list[pb.NetworkAttachment]:
    """The task's networks that are ours to wire, in interface order."""
    return [net for net in task.networks_attachments if _driver(net) not in _ENGINE_DRIVERS]


def on_host_network(task: pb.Task) -> bool:
    """True when the task runs in its host's own namespace: the engine publishes nothing there."""
    return any(_driver(net) == "host" for net in task.networks_attachments)


def needs_gateway(task: pb.Task) -> bool:
    """True when its way out is ours: an overlay has one, and no network of the engine does."""
    if any(not net.network.spec.internal for net in node_local.of_task(task)):
        return False
    return any(not net.network.spec.internal for net in overlays_of(task))


def sandbox_of(task: pb.Task, netns: str, gateway: IPv4Interface | None) -> Sandbox:
    """The namespace to wire.

    Args:
        task: the task.
        netns: path of the container's network namespace.
        gateway: its address on docker_gwbridge.
    """
    dns = task.spec.container_spec.dns_config
    wired = [net for net in overlays_of(task) if net.addresses]
    networks = tuple((NetworkId(net.network.id), _interface(net)) for net in wired)
    servers = tuple(_name_server(server) for server in dns.nameservers)
    beside = bool(node_local.of_task(task))  # where the engine answers for names, too
    return Sandbox(
        task=TaskId(task.id),
        netns=netns,
        networks=networks,
        gateway_address=gateway,
        ports=ports_of(task.endpoint_spec.ports),
        upstreams=(IPv4Address(RESOLVER_ADDRESS),) if beside else servers,
        search=tuple(dns.search),
        mesh=frozenset(
            NetworkId(net.network.id) for net in overlays_of(task) if net.network.spec.ingress
        ),
        numbers=tuple(BEHIND_ENGINES + at for at in range(len(networks) + 1)) if beside else (),
        stack=task.spec.container_spec.labels.get(_STACK, ""),
        networks6=tuple(
            (NetworkId(net.network.id), second)
            for net in wired
            if (second := _second(net)) is not None
        ),
    )


def endpoint_of(
    task: pb.Task, node: str, container: str, *, hostname: str, ready: bool
) -> Endpoint:
    """What this node says of the task to the cluster."""
    nets = [net for net in overlays_of(task) if net.addresses]
    given_at = task.allocated_at if task.HasField("allocated_at") else task.created_at
    return Endpoint(
        task=TaskId(task.id),
        name=name_of(task),
        node=NodeId(node),
        service=ServiceId(task.service_id) if task.service_id else None,
        addresses={NetworkId(net.network.id): _interface(net).ip for net in nets},
        container=container,
        hostname=hostname,
        aliases={NetworkId(n.network.id): tuple(n.aliases) for n in nets if n.aliases},
        ready=ready,
        made=max(0, given_at.ToNanoseconds()),
        addresses6={
            NetworkId(net.network.id): second.ip
            for net in nets
            if (second := _second(net)) is not None
        },
    )


def hosts_file(task: pb.Task, hostname: str, host: IPv4Address) -> str:
    """/etc/hosts of a container of ours: localhost, ``--host`` entries, its own name.

    Args:
        task: the task.
        hostname: the container's own name.
        host: this host's address for containers, which ``host-gateway`` stands for.
    """
    lines = ["127.0.0.1\tlocalhost", "::1\tlocalhost ip6-localhost ip6-loopback"]
    lines += [
        "\t".join([str(host) if address == host_entries.HOST_GATEWAY else address, *names])
        for address, names in host_entries.entries(task.spec.container_spec.hosts)
    ]
    wired = [net for net in overlays_of(task) if net.addresses]
    own = [each for net in wired for each in (_interface(net), _second(net)) if each is not None]
    lines += [f"{each.ip}\t{hostname}" for each in own]
    return "\n".join(lines) + "\n"


# ---- inside ----


def _driver(net: pb.NetworkAttachment) -> str:
    return net.network.driver_state.name or net.network.spec.driver_configuration.name


def _interface(net: pb.NetworkAttachment) -> IPv4Interface:
    configs = net.network.ipam_options.configs
    try:
        address = IPv4Interface(net.addresses[0])
        if "/" in net.addresses[0] or not configs:
            return address
        return IPv4Interface(f"{address.ip}/{IPv4Network(configs[0].subnet).prefixlen}")
    except ValueError as error:
        raise ControlError(f"network {net.network.spec.name}: {error}") from error


def _second(net: pb.NetworkAttachment) -> IPv6Interface | None:
    """On a dual stack network."""
    try:
        return next((IPv6Interface(each) for each in net.addresses if ":" in each), None)
    except ValueError as error:
        raise ControlError(f"network {net.network.spec.name}: {error}") from error


def _name_server(text: str) -> IPv4Address | IPv6Address:
    try:
        return ip_address(text)
    except ValueError as error:
        raise ControlError(f"invalid IP address in DNS configuration: {text!r}") from error
