"""What networks, nodes, services and tasks are given: as Swarm numbers it, nothing twice."""

from __future__ import annotations

import random
from collections.abc import Sequence
from ipaddress import IPv4Interface, IPv4Network

import pytest
from hypothesis import given
from hypothesis import strategies as st
from known_addresses import Known

from meshnet_control.agent import task_networks
from meshnet_control.api import control_pb2 as pb
from meshnet_control.cluster import vxlan_ids
from meshnet_control.dataplane import claims
from meshnet_control.dataplane.snapshot import network_of
from meshnet_control.orchestrate import allocate, ports
from meshnet_control.orchestrate.addresses import (
    NO_ADDRESS,
    NO_VIP,
    Addresses,
    number_of,
    subnet_for,
)
from meshnet_control.orchestrate.store_view import Delete, Put, StoreView, changed

NOW = 1_700_000_000.0
RNG = random.Random(1)


def network(name: str, subnet: str = "", *, born: int = 0, ingress: bool = False) -> pb.Network:
    made = pb.Network(id=name)
    made.created_at.seconds = born
    made.spec.name, made.spec.ingress = name, ingress
    if subnet:
        made.spec.ipam_options.configs.add(subnet=subnet)
    return made


def service(name: str, *on: str, published: Sequence[tuple[int, int]] = ()) -> pb.Service:
    made = pb.Service(id=name, spec_version=1)
    made.spec.name = name
    for target in on:
        made.spec.task_template.networks.add(target=target, aliases=[f"{name}-alias"])
    for target_port, number in published:
        made.spec.endpoint_spec.ports.add(target_port=target_port, published_port=number)
    made.spec.endpoint_spec.mode = "vip"
    return made


def task(of: pb.Service, slot: int) -> pb.Task:
    made = pb.Task(id=f"{of.id}-{slot}", service_id=of.id, slot=slot)
    made.spec.CopyFrom(of.spec.task_template)
    made.endpoint_spec.CopyFrom(of.spec.endpoint_spec)
    made.desired_state = pb.TASK_STATE_RUNNING
    return made


def settle(
    *objects: pb.Network | pb.Node | pb.Service | pb.Task | pb.Cluster | StoreView,
) -> StoreView:
    view = StoreView()
    for item in objects:
        if isinstance(item, StoreView):
            view = item
    view = view.apply(Put(item) for item in objects if not isinstance(item, StoreView))
    view = view.apply(allocate.step(view, NOW, RNG).writes)
    assert allocate.step(view, NOW, RNG).writes == ()
    return view


def vips(of: pb.Service) -> list[tuple[str, str]]:
    return [(vip.network_id, vip.addr) for vip in of.endpoint.virtual_ips]


def addresses(of: pb.Task) -> list[tuple[str, str]]:
    return [(a.network.id, a.addresses[0]) for a in of.networks_attachments]


def test_networks_are_numbered_as_swarm_numbers_them() -> None:
    ingress = allocate.ingress_network(RNG)
    cluster = pb.Cluster(id="c")
    view = settle(cluster, network("b", born=2), network("a", born=1), ingress)
    given_to = {
        n.spec.name: (n.ipam_options.configs[0].subnet, n.vni) for n in view.networks.values()
    }
    assert given_to == {
        "ingress": ("10.0.0.0/24", 4096),
        "a": ("10.0.1.0/24", 4097),
        "b": ("10.0.2.0/24", 4098),
    }
    assert view.cluster is not None
    assert view.cluster.last_vni == 4098
    seen = network_of(view.networks["a"])
    assert seen is not None
    assert (str(seen.gateway), seen.vni) == ("10.0.1.1", 4097)
    assert view.networks["a"].driver_state.options[vxlan_ids.OPTION] == "4097"


