"""What a service's container specification must not say.

PURE. Swarm lets most of this in and its nodes refuse the task, each time anew; here it is refused
once, in the words the engine would have. Templates (``{{.Task.Slot}}``) have been expanded already,
for a task made up.

Source: swarmkit manager/controlapi/service.go; moby daemon/cluster/executor/container/validate.go,
opts (hosts, env, dns), go-units ulimit.go, moby/sys/signal, oci/caps.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from ipaddress import ip_address
from signal import Signals
from typing import Final

from meshnet.patterns import Pattern
from meshnet_control.api.control_pb2 import (
    ContainerSpec,
    FileTarget,
    HealthConfig,
    Mount,
    Privileges,
    Ulimit,
)
from meshnet_control.cluster.host_entries import HOST_GATEWAY
from meshnet_control.controlapi.refusals import invalid

LAST_ID: Final = 2**32 - 2
"""Largest user and group id; the one above means "leave it" to chown(2)."""
_ALL_MODE_BITS: Final = 0o7777
_MIN_HEALTH_NS: Final = 1_000_000
_MAX_OOM_SCORE: Final = 1000
_LONGEST_HOSTNAME: Final = 64
_LAST_SIGNAL: Final = 64
_PART: Final = "[a-z0-9]+(?:(?:[.]|_|__|-+)[a-z0-9]+)*"
_IMAGE: Final = Pattern(
    rf"(?:[A-Za-z0-9.-]+(?::[0-9]+)?/)?{_PART}(?:/{_PART})*"
    r"(?::\w[\w.-]{0,127})?(?:@[A-Za-z][A-Za-z0-9+._-]*:[0-9a-fA-F]{32,128})?",
    longest=1024,
)
_NUMBER: Final = Pattern("[0-9]{1,10}", longest=10)
_SIGNAL_NUMBER: Final = Pattern("[0-9]{1,3}", longest=3)
_REAL_TIME: Final = Pattern("RTM(?:IN|AX)(?:[+-][0-9]{1,2})?", longest=8)
_CAPABILITIES: Final = frozenset(
    """
ALL AUDIT_CONTROL AUDIT_READ AUDIT_WRITE BLOCK_SUSPEND BPF CHECKPOINT_RESTORE CHOWN DAC_OVERRIDE
DAC_READ_SEARCH FOWNER FSETID IPC_LOCK IPC_OWNER KILL LEASE LINUX_IMMUTABLE MAC_ADMIN MAC_OVERRIDE
MKNOD NET_ADMIN NET_BIND_SERVICE NET_BROADCAST NET_RAW PERFMON SETFCAP SETGID SETPCAP SETUID SYSLOG
SYS_ADMIN SYS_BOOT SYS_CHROOT SYS_MODULE SYS_NICE SYS_PACCT SYS_PTRACE SYS_RAWIO SYS_RESOURCE
SYS_TIME SYS_TTY_CONFIG WAKE_ALARM
""".split()  # noqa: SIM905
)
_ULIMITS: Final = frozenset(
    """
