"""What dual stack networks, their services and tasks are given: of each family, nothing twice."""

from __future__ import annotations

import random
from ipaddress import IPv4Network, IPv6Network, ip_interface

import pytest
from hypothesis import given
from hypothesis import strategies as st
from known_addresses import Known

from meshnet_control.api import control_pb2 as pb
from meshnet_control.orchestrate import allocate, attachments
from meshnet_control.orchestrate.addresses import (
    ADDRESS_TAKEN,
    NO_ADDRESS,
    NO_SUBNET,
    NO_SUBNET6,
    Addresses,
    number_of,
    own_space,
    subnet6_for,
)
from meshnet_control.orchestrate.store_view import Delete, Put, StoreView

NOW, RNG = 1_700_000_000.0, random.Random(1)
CLUSTER = pb.Cluster(id="c1")


def dual(name: str, *subnets: str, born: int = 1, **more: str) -> pb.Network:
    made = pb.Network(id=name)
    made.created_at.seconds = born
    made.spec.name, made.spec.ipv6_enabled, made.spec.attachable = name, True, True
    for subnet in subnets:
        made.spec.ipam_options.configs.add(subnet=subnet, **more)
    return made


def service(name: str, *on: str) -> pb.Service:
    made = pb.Service(id=name, spec_version=1)
    made.spec.name, made.spec.endpoint_spec.mode = name, "vip"
    for target in on:
        made.spec.task_template.networks.add(target=target)
    return made


def task(of: pb.Service, slot: int) -> pb.Task:
    made = pb.Task(id=f"{of.id}-{slot}", service_id=of.id, slot=slot)
    made.spec.CopyFrom(of.spec.task_template)
    made.desired_state = pb.TASK_STATE_RUNNING
    return made


def settle(*objects: pb.Network | pb.Node | pb.Service | pb.Task | pb.Cluster | StoreView):
    view = next((each for each in objects if isinstance(each, StoreView)), StoreView())
    view = view.apply(Put(each) for each in objects if not isinstance(each, StoreView))
    view = view.apply(allocate.step(view, NOW, RNG).writes)
    assert allocate.step(view, NOW, RNG).writes == ()
    return view


def vips(of: pb.Service) -> list[str]:
    return [vip.addr for vip in of.endpoint.virtual_ips]


def addresses(of: pb.Task) -> list[list[str]]:
    return [list(a.addresses) for a in of.networks_attachments]


def subnets(of: pb.Network) -> list[str]:
    return [config.subnet for config in of.ipam_options.configs]


def test_a_network_gets_a_subnet_of_each_family_and_its_users_an_address_of_each() -> None:
    web, plain = service("web", "net", "old"), pb.Network(id="old")
    plain.created_at.seconds = 2
    view = settle(CLUSTER, dual("net"), plain, web, task(web, 1), task(web, 2))
    space = own_space("c1")
    prefix = str(space).removesuffix("::/48")
    assert subnets(view.networks["net"]) == ["10.0.0.0/24", f"{space[0]}/64"]
    assert [c.gateway for c in view.networks["net"].ipam_options.configs] == [
        "10.0.0.1", f"{prefix}::1",
    ]  # fmt: skip
    assert subnets(view.networks["old"]) == ["10.0.1.0/24"], "without --ipv6 as ever"
    assert vips(view.services["web"]) == ["10.0.0.2/24", f"{prefix}::2/64", "10.0.1.2/24"]
    assert addresses(view.tasks["web-1"]) == [
        ["10.0.0.3/24", f"{prefix}::3/64"],
        ["10.0.1.3/24"],
    ]
    assert addresses(view.tasks["web-2"])[0][1] == f"{prefix}::4/64"


def test_a_cluster_has_a_48_of_its_own_and_gives_each_network_another_64() -> None:
    space = own_space("c1")
    assert space.prefixlen == 48
    assert space.subnet_of(IPv6Network("fd00::/8"))
    assert not space.overlaps(own_space("c2"))
    view = settle(
        CLUSTER, dual("a"), dual("b", born=2), dual("c", str(space[1 << 65]) + "/64", born=3)
    )
    view = settle(view, dual("d", born=4))
    found = [IPv6Network(subnets(view.networks[name])[1]) for name in "abcd"]
    assert len(set(found)) == 4
    assert all(net.subnet_of(space) and net.prefixlen == 64 for net in found)
    everything = pb.Network(id="all")
    everything.ipam_options.configs.add(subnet=str(space))
    assert subnet6_for(CLUSTER, [everything]) is None


