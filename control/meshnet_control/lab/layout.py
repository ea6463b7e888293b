"""What a lab is made of: names, addresses and paths, all of them computed. Pure.

A lab is one LAN (a bridge in a network namespace of its own), N hosts on it and one outside
client::

    netns mnlab-lan      br0 192.168.50.254 ── ports h1 h2 h3 client
    netns mnlab-h1       eth0 192.168.50.11   engine, meshnetd, containers
    netns mnlab-client   eth0 192.168.50.100  a plain machine that is no member of the cluster

``mnlab`` is the lab's name; a second lab of another name lives beside the first one. Nothing is
connected to the machine's own network namespace, so the subnet cannot clash with the machine's
routes.

Be aware: names of interfaces are limited to 15 bytes and socket paths to 107, hence the short
names.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from pathlib import Path

from meshnet.patterns import Pattern
from meshnet_control.lab.errors import LabError

DEFAULT_NAME = "mnlab"
CLIENT = "client"
LAN = "lan"
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

    def __post_init__(self) -> None:
        if not _NAME.fits(self.name):
            raise LabError(
                f"{self.name!r} is no name for a lab: 1 to 10 of a-z and 0-9, a letter first"
            )
        if not 1 <= self.size <= MAX_HOSTS:
            raise LabError(f"a lab has 1 to {MAX_HOSTS} hosts, not {self.size}")

    @property
    def hosts(self) -> tuple[Machine, ...]:
        """h1, h2, … in order."""
        return tuple(self._machine(f"h{number}", 10 + number) for number in range(1, self.size + 1))

    @property
    def client(self) -> Machine:
        """The outside client."""
        return self._machine(CLIENT, 100)

    @property
    def machines(self) -> tuple[Machine, ...]:
        """All hosts, then the client."""
        return (*self.hosts, self.client)

    @property
    def gateway(self) -> IPv4Interface:
        """The bridge's address, every machine's default gateway (it leads nowhere)."""
        return self._interface(254)

    def machine(self, name: str) -> Machine:
        """The machine called ``name``.

        Raises:
            LabError: there is none of that name.
        """
        for machine in self.machines:
            if machine.name == name:
                return machine
        known = ", ".join(machine.name for machine in self.machines)
        raise LabError(f"no host {name!r} in this lab (it has {known})")

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
        address = self._interface(number)
        mac = "02:6d:" + ":".join(f"{byte:02x}" for byte in address.ip.packed)
        return Machine(name, address, mac)

    def _interface(self, number: int) -> IPv4Interface:
        address = IPv4Address(int(self.subnet.network_address) + number)
        return IPv4Interface((address, self.subnet.prefixlen))
