"""What a task's container looks like: task -> body of ``POST /containers/create``. Pure.

A task on overlay networks gets ``NetworkMode: none``, our name server and the gate; a task without
them is an ordinary container of the engine (default bridge, or the engine's network it names).

Longer than most modules: it is one mapping, field by field.

Be aware: with ``none`` the engine writes resolv.conf from Dns/DnsSearch/DnsOptions as given (tried
with 20.10). /etc/hosts would lack the container's own name there, so it is a file of ours.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Address, ip_address
from pathlib import Path
from typing import Any, Final

from meshnet.errors import ControlError, PoolExhaustedError
from meshnet.model.ids import NetworkId, NodeId, ServiceId, TaskId
from meshnet.model.snapshot import Endpoint, Gwbridge, PublishedPort, Sandbox
from meshnet.model.wellknown import RESOLVER_ADDRESS
from meshnet_control.agent import gate
from meshnet_control.api import control_pb2 as pb
from meshnet_control.cluster.published_ports import ports_of
from meshnet_control.cluster.templates import Where, expanded

GATEWAY_LABEL: Final = "meshnet.gateway_address"
TASK_LABEL: Final = "meshnet.task"
_ENGINE_DRIVERS: Final = frozenset({"bridge", "host", "null", "macvlan", "ipvlan"})
_FIRST_GATEWAY_HOST: Final = 3


@dataclass(frozen=True, slots=True)
class Place:
    """The node a container runs on."""

    node_id: str
    hostname: str
    architecture: str = ""
    os: str = "linux"


@dataclass(frozen=True, slots=True)
class Created:
    """A container to make: its name and the body of the request."""

    name: str
    config: dict[str, Any]


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


def free_gateway_address(bridge: Gwbridge, used: Sequence[IPv4Interface]) -> IPv4Interface:
    """The lowest free address of docker_gwbridge, from .3 on.

    Raises:
        PoolExhaustedError: all are taken.
    """
    taken = {interface.ip for interface in used} | {bridge.gateway}
    last = bridge.subnet.num_addresses - 1
    for host in range(_FIRST_GATEWAY_HOST, last):
        if bridge.subnet[host] not in taken:
            return IPv4Interface(f"{bridge.subnet[host]}/{bridge.subnet.prefixlen}")
    raise PoolExhaustedError(str(bridge.subnet), "address")


def gateway_in(labels: Mapping[str, str]) -> IPv4Interface | None:
    """The address on docker_gwbridge that a container of ours was made with."""
    try:
        return IPv4Interface(labels[GATEWAY_LABEL])
    except (KeyError, ValueError):
        return None


def needs_gateway(task: pb.Task) -> bool:
    """True when one of the task's overlay networks has a way out."""
    return any(not net.network.spec.internal for net in overlays_of(task))


def sandbox_of(task: pb.Task, netns: str, gateway: IPv4Interface | None) -> Sandbox:
    """The namespace to wire.

    Args:
        task: the task.
        netns: path of the container's network namespace.
        gateway: its address on docker_gwbridge.
    """
    dns = task.spec.container_spec.dns_config
    networks = tuple(
        (NetworkId(net.network.id), _interface(net)) for net in overlays_of(task) if net.addresses
    )
    return Sandbox(
        task=TaskId(task.id),
        netns=netns,
        networks=networks,
        gateway_address=gateway,
        ports=_ports(task),
        upstreams=tuple(_name_server(server) for server in dns.nameservers),
        search=tuple(dns.search),
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
    )


def hosts_file(task: pb.Task, hostname: str) -> str:
    """/etc/hosts of a container of ours: localhost, ``--host`` entries, its own name."""
    lines = ["127.0.0.1\tlocalhost", "::1\tlocalhost ip6-localhost ip6-loopback"]
    lines += ["\t".join([address, *names]) for address, names in _hosts(task)]
    lines += [f"{_interface(n).ip}\t{hostname}" for n in overlays_of(task) if n.addresses]
    return "\n".join(lines) + "\n"