def test_an_explicit_subnet_is_kept_and_stepped_over() -> None:
    view = settle(
        network("ingress", ingress=True),
        network("mine", "10.0.1.0/24", born=1),
        network("other", "10.0.9.0/24", born=2),
        network("next", born=3),
    )
    subnets = {n.id: n.ipam_options.configs[0].subnet for n in view.networks.values()}
    assert subnets["mine"] == "10.0.1.0/24"
    assert subnets["next"] == "10.0.2.0/24"


def test_a_vni_is_not_given_twice_even_after_removal() -> None:
    view = settle(pb.Cluster(id="c"), network("i", ingress=True), network("a", born=1))
    view = view.apply([Delete(pb.Network, "a")])
    view = settle(view, network("b", born=2))
    assert view.networks["b"].vni == 4098


def test_first_service_gets_dot_two_and_tasks_follow() -> None:
    web = service("web", "net")
    view = settle(
        network("i", ingress=True), network("net", born=1), web, task(web, 1), task(web, 2)
    )
    assert vips(view.services["web"]) == [("net", "10.0.1.2/24")]
    assert addresses(view.tasks["web-1"]) == [("net", "10.0.1.3/24")]
    assert addresses(view.tasks["web-2"]) == [("net", "10.0.1.4/24")]
    ready = view.tasks["web-1"]
    assert ready.status.state == pb.TASK_STATE_PENDING
    assert ready.status.message == "pending task scheduling"
    assert list(ready.networks_attachments[0].aliases) == ["web-alias"]
    assert ready.networks_attachments[0].network == view.networks["net"]


def test_ingress_comes_first_and_nodes_have_addresses_on_it() -> None:
    web = service("web", "net", published=[(80, 8080)])
    view = settle(
        network("i", ingress=True),
        network("net", born=1),
        web,
        task(web, 1),
        pb.Node(id="n1"),
        pb.Node(id="n2"),
    )
    assert vips(view.services["web"]) == [("i", "10.0.0.2/24"), ("net", "10.0.1.2/24")]
    assert [key for key, _ in addresses(view.tasks["web-1"])] == ["i", "net"]
    assert [view.nodes[n].ingress_address for n in ("n1", "n2")] == ["10.0.0.3/24", "10.0.0.4/24"]


def test_vip_stays_when_a_port_is_added_and_goes_with_its_network() -> None:
    web = service("web", "a")
    view = settle(network("i", ingress=True), network("a", born=1), network("b", born=2), web)
    before = dict(vips(view.services["web"]))
    new = pb.Service()
    new.CopyFrom(view.services["web"])
    new.spec.endpoint_spec.ports.add(target_port=80)
    new.spec.task_template.networks.add(target="b")
    view = settle(view, new)
    after = dict(vips(view.services["web"]))
    assert after["a"] == before["a"]
    assert list(after) == ["i", "a", "b"]
    assert view.services["web"].endpoint.ports[0].published_port == 30000
    gone = pb.Service()
    gone.CopyFrom(view.services["web"])
    del gone.spec.task_template.networks[0]
    del gone.spec.endpoint_spec.ports[:]
    view = settle(view, gone)
    assert vips(view.services["web"]) == [("b", after["b"])]


def test_dnsrr_has_no_vip() -> None:
    web = service("web", "net")
    web.spec.endpoint_spec.mode = "dnsrr"
    view = settle(network("net"), web, task(web, 1))
    assert vips(view.services["web"]) == []
    assert addresses(view.tasks["web-1"]) == [("net", "10.0.0.2/24")]


def test_exhaustion_is_said_in_the_task_and_ends_when_an_address_is_free() -> None:
    web = service("web", "net")
    tasks = [task(web, slot) for slot in range(1, 8)]  # /29: 8 - net, gw, bcast, VIP = 4
    view = settle(network("net", "10.9.0.0/29"), web, *tasks)
    states = [view.tasks[t.id].status for t in tasks]
    assert [s.state for s in states] == [pb.TASK_STATE_PENDING] * 4 + [pb.TASK_STATE_NEW] * 3
    assert states[-1].err == NO_ADDRESS
    dead = pb.Task()
    dead.CopyFrom(view.tasks["web-1"])
    dead.status.state = pb.TASK_STATE_FAILED
    view = settle(view, dead)
    assert view.tasks["web-5"].status.state == pb.TASK_STATE_PENDING
    assert addresses(view.tasks["web-5"]) == addresses(dead)
    assert view.tasks["web-5"].status.err == ""


