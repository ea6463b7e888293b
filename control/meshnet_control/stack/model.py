"""A stack: what a tree of stack files wants of a cluster, as Engine JSON. Pure.

``devices``, ``privileged`` and ``gpus`` become labels of the service that meshnet's nodes read
(``meshnet.devices`` …); keys of a single host's Compose that mean nothing to a service are told.

Source: docker/cli cli/compose/convert; the Compose specification.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from graphlib import CycleError, TopologicalSorter
from typing import Any, Final

from meshnet.patterns import Pattern
from meshnet_control.stack.container import container
from meshnet_control.stack.deploy import deployed
from meshnet_control.stack.names import DATA, IMAGE, KINDS, Names
from meshnet_control.stack.values import Section, StackError, scalar

STARTED: Final = "service_started"
HEALTHY: Final = "service_healthy"
COMPLETED: Final = "service_completed_successfully"
_SERVICE: Final = Pattern(r"[a-zA-Z0-9._-]+", longest=1024)
"""A name of a service, by docker/cli's schema."""
_CONDITIONS: Final = frozenset({STARTED, HEALTHY, COMPLETED})
_NO_MEANING: Final = (
    "annotations", "attach", "blkio_config", "cgroup", "cgroup_parent", "container_name",
    "cpu_count", "cpu_percent", "cpu_period", "cpu_quota", "cpu_rt_period", "cpu_rt_runtime",
    "cpu_shares", "cpuset", "develop", "device_cgroup_rules", "domainname", "expose",
    "external_links", "ipc", "label_file", "links", "mac_address", "mem_swappiness",
    "memswap_limit", "oom_kill_disable", "pid", "platform", "post_start", "pre_stop",
    "pull_policy", "runtime", "shm_size", "storage_opt", "use_api_socket", "userns_mode", "uts",
    "volumes_from", "credential_spec", "models", "provider",
)  # fmt: skip
"""Keys that Compose knows and a service of a cluster has no counterpart of."""


@dataclass(frozen=True, slots=True)
class Wait:
    """A service that is to be somewhere before another one is made."""

    service: str
    """In the cluster."""
    condition: str
    """``service_started``, ``service_healthy`` or ``service_completed_successfully``."""
    required: bool = True


@dataclass(frozen=True, slots=True)
class Stack:
    """What is wanted; every mapping by the name in the cluster."""

    name: str
    networks: dict[str, dict[str, Any]]
    """Bodies of ``POST /networks/create``."""
    secrets: dict[str, dict[str, Any]]
    """SecretSpecs."""
    configs: dict[str, dict[str, Any]]
    services: dict[str, dict[str, Any]]
    """ServiceSpecs in the order in which they are made; SecretID and ConfigID are missing."""
    waits: dict[str, list[Wait]]
    """What each service waits for."""
    external: dict[str, list[str]] = field(default_factory=dict)
    """``networks``, ``secrets`` and ``configs`` that must be there."""
    ignored: tuple[str, ...] = ()
    """Keys that mean nothing here, with their place."""


def stack(tree: Mapping[str, Any], name: str, profiles: Collection[str] = ()) -> Stack:
    """The stack that a tree describes.

    Args:
        tree: of ``reading.read``.
        name: of the stack; empty: the tree's own.
        profiles: services of these are in it, besides those of none; ``*`` is all.

    Raises:
        StackError: it cannot be deployed, and why.
    """
    top = Section(tree, "")
    top.take("version")
    own = top.text("name")
    name = name or own
    if not name:
        raise StackError("the stack has no name: give one, or name: in the file")
    names = Names(name, {kind: top.sections(kind) for kind in KINDS})
    services = top.sections("services")
    top.done()
    if not services:
        raise StackError("the file has no services")
    ignored: list[str] = []
    chosen = {key: each for key, each in services.items() if _chosen(each, profiles)}
    waits = {key: _waits(key, each, chosen, names) for key, each in chosen.items()}
    specs = {key: _service(key, chosen[key], names, ignored) for key in _ordered(waits)}
    return Stack(
        name=name,
        networks=_networks(names),
        secrets=_files(names, "secrets"),
        configs=_files(names, "configs"),
        services={spec["Name"]: spec for spec in specs.values()},
        waits={names.scoped(key): [wait for _, wait in found] for key, found in waits.items()},
        external={
            kind: sorted(
                names.name(kind, k)
                for of, k in names.used
                if of == kind and names.external(kind, k)
            )
            for kind in ("networks", "secrets", "configs")
        },
        ignored=tuple(ignored),
    )


def _chosen(service: Section, profiles: Collection[str]) -> bool:
    wanted = service.texts("profiles")
    return not wanted or "*" in profiles or not set(profiles).isdisjoint(wanted)


# ---- services ----


def _service(key: str, service: Section, names: Names, ignored: list[str]) -> dict[str, Any]:
    if service.take("build") is not None and "image" not in service:
        raise StackError(
            f"{service.where}: a stack builds nothing: build the image, push it, name it as image"
        )
    if not _SERVICE.fits(key):
        raise StackError(f"services: Additional property {key} is not allowed")
    if not service.text("image"):
        raise StackError(f"{service.where}: image is missing")
    ignored += [f"{service.where}.{each}" for each in _NO_MEANING if service.take(each) is not None]
    if "build" in service:
        ignored.append(f"{service.where}.build")
    labels, parts = deployed(service, ignored)
    networks = _attachments(key, service, names)
    template: dict[str, Any] = {
        "ContainerSpec": container(service, names),
        **parts.pop("TaskTemplate"),
        "Networks": networks,
    }
    logging = service.section("logging")
    if "driver" in logging or "options" in logging:
        template["LogDriver"] = _driver(logging, "options")
    logging.done()
    service.done()
    image = {IMAGE: str(template["ContainerSpec"]["Image"])}
    return {
        "Name": names.scoped(key),
        "Labels": {**names.labelled(labels), **image},
        "TaskTemplate": template,
        **parts,
    }


