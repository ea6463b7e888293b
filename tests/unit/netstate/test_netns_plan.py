"""Laws of the plan for namespaces, on a model of the kernel."""

from __future__ import annotations

import random
from dataclasses import replace
from ipaddress import (
    IPv4Address,
    IPv4Interface,
    IPv4Network,
    IPv6Address,
    IPv6Interface,
    IPv6Network,
)

import pytest
from hypothesis import given
from hypothesis import strategies as st
from netns_model import BRIDGE, DIR, Kernel

from meshnet.errors import KernelError
from meshnet.kernel.host import conflicting_route
from meshnet.model.ids import NetworkId, NodeId, ServiceId, TaskId, Vni, mac_of
from meshnet.model.snapshot import Endpoint, Network, Node, PublishedPort, Sandbox, Snapshot
from meshnet.netstate import changes as ch
from meshnet.netstate.netns_plan import plan
from meshnet.netstate.objects import DOWN_QDISC, NO_QDISC, Link, Port
from meshnet.netstate.values import Desired, NetnsSpec, NetnsState, Observed
from meshnet.overlay import desired as overlay


def _address(network: int, host: int) -> IPv4Address:
    return IPv4Address(f"10.0.{network}.{host}")


LOOPBACK6 = {("lo", IPv6Interface("::1/128"))}
"""Of who was on a dual stack network once."""


def _address6(network: int, host: int) -> IPv6Address:
    return IPv6Address(f"fd00:0:0:{network}::{host}")


@st.composite
def snapshots(draw: st.DrawFn) -> Snapshot:
    """A small cluster seen from node 1: networks 0 (ingress) to 2 (dual stack), tasks anywhere.

    The ingress network is dual stack in some.
    """
    dual = draw(st.sampled_from(((2,), (0, 2))))
    networks = {
        NetworkId(f"net{n:022d}"[::-1]): Network(
            NetworkId(f"net{n:022d}"[::-1]),
            f"net{n}",
            Vni(4096 + n),
            IPv4Network(f"10.0.{n}.0/24"),
            _address(n, 1),
            ingress=n == 0,
            subnets6=(IPv6Network(f"fd00:0:0:{n}::/64"),) if n in dual else (),
        )
        for n in range(draw(st.integers(0, 3)))
    }
    names = list(networks)
    nodes = {
        NodeId(f"node{n}"): Node(
            NodeId(f"node{n}"),
            f"h{n}",
            IPv4Address(f"192.168.0.{n}"),
            draw(st.sampled_from((1500, 1400))),
            _address(0, 200 + n) if draw(st.booleans()) else None,
        )
        for n in range(1, draw(st.integers(2, 4)))
    }
    nodes = {
        key: replace(node, ingress_address6=_address6(0, int(str(key).removeprefix("node"))))
        if node.ingress_address is not None and 0 in dual
        else node
        for key, node in nodes.items()
    }
    endpoints, sandboxes = {}, {}
    for t in range(2, 2 + draw(st.integers(0, 6))):
        on = draw(st.lists(st.sampled_from(names), unique=True)) if names else []
        on.sort(key=names.index)
        where = draw(st.sampled_from(list(nodes)))
        way_out = draw(st.booleans())
        kept = "".join(str(names.index(n)) for n in on)  # a task keeps its networks for life
        changes = draw(st.booleans())  # another container its interfaces' names
        numbers = (*(names.index(n) for n in on), 9) if changes else ()
        task = TaskId((f"{t}y" if changes else f"{t}x{kept}x{way_out:d}").ljust(25, "0"))
        addresses = {network: _address(names.index(network), t) for network in on}
        addresses6 = {
            network: _address6(names.index(network), 0x100 + t)
            for network in on
            if networks[network].subnets6
        }
        endpoints[task] = Endpoint(
            task, f"web.{t}", where, ServiceId("web"), addresses, addresses6=addresses6
        )
        if where == "node1":
            sandboxes[task] = Sandbox(
                task,
                f"/containers/{task}",
                tuple((network, IPv4Interface(f"{addresses[network]}/24")) for network in on),
                IPv4Interface(f"172.18.0.{t + 1}/16") if way_out else None,
                (PublishedPort("udp", 53, 5353), PublishedPort("tcp", 80, 8080)),
                numbers=numbers,
                networks6=tuple(
                    (network, IPv6Interface((address, 64)))
                    for network, address in addresses6.items()
                ),
            )
    return Snapshot(1, NodeId("node1"), nodes, networks, {}, endpoints, sandboxes, BRIDGE)


def kernel_for(*seen: Snapshot) -> Kernel:
    return Kernel({box.netns for snapshot in seen for box in snapshot.sandboxes.values()})


