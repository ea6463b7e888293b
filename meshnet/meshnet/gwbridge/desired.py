"""What docker_gwbridge gives each container: a way out. Pure.

```
 container's netns          host netns
 ethN 02:42:<address> ───── g<task> ─ docker_gwbridge ─(masquerade: meshnet_lb)─> LAN
 default via the bridge
```
The bridge is the engine's network (docs/decisions/0005-gwbridge-is-the-engines-network.md); only
the ports and, in the engine's DOCKER-USER chain, the rules that let the mesh pass are ours. The
bridge's own address comes back when somebody flushes it; the bridge itself is made again by the
engine (``meshnet_control.engine.gwbridge_keeper``). Its MAC follows from its address, as the engine
would choose another one each time, and containers would send to the old one for up to half a
minute.
"""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Interface, IPv4Network
from typing import Final

from meshnet.model.ids import TaskId, mac_of
from meshnet.model.mesh import INGRESS_LINK
from meshnet.model.snapshot import Gwbridge, Snapshot
from meshnet.netstate.changes import Netns
from meshnet.netstate.objects import MAIN_TABLE, STANDARD_RULES
from meshnet.netstate.values import Desired, NetnsSpec, RouteSpec, Veth

_PORTS: Final = r"g[0-9a-z]{12}"
_NAME_CHARS: Final = 12
_DEFAULT: Final = IPv4Network("0.0.0.0/0")
_MESH: Final = (f"-i {INGRESS_LINK}", f"-o {INGRESS_LINK}")


def port_name(task: TaskId) -> str:
    """Name of the host's end of a container's link to the bridge."""
    return "g" + task[:_NAME_CHARS]


def desired(snapshot: Snapshot) -> Desired:
    """The containers' last interface and default route, and the bridge's ports."""
    bridge = snapshot.gwbridge
    specs: dict[Netns, NetnsSpec] = {None: _host(bridge)}
    veths: list[Veth] = []
    mtu = min((node.underlay_mtu for node in snapshot.nodes.values()), default=1500)
    for task, sandbox in snapshot.sandboxes.items():
        if bridge is None or sandbox.gateway_address is None:
            continue
        name = sandbox.interface(len(sandbox.networks))
        specs[sandbox.netns] = NetnsSpec(
            addresses=frozenset({(name, sandbox.gateway_address)}),
            routes=frozenset({RouteSpec(name, MAIN_TABLE, _DEFAULT, bridge.gateway)}),
            rules=STANDARD_RULES,
            # What comes in through the mesh goes out elsewhere.
            sysctls={"ipv4/conf/all/rp_filter": "0", f"ipv4/conf/{name}/rp_filter": "0"},
            exact=frozenset({name}),
        )
        veths.append(
            Veth(
                netns=None,
                name=port_name(task),
                master=bridge.name,
                mtu=mtu,
                peer_netns=sandbox.netns,
                peer=name,
                peer_mac=mac_of(sandbox.gateway_address.ip),
            )
        )
    return Desired(specs, tuple(veths))


def _host(bridge: Gwbridge | None) -> NetnsSpec:
    """Of the host only our ports, and of the engine's bridge what a stranger may have taken."""
    if bridge is None:
        return NetnsSpec(owned=_PORTS)
    gateway = IPv4Interface((bridge.gateway, bridge.subnet.prefixlen))
    # A host-mode port at 127.0.0.1 leaves through the bridge.
    localnet = {f"ipv4/conf/{bridge.name}/route_localnet": "1"}
    return NetnsSpec(
        addresses=frozenset({(bridge.name, gateway)}),
        sysctls=localnet,
        macs={bridge.name: mac_of(bridge.gateway)},
        owned=_PORTS,
    )


def forward_rules(snapshot: Snapshot) -> tuple[str, ...]:
    """Rules for the head of DOCKER-USER, in order, as ``iptables -S`` prints them.

    The engine's FORWARD policy is DROP. What comes in through the mesh, what containers send out
    through the bridge, and the answers to both must pass.
    """
    if snapshot.gwbridge is None:
        return ()
    bridge = snapshot.gwbridge.name
    matches = (
        *_MESH,
        f"-i {bridge} ! -o {bridge}",
        f"-o {bridge} -m conntrack --ctstate RELATED,ESTABLISHED,DNAT",
    )
    return _accepting(matches)


def forward_rules6(snapshot: Snapshot) -> tuple[str, ...]:
    """Rules for the head of FORWARD of IPv6: what comes in through a dual stack mesh must pass."""
    mesh = snapshot.ingress
    return _accepting(_MESH) if mesh is not None and mesh.subnets6 else ()


def _accepting(matches: Iterable[str]) -> tuple[str, ...]:
    return tuple(f"{match} -m comment --comment meshnet -j ACCEPT" for match in matches)