@pytest.mark.parametrize("later", [NOW + 60, NOW, NOW - 3600])
def test_who_waited_for_an_address_is_said_to_have_it_since_it_was_given(later: float) -> None:
    """Though the task that waited is older than the one that had it, and a clock went back."""
    web = service("web", "net")
    tasks = [task(web, slot) for slot in range(1, 6)]
    view = settle(network("net", "10.9.0.0/29"), web, *tasks)
    dead = pb.Task()
    dead.CopyFrom(view.tasks["web-1"])
    dead.created_at.FromSeconds(int(NOW) + 7200)
    dead.status.state = pb.TASK_STATE_FAILED
    view = view.apply([Put(dead)])
    view = view.apply(allocate.step(view, later, RNG).writes)
    after = view.tasks["web-5"]
    assert addresses(after) == addresses(dead)
    ends = [
        task_networks.endpoint_of(each, "n1", "", hostname="", ready=True) for each in (dead, after)
    ]
    owners = claims.settled({each.task: each for each in ends}, ())
    assert owners[ends[0].task].addresses == {}
    assert owners[ends[1].task].addresses != {}


def test_no_room_for_a_vip() -> None:
    one, two, three = (service(name, "net") for name in ("one", "two", "xthree"))
    view = settle(network("net", "10.9.0.0/30"), one, two, three, task(two, 1))
    assert vips(view.services["two"]) == []
    assert view.tasks["two-1"].status.err == NO_VIP


def test_an_address_is_not_reused_at_once() -> None:
    config = pb.IPAMConfig(subnet="10.0.1.0/24", gateway="10.0.1.1")
    assert (
        Addresses(config, Known([number_of("10.0.1.2/24")], [number_of("10.0.1.3/24")])).take()
        == "10.0.1.4/24"
    )
    assert (
        Addresses(config, Known([number_of("10.0.1.254/24")], [number_of("10.0.1.2/24")])).take()
        == "10.0.1.3/24"
    )


def test_addresses_go_round_the_subnet_before_any_comes_again() -> None:
    config = pb.IPAMConfig(subnet="10.0.1.0/29", gateway="10.0.1.1")
    free = Addresses(config, Known([number_of("10.0.1.4/29")]))
    assert [free.take() for _ in range(5)] == [
        "10.0.1.5/29", "10.0.1.6/29", "10.0.1.2/29", "10.0.1.3/29", None,
    ]  # fmt: skip


def test_dynamic_ports_are_sticky_and_step_over_taken_ones() -> None:
    view = settle(
        network("i", ingress=True), service("a", published=[(80, 0), (81, 0), (82, 30001)])
    )
    assert [p.published_port for p in view.services["a"].endpoint.ports] == [30000, 30002, 30001]
    view = settle(view, service("b", published=[(80, 0)]))
    assert view.services["b"].endpoint.ports[0].published_port == 30003
    new = pb.Service()
    new.CopyFrom(view.services["a"])
    del new.spec.endpoint_spec.ports[0]
    view = settle(view, new)
    assert [p.published_port for p in view.services["a"].endpoint.ports] == [30002, 30001]


def test_host_mode_ports_need_no_ingress() -> None:
    web = service("web", published=[(80, 0)])
    web.spec.endpoint_spec.ports[0].publish_mode = "host"
    view = settle(network("i", ingress=True), web, task(web, 1))
    assert view.services["web"].endpoint.ports[0].published_port == 0
    assert vips(view.services["web"]) == addresses(view.tasks["web-1"]) == []
    assert view.tasks["web-1"].status.state == pb.TASK_STATE_PENDING