core cpu data fsize locks memlock msgqueue nice nofile nproc rss rtprio rttime sigpending stack
""".split()  # noqa: SIM905
)


def check(container: ContainerSpec) -> None:
    """Refuse a specification that no container can have.

    Raises:
        ControlError: the first thing wrong with it.
    """
    if not container.image:
        raise invalid("ContainerSpec: image reference must be provided")
    if not _IMAGE.fits(container.image):
        raise invalid(f'ContainerSpec: "{container.image}" is not a valid repository/tag')
    _process(container)
    _mounts(container.mounts)
    _names(container)
    if container.HasField("healthcheck"):
        _health(container.healthcheck)
    _rights(container)
    _privileges(container.privileges)
    _references(
        "secret",
        ((s.secret_id, s.secret_name, s.HasField("file"), s.file) for s in container.secrets),
    )
    _references(
        "config",
        ((c.config_id, c.config_name, c.HasField("file"), c.file) for c in container.configs),
    )


def _process(container: ContainerSpec) -> None:
    for entry in container.env:
        if not entry.partition("=")[0]:
            raise invalid(f"ContainerSpec: invalid environment variable: {entry}")
    directory = container.dir
    if directory and not directory.startswith("/"):
        raise invalid(
            f"ContainerSpec: the working directory '{directory}' is invalid, "
            "it needs to be an absolute path"
        )
    if container.stop_signal and not is_signal(container.stop_signal):
        raise invalid(f"ContainerSpec: invalid signal: {container.stop_signal}")
    if container.stop_grace_period < 0:
        raise invalid("ContainerSpec: StopGracePeriod cannot be negative")
    if abs(container.oom_score_adj) > _MAX_OOM_SCORE:
        raise invalid(
            f"ContainerSpec: Invalid value {container.oom_score_adj}, "
            "range for oom score adj is [-1000, 1000]"
        )
    for ulimit in container.ulimits:
        _ulimit(ulimit)


def is_signal(said: str) -> bool:
    """``HUP``, ``SIGHUP``, ``1`` or ``RTMIN+3``."""
    if _SIGNAL_NUMBER.fits(said):
        return 0 < int(said) <= _LAST_SIGNAL
    name = said.upper().removeprefix("SIG")
    return f"SIG{name}" in Signals.__members__ or _REAL_TIME.fits(name)


def _ulimit(ulimit: Ulimit) -> None:
    if ulimit.name not in _ULIMITS:
        raise invalid(f"ContainerSpec: invalid ulimit type: {ulimit.name}")
    if ulimit.hard != -1 and (ulimit.soft > ulimit.hard or ulimit.soft == -1):
        raise invalid(
            "ContainerSpec: ulimit soft limit must be less than or equal to hard limit: "
            f"{ulimit.soft} > {ulimit.hard}"
        )


def _mounts(mounts: Iterable[Mount]) -> None:
    targets: set[str] = set()
    for mount in mounts:
        if mount.target in targets:
            raise invalid(f"ContainerSpec: duplicate mount point: {mount.target}")
        targets.add(mount.target)
        if not mount.target.startswith("/"):
            raise invalid(
                "ContainerSpec: invalid mount target, must be an absolute path: " + mount.target
            )
        _source(mount)


def _source(mount: Mount) -> None:
    absolute = mount.source.startswith("/")
    match mount.type:
        case "bind":
            if not absolute:
                raise invalid(
                    "ContainerSpec: invalid bind mount source, must be an absolute path: "
                    + mount.source
                )
        case "volume" | "":
            if absolute:
                raise invalid(
                    "ContainerSpec: invalid volume mount source, must not be an absolute path: "
                    + mount.source
                )
        case "tmpfs":
            if mount.source:
                raise invalid("ContainerSpec: invalid tmpfs source, source must be empty")
            if mount.tmpfs_options.size_bytes < 0:
                raise invalid("ContainerSpec: invalid tmpfs size, it must not be negative")
            if mount.tmpfs_options.mode > _ALL_MODE_BITS:
                raise invalid("ContainerSpec: invalid tmpfs mode, it must be at most 07777")
        case other:
            raise invalid(f"ContainerSpec: invalid mount type: {other}")


def _names(container: ContainerSpec) -> None:
    hostname = container.hostname
    if len(hostname) > _LONGEST_HOSTNAME or _spaced(hostname):
        raise invalid(f"ContainerSpec: invalid hostname format: {hostname}")
    for entry in container.hosts:
        address, *names = entry.split()[:2] or [""]
        if not names or not entry.isprintable():
            raise invalid(f'ContainerSpec: bad format for add-host: "{entry}"')
        if address != HOST_GATEWAY and not _is_address(address):
            raise invalid(f'ContainerSpec: invalid IP address in add-host: "{address}"')
    for server in container.dns_config.nameservers:
        if not _is_address(server):
            raise invalid(f'ContainerSpec: DNS server "{server}" is not an IP address')
    for domain in container.dns_config.search:
        if not domain or _spaced(domain):
            raise invalid(f'ContainerSpec: "{domain}" is not a valid domain')
    for option in container.dns_config.options:
        if not option or _spaced(option):
            raise invalid(f'ContainerSpec: "{option}" is not a valid DNS option')


def _is_address(said: str) -> bool:
    try:
        ip_address(said)
    except ValueError:
        return False
    return True


def _spaced(text: str) -> bool:
    return not text.isprintable() or any(c.isspace() for c in text)


def _health(health: HealthConfig) -> None:
    for what, value in (
        ("Interval", health.interval),
        ("Timeout", health.timeout),
        ("StartPeriod", health.start_period),
        ("StartInterval", health.start_interval),
    ):
        if value != 0 and value < _MIN_HEALTH_NS:
            raise invalid(f"ContainerSpec: {what} in HealthConfig cannot be less than 1ms")
    if health.retries < 0:
        raise invalid("ContainerSpec: Retries in HealthConfig cannot be negative")


def _rights(container: ContainerSpec) -> None:
    for option, names in (
        ("CapAdd", container.capability_add),
        ("CapDrop", container.capability_drop),
    ):
        for name in names:
            if name.upper().removeprefix("CAP_") not in _CAPABILITIES:
                raise invalid(f'ContainerSpec: invalid {option}: unknown capability: "{name}"')
    for key in container.sysctls:
        if not key or _spaced(key):
            raise invalid(f"ContainerSpec: sysctl '{key}' is not allowed")


def _privileges(privileges: Privileges) -> None:
    for what, mode, modes in (
        ("seccomp", privileges.seccomp.mode, ("", "default", "unconfined", "custom")),
        ("AppArmor", privileges.app_armor.mode, ("", "default", "disabled")),
    ):
        if mode not in modes:
            raise invalid(f'ContainerSpec: invalid {what} mode: "{mode}"')
    if privileges.seccomp.profile:
        try:
            json.loads(privileges.seccomp.profile.decode())
        except (ValueError, RecursionError):
            raise invalid("ContainerSpec: the seccomp profile is not JSON") from None


def _references(kind: str, references: Iterable[tuple[str, str, bool, FileTarget]]) -> None:
    by_target: dict[str, str] = {}
    for identifier, name, has_file, file in references:
        target = file.name
        if not identifier or not name:
            raise invalid(f"malformed {kind} reference")
        if not has_file:
            raise invalid(f"malformed {kind} reference, no target provided")
        if not target:
            raise invalid(f"malformed file {kind} reference, invalid target file name provided")
        if target in by_target:
            raise invalid(
                f"{kind} references '{by_target[target]}' and '{name}' "
                f"have a conflicting target: '{target}'"
            )
        by_target[target] = name
        _owner(kind, name, file)


def _owner(kind: str, name: str, file: FileTarget) -> None:
    for what, said in (("UID", file.uid), ("GID", file.gid)):
        if said and not (_NUMBER.fits(said) and int(said) <= LAST_ID):
            raise invalid(f'invalid {what} "{said}": that of {kind} {name} must be 0 to {LAST_ID}')
    if file.mode > _ALL_MODE_BITS:
        raise invalid(f"invalid Mode {file.mode:#o}: that of {kind} {name} must be at most 07777")
