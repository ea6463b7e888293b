"""``HostConfig`` of a task's container: its name servers, limits, privileges. Pure.

Be aware: with the network ``none`` the engine writes resolv.conf from Dns/DnsSearch/DnsOptions as
given (tried with 20.10).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from meshnet.errors import ControlError
from meshnet.model.wellknown import RESOLVER_ADDRESS
from meshnet_control.agent import attached_files, mounts
from meshnet_control.api import control_pb2 as pb
from meshnet_control.cluster import host_entries, node_local
from meshnet_control.cluster.published_ports import ports_of


def host_config(
    task: pb.Task,
    spec: pb.ContainerSpec,
    directory: Path,
    *,
    wired: bool,
    dns_options: Sequence[str] = (),
    init: str = "",
) -> dict[str, Any]:
    """What the engine is to do with a container on its host.

    Args:
        task: the task.
        spec: its container, templates replaced.
        directory: the task's directory on this host.
        wired: it has networks of ours, so a gate.
        dns_options: of the host's resolver, for one that names none.
        init: docker-init on this host, if the gate becomes it; the engine then has none to run.

    Raises:
        ControlError: the seccomp profile is no text.
    """
    dns = spec.dns_config
    config: dict[str, Any] = {
        "DnsSearch": list(dns.search),
        "Init": spec.init and not init if spec.HasField("init") else None,
        "ReadonlyRootfs": spec.read_only,
        "CapAdd": list(spec.capability_add),
        "CapDrop": list(spec.capability_drop),
        "GroupAdd": list(spec.groups),
        "Sysctls": dict(spec.sysctls),
        "OomScoreAdj": spec.oom_score_adj,
        "SecurityOpt": _security(spec.privileges),
        "Ulimits": [{"Name": u.name, "Hard": u.hard, "Soft": u.soft} for u in spec.ulimits],
        "Mounts": mounts.of(task, spec, directory, wired=wired, init=init),
    }
    local = node_local.of_task(task)
    if wired and not local:
        options = attached_files.with_ndots(dns.options or dns_options)
        config |= {"NetworkMode": "none", "Dns": [RESOLVER_ADDRESS], "DnsOptions": options}
    else:
        config |= {"Dns": list(dns.nameservers), "DnsOptions": list(dns.options)}
        config |= {"NetworkMode": local[0].network.spec.name} if wired else _engine_network(task)
    if task.spec.HasField("log_driver"):
        driver = task.spec.log_driver
        config["LogConfig"] = {"Type": driver.name, "Config": dict(driver.options)}
    return config | _resources(task.spec.resources)


def _engine_network(task: pb.Task) -> dict[str, Any]:
    """A task on the engine's own network: its name, host-mode ports, extra hosts.

    Be aware: the engine binds only ports that ``ExposedPorts`` names as well.
    """
    names = [net.network.spec.name for net in task.networks_attachments]
    hosts = host_entries.entries(task.spec.container_spec.hosts)
    bindings: dict[str, list[dict[str, str]]] = {}
    for port in ports_of(task.endpoint_spec.ports):
        if port.mode == "host":
            bound = bindings.setdefault(f"{port.target}/{port.protocol}", [])
            bound.append({"HostPort": str(port.published)})
    return {
        "NetworkMode": names[0] if names else "default",
        "PortBindings": bindings,
        "ExtraHosts": [f"{name}:{address}" for address, names in hosts for name in names],
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
    elif wanted.seccomp.mode == "custom" and wanted.seccomp.profile:
        try:
            found.append(f"seccomp={wanted.seccomp.profile.decode()}")
        except UnicodeDecodeError as error:
            raise ControlError(f"the seccomp profile is not UTF-8: {error}") from error
    if wanted.app_armor.mode == "disabled":
        found.append("apparmor=unconfined")
    return found