@given(snapshots())
def test_after_the_changes_nothing_is_left_to_do(snapshot: Snapshot):
    kernel = kernel_for(snapshot)
    for changes in kernel.todo(snapshot):
        kernel.make(changes)
    assert list(kernel.todo(snapshot)) == [[], []]


@given(snapshots(), snapshots())
def test_any_state_becomes_any_other(old: Snapshot, new: Snapshot):
    kernel = kernel_for(old, new)
    for snapshot in (old, new):
        for changes in kernel.todo(snapshot):
            kernel.make(changes)
    assert list(kernel.todo(new)) == [[], []]
    fresh = kernel_for(new)
    for changes in fresh.todo(new):
        fresh.make(changes)
    for path, state in fresh.netns.items():  # where it came from leaves no trace
        reached = kernel.netns[path]
        assert reached.links.keys() == state.links.keys()
        assert reached.addresses - LOOPBACK6 == state.addresses - LOOPBACK6
        assert reached.neighbours == state.neighbours
        assert reached.fdb == state.fdb
    made = {str(DIR / overlay.netns_name(n)) for n in new.networks if _is_used(new, n)}
    assert kernel.made == made


def _is_used(snapshot: Snapshot, network: NetworkId) -> bool:
    on = {n for box in snapshot.sandboxes.values() for n, _ in box.networks}
    return network in on or snapshot.networks[network].ingress


@given(snapshots(), st.randoms(use_true_random=False))
def test_the_order_of_what_is_said_does_not_matter(snapshot: Snapshot, rng: random.Random):
    def shuffled(mapping):
        items = list(mapping.items())
        rng.shuffle(items)
        return dict(items)

    other = replace(
        snapshot,
        nodes=shuffled(snapshot.nodes),
        networks=shuffled(snapshot.networks),
        endpoints=shuffled(snapshot.endpoints),
        sandboxes=shuffled(snapshot.sandboxes),
    )
    kernel = kernel_for(snapshot)
    assert list(kernel.todo(snapshot)) == list(kernel.todo(other))


@given(snapshots(), snapshots())
def test_nothing_is_lost_before_the_snapshot_is_complete(old: Snapshot, new: Snapshot):
    kernel = kernel_for(old, new)
    for changes in kernel.todo(old):
        kernel.make(changes)
    less = replace(old, sandboxes={}, endpoints={}, networks={}, gwbridge=None)
    for changes in kernel.todo(less, prune=False):
        assert not [c for c in changes if type(c).__name__.startswith("Del")]


def _bent(link: Link, data: st.DataObject) -> Link:
    """A port as somebody set it."""
    port = st.sampled_from(
        [None, Port(isolated=True), Port(forwarding=False), Port(learning=False)]
    )
    return replace(
        link,
        port=data.draw(port),
        qdisc=data.draw(st.sampled_from(["", NO_QDISC, DOWN_QDISC, "tbf"])),
    )


@given(snapshots(), st.data())
def test_whatever_makes_a_container_s_namespace_work_comes_back(snapshot: Snapshot, data):
    kernel = kernel_for(snapshot)
    for changes in kernel.todo(snapshot):
        kernel.make(changes)
    whole = dict(kernel.netns)
    bent_links: dict[tuple[str | None, str], Link] = {}
    for path, state in whole.items():
        down = {n: replace(k, up=False) for n, k in state.links.items() if data.draw(st.booleans())}
        bent = {n: replace(k, mtu=1280) for n, k in state.links.items() if data.draw(st.booleans())}
        links = {**state.links, **bent, **down}
        links = {n: _bent(k, data) if n in state.masters else k for n, k in links.items()}
        bent_links |= {(path, name): link for name, link in links.items()}
        kernel.netns[path] = replace(
            state,
            links=links,
            routes=frozenset(
                r for r in state.routes if links[r.name].up and data.draw(st.booleans())
            ),
            rules=frozenset(r for r in state.rules if data.draw(st.booleans())),
            addresses=frozenset(a for a in state.addresses if data.draw(st.booleans())),
            sysctls={k: v for k, v in state.sysctls.items() if data.draw(st.booleans())},
        )
    for changes in kernel.todo(snapshot):
        kernel.make(changes)
    assert list(kernel.todo(snapshot)) == [[], []]
    for path, state in whole.items():
        ours = [name for name in state.links if name not in {"lo", BRIDGE.name}]
        reached = kernel.netns[path]
        assert all(reached.links[name].mtu == state.links[name].mtu for name in ours)
        assert all(reached.links[name].up for name in [*ours, *({"lo"} & state.links.keys())])
        for name, master in state.masters.items():
            link = reached.links[name]
            assert link.port in {None, Port(learning=link.kind != "vxlan")}
            if master == BRIDGE.name:
                assert link.qdisc == bent_links[path, name].qdisc, "a host's is its own"
            else:
                assert link.qdisc != "tbf"
        assert reached.addresses >= state.addresses
        assert reached.routes >= state.routes
        assert reached.rules >= state.rules
        assert reached.sysctls == state.sysctls


