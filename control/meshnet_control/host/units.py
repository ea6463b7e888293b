"""meshnet's systemd units: their text, and having systemd run them.

The model: both processes speak sd_notify(3), so systemd starts what was killed or crashed, aborts
what gives no sign of life, and holds the resolver's sockets while that is away.

Be aware: meshnetd mounts what dockerd and ``ip netns`` are to see. Any setting that gives a unit a
mount namespace of its own (ProtectSystem=, PrivateTmp=, ProtectKernelModules= …) would hide that,
so meshnetd is confined by capabilities and system calls alone; the resolver mounts nothing and has
both.
"""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path
from typing import Final

from meshnet.errors import MeshnetError
from meshnet_control.host.paths import DAEMON, RESOLVER, command, run_dir
from meshnet_control.host.supervision import WATCHDOG_S

UNITS: Final = Path("/etc/systemd/system")
CAPABILITIES: Final = (
    "CAP_NET_ADMIN", "CAP_NET_RAW", "CAP_NET_BIND_SERVICE", "CAP_SYS_ADMIN", "CAP_SYS_PTRACE",
    "CAP_DAC_OVERRIDE", "CAP_CHOWN", "CAP_FOWNER",
)  # fmt: skip
"""All that meshnetd needs: links and rules; raw sockets of iptables; ports; mounts and namespaces,
and those of containers; files of tasks, whose owners the user chooses."""
_SETTINGS: Final = ("MESHNET_ENGINE",)
"""Of the environment of ``up --install``, what the units keep; directories are arguments."""
_UNIT: Final = """[Unit]
Description={description}
After={after}
Wants={wants}
StartLimitIntervalSec=0

[Service]
Type=notify
{settings}ExecStart={command}
Restart=always
RestartSec={pause}
WatchdogSec={watchdog}
TimeoutStartSec=120
TimeoutStopSec={stop}
TimeoutAbortSec=5
KillMode=mixed
LimitNOFILE=1048576
OOMScoreAdjust=-500
{sandbox}
[Install]
WantedBy=multi-user.target
"""
_BOTH: Final = """
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
_DAEMON_SANDBOX: Final = f"""{_BOTH}RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK
SystemCallFilter=@system-service @mount setns unshare
SystemCallFilter=~@clock @cpu-emulation @debug @module @obsolete @raw-io @reboot @swap
SystemCallErrorNumber=EPERM
CapabilityBoundingSet={" ".join(CAPABILITIES)}
"""
_RESOLVER_SANDBOX: Final = """FileDescriptorStoreMax=8000
{both}RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6
SystemCallFilter=@system-service setns
SystemCallFilter=~@privileged @resources
SystemCallErrorNumber=EPERM
CapabilityBoundingSet=CAP_SYS_ADMIN CAP_NET_ADMIN CAP_SYS_PTRACE CAP_DAC_READ_SEARCH
ProtectSystem=strict
ReadWritePaths={run_dir}
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


def texts() -> dict[str, str]:
    """Name of each process -> its unit."""
    settings = "".join(
        f"Environment={key}={value}\n" for key in _SETTINGS if (value := os.environ.get(key))
    )
    if run_dir().is_relative_to("/run"):  # empty after a boot
        name = run_dir().relative_to("/run")
        settings += f"RuntimeDirectory={name}\nRuntimeDirectoryPreserve=yes\n"
    run = {name: " ".join(command(name)) for name in (RESOLVER, DAEMON)}
    inside_home = run[RESOLVER].startswith(("/root/", "/home/"))
    return {
        RESOLVER: _UNIT.format(
            description="meshnet resolver",
            after="network-online.target",
            wants="network-online.target",
            settings=settings,
            command=run[RESOLVER],
            pause="50ms",
            watchdog=f"{WATCHDOG_S:.0f}",
            stop="3",
            sandbox=_RESOLVER_SANDBOX.format(
                both=_BOTH, run_dir=run_dir(), home="read-only" if inside_home else "yes"
            ),
        ),
        DAEMON: _UNIT.format(
            description="meshnet",
            after=f"network-online.target docker.service {RESOLVER}.service",
            wants=f"network-online.target docker.service {RESOLVER}.service",
            settings=settings,
            command=run[DAEMON],
            pause="200ms",
            watchdog=f"{WATCHDOG_S:.0f}",
            stop="15",
            sandbox=_DAEMON_SANDBOX,
        ),
    }


def systemd_runs() -> bool:
    """Whether this host was booted by systemd (sd_booted(3))."""
    return Path("/run/systemd/system").is_dir()


def installed() -> bool:
    """Whether systemd runs meshnet here."""
    return systemd_runs() and (UNITS / f"{DAEMON}.service").exists()


def install() -> None:
    """Write both units.

    Raises:
        UnitError: systemd refused.
    """
    for name, text in texts().items():
        (UNITS / f"{name}.service").write_text(text)
    _systemctl("daemon-reload")


def start(ready: str, within_s: float) -> None:
    """Have both run now and after each boot, and wait until they have said that they are ready.

    Raises:
        UnitError: systemd refused, or one is not ready in time.
    """
    _systemctl("enable", *(f"{name}.service" for name in (RESOLVER, DAEMON)))
    _systemctl("start", "--no-block", *(f"{name}.service" for name in (RESOLVER, DAEMON)))
    deadline = time.monotonic() + within_s
    while not Path(ready).exists() or not _active():
        if time.monotonic() > deadline:
            raise UnitError(f"{DAEMON} is not ready: journalctl -u {DAEMON}")
        time.sleep(0.1)


def remove() -> list[str]:
    """Stop both and take the units away; their names."""
    units = [f"{name}.service" for name in (DAEMON, RESOLVER)]
    _systemctl("disable", "--now", *units)
    for unit in units:
        (UNITS / unit).unlink(missing_ok=True)
    _systemctl("daemon-reload")
    return units


def _active() -> bool:
    asked = subprocess.run(["systemctl", "is-active", "--quiet", DAEMON, RESOLVER], check=False)
    return asked.returncode == 0


def _systemctl(*arguments: str) -> None:
    done = subprocess.run(["systemctl", *arguments], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise UnitError(f"systemctl {arguments[0]}: {done.stderr.strip()}")
