"""meshnet's systemd units: their text, and having systemd run them.

The model: all processes speak sd_notify(3), so systemd starts what was killed or crashed, aborts
what gives no sign of life, and holds the resolver's sockets while that is away.

Be aware: meshnetd mounts what dockerd and ``ip netns`` are to see. Any setting that gives a unit a
mount namespace of its own (ProtectSystem=, PrivateTmp=, ProtectKernelModules= …) would hide that,
so meshnetd is confined by capabilities and system calls alone; the others mount nothing and have
both. meshnet-manager is enabled on every host and starts where MARK is, on managers.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final

from meshnet.errors import MeshnetError
from meshnet_control.host.paths import (
    DAEMON,
    MANAGER,
    MARK,
    RESOLVER,
    command,
    run_dir,
    state_dir,
    wanted,
)
from meshnet_control.host.readiness import Seen
from meshnet_control.host.supervision import WATCHDOG_S

UNITS: Final = Path("/etc/systemd/system")
"""Where ``install`` writes; what is here goes before what is in ``PACKAGED``."""
PACKAGED: Final = Path("/usr/lib/systemd/system")
"""Where a package has its units; it brings and removes them, not we."""
CAPABILITIES: Final = (
    "CAP_NET_ADMIN", "CAP_NET_RAW", "CAP_NET_BIND_SERVICE", "CAP_SYS_ADMIN", "CAP_SYS_PTRACE",
    "CAP_DAC_OVERRIDE", "CAP_CHOWN", "CAP_FOWNER",
)  # fmt: skip
"""All that meshnetd needs: links and rules; raw sockets of iptables; ports; mounts and namespaces,
and those of containers; files of tasks, whose owners the user chooses."""
_SAYS_S: Final = 5.0
"""A machine that goes down has much to do; a part of what ``stop`` of the unit gives."""
HOST_STOPS: Final = "this host goes down: the others are told to choose it no more"
"""What the log says then."""
_SETTINGS: Final = ("MESHNET_ENGINE",)
"""Of the environment of ``up --install``, what the units keep; directories are arguments."""
_UNIT: Final = """[Unit]
Description={description}
After={after}
Wants={wants}
StartLimitIntervalSec=0
{condition}
[Service]
Type=notify
{settings}ExecStart={command}
Restart=always
RestartSec={pause}
WatchdogSec={watchdog}
TimeoutStartSec=900
TimeoutStopSec={stop}
TimeoutAbortSec=5
KillMode=mixed
LimitNOFILE=1048576
LimitCORE=0
OOMScoreAdjust=-500
{sandbox}
[Install]
WantedBy=multi-user.target
"""
_ALL: Final = """
NoNewPrivileges=yes
SystemCallArchitectures=native
LockPersonality=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
KeyringMode=private
DevicePolicy=closed
MemoryDenyWriteExecute=yes
RestrictNamespaces=net
"""
_DAEMON_SANDBOX: Final = f"""FileDescriptorStoreMax=8
{_ALL}RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK
SystemCallFilter=@system-service @mount setns unshare
SystemCallFilter=~@clock @cpu-emulation @debug @module @obsolete @raw-io @reboot @swap
SystemCallErrorNumber=EPERM
CapabilityBoundingSet={" ".join(CAPABILITIES)}
"""
_RESOLVER_SANDBOX: Final = """FileDescriptorStoreMax=8000
{everywhere}RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6
SystemCallFilter=@system-service setns
SystemCallFilter=~@privileged @resources
SystemCallErrorNumber=EPERM
CapabilityBoundingSet=CAP_SYS_ADMIN CAP_NET_ADMIN CAP_SYS_PTRACE CAP_DAC_READ_SEARCH
ReadWritePaths={run_dir}
{files}"""
_MANAGER_SANDBOX: Final = """{everywhere}RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6
SystemCallFilter=@system-service
SystemCallFilter=~@privileged @resources
SystemCallErrorNumber=EPERM
CapabilityBoundingSet=CAP_NET_BIND_SERVICE
ReadWritePaths={run_dir} {state_dir}
{files}"""
_FILES: Final = """ProtectSystem=strict
ProtectHome={home}
PrivateTmp=yes
ProtectClock=yes
ProtectHostname=yes
ProtectControlGroups=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
UMask=0077
"""


class UnitError(MeshnetError):
    """systemd refused; its words."""


def texts(programs: Path | None = None, settings: str | None = None) -> dict[str, str]:
    """Name of each process -> its unit.

    Args:
        programs: the directory they will be in; None: the one they are in now.
        settings: lines ``Environment=``; None: of our own environment.
    """
    if settings is None:
        settings = "".join(
            f"Environment={key}={value}\n" for key in _SETTINGS if (value := os.environ.get(key))
        )
    if run_dir().is_relative_to("/run"):  # empty after a boot
        name = run_dir().relative_to("/run")
        settings += f"RuntimeDirectory={name}\nRuntimeDirectoryPreserve=yes\n"
    run = {name: " ".join(command(name, programs)) for name in (RESOLVER, MANAGER, DAEMON)}
    inside_home = run[RESOLVER].startswith(("/root/", "/home/"))
    files = _FILES.format(home="read-only" if inside_home else "yes")
    network = "network-online.target"
    others = f"docker.service {RESOLVER}.service"
    return {
        RESOLVER: _UNIT.format(
            description="meshnet resolver",
            after=network,
            wants=network,
            condition="",
            settings=settings,
            command=run[RESOLVER],
            pause="50ms",
            watchdog=f"{WATCHDOG_S:.0f}",
            stop="3",
            sandbox=_RESOLVER_SANDBOX.format(everywhere=_ALL, run_dir=run_dir(), files=files),
        ),
        MANAGER: _UNIT.format(
            description="meshnet manager",
            after=network,
            wants=network,
            condition=f"ConditionPathExists={state_dir() / MARK}\n",
            settings=settings,
            command=run[MANAGER],
            pause="100ms",
            watchdog=f"{WATCHDOG_S:.0f}",
            stop="10",
            sandbox=_MANAGER_SANDBOX.format(
                everywhere=_ALL, run_dir=run_dir(), state_dir=state_dir(), files=files
            ),
        ),
        DAEMON: _UNIT.format(
            description="meshnet",
            after=f"{network} {others}",
            wants=f"{network} {others}",
            condition="",
            settings=settings,
            command=run[DAEMON],
            pause="200ms",
            watchdog=f"{WATCHDOG_S:.0f}",
            stop="30",
            sandbox=_DAEMON_SANDBOX,
        ),
    }


def systemd_runs() -> bool:
    """Whether this host was booted by systemd (sd_booted(3))."""
    return Path("/run/systemd/system").is_dir()


def host_stops() -> bool:
    """Whether systemd is about to end everything on this host: it is switched off, or boots anew.

    False also where systemd does not say, or is not there.
    """
    try:
        asked = subprocess.run(
            ["systemctl", "is-system-running"], capture_output=True, text=True, check=False,
            timeout=_SAYS_S,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return False
    return asked.stdout.strip() == "stopping"


def installed() -> bool:
    """Whether systemd runs meshnet here."""
    return systemd_runs() and any((where / _DAEMON).exists() for where in (UNITS, PACKAGED))


def install() -> list[str]:
    """Have all units there: those of the package if they say the same, else written by us.

    Returns:
        Names of those that said something else before, or were not there; the resolver first.

    Raises:
        UnitError: systemd refused.
    """
    return _written(texts())


def renew() -> list[str]:
    """Have the units say what this version's do, those that are new in it too.

    A unit of meshnetd's that names other directories than ours stays as it is, and so do the
    others: those are somebody else's decision.

    Returns:
        As ``install``.

    Raises:
        UnitError: systemd refused.
    """
    there = _text(UNITS / _DAEMON) or _text(PACKAGED / _DAEMON)
    lines = there.splitlines(keepends=True)
    _, *places = command(DAEMON)
    if not any(line.startswith("ExecStart=") and line.split()[1:] == places for line in lines):
        return []
    kept = tuple(f"Environment={key}=" for key in _SETTINGS)
    return _written(texts(settings="".join(line for line in lines if line.startswith(kept))))


def _written(wanted: Mapping[str, str]) -> list[str]:
    changed = []
    for name, text in wanted.items():
        unit = f"{name}.service"
        if (_text(UNITS / unit) or _text(PACKAGED / unit)) != text:
            changed.append(name)
        if _text(PACKAGED / unit) == text:
            (UNITS / unit).unlink(missing_ok=True)
        else:
            (UNITS / unit).write_text(text)
    _systemctl("daemon-reload")
    _systemctl("enable", *_OURS)
    return changed


def start() -> None:
    """Ask systemd to start all; returns at once.

    Raises:
        UnitError: systemd refused.
    """
    _systemctl("start", "--no-block", *_OURS)


def start_manager() -> None:
    """Ask systemd to start meshnet-manager; returns at once.

    Raises:
        UnitError: systemd refused.
    """
    _systemctl("start", "--no-block", f"{MANAGER}.service")


def stop_manager() -> None:
    """Have systemd stop meshnet-manager; returns when it has ended.

    Raises:
        UnitError: systemd refused.
    """
    _systemctl("stop", f"{MANAGER}.service")


def runs(name: str) -> bool:
    """Whether systemd has started it, or is about to."""
    return (
        wanted(name)
        and installed()
        and properties(_show()).get(name, {}).get("ActiveState") in _RUNS
    )


def restart(name: str) -> None:
    """End it and start it with what is on disk now; returns when it has been asked for.

    systemd holds the resolver's sockets meanwhile (FileDescriptorStoreMax= in systemd.service(5)).

    Raises:
        UnitError: systemd refused.
    """
    _systemctl("daemon-reload")
    _systemctl("restart", "--no-block", f"{name}.service")


def look() -> Mapping[str, Seen]:
    """Those that are to run, as systemd sees them.

    Raises:
        UnitError: systemd does not say.
    """
    found = seen(properties(_show()))
    if found.keys() != {RESOLVER, MANAGER, DAEMON}:
        raise UnitError("systemctl show: systemd does not answer")
    return asked_for({name: each for name, each in found.items() if wanted(name)})


def properties(shown: str) -> dict[str, dict[str, str]]:
    """Name of each process -> its properties, from what ``systemctl show`` prints. Pure."""
    blocks = [
        dict(line.split("=", 1) for line in block.splitlines() if "=" in line)
        for block in shown.split("\n\n")
    ]
    return {block["Id"].removesuffix(".service"): block for block in blocks if "Id" in block}


def seen(shown: Mapping[str, Mapping[str, str]]) -> dict[str, Seen]:
    """The same as it matters to who waits. Pure.

    Be aware: a unit that waits for others (``After=``) is inactive and has a job.
    """
    found = {}
    for name, unit in shown.items():
        state, due = unit.get("ActiveState", ""), unit.get("Job", "") not in {"", "0"}
        waits = "waits for other units" if due and state == "inactive" else ""
        found[name] = Seen(
            ready=state == "active" and not due,
            ends=int(unit.get("NRestarts") or 0),
            lost=state in {"inactive", "failed"} and not due,
            doing=unit.get("StatusText") or waits,
        )
    return found


def asked_for(found: Mapping[str, Seen]) -> dict[str, Seen]:
    """The same, but a meshnet-manager that does not run is one that comes. Pure.

    meshnetd writes MARK before it asks systemd, which takes a slow host a second, and nobody else
    ends it: systemd starts again what fails.
    """
    return {
        name: replace(each, lost=False) if name == MANAGER else each for name, each in found.items()
    }


def last_words(name: str) -> str:
    """The last line of it in the journal."""
    asked = subprocess.run(
        ["journalctl", "-u", name, f"SYSLOG_IDENTIFIER={name}", "-n", "1", "-o", "cat",
         "--no-pager", "-q"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    return asked.stdout.strip().removeprefix(f"{name}: ") or "it said nothing"


def remove() -> list[str]:
    """Stop all and take away what ``install`` did; the units' names, ``[]``: there was nothing.

    Raises:
        UnitError: systemd refused something; all that could be done is done.
    """
    shown = properties(_show())
    units = [
        unit
        for unit in reversed(_OURS)
        if (UNITS / unit).exists()
        or _is_enabled(unit)
        or shown.get(unit.removesuffix(".service"), {}).get("ActiveState") in _RUNS
    ]
    if not units:
        return []
    try:
        _systemctl("disable", "--now", *units)
    finally:
        for unit in units:
            (UNITS / unit).unlink(missing_ok=True)
        _systemctl("daemon-reload")
    return units


_DAEMON: Final = f"{DAEMON}.service"
_OURS: Final = (f"{RESOLVER}.service", f"{MANAGER}.service", _DAEMON)
_RUNS: Final = frozenset({"active", "activating", "reloading", "deactivating"})


def _show() -> str:
    wanted = "Id,ActiveState,NRestarts,StatusText,Job"
    asked = ["systemctl", "show", f"--property={wanted}", *_OURS]
    return subprocess.run(asked, capture_output=True, text=True, check=False).stdout


def _is_enabled(unit: str) -> bool:
    asked = subprocess.run(["systemctl", "is-enabled", "--quiet", unit], check=False)
    return asked.returncode == 0


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except FileNotFoundError:
        return ""


def _systemctl(*arguments: str) -> None:
    done = subprocess.run(["systemctl", *arguments], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise UnitError(f"systemctl {arguments[0]}: {done.stderr.strip()}")
