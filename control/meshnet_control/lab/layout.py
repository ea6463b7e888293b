"""What a lab is made of: names, addresses and paths, all of them computed. Pure.

A lab is a LAN (a bridge in a network namespace of its own), N hosts on it and one outside
client::

    netns mnlab-lan      br0 192.168.50.254 ── ports h1 h2 h3 client
    netns mnlab-h1       eth0 192.168.50.11   engine, meshnetd, containers
    netns mnlab-client   eth0 192.168.50.100  a plain machine that is no member of the cluster

A lab of a file (``topology``) may have several LANs: a bridge each (``br0`` is LAN ``lan``,
``br-front`` LAN ``front``) in that one namespace, which routes between them.

``mnlab`` is the lab's name; a second lab of another name lives beside the first one. Nothing is
connected to the machine's own network namespace, so the subnet cannot clash with the machine's
routes.

Be aware: names of interfaces are limited to 15 bytes and socket paths to 107, hence the short
names.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Interface, IPv4Network
from pathlib import Path

from meshnet.patterns import Pattern
from meshnet_control.lab.errors import LabError, meant
from meshnet_control.lab.topology import CLIENT, DEFAULT_LAN, Host, Lan, Links, Topology

DEFAULT_NAME = "mnlab"
LAN = "lan"
"""The member that is the LANs' namespace."""
VM_SUBNET = IPv4Network("192.168.56.0/24")
"""Of a lab of virtual machines: where Vagrant's are."""
MAX_HOSTS = 80
"""Host addresses end in 11 … 90; the client has 100, the bridge 254."""

_NAME = Pattern("[a-z][a-z0-9]{0,9}", longest=10)


@dataclass(frozen=True, slots=True)
class Machine:
    """One member of the LAN: a host of the cluster, or the outside client."""

    name: str
    address: IPv4Interface
    mac: str
    """Fixed, so that neighbours find a host that comes back under the address they remember."""
    lan: str = DEFAULT_LAN

    @property
    def is_host(self) -> bool:
        """Whether an engine and meshnetd run here."""
        return self.name != CLIENT


@dataclass(frozen=True, slots=True)
class Layout:
    """One lab: its name, its size and everything that follows from them."""

    name: str = DEFAULT_NAME
    size: int = 3
    subnet: IPv4Network = IPv4Network("192.168.50.0/24")  # noqa: RUF009 - immutable
    run_root: Path = Path("/run/meshnet-lab")
    state_root: Path = Path("/var/lib/meshnet-lab")
    topology: Topology | None = None
    """Of a lab of a file, which says more than ``size`` and ``subnet``."""

    def __post_init__(self) -> None:
        if not is_name(self.name):
            raise LabError(
                f"{self.name!r} is no name for a lab: 1 to 10 of a-z and 0-9, a letter first"
            )
        if not 1 <= self.size <= MAX_HOSTS:
            raise LabError(f"a lab has 1 to {MAX_HOSTS} hosts, not {self.size}")

    @property
    def hosts(self) -> tuple[Machine, ...]:
        """h1, h2, … in order, or those of the file in its order."""
        if self.topology is not None:
            return tuple(_as_machine(host) for host in self.topology.hosts)
        return tuple(self._machine(f"h{number}", 10 + number) for number in range(1, self.size + 1))

    @property
    def client(self) -> Machine:
        """The outside client."""
        if self.topology is not None:
            return _as_machine(self.topology.client)
        return self._machine(CLIENT, 100)

    @property
    def machines(self) -> tuple[Machine, ...]:
        """All hosts, then the client."""
        return (*self.hosts, self.client)

    @property
    def lans(self) -> tuple[Lan, ...]:
        """All of them; a bridge's address is its machines' default gateway."""
        return self.topology.lans if self.topology is not None else (Lan(LAN, self.subnet),)

    @property
    def links(self) -> Links:
        """What the file says of links."""
        return self.topology.links if self.topology is not None else {}

    def lan(self, name: str) -> Lan:
        """The LAN of that name, which is one of this lab."""
        return next(lan for lan in self.lans if lan.name == name)

    def machine(self, name: str) -> Machine:
        """The machine called ``name``.

        Raises:
            LabError: there is none of that name.
        """
        for machine in self.machines:
            if machine.name == name:
                return machine
        names = [machine.name for machine in self.machines]
        raise LabError(
            f"no host {name!r} in this lab{meant(name, names)} (it has {', '.join(names)})"
        )

    def netns(self, member: str) -> str:
        """Name under /run/netns of a machine's namespace, or of the LAN's."""
        return f"{self.name}-{member}"

    def run_dir(self, machine: str) -> Path:
        """What the machine sees as /run."""
        return self.run_root / self.name / machine

    def state_dir(self, machine: str) -> Path:
        """What survives ``kill``: the engine's data, meshnetd's state, the logs."""
        return self.state_root / self.name / machine

    def marker(self, machine: str) -> str:
        """Value of ``MESHNET_LAB_MACHINE`` in the environment of the machine's first process."""
        return f"{self.name}/{machine}"

    def cgroup(self, machine: str) -> str:
        """Parent cgroup of the machine's containers."""
        return f"/{self.name}/{machine}"

    def hosts_file(self) -> str:
        """/etc/hosts of every machine."""
        lines = ["127.0.0.1\tlocalhost"]
        lines += [f"{machine.address.ip}\t{machine.name}" for machine in self.machines]
        return "\n".join(lines) + "\n"

    def _machine(self, name: str, number: int) -> Machine:
        address = IPv4Interface((self.subnet[number], self.subnet.prefixlen))
        return _as_machine(Host(name, LAN, address))


def is_name(name: str) -> bool:
    """Whether a lab may be called so."""
    return _NAME.fits(name)


def bridge_of(lan: str) -> str:
    """The name of a LAN's bridge."""
    return "br0" if lan == DEFAULT_LAN else f"br-{lan}"


def lan_of(bridge: str) -> str:
    """The LAN of a bridge; empty for another interface."""
    return DEFAULT_LAN if bridge == "br0" else bridge.removeprefix("br-") * bridge.startswith("br-")


def _as_machine(host: Host) -> Machine:
    mac = "02:6d:" + ":".join(f"{byte:02x}" for byte in host.address.ip.packed)
    return Machine(host.name, host.address, mac, host.lan)
