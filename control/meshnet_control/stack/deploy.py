"""How a service of a stack file is run: ``deploy``, ``ports``, ``restart`` and their like. Pure.

Source: docker/cli cli/compose/convert/service.go; the Compose specification, deploy.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from meshnet_control.stack.values import Section, StackError

_NANO: Final = 1_000_000_000
_LAST_PORT: Final = 65535
_MODES: Final = {"": "", "replicated": "", "global": "Global", "global-job": "GlobalJob"}
_RESTARTS: Final = {"always": "any", "unless-stopped": "any", "no": "none"}


def deployed(service: Section, ignored: list[str]) -> tuple[dict[str, str], dict[str, Any]]:
    """Labels of the service, and the parts of its specification beside the container.

    Args:
        service: what the file says; the keys of this module are taken.
        ignored: gets what means nothing here.
    """
    deploy = service.section("deploy")
    labels = {**deploy.labels(), **_host_access(service)}
    template: dict[str, Any] = {
        "Resources": _resources(service, deploy, labels),
        "Placement": _placement(deploy.section("placement")),
    }
    restart = _restart(service, deploy)
    if restart is not None:
        template["RestartPolicy"] = restart
    parts: dict[str, Any] = {
        "TaskTemplate": template,
        "Mode": _mode(service, deploy),
        "EndpointSpec": _endpoint(service, deploy, ignored),
    }
    for key, name in (("update_config", "UpdateConfig"), ("rollback_config", "RollbackConfig")):
        if key in deploy:
            parts[name] = _update(deploy.section(key))
    deploy.done()
    return labels, parts


def _host_access(service: Section) -> dict[str, str]:
    """What of its host a container wants, as labels that nodes with leave for it read."""
    labels = {}
    if service.boolean("privileged"):
        labels["meshnet.privileged"] = "true"
    devices = [_device(item, f"{service.where}.devices") for item in service.items("devices")]
    if devices:
        labels["meshnet.devices"] = ",".join(devices)
    gpus = service.take("gpus")
    if gpus is not None:
        labels["meshnet.gpus"] = _gpus(gpus, f"{service.where}.gpus")
    return labels


def _device(item: object, where: str) -> str:
    if not isinstance(item, Mapping):
        return str(item)
    entry = Section(item, where)
    words = [entry.text("source"), entry.text("target"), entry.text("permissions")]
    entry.done()
    while not words[-1]:
        words.pop()
    return ":".join([words[0], words[1] or words[0], *words[2:]] if len(words) > 1 else words)


def _gpus(said: object, where: str) -> str:
    """``all``, a number, or the ids of devices."""
    if not isinstance(said, list):
        return str(said)
    count, ids = 0, []
    for item in said:
        entry = Section(item, where)
        ids += entry.texts("device_ids")
        for unused in ("driver", "capabilities", "options"):
            entry.take(unused)
        many = entry.text("count")
        entry.done()
        if many in {"all", "-1"} or (not many and not ids):
            return "all"
        count += int(many) if many.isdecimal() else 0
    return ",".join(ids) if ids else str(count)


def _resources(service: Section, deploy: Section, labels: dict[str, str]) -> dict[str, Any]:
    """``Resources``; what Compose says of a container is a limit where ``deploy`` gives none."""
    section = deploy.section("resources")
    limits, reserved = section.section("limits"), section.section("reservations")
    found: dict[str, Any] = {}
    limit = {
        "NanoCPUs": int((limits.fraction("cpus") or service.fraction("cpus")) * _NANO),
        "MemoryBytes": limits.size("memory") or service.size("mem_limit"),
        "Pids": limits.number("pids") or service.number("pids_limit"),
    }
    for each in ("cpus", "mem_limit", "pids_limit"):
        service.take(each)
    reserve: dict[str, Any] = {
        "NanoCPUs": int(reserved.fraction("cpus") * _NANO),
        "MemoryBytes": reserved.size("memory") or service.size("mem_reservation"),
        "GenericResources": [
            _generic(Section(item, f"{reserved.where}.generic_resources"))
            for item in reserved.items("generic_resources")
        ],
    }
    service.take("mem_reservation")
    if "devices" in reserved:
        labels["meshnet.gpus"] = _gpus(reserved.items("devices"), f"{reserved.where}.devices")
    for name, said in (("Limits", limit), ("Reservations", reserve)):
        if any(said.values()) or name.lower() in section:
            found[name] = {key: value for key, value in said.items() if value}
    for part in (limits, reserved, section):
        part.done()
    return found


def _generic(item: Section) -> dict[str, Any]:
    spec = item.section("discrete_resource_spec")
    found = {"Kind": spec.text("kind"), "Value": spec.number("value")}
    spec.done()
    item.done()
    return {"DiscreteResourceSpec": found}


def _placement(section: Section) -> dict[str, Any]:
    preferences = []
    for item in section.items("preferences"):
        entry = Section(item, f"{section.where}.preferences")
        preferences.append({"Spread": {"SpreadDescriptor": entry.text("spread")}})
        entry.done()
    said = {
        "Constraints": section.texts("constraints"),
        "Preferences": preferences,
        "MaxReplicas": section.number("max_replicas_per_node"),
    }
    section.done()
    return {key: value for key, value in said.items() if value}


def _restart(service: Section, deploy: Section) -> dict[str, Any] | None:
    plain = service.take("restart")
    word = "no" if plain is False else str(plain or "")
    if "restart_policy" not in deploy:
        name, _, times = word.partition(":")
        if not name:
            return None
        if name == "on-failure":
            return {"Condition": name, **({"MaxAttempts": int(times)} if times.isdigit() else {})}
        if word not in _RESTARTS:
            raise StackError(f"{service.where}.restart: unknown restart policy: {word}")
        return {"Condition": _RESTARTS[word]}
    policy = deploy.section("restart_policy")
    found: dict[str, Any] = {}
    if "condition" in policy:
        found["Condition"] = policy.text("condition")
    if "delay" in policy:
        found["Delay"] = policy.duration_ns("delay")
    if "max_attempts" in policy:
        found["MaxAttempts"] = policy.number("max_attempts")
    if "window" in policy:
        found["Window"] = policy.duration_ns("window")
    policy.done()
    return found


def _mode(service: Section, deploy: Section) -> dict[str, Any]:
    mode = deploy.text("mode")
    scaled = "replicas" in deploy or "scale" in service
    replicas = deploy.number("replicas") if "replicas" in deploy else service.number("scale")
    service.take("scale")
    if mode == "replicated-job":
        counts = {"MaxConcurrent": replicas, "TotalCompletions": replicas} if scaled else {}
        return {"ReplicatedJob": counts}
    if mode not in _MODES:
        raise StackError(f"{deploy.where}.mode: unknown mode: {mode}")
    if not _MODES[mode]:
        return {"Replicated": {"Replicas": replicas} if scaled else {}}
    if scaled:
        raise StackError(f"{deploy.where}.replicas: a {mode} service has none")
    return {_MODES[mode]: {}}


def _update(section: Section) -> dict[str, Any]:
    found: dict[str, Any] = {
        "Parallelism": section.number("parallelism") if "parallelism" in section else 1,
        "Delay": section.duration_ns("delay"),
        "FailureAction": section.text("failure_action"),
        "Monitor": section.duration_ns("monitor"),
        "MaxFailureRatio": float(section.fraction("max_failure_ratio")),
        "Order": section.text("order"),
    }
    section.done()
    return {key: value for key, value in found.items() if value or key == "Parallelism"}


# ---- ports ----


def _endpoint(service: Section, deploy: Section, ignored: list[str]) -> dict[str, Any]:
    ports: list[dict[str, Any]] = []
    where = f"{service.where}.ports"
    for item in service.items("ports"):
        if isinstance(item, Mapping):
            ports += _long(Section(item, where), ignored)
        else:
            ports += _short(str(item), where, ignored)
    found: dict[str, Any] = {}
    if "endpoint_mode" in deploy:
        found["Mode"] = deploy.text("endpoint_mode").lower()
    if ports:
        found["Ports"] = sorted(ports, key=lambda port: int(port.get("PublishedPort", 0)))
    return found


def _long(entry: Section, ignored: list[str]) -> list[dict[str, Any]]:
    published = entry.text("published")
    targets = _range(entry.text("target"), entry.where)
    if len(targets) != 1:
        raise StackError(f"{entry.where}: target must be one port")
    if "host_ip" in entry:
        ignored.append(f"{entry.where}.host_ip")
    for unused in ("host_ip", "name", "app_protocol"):
        entry.take(unused)
    mode, protocol = entry.text("mode") or "ingress", entry.text("protocol") or "tcp"
    entry.done()
    if mode not in _PUBLISHED:
        raise StackError(f"{entry.at('mode')} must be ingress or host")
    if len(_range(published, entry.where)) > 1:
        raise StackError(f"{entry.where}: published must be one port")
    return [_port(targets[0], int(published or 0), protocol, mode)]


def _short(said: str, where: str, ignored: list[str]) -> list[dict[str, Any]]:
    """``[address:][published:]target[/protocol]``, where ports may be ranges."""
    ports, _, protocol = said.partition("/")
    address, _, rest = ports.rpartition("]:") if ports.startswith("[") else ("", "", ports)
    words = rest.split(":")
    if len(words) > 3:  # noqa: PLR2004 - address, published and target
        raise StackError(f'{where}: "{said}" is not like published:target/protocol')
    if address or len(words) > 2:  # noqa: PLR2004
        ignored.append(f"{where}: the address in {said}")
    targets = _range(words[-1], where)
    published = _range(words[-2] if len(words) > 1 else "", where)
    if not targets:
        raise StackError(f'{where}: "{said}" has no target')
    if len(published) not in {0, len(targets)}:
        raise StackError(f'{where}: "{said}": the ranges are not of one length')
    return [
        _port(target, published[index] if published else 0, protocol or "tcp", "ingress")
        for index, target in enumerate(targets)
    ]


_PUBLISHED: Final = frozenset({"ingress", "host"})


def _range(said: str, where: str) -> list[int]:
    if not said:
        return []
    first, dash, last = said.partition("-")
    if not first.isdecimal() or (dash and not last.isdecimal()):
        raise StackError(f'{where}: "{said}" is no port')
    begin, end = int(first), int(last or first)
    if not begin <= end <= _LAST_PORT:
        raise StackError(f'{where}: "{said}" is no port')
    return list(range(begin, end + 1))


def _port(target: int, published: int, protocol: str, mode: str) -> dict[str, Any]:
    port: dict[str, Any] = {"Protocol": protocol, "TargetPort": target, "PublishMode": mode}
    return port | ({"PublishedPort": published} if published else {})
