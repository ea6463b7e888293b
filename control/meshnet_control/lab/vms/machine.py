"""A virtual machine as QEMU's command line, and a command on it as ssh's. Pure.

```
 guest  eth0  10.0.2.15 by DHCP, the same on every machine, as VirtualBox gives it; leads nowhere
        eth1  192.168.56.11 …, a tap of the host's name on the lab's bridge
        vda   a layer of its own over the image      vdb  the seed (a tar file)
 LAN    127.0.0.1:2201 … → port 22 of eth0's side
```
QEMU itself is in the LAN's namespace, so nothing of a machine is in that of the computer.

Source: qemu-system-x86_64(1), ssh(1).
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from meshnet_control.lab.layout import LAN, Layout, Machine

MEMORY_MB: Final = 1536
"""What the Vagrantfile gives."""
NAT_MAC: Final = "08:00:27:12:34:56"
_FIRST_PORT: Final = 2200
_V2: Final = "qemu64,+ssse3,+sse4.1,+sse4.2,+popcnt"
"""x86-64-v2, which wheels ask for; more of a processor is only slower when it is emulated."""


@dataclass(frozen=True, slots=True)
class Files:
    """Where a machine's files are.

    Attributes:
        kernel: loaded by QEMU.
        initrd: its first RAM disk.
        disk: qcow2, written to.
        seed: raw.
        console: what the machine prints.
        monitor: QEMU's own socket, for what a person does to a machine from outside of it.
    """

    kernel: Path
    initrd: Path
    disk: Path
    seed: Path
    console: Path
    monitor: Path


def accelerator(cpu_flags: frozenset[str], *, kvm_opens: bool) -> str:
    """``kvm`` where the processor and the kernel have it, else ``tcg``: QEMU's own emulation.

    Be aware: a guest of some hypervisors has a /dev/kvm that opens and runs no ordinary kernel, so
    the processor's word is needed too.
    """
    return "kvm" if kvm_opens and cpu_flags & {"vmx", "svm"} else "tcg"


def qemu(layout: Layout, machine: Machine, files: Files, accel: str) -> list[str]:
    """The command that is the machine as long as it runs; it does not return."""
    emulation = {
        "kvm": ["-accel", "kvm", "-cpu", "host"],
        "tcg": ["-accel", "tcg,thread=multi,tb-size=512", "-cpu", _V2],
    }[accel]
    forward = f"hostfwd=tcp:127.0.0.1:{ssh_port(machine)}-:22"
    kernel = (
        "root=/dev/vda rw console=ttyS0 net.ifnames=0 mitigations=off"
        " quiet systemd.show_status=no"  # a serial line is slow
    )
    return [
        *("qemu-system-x86_64", "-name", layout.netns(machine.name), *emulation),
        *("-smp", "1", "-m", str(MEMORY_MB), "-nodefaults", "-no-user-config", "-display", "none"),
        *("-qmp", f"unix:{files.monitor},server=on,wait=off"),
        *("-serial", f"file:{files.console}", "-device", "virtio-rng-pci", "-rtc", "base=utc"),
        *("-kernel", str(files.kernel), "-initrd", str(files.initrd), "-append", kernel),
        *("-drive", f"file={files.disk},format=qcow2,if=virtio,cache=writeback"),
        *("-drive", f"file={files.seed},format=raw,if=virtio,readonly=on"),
        *("-netdev", f"user,id=nat,restrict=on,{forward}"),
        *("-device", f"virtio-net-pci,netdev=nat,mac={NAT_MAC},romfile="),
        *("-netdev", f"tap,id=lan,ifname={machine.name},script=no,downscript=no"),
        *("-device", f"virtio-net-pci,netdev=lan,mac={machine.mac},romfile="),
    ]


def ssh_port(machine: Machine) -> int:
    """Port of the machine's sshd on 127.0.0.1 in the LAN's namespace."""
    return _FIRST_PORT + int(machine.name.removeprefix("h"))


def ssh(
    layout: Layout,
    machine: Machine,
    argv: Sequence[str],
    environment: Mapping[str, str],
    *,
    terminal: bool = False,
) -> list[str]:
    """The command line that runs ``argv`` as root on the machine, through the kept connection.

    Where that is broken or not there yet it makes one of its own.
    """
    settings = [f"{name}={value}" for name, value in environment.items()]
    typed = shlex.join(["env", *settings, *argv])
    return [*_ssh(layout, machine), "-t" if terminal else "-T", "root@127.0.0.1", typed]


def keep_connection(layout: Layout, machine: Machine) -> list[str]:
    """The command that makes a connection for all commands and returns when it is there.

    A handshake takes an emulated machine a second or two.

    Be aware: ssh stays in the background and holds what it was given as its output.
    """
    return [*_ssh(layout, machine), "-M", "-N", "-f", "root@127.0.0.1"]


def kept_connection(layout: Layout, machine: Machine, what: str) -> list[str]:
    """The command that does something to the kept connection: ``check`` or ``exit``."""
    return [*_ssh(layout, machine), "-O", what, "root@127.0.0.1"]


def _ssh(layout: Layout, machine: Machine) -> list[str]:
    options = {
        "IdentityFile": str(key(layout)),
        "Port": str(ssh_port(machine)),
        "ControlPath": str(control_socket(layout, machine.name)),
        "StrictHostKeyChecking": "no",
        "UserKnownHostsFile": "/dev/null",
        "ConnectTimeout": "20",
        "ServerAliveInterval": "5",
        "ServerAliveCountMax": "6",
    }
    return [
        *("nsenter", f"--net=/run/netns/{layout.netns(LAN)}", "ssh", "-q", "-F", "none"),
        *(word for name, value in options.items() for word in ("-o", f"{name}={value}")),
    ]


def key(layout: Layout) -> Path:
    """The private key that opens all machines of a lab."""
    return layout.state_root / layout.name / "key"


def control_socket(layout: Layout, name: str) -> Path:
    """Where the kept connection to a machine is."""
    return layout.run_dir(name) / "ssh"