def test_subnets_that_were_chosen_are_kept_with_ipv4_first() -> None:
    view = settle(
        CLUSTER,
        dual("both", "fd00:7::/64", "10.7.0.0/24"),
        dual("one", "fd00:8::/64", born=2),
        dual("other", "10.9.0.0/24", born=3),
    )
    assert subnets(view.networks["both"]) == ["10.7.0.0/24", "fd00:7::/64"]
    assert subnets(view.networks["one"]) == ["10.0.0.0/24", "fd00:8::/64"]
    assert subnets(view.networks["other"])[0] == "10.9.0.0/24"
    assert [c.gateway for c in view.networks["both"].ipam_options.configs] == [
        "10.7.0.1", "fd00:7::1",
    ]  # fmt: skip


@pytest.mark.parametrize("lost", [0, 1])
@pytest.mark.parametrize("chosen", [(), ("10.7.0.0/24", "fd00:7::/64")])
def test_a_network_that_has_one_family_alone_gets_the_other_and_keeps_what_it_has(
    lost: int, chosen: tuple[str, ...]
) -> None:
    view = settle(CLUSTER, dual("net", *chosen), dual("later", born=2))
    whole = view.networks["net"]
    short = pb.Network()
    short.CopyFrom(whole)
    del short.ipam_options.configs[lost]
    web = service("web", "net")
    view = settle(view, short, web, task(web, 1))
    after = view.networks["net"]
    assert (after.vni, after.driver_state) == (whole.vni, whole.driver_state)
    kept, given_now = after.ipam_options.configs[1 - lost], after.ipam_options.configs[lost]
    assert kept == whole.ipam_options.configs[1 - lost]
    if chosen:
        assert given_now == whole.ipam_options.configs[lost]
    assert given_now.subnet not in subnets(view.networks["later"])
    assert len(vips(view.services["web"])) == len(addresses(view.tasks["web-1"])[0]) == 2
    assert view.cluster is not None
    assert view.cluster.last_vni == view.networks["later"].vni


@pytest.mark.parametrize("mode", ["vip", "dnsrr"])
@pytest.mark.parametrize(
    ("taken", "chosen", "said"),
    [
        (["10.7.0.0/24", "fd00::/8"], [], NO_SUBNET6),
        (["10.0.0.0/8", "fd00::/8"], ["11.7.0.0/24"], NO_SUBNET6),
        (["10.0.0.0/8", "fd00:7::/64"], [], NO_SUBNET),
        (["10.0.0.0/8", "fd00::/8"], [], NO_SUBNET),
        (["10.0.0.0/8", "fd00:7::/64"], ["fd00:8::/64"], NO_SUBNET),
    ],
)
def test_of_which_family_there_is_no_subnet_is_said_to_who_waits_for_it(
    taken: list[str], chosen: list[str], said: str, mode: str
) -> None:
    web = service("web", "net")
    web.spec.endpoint_spec.mode = mode
    view = settle(CLUSTER, dual("wide", *taken), dual("net", *chosen, born=2), web, task(web, 1))
    assert subnets(view.networks["net"]) == []
    assert view.tasks["web-1"].status.err == said
    asking = [pb.Attachment(container_id="c" * 64, network_id="net")]
    changes = attachments.changes("n2", asking, [], view.networks, NOW)
    view = settle(view.apply(changes.writes))
    [attached] = [each for name, each in view.tasks.items() if name != "web-1"]
    assert attached.status.err == said
    view = settle(view.apply([Delete(pb.Network, "wide")]))
    assert all(each.status.err == "" for each in view.tasks.values())
    assert len(addresses(view.tasks["web-1"])[0]) == 2


def test_who_gets_no_address_of_one_family_takes_none_of_the_other() -> None:
    web, other = service("web", "room", "small"), service("zz", "room")
    web.spec.endpoint_spec.mode = other.spec.endpoint_spec.mode = "dnsrr"
    first = service("first", "small")
    first.spec.endpoint_spec.mode = "dnsrr"
    small = dual("small", "10.7.0.0/24", "fd00:7::/126")
    view = settle(CLUSTER, small, dual("room", "10.8.0.0/30", born=2), first, task(first, 1))
    assert addresses(view.tasks["first-1"]) == [["10.7.0.2/24", "fd00:7::2/126"]]
    view = settle(view, web, task(web, 1), other, task(other, 1))
    assert view.tasks["web-1"].status.err == NO_ADDRESS
    assert addresses(view.tasks["web-1"]) == []
    assert addresses(view.tasks["zz-1"])[0][0] == "10.8.0.2/30", "the only one that there is"


