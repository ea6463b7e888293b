"""Whether a firewall of this host lets in what the other hosts of the cluster send.

``ufw`` and ``firewalld`` are read as they print themselves; docs/firewalls.md has the commands that
mend what is missing. Rules by hand are nobody's to understand here.

Source: ufw(8), firewall-cmd(1).
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Final

from meshnet.model.wellknown import CONTROL_PORT, GOSSIP_PORT, PEER_PORT, VXLAN_PORT

Port = tuple[int, str]
"""Number and protocol."""

GOSSIP: Final[tuple[Port, ...]] = ((GOSSIP_PORT, "tcp"), (GOSSIP_PORT, "udp"))
MANAGERS: Final[tuple[Port, ...]] = ((CONTROL_PORT, "tcp"), (PEER_PORT, "tcp"))
CONTAINERS: Final = "docker_gwbridge"
_ENDS_S: Final = 120.0


@dataclass(frozen=True, slots=True)
class Zone:
    """A zone of firewalld that is in use."""

    default: bool
    accepts: bool
    interfaces: tuple[str, ...]
    sources: tuple[str, ...]
    services: tuple[str, ...]
    ports: tuple[str, ...]

    @property
    def of_hosts(self) -> bool:
        """Whether packets of other hosts may belong to it, and not those of containers alone."""
        own = ("docker", "mn-", "br-", "lo")
        cards = [name for name in self.interfaces if not name.startswith(own)]
        return self.default or bool(self.sources or cards)


def ufw_refuses(status: str, wanted: Collection[Port]) -> list[Port]:
    """Those of the wanted ports that no rule lets in, from ``ufw status verbose``. Pure.

    Whom a rule lets in is not looked at. A ufw that is switched off refuses none.
    """
    lines = status.splitlines()
    if "Status: active" not in lines or "Default: allow (incoming)" in status:
        return []
    admitted: set[Port] = set()
    for line in lines:
        to, _, rest = line.partition(" ALLOW ")
        if rest and not rest.startswith(("OUT", "FWD")):
            word = to.split()[0] if to.split() else ""
            admitted |= {port for port in wanted if word == "Anywhere" or _in(port, word)}
    return [port for port in wanted if port not in admitted]


def _in(port: Port, said: str) -> bool:
    """Whether a port is one of ``2377,2380/tcp``, ``7946`` or ``7000:8000/udp``."""
    numbers, _, protocol = said.partition("/")
    if protocol not in {"", port[1]}:
        return False
    for each in numbers.split(","):
        first, _, last = each.replace("-", ":").partition(":")
        last = last or first
        if first.isdigit() and last.isdigit() and int(first) <= port[0] <= int(last):
            return True
    return False


def zones(listed: str) -> list[Zone]:
    """The zones in use, from ``firewall-cmd --list-all-zones``. Pure."""
    found = []
    for block in listed.split("\n\n"):
        head, *rows = [line for line in block.splitlines() if line.strip()] or [""]
        what = head.partition("(")[2].rstrip(") ").split(", ")
        if "active" not in what and "default" not in what:
            continue
        said = dict(row.strip().partition(": ")[::2] for row in rows if ":" in row)
        lists = [
            tuple(said.get(name, "").split())
            for name in ("interfaces", "sources", "services", "ports")
        ]
        found.append(Zone("default" in what, said.get("target") == "ACCEPT", *lists))
    return found


def firewalld_refuses(
    found: Sequence[Zone], service_ports: Callable[[str], Sequence[str]], wanted: Collection[Port]
) -> list[Port]:
    """Those of the wanted ports that no zone of other hosts lets in."""
    said: set[str] = set()
    for zone in found:
        if zone.of_hosts:
            if zone.accepts:
                return []
            said |= set(zone.ports)
            for service in zone.services:
                said |= set(service_ports(service))
    return [port for port in wanted if not any(_in(port, each) for each in said)]


def findings(*, manager: bool, data_path_port: int = VXLAN_PORT) -> list[str]:
    """What of the host's firewalls is in the cluster's way, a sentence each."""
    nodes = (*GOSSIP, (data_path_port, "udp"))
    wanted = (*nodes, *MANAGERS) if manager else nodes
    found = _sentence("ufw", ufw_refuses(_said("ufw", "status", "verbose"), wanted))
    if _said("firewall-cmd", "--state").strip() == "running":
        used = zones(_said("firewall-cmd", "--list-all-zones"))
        found += _sentence("firewalld", firewalld_refuses(used, _service_ports, wanted))
        if not any(CONTAINERS in zone.interfaces and zone.accepts for zone in used):
            found.append(
                f"firewalld: {CONTAINERS} is in no zone that accepts, so containers reach nothing "
                "outside (docs/firewalls.md)"
            )
    return found


def _sentence(firewall: str, refused: Sequence[Port]) -> list[str]:
    if not refused:
        return []
    ports = ", ".join(f"{number}/{protocol}" for number, protocol in refused)
    return [f"{firewall} lets nothing in on {ports}: docs/firewalls.md has the commands"]


def _service_ports(name: str) -> Sequence[str]:
    lines = _said("firewall-cmd", f"--info-service={name}").splitlines()
    return next((row.split()[1:] for row in lines if row.strip().startswith("ports:")), [])


def _said(*argv: str) -> str:
    """What a program printed; nothing where it is not installed, or fails."""
    try:
        done = subprocess.run(
            argv, capture_output=True, text=True, check=False, timeout=_ENDS_S,
            env={"LC_ALL": "C", "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout if done.returncode == 0 else ""
