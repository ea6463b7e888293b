"""Network namespaces as a kernel keeps them: a model in memory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, ip_network
from pathlib import Path

from meshnet.gwbridge import desired as gwbridge
from meshnet.model.families import Interface
from meshnet.model.ids import MacAddress
from meshnet.model.snapshot import Gwbridge, Snapshot
from meshnet.netstate import changes as ch
from meshnet.netstate.netns_plan import plan
from meshnet.netstate.objects import LOCAL_TABLE, MAIN_TABLE, NO_QDISC, STANDARD_RULES, Link
from meshnet.netstate.values import NetnsState, Observed, RouteSpec
from meshnet.overlay import desired as overlay

DIR = Path("/run/netns")
BRIDGE = Gwbridge("docker_gwbridge", IPv4Network("172.18.0.0/16"), IPv4Address("172.18.0.1"))


class Kernel:
    """Namespaces as the kernel keeps them; ``make`` does what a change says, or fails loudly."""

    def __init__(self, containers: set[str]) -> None:
        self.netns: dict[str | None, NetnsState] = {None: NetnsState()}
        self.peers: dict[tuple[str | None, str], tuple[str | None, str]] = {}
        for path in containers:
            self.begin(path)
        self._add(None, BRIDGE.name, "bridge", 1500)

    @property
    def made(self) -> frozenset[str]:
        return frozenset(p for p in self.netns if p is not None and p.startswith(str(DIR)))

    def begin(self, path: str) -> None:
        """A container's namespace, as the engine makes it."""
        self.netns[path] = NetnsState()
        self._add(path, "lo", "", 65536)
        loopback = ("lo", IPv4Interface("127.0.0.1/8"))
        self._set(path, addresses=frozenset({loopback}), rules=STANDARD_RULES)
        self._connect(path, *loopback)

    def end(self, path: str) -> None:
        """It is gone, and with its ends of veth pairs the other ones."""
        for name in list(self.netns[path].links):
            self._DelLink(ch.DelLink(path, name))
        del self.netns[path]

    def todo(self, snapshot: Snapshot, *, prune: bool = True) -> Iterator[list[ch.Change]]:
        """What overlay, then gwbridge plan; only the overlay owns namespaces."""
        wanted = overlay.desired(snapshot, DIR)
        yield plan(wanted, Observed(dict(self.netns), self.made), prune=prune)
        yield plan(gwbridge.desired(snapshot), Observed(dict(self.netns)), prune=prune)

    def make(self, changes: list[ch.Change]) -> None:
        for change in changes:
            getattr(self, f"_{type(change).__name__}")(change)

    def _set(self, path: str | None, **more: object) -> None:
        self.netns[path] = replace(self.netns[path], **more)  # type: ignore[arg-type]

    def _add(self, path: str | None, name: str, kind: str, mtu: int, **more: object) -> None:
        state = self.netns[path]
        assert name not in state.links, f"{name} exists"
        link = Link(len(state.links) + 1, name, kind, True, mtu, MacAddress(""), 0)  # noqa: FBT003
        self._set(path, links={**state.links, name: replace(link, **more)})  # type: ignore[arg-type]

    def _lose(self, path: str | None, name: str) -> None:
        state = self.netns[path]
        self._set(
            path,
            links={k: v for k, v in state.links.items() if k != name},
            masters={k: v for k, v in state.masters.items() if name not in {k, v}},
            addresses=frozenset(a for a in state.addresses if a[0] != name),
            neighbours=frozenset(n for n in state.neighbours if n[0] != name),
            fdb=frozenset(f for f in state.fdb if f[0] != name),
            routes=frozenset(r for r in state.routes if r.name != name),
            sysctls={k: v for k, v in state.sysctls.items() if f"/{name}/" not in k},
        )

    def _AddNetns(self, change: ch.AddNetns) -> None:  # noqa: N802
        assert change.path not in self.netns
        self.netns[change.path] = NetnsState()

    def _DelNetns(self, change: ch.DelNetns) -> None:  # noqa: N802
        ends = [end for end in self.peers if end[0] == change.path]
        assert not ends, "its peer would be there for as long as the removal takes"
        for name in list(self.netns[change.path].links):
            self._DelLink(ch.DelLink(change.path, name))
        del self.netns[change.path]

    def _AddBridge(self, change: ch.AddBridge) -> None:  # noqa: N802
        self._add(change.netns, change.name, "bridge", change.mtu)

    def _AddVxlan(self, change: ch.AddVxlan) -> None:  # noqa: N802
        taken = [k.vxlan.vni for s in self.netns.values() for k in s.links.values() if k.vxlan]
        assert change.vxlan.vni not in taken, "the VNI is in use"
        self._add(change.netns, change.name, "vxlan", change.mtu, vxlan=change.vxlan, up=False)

    def _AddVeth(self, change: ch.AddVeth) -> None:  # noqa: N802
        self._add(change.netns, change.name, "veth", change.mtu)
        self._add(change.peer_netns, change.peer, "veth", change.mtu, mac=change.peer_mac, up=False)
        if change.master:
            assert change.master in self.netns[change.netns].links
            masters = self.netns[change.netns].masters
            self._set(change.netns, masters={**masters, change.name: change.master})
        one, other = (change.netns, change.name), (change.peer_netns, change.peer)
        self.peers |= {one: other, other: one}

    def _SetLink(self, change: ch.SetLink) -> None:  # noqa: N802
        state = self.netns[change.netns]
        link = state.links[change.name]
        link = replace(link, up=True, mtu=change.mtu or link.mtu, mac=change.mac or link.mac)
        links = {**state.links, change.name: link}
        for port, master in state.masters.items():
            found = links[port].port
            if master == change.name and found is not None:  # its ports begin with a bridge
                links[port] = replace(links[port], port=replace(found, forwarding=True))
        self._set(change.netns, links=links)
        for name, address in state.addresses:
            if name == change.name:
                self._connect(change.netns, name, address)
        if change.master:
            assert change.master in state.links
            self._set(change.netns, masters={**state.masters, change.name: change.master})

    def _NoLearning(self, change: ch.NoLearning) -> None:  # noqa: N802
        assert self.netns[change.netns].masters[change.name]

    def _SetPort(self, change: ch.SetPort) -> None:  # noqa: N802
        state = self.netns[change.netns]
        assert state.masters[change.name]
        link = replace(state.links[change.name], port=change.port)
        self._set(change.netns, links={**state.links, change.name: link})

    def _DelQdisc(self, change: ch.DelQdisc) -> None:  # noqa: N802
        state = self.netns[change.netns]
        link = replace(state.links[change.name], qdisc=NO_QDISC)
        self._set(change.netns, links={**state.links, change.name: link})

    def _DelLink(self, change: ch.DelLink) -> None:  # noqa: N802
        if change.name not in self.netns[change.netns].links:
            return
        self._lose(change.netns, change.name)
        other = self.peers.pop((change.netns, change.name), None)
        if other is not None:
            self.peers.pop(other, None)
            self._lose(*other)

    def _AddAddress(self, change: ch.AddAddress) -> None:  # noqa: N802
        state = self.netns[change.netns]
        assert change.name in state.links
        if not isinstance(change.address, IPv4Interface):
            off = f"ipv6/conf/{change.name}/disable_ipv6"  # the engine switches it off
            assert state.sysctls.get(off) == "0", "permission denied"
        self._set(change.netns, addresses=state.addresses | {(change.name, change.address)})
        self._connect(change.netns, change.name, change.address)

    def _connect(self, path: str | None, name: str, address: Interface) -> None:
        """The route that the kernel makes with an address, on a link that is up."""
        state = self.netns[path]
        if state.links[name].up:
            self._set(path, routes=state.routes | _kernels(name, address))

    def _DelAddress(self, change: ch.DelAddress) -> None:  # noqa: N802
        state = self.netns[change.netns]
        self._set(
            change.netns,
            addresses=state.addresses - {(change.name, change.address)},
            routes=state.routes - _kernels(change.name, change.address),
        )

    def _AddNeighbour(self, change: ch.AddNeighbour) -> None:  # noqa: N802
        state = self.netns[change.netns]
        assert change.name in state.links
        kept = {n for n in state.neighbours if n[:2] != (change.name, change.address)}
        row = (change.name, change.address, change.mac)
        self._set(change.netns, neighbours=frozenset(kept | {row}))

    def _DelNeighbour(self, change: ch.DelNeighbour) -> None:  # noqa: N802
        state = self.netns[change.netns]
        kept = {n for n in state.neighbours if n[:2] != (change.name, change.address)}
        self._set(change.netns, neighbours=frozenset(kept))

    def _AddFdb(self, change: ch.AddFdb) -> None:  # noqa: N802
        state = self.netns[change.netns]
        assert change.name in state.links
        is_self = change.vtep is not None
        kept = {
            row
            for row in state.fdb
            if row[:2] != (change.name, change.mac) or (row[2] is not None) != is_self
        }
        row = (change.name, change.mac, change.vtep)
        self._set(change.netns, fdb=frozenset(kept | {row}))

    def _DelFdb(self, change: ch.DelFdb) -> None:  # noqa: N802
        state = self.netns[change.netns]
        self._set(change.netns, fdb=state.fdb - {(change.name, change.mac, change.vtep)})

    def _AddRoute(self, change: ch.AddRoute) -> None:  # noqa: N802
        state = self.netns[change.netns]
        assert state.links[change.name].up
        if change.gateway is not None and not change.onlink:
            near = [r.destination for r in state.routes if r.gateway is None]
            assert any(change.gateway in each for each in near), "network is unreachable"
            assert change.netns is None or state.rules >= STANDARD_RULES, "nothing is looked up"
        spec = RouteSpec(
            change.name,
            change.table,
            change.destination,
            change.gateway,
            source=change.source,
            local=change.local,
        )
        same = (spec.table, spec.destination)
        kept = {r for r in state.routes if (r.table, r.destination) != same}
        self._set(change.netns, routes=frozenset(kept | {spec}))

    def _AddRule(self, change: ch.AddRule) -> None:  # noqa: N802
        state = self.netns[change.netns]
        self._set(change.netns, rules=state.rules | {change.rule})

    def _SetSysctl(self, change: ch.SetSysctl) -> None:  # noqa: N802
        state = self.netns[change.netns]
        self._set(change.netns, sysctls={**state.sysctls, change.key: change.value})


def _kernels(name: str, address: Interface) -> frozenset[RouteSpec]:
    """The routes that the kernel makes with an address."""
    ip, own = address.ip, address.is_loopback
    table = LOCAL_TABLE if own else MAIN_TABLE
    source = ip if isinstance(ip, IPv4Address) else None
    return frozenset(
        {
            RouteSpec(name, LOCAL_TABLE, ip_network(ip), None, source=source, local=True),
            RouteSpec(name, table, address.network, None, source=source, local=own),
        }
    )