def test_a_service_that_lacks_its_second_virtual_ip_gets_it_and_keeps_the_first() -> None:
    view = settle(CLUSTER, dual("net", "10.7.0.0/24", "fd00:7::/64"), service("web", "net"))
    short = pb.Service()
    short.CopyFrom(view.services["web"])
    del short.endpoint.virtual_ips[1]
    view = settle(view, short)
    assert vips(view.services["web"]) == ["10.7.0.2/24", "fd00:7::2/64"]


def test_addresses_of_both_families_are_held_and_not_used_again_at_once() -> None:
    web = service("web", "net")
    view = settle(CLUSTER, dual("net", "10.7.0.0/24", "fd00:7::/64"), web, task(web, 1))
    dead = pb.Task()
    dead.CopyFrom(view.tasks["web-1"])
    dead.status.state = pb.TASK_STATE_FAILED
    view = settle(view, dead, task(web, 2))
    assert addresses(view.tasks["web-2"]) == [["10.7.0.4/24", "fd00:7::4/64"]]
    lost = pb.Task()
    lost.CopyFrom(view.tasks["web-2"])
    lost.status.state, lost.node_id = pb.TASK_STATE_ORPHANED, "n1"
    node = pb.Node(id="n1")
    node.status.state = "down"
    view = settle(view.apply([Delete(pb.Task, "web-1")]), lost, node)
    asking = [pb.Attachment(container_id="c" * 64, network_id="net", address6="fd00:7::4")]
    changes = attachments.changes("n2", asking, [], view.networks, NOW)
    view = settle(view.apply(changes.writes))
    [attached] = [each for each in view.tasks.values() if each.id not in {"web-1", "web-2"}]
    assert attached.status.err == ADDRESS_TAKEN, "its node may still run it"


def test_a_container_gets_the_address_that_it_asks_for_of_either_family() -> None:
    view = settle(CLUSTER, dual("net", "10.7.0.0/24", "fd00:7::/64"))
    asked = (("a", "", "fd00:7::99"), ("b", "10.7.0.50", ""), ("c", "10.7.0.60", "fd00:7::60"))
    wanted = [
        pb.Attachment(container_id=name * 64, network_id="net", address=four, address6=six)
        for name, four, six in asked
    ]
    changes = attachments.changes("n1", wanted, [], view.networks, NOW)
    view = settle(view.apply(changes.writes))
    given = sorted(map(str, (addresses(each)[0] for each in view.tasks.values())))
    assert "['10.7.0.60/24', 'fd00:7::60/64']" in given
    assert len([each for each in given if "fd00:7::99/64" in each]) == 1
    assert len([each for each in given if "10.7.0.50/24" in each]) == 1
    outside = pb.Attachment(container_id="d" * 64, network_id="net", address6="fd00:9::1")
    assert "fd00:9::1 is not in the network's subnet" in attachments.refusal(
        outside, view.networks, esp=True
    )
    plain = pb.Network(id="old")
    plain.spec.attachable = True
    plain.ipam_options.configs.add(subnet="10.9.0.0/24")
    outside.network_id = "old"
    assert "is not in the network's subnet" in attachments.refusal(
        outside, {"old": plain}, esp=True
    )