def create_arguments(
    task: pb.Task,
    image: Mapping[str, Any],
    place: Place,
    directory: Path,
    gateway: IPv4Interface | None,
) -> Created:
    """The container of a task.

    Args:
        task: the task.
        image: ``GET /images/{name}/json`` of its image.
        place: where it runs.
        directory: the task's directory on this host: ``gate``, ``hosts``, ``files/<n>``.
        gateway: its address on docker_gwbridge, None when it has none.

    Raises:
        ControlError: the task cannot run; ``message`` is the engine's sentence for it.
    """
    spec = expanded(
        task, Where(name_of(task), place.node_id, place.hostname, place.architecture, place.os)
    )
    wired = bool(overlays_of(task))
    if wired:
        sandbox_of(task, "", gateway)  # what cannot be wired is not made either
    argv = _argv(spec, image.get("Config") or {})
    entrypoint, command = gate.wrapped(argv) if wired else (list(spec.command), list(spec.args))
    config: dict[str, Any] = {
        "Image": spec.image,
        "Cmd": command,
        "Env": list(spec.env),
        "Labels": _labels(task, place, gateway),
        "User": spec.user,
        "WorkingDir": spec.dir,
        "Tty": spec.tty,
        "OpenStdin": spec.open_stdin,
        "HostConfig": _host_config(task, spec, directory, wired=wired),
    }
    if not wired:
        config["ExposedPorts"] = {f"{port.target}/{port.protocol}": {} for port in _ports(task)}
    if entrypoint:
        config["Entrypoint"] = entrypoint
    if spec.hostname:
        config["Hostname"] = spec.hostname
    if spec.stop_signal:
        config["StopSignal"] = spec.stop_signal
    if spec.HasField("healthcheck"):
        config["Healthcheck"] = _health(spec.healthcheck)
    return Created(name_of(task), {k: v for k, v in config.items() if v not in ("", None)})


def file_targets(task: pb.Task) -> list[tuple[str, str, pb.FileTarget, str]]:
    """Files to put into the container: (kind, object id, target, path inside)."""
    spec = task.spec.container_spec
    secrets = [
        ("secret", ref.secret_id, ref.file, _inside("/run/secrets", ref.file.name))
        for ref in spec.secrets
    ]
    configs = [
        ("config", ref.config_id, ref.file, _inside("/", ref.file.name))
        for ref in spec.configs
        if ref.file.name
    ]
    return secrets + configs


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


def _hosts(task: pb.Task) -> list[tuple[str, list[str]]]:
    """``--host`` entries: (address, names); as in Swarm, one without a name says nothing."""
    words = [entry.split() for entry in task.spec.container_spec.hosts]  # as in hosts(5)
    return [(address, names) for address, *names in filter(None, words) if names]


def _name_server(text: str) -> IPv4Address | IPv6Address:
    try:
        return ip_address(text)
    except ValueError as error:
        raise ControlError(f"invalid IP address in DNS configuration: {text!r}") from error


def _ports(task: pb.Task) -> tuple[PublishedPort, ...]:
    return ports_of(task.endpoint_spec.ports)


def _argv(spec: pb.ContainerSpec, image: Mapping[str, Any]) -> list[str]:
    # Docker: an entrypoint of one's own drops the image's command.
    if spec.command:
        argv = [*spec.command, *spec.args]
    else:
        argv = [*(image.get("Entrypoint") or ()), *(spec.args or image.get("Cmd") or ())]
    if not argv:
        raise ControlError("No command specified")
    return argv


def _labels(task: pb.Task, place: Place, gateway: IPv4Interface | None) -> dict[str, str]:
    return dict(task.spec.container_spec.labels) | {
        "com.docker.swarm.node.id": place.node_id,
        "com.docker.swarm.service.id": task.service_id,
        "com.docker.swarm.service.name": task.service_name,
        "com.docker.swarm.task": "",
        "com.docker.swarm.task.id": task.id,
        "com.docker.swarm.task.name": name_of(task),
        TASK_LABEL: "1",
        GATEWAY_LABEL: str(gateway) if gateway is not None else "",
    }


def _inside(parent: str, name: str) -> str:
    return name if name.startswith("/") else f"{parent.rstrip('/')}/{name}"


def _host_config(
    task: pb.Task, spec: pb.ContainerSpec, directory: Path, *, wired: bool
) -> dict[str, Any]:
    dns = spec.dns_config
    mounts = [_mount(mount) for mount in spec.mounts]
    mounts += [
        _bind(directory / "files" / str(number), inside, read_only=True)
        for number, (_, _, _, inside) in enumerate(file_targets(task))
    ]
    config: dict[str, Any] = {
        "DnsSearch": list(dns.search),
        "Init": spec.init if spec.HasField("init") else None,
        "ReadonlyRootfs": spec.read_only,
        "CapAdd": list(spec.capability_add),
        "CapDrop": list(spec.capability_drop),
        "GroupAdd": list(spec.groups),
        "Sysctls": dict(spec.sysctls),
        "OomScoreAdj": spec.oom_score_adj,
        "SecurityOpt": _security(spec.privileges),
        "Ulimits": [{"Name": u.name, "Hard": u.hard, "Soft": u.soft} for u in spec.ulimits],
    }
    if wired:
        mounts.append(_bind(gate.BUSYBOX, gate.SHELL_TARGET, read_only=True))
        mounts.append(_bind(directory / "gate", gate.GATE_TARGET, read_only=True))
        if all(mount.target != "/etc/hosts" for mount in spec.mounts):
            mounts.append(_bind(directory / "hosts", "/etc/hosts", read_only=False))
        options = list(dns.options)
        if not any(option.startswith("ndots") for option in options):
            options.append("ndots:0")
        config |= {"NetworkMode": "none", "Dns": [RESOLVER_ADDRESS], "DnsOptions": options}
    else:
        config |= {"Dns": list(dns.nameservers), "DnsOptions": list(dns.options)}
        config |= _engine_network(task)
    config["Mounts"] = mounts
    if task.spec.HasField("log_driver"):
        driver = task.spec.log_driver
        config["LogConfig"] = {"Type": driver.name, "Config": dict(driver.options)}
    return config | _resources(task.spec.resources)