def _driver(section: Section, options: str) -> dict[str, Any]:
    said = {"Name": section.text("driver"), "Options": section.labels(options)}
    return {key: value for key, value in said.items() if value}


def _attachments(key: str, service: Section, names: Names) -> list[dict[str, Any]]:
    mode, found = service.text("network_mode"), service.take("networks")
    if mode:
        if found or not names.is_engines(mode):
            raise StackError(
                f"{service.where}.network_mode must be host, bridge or none, and alone"
            )
        return [{"Target": mode}]
    if isinstance(found, list):
        found = {scalar(one, f"{service.where}.networks"): None for one in found}
    attachments = []
    section = Section(found or {"default": None}, f"{service.where}.networks")
    for network in section.keys():  # noqa: SIM118 - ours
        options = section.section(network)
        name = names.known("networks", network, service.where)
        attachment: dict[str, Any] = {"Target": name}
        aliases = options.texts("aliases")
        if not names.is_engines(name):
            attachment["Aliases"] = [*aliases, key]
        more = options.labels("driver_opts")
        if more:
            attachment["DriverOpts"] = more
        for unused in ("priority", "gw_priority"):
            options.take(unused)
        options.done()
        attachments.append(attachment)
    return sorted(attachments, key=lambda one: str(one["Target"]))


# ---- order ----


def _waits(
    key: str, service: Section, chosen: Collection[str], names: Names
) -> list[tuple[str, Wait]]:
    found = service.take("depends_on")
    if isinstance(found, list):
        found = {scalar(one, f"{service.where}.depends_on"): None for one in found}
    section = Section(found, f"{service.where}.depends_on")
    waits = []
    for other in section.keys():  # noqa: SIM118 - ours
        entry = section.section(other)
        condition = entry.text("condition") or STARTED
        required = "required" not in entry or entry.boolean("required")
        entry.take("restart")
        entry.done()
        if condition not in _CONDITIONS:
            raise StackError(f"{entry.where}: unknown condition {condition}")
        if other == key or (other not in chosen and required):
            raise StackError(f"{service.where}.depends_on: there is no other service {other}")
        if other in chosen:
            waits.append((other, Wait(names.scoped(other), condition, required)))
    return waits


def _ordered(waits: Mapping[str, list[tuple[str, Wait]]]) -> list[str]:
    """Services, each after those that it depends on; those that need nothing come first."""
    before = {key: dict.fromkeys(other for other, _ in found) for key, found in waits.items()}
    try:
        return list(TopologicalSorter(before).static_order())
    except CycleError as error:
        circle = " -> ".join(reversed(error.args[1]))
        raise StackError(f"depends_on goes in a circle: {circle}") from None


# ---- what services use ----


def _networks(names: Names) -> dict[str, dict[str, Any]]:
    found = {}
    for key, section in names.sections["networks"].items():
        name, external = names.name("networks", key), names.external("networks", key)
        wanted: dict[str, Any] = {
            "Name": name,
            "CheckDuplicate": True,
            "Driver": section.text("driver") or "overlay",
            "Labels": names.labelled(section.labels()),
        }
        more = {
            "Options": section.labels("driver_opts"),
            "Internal": section.boolean("internal"),
            "Attachable": section.boolean("attachable"),
            "EnableIPv6": section.boolean("enable_ipv6"),
            "IPAM": _ipam(section.section("ipam")),
        }
        section.done()
        if not external and ("networks", key) in names.used:
            found[name] = wanted | {key: value for key, value in more.items() if value}
    return found


def _ipam(section: Section) -> dict[str, Any]:
    configs = []
    for item in section.items("config"):
        entry = Section(item, f"{section.where}.config")
        said = {
            "Subnet": entry.text("subnet"),
            "IPRange": entry.text("ip_range"),
            "Gateway": entry.text("gateway"),
            "AuxiliaryAddresses": entry.labels("aux_addresses"),
        }
        entry.done()
        configs.append({key: value for key, value in said.items() if value})
    said_all = {
        "Driver": section.text("driver"),
        "Options": section.labels("options"),
        "Config": configs,
    }
    section.done()
    return {key: value for key, value in said_all.items() if value}


def _files(names: Names, kind: str) -> dict[str, dict[str, Any]]:
    found = {}
    for key, section in names.sections[kind].items():
        name, external = names.name(kind, key), names.external(kind, key)
        spec: dict[str, Any] = {"Name": name, "Labels": names.labelled(section.labels())}
        if not external:
            data = section.take(DATA)
            spec["Data"] = b64encode(data if isinstance(data, bytes) else b"").decode()
        if "driver" in section:
            spec["Driver"] = _driver(section, "driver_opts")
        if "template_driver" in section:
            spec["Templating"] = {"Name": section.text("template_driver")}
        for each in ("file", "environment", "content"):
            section.take(each)
        section.done()
        if not external:
            found[name] = spec
    return found