@given(
    st.integers(1, 200),
    st.sampled_from(["fd00:7::/64", "fd00:7::/120", "fd00:7::ff00/121"]),
    st.frozensets(st.integers(1, 100), max_size=20),
)
def test_addresses_of_ipv6_follow_the_rules_of_ipv4(count, subnet, held) -> None:
    """Each once, inside, neither the gateway nor the subnet's own; by the same steps."""
    space = IPv6Network(subnet)
    config = pb.IPAMConfig(subnet=subnet, gateway=str(space[1]))
    known = Known([number_of(f"{space[at]}") for at in held if at < space.num_addresses])
    free = Addresses(config, known)
    found = [each for each in (free.take() for _ in range(count)) if each is not None]
    given_out = [ip_interface(each) for each in found]
    assert len(set(given_out)) == len(given_out)
    assert all(each.network == space for each in given_out)
    none_of = {space[0], space[1], *(space[at] for at in held if at < space.num_addresses)}
    assert none_of.isdisjoint(each.ip for each in given_out)
    if space.prefixlen == 120:
        four = IPv4Network("10.7.0.0/24")
        same = Addresses(
            pb.IPAMConfig(subnet=str(four), gateway=str(four[1])),
            Known([number_of(str(four[at])) for at in held]),
        )
        steps = [same.take() for _ in range(count)]
        assert [int(ip_interface(each).ip) - int(four[0]) for each in steps if each] == [
            int(each.ip) - int(space[0]) for each in given_out
        ]


def ingress(*subnets: str, ipv6: bool = True) -> pb.Network:
    made = dual("i", *subnets, born=0)
    made.spec.ingress, made.spec.ipv6_enabled = True, ipv6
    return made


def own(node: pb.Node) -> tuple[str, str]:
    return node.ingress_address, node.ingress_address6


def test_nodes_have_an_address_of_each_family_on_a_dual_stack_ingress_network() -> None:
    mesh = ingress("10.9.0.0/24", "fd09::/64")
    web = service("web")
    web.spec.endpoint_spec.ports.add(target_port=80, published_port=8080)
    view = settle(CLUSTER, mesh, pb.Node(id="a"), pb.Node(id="b"), web, task(web, 1))
    given_to = [own(view.nodes[name]) for name in ("a", "b")]
    assert [len({*each}) for each in zip(*given_to, strict=True)] == [2, 2]
    taken = [
        *given_to,
        tuple(vips(view.services["web"])),
        *map(tuple, addresses(view.tasks["web-1"])),
    ]
    assert len({address for pair in taken for address in pair}) == 8, "nobody has another's"
    for first, second in taken:
        assert ip_interface(first).network == IPv4Network("10.9.0.0/24")
        assert ip_interface(second).network == IPv6Network("fd09::/64")


def test_what_a_node_has_is_nobody_else_s_whoever_decides_next() -> None:
    node = pb.Node(id="a", ingress_address="10.9.0.2/24", ingress_address6="fd09::2/64")
    web = service("web")
    web.spec.endpoint_spec.ports.add(target_port=80, published_port=8080)
    view = settle(CLUSTER, ingress("10.9.0.0/24", "fd09::/64"), node, web, task(web, 1))
    assert own(view.nodes["a"]) == ("10.9.0.2/24", "fd09::2/64")
    given = [tuple(vips(view.services["web"])), *map(tuple, addresses(view.tasks["web-1"]))]
    assert not {"10.9.0.2/24", "fd09::2/64"} & {address for pair in given for address in pair}


def test_nodes_follow_the_ingress_network_from_one_family_to_both_and_back() -> None:
    node = pb.Node(id="a")
    view = settle(CLUSTER, ingress("10.9.0.0/24", ipv6=False), node)
    assert own(view.nodes["a"]) == ("10.9.0.2/24", "")
    view = settle(view, ingress("10.9.0.0/24", "fd09::/64"))
    assert own(view.nodes["a"]) == ("10.9.0.2/24", "fd09::2/64"), "the first stays"
    view = settle(view.apply([Delete(pb.Network, "i")]), ingress("10.9.0.0/24", "fd08::/64"))
    assert own(view.nodes["a"]) == ("10.9.0.2/24", "fd08::2/64")
    view = settle(view, ingress("10.9.0.0/24", ipv6=False))
    assert own(view.nodes["a"]) == ("10.9.0.2/24", "")
    view = settle(view.apply([Delete(pb.Network, "i")]))
    assert own(view.nodes["a"]) == ("", "")


def test_a_node_that_gets_no_second_address_has_the_first_and_waits() -> None:
    mesh = ingress("10.9.0.0/24", "fd09::/126")
    nodes = [pb.Node(id=name) for name in "abc"]
    view = settle(CLUSTER, mesh, *nodes)
    assert all(view.nodes[each.id].ingress_address for each in nodes)
    assert sum(bool(view.nodes[each.id].ingress_address6) for each in nodes) == 1
    assert len(allocate.step(view, NOW, RNG).lacking) == 2