@given(snapshots(), st.data())
def test_a_namespace_that_cannot_be_read_is_said_and_left_alone(snapshot: Snapshot, data):
    kernel = kernel_for(snapshot)
    wanted = overlay.desired(snapshot, DIR)
    broken = data.draw(st.sampled_from(sorted(filter(None, wanted.specs)) or [str(DIR / "mn-x")]))
    error = KernelError("dump", broken, 5)
    there = {path: state for path, state in kernel.netns.items() if path != broken}
    changes = plan(wanted, Observed(there, kernel.made, {broken: error}), prune=True)
    assert changes[-1] == ch.Unreadable(broken, error)
    for change in changes[:-1]:
        touched = {getattr(change, where, "") for where in ("path", "netns", "peer_netns")}
        assert broken not in touched
    others = {s.netns for s in snapshot.sandboxes.values() if s.networks} - {broken}
    wired = {c.peer_netns for c in changes if isinstance(c, ch.AddVeth)}
    if snapshot.self_id in snapshot.nodes and not broken.startswith(str(DIR)):
        assert others <= wired, "the rest goes on"


@given(snapshots(), st.booleans())
def test_a_network_of_an_earlier_life_is_no_obstacle(snapshot: Snapshot, prune: bool):  # noqa: FBT001
    kernel = kernel_for(snapshot)
    earlier = {
        NetworkId(f"old{key}"[:25]): replace(network, id=NetworkId(f"old{key}"[:25]))
        for key, network in snapshot.networks.items()
    }
    moved = {
        task: replace(box, networks=tuple((NetworkId(f"old{n}"[:25]), a) for n, a in box.networks))
        for task, box in snapshot.sandboxes.items()
    }
    for changes in kernel.todo(replace(snapshot, networks=earlier, sandboxes=moved)):
        kernel.make(changes)
    for changes in kernel.todo(snapshot, prune=prune):
        kernel.make(changes)
    assert list(kernel.todo(snapshot, prune=prune)) == [[], []]


@given(snapshots())
def test_a_container_that_ended_is_passed_over(snapshot: Snapshot):
    kernel = Kernel(set())
    for changes in kernel.todo(snapshot):
        kernel.make(changes)
    assert list(kernel.todo(snapshot)) == [[], []]


def test_a_remote_endpoint_is_reached_through_its_node():
    network = NetworkId("n" * 25)
    here, there, task = NodeId("node1"), NodeId("node2"), TaskId("t" * 25)
    snapshot = Snapshot(
        1,
        here,
        {
            here: Node(here, "h1", IPv4Address("192.168.0.1")),
            there: Node(there, "h2", IPv4Address("192.168.0.2"), underlay_mtu=1400),
        },
        {
            network: Network(
                network, "ingress", Vni(4096), IPv4Network("10.0.0.0/24"), _address(0, 1),
                ingress=True,
            )
        },
        {},
        {task: Endpoint(task, "web.1", there, None, {network: _address(0, 9)})},
    )  # fmt: skip
    spec = overlay.desired(snapshot, DIR).specs[str(DIR / overlay.netns_name(network))]
    mac = mac_of(_address(0, 9))
    assert spec.fdb == {("vx0", mac, IPv4Address("192.168.0.2")), ("vx0", mac, None)}
    assert spec.neighbours == {("vx0", _address(0, 9), mac)}
    assert (spec.vxlans["vx0"].mtu, spec.vxlans["vx0"].vxlan.port) == (1350, 4789)
    moved = overlay.desired(replace(snapshot, vxlan_port=7777), DIR)
    assert moved.specs[str(DIR / overlay.netns_name(network))].vxlans["vx0"].vxlan.port == 7777


@pytest.mark.parametrize(("mtu", "dual"), [(1280, True), (1279, False)])
def test_an_overlay_that_is_too_narrow_has_no_ipv6_and_goes_on_without(mtu: int, dual: bool):  # noqa: FBT001
    net, here, task = NetworkId("n" * 25), NodeId("node1"), TaskId("t" * 25)
    space = IPv6Network("fd00:0:0:2::/64")
    network = Network(
        net, "n", Vni(4097), IPv4Network("10.0.2.0/24"), _address(2, 1), mtu=mtu, subnets6=(space,)
    )
    box = Sandbox(
        task, "/containers/t", ((net, IPv4Interface("10.0.2.9/24")),), None,
        networks6=((net, IPv6Interface("fd00:0:0:2::9/64")),),
    )  # fmt: skip
    nodes = {here: Node(here, "h1", IPv4Address("192.168.0.1"))}
    snapshot = Snapshot(1, here, nodes, {net: network}, sandboxes={task: box})
    specs = overlay.desired(snapshot, DIR).specs
    assert specs[box.netns].dual is specs[str(DIR / overlay.netns_name(net))].dual is dual
    own = {address for name, address in specs[box.netns].addresses if name == "eth0"}
    assert own == {IPv4Interface("10.0.2.9/24"), *([box.networks6[0][1]] if dual else [])}