@pytest.mark.parametrize(
    ("pools", "size", "taken", "expected"),
    [
        ([], 0, [], "10.0.0.0/24"),
        (["10.7.0.0/16"], 20, [], "10.7.0.0/20"),
        (["10.7.0.0/24"], 24, ["10.0.0.0/8"], None),
        (["10.7.0.0/24", "10.8.0.0/24"], 24, ["10.7.0.0/16"], "10.8.0.0/24"),
    ],
)
def test_subnet_for(pools: list[str], size: int, taken: list[str], expected: str | None) -> None:
    cluster = pb.Cluster(default_addr_pool=pools, subnet_size=size)
    networks = [network(f"n{i}", subnet) for i, subnet in enumerate(taken)]
    found = subnet_for(cluster, networks)
    assert (None if found is None else str(found)) == expected


@pytest.mark.parametrize(
    ("pools", "taken", "routes", "expected"),
    [
        ([], [], ["10.0.0.0/23"], "10.0.2.0/24"),
        ([], ["10.0.0.0/24"], ["10.0.1.128/25"], "10.0.2.0/24"),
        (["10.7.0.0/23"], ["10.7.0.0/24"], ["10.0.0.0/8"], "10.7.1.0/24"),
        (["10.7.0.0/24"], ["10.7.0.0/24"], [], None),
    ],
    ids=["behind a route", "behind networks too", "no way but over one", "none left"],
)
def test_a_subnet_keeps_clear_of_the_nodes_routes(
    pools: list[str], taken: list[str], routes: list[str], expected: str | None
) -> None:
    networks = [network(f"n{i}", subnet) for i, subnet in enumerate(taken)]
    cluster = pb.Cluster(default_addr_pool=pools)
    found = subnet_for(cluster, networks, [IPv4Network(route) for route in routes])
    assert (None if found is None else str(found)) == expected


def test_a_network_is_given_a_subnet_that_no_node_has_a_route_for() -> None:
    one = pb.Node(id="n1")
    one.description.routes.add(destination="10.0.0.0/24", link="vpn0")
    view = settle(one, network("a"))
    assert view.networks["a"].ipam_options.configs[0].subnet == "10.0.1.0/24"


@given(
    st.lists(
        st.tuples(
            st.lists(st.sampled_from(["n0", "n1", "n2"]), unique=True, max_size=3),
            st.booleans(),
            st.integers(0, 4),
        ),
        max_size=6,
    ),
    st.integers(0, 3),
    st.randoms(use_true_random=False),
)
def test_nothing_is_given_twice(
    wanted: list[tuple[list[str], bool, int]], nodes: int, shuffle: random.Random
) -> None:
    objects: list[pb.Network | pb.Service | pb.Task | pb.Node] = [
        network("i", ingress=True),
        network("n0", "10.0.0.0/28"),
        network("n1"),
        network("n2"),
        *(pb.Node(id=f"node{i}") for i in range(nodes)),
    ]
    for i, (on, publishes, replicas) in enumerate(wanted):
        made = service(f"s{i}", *on, published=[(80, 0), (81, 0)] if publishes else ())
        objects += [made, *(task(made, slot) for slot in range(1, replicas + 1))]
    ordered = settle(*objects)
    shuffle.shuffle(objects)
    view = settle(*objects)
    assert view.tasks == ordered.tasks
    assert view.services == ordered.services

    subnets = [IPv4Network(n.ipam_options.configs[0].subnet) for n in view.networks.values()]
    assert not any(a.overlaps(b) for i, a in enumerate(subnets) for b in subnets[:i])
    assert len({n.vni for n in view.networks.values()}) == len(view.networks)
    held = [node.ingress_address for node in view.nodes.values()]
    held += [vip.addr for s in view.services.values() for vip in s.endpoint.virtual_ips]
    held += [a for t in view.tasks.values() for n in t.networks_attachments for a in n.addresses]
    assert len(held) == len(set(held))
    gateways = {str(subnet[1]) for subnet in subnets}
    assert not any(str(IPv4Interface(address).ip) in gateways for address in held)
    published = [p.published_port for s in view.services.values() for p in s.endpoint.ports]
    assert len(published) == len(set(published))
    assert all(ports.FIRST_DYNAMIC <= number <= ports.LAST_DYNAMIC for number in published)


