"""A service of a stack file as the Engine API's ContainerSpec. Pure.

What Docker's ``stack deploy`` makes of the same keys, so that both can be used on one stack.

Source: docker/cli cli/compose/convert/service.go and volume.go.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from meshnet_control.stack.names import Names
from meshnet_control.stack.values import Section, StackError, scalar

_FILE_MODE: Final = 0o444
_BIND, _VOLUME, _TMPFS = "bind", "volume", "tmpfs"


def container(service: Section, names: Names) -> dict[str, Any]:
    """``TaskTemplate.ContainerSpec``; the ids of secrets and configs are still to be put in.

    Args:
        service: what the file says; its keys are taken.
        names: of everything in the stack.
    """
    spec: dict[str, Any] = {
        "Image": service.text("image"),
        "Command": service.words("entrypoint"),
        "Args": service.words("command"),
        "Hostname": service.text("hostname"),
        "Hosts": _hosts(service),
        "Env": sorted(_env(service)),
        "Labels": names.labelled(service.labels()),
        "Dir": service.text("working_dir"),
        "User": service.text("user"),
        "Groups": service.texts("group_add"),
        "StopSignal": service.text("stop_signal"),
        "TTY": service.boolean("tty"),
        "OpenStdin": service.boolean("stdin_open"),
        "ReadOnly": service.boolean("read_only"),
        "Isolation": service.text("isolation"),
        "Sysctls": service.labels("sysctls"),
        "CapabilityAdd": _capabilities(service, "cap_add"),
        "CapabilityDrop": _capabilities(service, "cap_drop"),
        "Ulimits": _ulimits(service),
        "OomScoreAdj": service.number("oom_score_adj"),
        "Mounts": _mounts(service, names),
        "Secrets": _files(service, names, "secrets"),
        "Configs": _files(service, names, "configs"),
        "DNSConfig": _dns(service),
        "Healthcheck": _health(service),
        "Privileges": _privileges(service),
    }
    if "stop_grace_period" in service:
        spec["StopGracePeriod"] = service.duration_ns("stop_grace_period")
    if "init" in service:
        spec["Init"] = service.boolean("init")
    return {
        key: value for key, value in spec.items() if value or key in {"Init", "StopGracePeriod"}
    }


def _env(service: Section) -> list[str]:
    pairs = service.pairs("environment")
    return [name if value is None else f"{name}={value}" for name, value in pairs.items()]


def _capabilities(service: Section, key: str) -> list[str]:
    """With their prefix and sorted, as the docker CLI writes them."""
    said = (name.upper() for name in service.texts(key))
    return sorted({n if n == "ALL" or n.startswith("CAP_") else f"CAP_{n}" for n in said})


def _hosts(service: Section) -> list[str]:
    found = service.take("extra_hosts")
    if isinstance(found, Mapping):
        said = [
            (str(h), str(a))
            for h, ad in found.items()
            for a in (ad if isinstance(ad, list) else [ad])
        ]
    else:
        texts = Section({"hosts": found}, service.where).texts("hosts")
        parts = [
            text.replace("=", ":", 1) if ":" not in text.split("=")[0] else text for text in texts
        ]
        said = [(host, address) for host, _, address in (part.partition(":") for part in parts)]
    if any(not host or not address for host, address in said):
        raise StackError(f"{service.where}.extra_hosts must be like name:address")
    return [f"{address.strip('[]')} {host}" for host, address in said]


def _ulimits(service: Section) -> list[dict[str, Any]]:
    limits = []
    section = service.section("ulimits")
    for name in sorted(section.keys()):
        if isinstance(section.take(name), Mapping):
            one = section.section(name)
            soft, hard = one.number("soft"), one.number("hard")
            one.done()
        else:
            soft = hard = section.number(name)
        limits.append({"Name": name, "Hard": hard, "Soft": soft})
    return limits


def _dns(service: Section) -> dict[str, Any]:
    said = {
        "Nameservers": service.texts("dns"),
        "Search": service.texts("dns_search"),
        "Options": service.texts("dns_opt"),
    }
    return {key: value for key, value in said.items() if value}


def _health(service: Section) -> dict[str, Any]:
    if "healthcheck" not in service:
        return {}
    check = service.section("healthcheck")
    test = check.take("test")
    words = ["CMD-SHELL", test] if isinstance(test, str) else check.texts("test")
    said: dict[str, Any] = {
        "Test": ["NONE"] if check.boolean("disable") else words,
        "Interval": check.duration_ns("interval"),
        "Timeout": check.duration_ns("timeout"),
        "StartPeriod": check.duration_ns("start_period"),
        "StartInterval": check.duration_ns("start_interval"),
        "Retries": check.number("retries"),
    }
    check.done()
    return {key: value for key, value in said.items() if value}


def _privileges(service: Section) -> dict[str, Any]:
    options = [option.replace("=", ":") for option in service.texts("security_opt")]
    other = [one for one in options if one not in _NO_NEW]
    if other:
        raise StackError(
            f"{service.where}.security_opt: {', '.join(other)} is not supported in a stack: only "
            "no-new-privileges is"
        )
    return {"NoNewPrivileges": True} if "no-new-privileges:false" not in options and options else {}


_NO_NEW: Final = frozenset(
    {"no-new-privileges", "no-new-privileges:true", "no-new-privileges:false"}
)


# ---- secrets and configs ----


def _files(service: Section, names: Names, kind: str) -> list[dict[str, Any]]:
    found = []
    word = kind.removesuffix("s").title()
    for item in service.items(kind):
        entry = Section(
            item if isinstance(item, Mapping) else {"source": item}, f"{service.where}.{kind}"
        )
        source = entry.text("source")
        name = names.known(kind, source, service.where)
        file = {
            "Name": entry.text("target") or source,
            "UID": entry.text("uid") or "0",
            "GID": entry.text("gid") or "0",
            "Mode": entry.number("mode") if "mode" in entry else _FILE_MODE,
        }
        entry.done()
        found.append({"File": file, f"{word}Name": name})
    return sorted(found, key=lambda one: str(one[f"{word}Name"]))


# ---- mounts ----


def _mounts(service: Section, names: Names) -> list[dict[str, Any]]:
    where = f"{service.where}.volumes"
    mounts = [
        _long(Section(item, where), names)
        if isinstance(item, Mapping)
        else _short(item, where, names)
        for item in service.items("volumes")
    ]
    for target in service.texts("tmpfs"):
        path, _, options = target.partition(":")
        if options:
            raise StackError(f"{service.where}.tmpfs: options are given in volumes, type tmpfs")
        mounts.append({"Type": _TMPFS, "Target": path})
    return mounts


def _short(said: object, where: str, names: Names) -> dict[str, Any]:
    """``[source:]target[:mode]``."""
    words = scalar(said, where).split(":")
    if len(words) > 3 or not all(words):  # noqa: PLR2004 - source, target and mode
        raise StackError(f'{where}: "{said}" is not like source:target:mode')
    if len(words) == 1:
        return {"Type": _VOLUME, "Target": words[0]}
    source, target, mode = (*words, "")[:3]
    options = [option for option in mode.split(",") if option]
    entry: dict[str, Any] = {
        "type": _BIND if source.startswith(("/", ".", "~")) else _VOLUME,
        "source": source,
        "target": target,
    }
    for option in options:
        if option in {"ro", "rw"}:
            entry["read_only"] = option == "ro"
        elif option == "nocopy":
            entry["volume"] = {"nocopy": True}
        elif option in _PROPAGATIONS:
            entry["bind"] = {"propagation": option}
        elif option not in {"z", "Z", "cached", "delegated", "consistent"}:
            raise StackError(f'{where}: "{said}": unknown option {option}')
    return _long(Section(entry, where), names)


_PROPAGATIONS: Final = frozenset({"private", "rprivate", "shared", "rshared", "slave", "rslave"})


def _long(entry: Section, names: Names) -> dict[str, Any]:
    kind, source = entry.text("type") or _VOLUME, entry.text("source")
    mount: dict[str, Any] = {"Type": kind, "Source": source, "Target": entry.text("target")}
    if not mount["Target"]:
        raise StackError(f"{entry.where}: target is missing")
    if entry.boolean("read_only"):
        mount["ReadOnly"] = True
    if "consistency" in entry:
        mount["Consistency"] = entry.text("consistency")
    bind, volume, tmpfs = (entry.section(each) for each in (_BIND, _VOLUME, _TMPFS))
    if kind == _VOLUME and source:
        mount |= names.volume(source, entry.where)
        if volume.boolean("nocopy"):
            mount["VolumeOptions"]["NoCopy"] = True
        if "subpath" in volume:
            mount["VolumeOptions"]["Subpath"] = volume.text("subpath")
    elif kind == _BIND:
        _bind(mount, bind)
    elif kind == _TMPFS:
        size = tmpfs.size("size")
        mode = tmpfs.number("mode")
        said = {"SizeBytes": size, "Mode": mode}
        mount["TmpfsOptions"] = {key: value for key, value in said.items() if value}
    elif kind != _VOLUME:
        raise StackError(f"{entry.where}: type {kind} is not supported: bind, volume or tmpfs")
    for options in (bind, volume, tmpfs, entry):
        options.done()
    return {key: value for key, value in mount.items() if value or key == "VolumeOptions"}


def _bind(mount: dict[str, Any], bind: Section) -> None:
    if not mount["Source"]:
        raise StackError(f"{bind.where}: a bind mount needs a source")
    said: dict[str, Any] = {"Propagation": bind.text("propagation")}
    said["CreateMountpoint"] = bind.boolean("create_host_path")
    bind.take("selinux")
    found = {key: value for key, value in said.items() if value}
    if found:
        mount["BindOptions"] = found