def _engine_network(task: pb.Task) -> dict[str, Any]:
    """A task on the engine's own network: its name, host-mode ports, extra hosts.

    Be aware: the engine binds only ports that ``ExposedPorts`` names as well.
    """
    names = [net.network.spec.name for net in task.networks_attachments]
    bindings: dict[str, list[dict[str, str]]] = {}
    for port in _ports(task):
        if port.mode == "host":
            bound = bindings.setdefault(f"{port.target}/{port.protocol}", [])
            bound.append({"HostPort": str(port.published)})
    return {
        "NetworkMode": names[0] if names else "default",
        "PortBindings": bindings,
        "ExtraHosts": [f"{name}:{address}" for address, names in _hosts(task) for name in names],
    }


def _resources(wanted: pb.ResourceRequirements) -> dict[str, Any]:
    config: dict[str, Any] = {
        "NanoCpus": wanted.limits.nano_cpus,
        "Memory": wanted.limits.memory_bytes,
        "PidsLimit": wanted.limits.pids or None,
        "MemoryReservation": wanted.reservations.memory_bytes,
    }
    if wanted.HasField("swap_bytes"):
        limit = wanted.limits.memory_bytes
        config["MemorySwap"] = -1 if wanted.swap_bytes < 0 else limit + wanted.swap_bytes
    if wanted.HasField("memory_swappiness"):
        config["MemorySwappiness"] = wanted.memory_swappiness
    return config


def _security(wanted: pb.Privileges) -> list[str]:
    selinux = wanted.se_linux_context
    fields = {
        "user": selinux.user,
        "role": selinux.role,
        "type": selinux.type,
        "level": selinux.level,
    }
    found = ["label=disable"] if selinux.disable else []
    found += [f"label={key}:{value}" for key, value in fields.items() if value]
    if wanted.no_new_privileges:
        found.append("no-new-privileges=true")
    if wanted.seccomp.mode == "unconfined":
        found.append("seccomp=unconfined")
    elif wanted.seccomp.profile:
        try:
            found.append(f"seccomp={wanted.seccomp.profile.decode()}")
        except UnicodeDecodeError as error:
            raise ControlError(f"the seccomp profile is not UTF-8: {error}") from error
    if wanted.app_armor.mode == "disabled":
        found.append("apparmor=unconfined")
    return found


def _bind(source: Path, target: str, *, read_only: bool) -> dict[str, Any]:
    return {"Type": "bind", "Source": str(source), "Target": target, "ReadOnly": read_only}


def _mount(mount: pb.Mount) -> dict[str, Any]:
    config: dict[str, Any] = {
        "Type": mount.type or "volume",
        "Source": mount.source,
        "Target": mount.target,
        "ReadOnly": mount.read_only,
    }
    if mount.HasField("bind_options"):
        bind = mount.bind_options
        config["BindOptions"] = {
            "Propagation": bind.propagation,
            "NonRecursive": bind.non_recursive,
            "CreateMountpoint": bind.create_mountpoint,
        }
    if mount.HasField("volume_options"):
        volume, driver = mount.volume_options, mount.volume_options.driver_config
        config["VolumeOptions"] = {
            "NoCopy": volume.no_copy,
            "Labels": dict(volume.labels),
            "DriverConfig": {"Name": driver.name, "Options": dict(driver.options)},
        }
    if mount.HasField("tmpfs_options"):
        tmpfs = mount.tmpfs_options
        config["TmpfsOptions"] = {"SizeBytes": tmpfs.size_bytes, "Mode": tmpfs.mode}
    return config


def _health(check: pb.HealthConfig) -> dict[str, Any]:
    return {
        "Test": list(check.test),
        "Interval": check.interval,
        "Timeout": check.timeout,
        "StartPeriod": check.start_period,
        "Retries": check.retries,
    }