def test_a_task_on_a_network_of_its_engine_needs_nothing_of_ours() -> None:
    web = service("web", "host")
    view = settle(pb.Cluster(id="c"), web, task(web, 1))
    assert vips(view.services["web"]) == []
    made = view.tasks["web-1"]
    assert made.status.state == pb.TASK_STATE_PENDING
    assert [
        (a.network.driver_state.name, list(a.addresses)) for a in made.networks_attachments
    ] == [("host", [])]


def full_network(state: pb.TaskState, node_state: str | None) -> tuple[str, str]:
    """Who holds the only address of a task, and what the one after it is given.

    Args:
        state: of the first task.
        node_state: of its node; None: it is not in the cluster.
    """
    web = service("web", "net")
    web.spec.endpoint_spec.mode = "dnsrr"
    first = task(web, 1)
    first.node_id = "n1"
    view = settle(network("net", "10.9.0.0/30"), web, first)  # .1 is the gateway's, .2 a task's
    first = changed(view.tasks[first.id])
    [(_, held)] = addresses(first)
    first.status.state = state
    nodes = [] if node_state is None else [pb.Node(id="n1", status={"state": node_state})]
    view = settle(view.apply([Put(first), *map(Put, nodes)]), task(web, 2))
    second = view.tasks["web-2"]
    given_to_it = addresses(second)
    return held, given_to_it[0][1] if given_to_it else second.status.err


@pytest.mark.parametrize(
    ("state", "node_state"),
    [
        (pb.TASK_STATE_ASSIGNED, "ready"),
        (pb.TASK_STATE_RUNNING, "ready"),
        (pb.TASK_STATE_RUNNING, "unknown"),
        (pb.TASK_STATE_RUNNING, "down"),
        (pb.TASK_STATE_ORPHANED, "down"),
    ],
)
def test_an_address_that_may_be_in_use_is_given_to_nobody_though_the_pool_is_full(
    state: pb.TaskState, node_state: str
) -> None:
    _, given_to_next = full_network(state, node_state)
    assert given_to_next == NO_ADDRESS


@pytest.mark.parametrize(
    ("state", "node_state"),
    [
        (pb.TASK_STATE_SHUTDOWN, "ready"),
        (pb.TASK_STATE_FAILED, "down"),
        (pb.TASK_STATE_ORPHANED, "ready"),
        (pb.TASK_STATE_ORPHANED, None),
    ],
)
def test_an_address_that_is_not_in_use_any_more_is_given_on(
    state: pb.TaskState, node_state: str | None
) -> None:
    held, given_to_next = full_network(state, node_state)
    assert given_to_next == held


def test_a_network_that_nodes_make_for_themselves_gets_nothing_and_gives_nothing() -> None:
    local = network("mv")
    local.spec.driver_configuration.name, local.spec.config_from = "macvlan", "lan"
    web, other = service("web", "mv", "net"), service("other", "mv")
    view = settle(local, network("net"), web, other, task(web, 1), task(other, 1))
    made = view.networks["mv"]
    assert (made.vni, list(made.ipam_options.configs)) == (0, [])
    assert made.driver_state.name == "macvlan"
    assert network_of(made) is None
    assert [key for key, _ in vips(view.services["web"])] == ["net"]
    assert vips(view.services["other"]) == []
    first, second = view.tasks["web-1"], view.tasks["other-1"]
    assert (first.status.state, second.status.state) == (pb.TASK_STATE_PENDING,) * 2
    places = [(each.network.id, list(each.addresses)) for each in first.networks_attachments]
    assert places == [("mv", []), ("net", ["10.0.0.3/24"])]
    assert [list(each.aliases) for each in second.networks_attachments] == [["other-alias"]]
