"""Hosts on one LAN, as namespaces, and the peers' data planes on them, made by hand.

The hand-made overlay has Docker's shape: per host a namespace with a bridge and a VXLAN device,
every remote container a static FDB entry, every neighbour permanent, nothing learnt, br_netfilter
off.

Be aware: containers are namespaces; what a container is beyond that costs no packet anything.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bench.bed import Bed

VNI = 4096
MTU = 1450
LAN = "10.99.0"


def mac(address: str) -> str:
    """Docker's MAC address of an overlay endpoint: 02:42 and the IPv4 address."""
    return "02:42:" + ":".join(f"{int(part):02x}" for part in address.split("."))


def vtep(number: int) -> str:
    """Address of host ``number`` (1…) on the LAN; the outside client is number 100."""
    return f"{LAN}.{number}"


def lan(bed: Bed, hosts: int, *, client: bool = False) -> None:
    """Namespaces ``h1``… (and ``x``, an outside client) with ``u`` on a common bridge."""
    bed.netns("lan")
    bed.ip("lan", "link add br0 type bridge", "link set br0 up")
    machines = {f"h{n}": n for n in range(1, hosts + 1)} | ({"x": 100} if client else {})
    for name, number in machines.items():
        bed.netns(name, forward=name != "x")
        bed.veth(name, "u", "lan", f"l{name}")
        bed.ip("lan", f"link set l{name} master br0")
        bed.ip(name, f"addr add {vtep(number)}/24 dev u")


@dataclass(frozen=True)
class Place:
    """A container: the namespace's short name, its host's number and its overlay address."""

    name: str
    host: int
    address: str


def static_overlay(bed: Bed, places: Sequence[Place], prefix: int = 24) -> None:
    """Docker's overlay by hand between the hosts of ``places``, containers (``eth0``) included."""
    for host in sorted({place.host for place in places}):
        inner = f"o{host}"
        bed.netns(inner)
        # Made in the host so that it sends there, moved so that the bridge has it: as libnetwork.
        bed.ip(
            f"h{host}",
            f"link add vx0 type vxlan id {VNI} local {vtep(host)} dstport 4789"
            " nolearning noudpcsum",
            f"link set vx0 netns {bed.name(inner)}",
        )
        bed.ip(
            inner,
            "link add br0 type bridge mcast_snooping 0",
            f"link set vx0 mtu {MTU} master br0 up",
            f"link set br0 mtu {MTU} up",
        )
        remote = [place for place in places if place.host != host]
        bed.bridge(
            inner,
            *(
                f"fdb add {mac(p.address)} dev vx0 dst {vtep(p.host)} self permanent"
                for p in remote
            ),
            *(f"fdb replace {mac(p.address)} dev vx0 master static" for p in remote),
        )
    for place in places:
        bed.netns(place.name)
        inner = f"o{place.host}"
        port = f"v{place.name}"
        bed.veth(place.name, "eth0", inner, port, mtu=MTU, mac=mac(place.address))
        bed.ip(inner, f"link set {port} master br0")
        others = [other.address for other in places if other != place]
        bed.ip(
            place.name,
            f"addr add {place.address}/{prefix} dev eth0",
            *(f"neigh replace {a} lladdr {mac(a)} dev eth0 nud permanent" for a in others),
        )


GWBRIDGE = "172.18.0"
SANDBOX = f"{GWBRIDGE}.200"


def docker_mesh(
    bed: Bed, hosts: int, tasks: Mapping[int, str], published: int, target: int
) -> None:
    """Docker's routing mesh rebuilt: DNAT to an ingress sandbox that balances and does SNAT.

    IPVS, which not every kernel has, is replaced by numgen in the sandbox, which costs a packet no
    more; the REDIRECT rule of each task is left out, which is to Docker's advantage.

    Args:
        bed: where :func:`lan` was called.
        hosts: how many.
        tasks: host number to overlay address of the task there, namespace ``t<host>``.
        published: the port on every host.
        target: the port the tasks listen on.
    """
    boxes = {host: f"10.255.2.{host}" for host in range(1, hosts + 1)}
    static_overlay(
        bed,
        [Place(f"t{host}", host, address) for host, address in tasks.items()]
        + [Place(f"s{host}", host, address) for host, address in boxes.items()],
        prefix=16,
    )
    turn = ", ".join(f"{n} : {address} . {target}" for n, address in enumerate(tasks.values()))
    for host, own in boxes.items():
        name = f"h{host}"
        bed.ip(name, "link add gwb type bridge", f"addr add {GWBRIDGE}.1/16 dev gwb")
        bed.ip(name, "link set gwb up")
        members = {f"s{host}": SANDBOX} | ({f"t{host}": f"{GWBRIDGE}.2"} if host in tasks else {})
        for member, address in members.items():
            bed.sysctl(member, "net.ipv4.conf.all.rp_filter=0", "net.ipv4.ip_forward=1")
            bed.veth(member, "eth1", name, f"g{member}")
            bed.ip(name, f"link set g{member} master gwb")
            bed.ip(member, f"addr add {address}/16 dev eth1", f"route add default via {GWBRIDGE}.1")
        bed.nft(
            name,
            f"""table ip peer {{
              chain pre {{ type nat hook prerouting priority -100;
                fib daddr type local tcp dport {published} dnat to {SANDBOX};
              }}
              chain post {{ type nat hook postrouting priority 100;
                ip saddr {GWBRIDGE}.0/16 oifname "u" masquerade;
              }}
            }}\n""",
        )
        bed.nft(
            f"s{host}",
            f"""table ip peer {{
              chain pre {{ type nat hook prerouting priority -100;
                tcp dport {published} dnat to numgen inc mod {len(tasks)} map {{ {turn} }};
              }}
              chain post {{ type nat hook postrouting priority 100; oifname "eth0" snat to {own};
              }}
            }}\n""",
        )