def test_a_subnet_that_a_route_covers_conflicts():
    routes = [(IPv4Network("192.168.0.0/24"), "eth0"), (IPv4Network("10.0.0.0/8"), "tun0")]
    assert conflicting_route(IPv4Network("10.0.9.0/24"), routes) == routes[1]
    assert conflicting_route(IPv4Network("172.20.0.0/16"), routes) is None


def test_a_namespace_that_cannot_be_read_is_left_alone():
    path = "/run/netns/mn-app"
    wanted = Desired({path: NetnsSpec(made=True, bridges={"br0": 1450})})
    unreadable = Observed({}, frozenset({path}), {path: KernelError("dump", path, 16)})
    (said,) = plan(wanted, unreadable, prune=True)
    assert isinstance(said, ch.Unreadable)
    assert plan(wanted, Observed({}, frozenset({path})), prune=True) != []


@pytest.mark.parametrize(("found", "written"), [(None, False), ("0", True), ("1", False)])
def test_a_setting_that_a_kernel_may_not_have_is_made_where_it_is_there(found, written):
    spec = NetnsSpec(sysctls={"a/b": "1"}, if_there=frozenset({"a/b"}))
    there = Observed({None: NetnsState(sysctls={"a/b": found})})
    changes = plan(Desired({None: spec}), there, prune=True)
    assert changes == ([ch.SetSysctl(None, "a/b", "1")] if written else [])


def test_a_link_that_hears_routers_is_told_to_go_on_before_packets_are_forwarded():
    spec = NetnsSpec(
        sysctls={"ipv6/conf/all/forwarding": "1"}, exact=frozenset({"x"}), dual=True, advised=True
    )
    state = NetnsState(deaf=frozenset({"eth0"}), sysctls={"ipv6/conf/all/forwarding": "0"})
    first, second = plan(Desired({None: spec}), Observed({None: state}), prune=False)
    assert first == ch.SetSysctl(None, "ipv6/conf/eth0/accept_ra", "2")
    assert second == ch.SetSysctl(None, "ipv6/conf/all/forwarding", "1")
    others = Desired({None: replace(spec, advised=False)})
    assert plan(others, Observed({None: state}), prune=False) == [second]


def test_answers_to_datagrams_of_the_mesh_find_their_way_by_the_port_they_come_from():
    """And nothing else does: a container has no default route of IPv6."""
    mesh, here, task = NetworkId("m" * 25), NodeId("node1"), TaskId("t" * 25)
    network = Network(
        mesh, "ingress", Vni(4096), IPv4Network("10.0.0.0/24"), _address(0, 1),
        ingress=True, subnets6=(IPv6Network("fd00::/64"),),
    )  # fmt: skip
    ports = (
        PublishedPort("udp", 53, 5353), PublishedPort("sctp", 9, 99), PublishedPort("tcp", 80, 80),
        PublishedPort("udp", 54, 54, "host"),
    )  # fmt: skip
    box = Sandbox(
        task, "/containers/t", ((mesh, IPv4Interface("10.0.0.9/24")),), None, ports,
        networks6=((mesh, IPv6Interface("fd00::9/64")),),
    )  # fmt: skip
    nodes = {here: Node(here, "h1", IPv4Address("192.168.0.1"))}
    snapshot = Snapshot(1, here, nodes, {mesh: network}, sandboxes={task: box})
    spec = overlay.desired(snapshot, DIR).specs[box.netns]
    second = {rule for rule in spec.rules if rule.family == 6}
    assert {rule.answers for rule in second} == {None, (17, 53), (132, 9)}
    by_port = {rule for rule in second if rule.answers is not None}
    marked = {rule for rule in second if rule.mark}
    assert {rule.table for rule in by_port | marked} == {100}
    assert max(each.priority for each in second - by_port) < min(r.priority for r in by_port)
    assert all(route.table == 100 for route in spec.routes if not route.destination.prefixlen)
    alone = replace(snapshot, sandboxes={task: replace(box, networks6=())})
    plain = overlay.desired(alone, DIR).specs[box.netns]
    assert {rule.family for rule in plain.rules} == {4}
