"""What a user may ask of a network's addresses and VXLAN id, and what the allocator makes of it."""

from __future__ import annotations

import random
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Interface, IPv4Network

from hypothesis import given
from hypothesis import strategies as st
from known_addresses import Known
from visits import visits

from meshnet_control.api import control_pb2 as pb
from meshnet_control.cluster import vxlan_ids
from meshnet_control.orchestrate import allocate, attachments
from meshnet_control.orchestrate.addresses import NO_ADDRESS, Addresses, Subnets, number_of
from meshnet_control.orchestrate.store_view import Delete, Put, StoreView

RNG = random.Random(1)


def network(name: str, *configs: pb.IPAMConfig, vxlan_id: str = "", born: int = 0) -> pb.Network:
    made = pb.Network(id=name)
    made.created_at.seconds = born
    made.spec.name, made.spec.attachable = name, True
    made.spec.ipam_options.configs.extend(configs)
    if vxlan_id:
        made.spec.driver_configuration.options[vxlan_ids.OPTION] = vxlan_id
    return made


def service(replicas: int, *on: str) -> list[pb.Service | pb.Task]:
    made = pb.Service(id="web", spec_version=1)
    for target in on:
        made.spec.task_template.networks.add(target=target)
    tasks = [
        pb.Task(id=f"web-{slot}", service_id="web", slot=slot, spec=made.spec.task_template)
        for slot in range(1, replicas + 1)
    ]
    for each in tasks:
        each.desired_state = pb.TASK_STATE_RUNNING
    return [made, *tasks]


def settle(view: StoreView, *objects: pb.Network | pb.Node | pb.Service | pb.Task) -> StoreView:
    view = view.apply(map(Put, objects))
    view = view.apply(allocate.step(view, 1.7e9, RNG).writes)
    assert allocate.step(view, 1.7e9, RNG).writes == ()
    return view


def vnis(view: StoreView) -> dict[str, int]:
    return {name: each.vni for name, each in view.networks.items()}


def subnets(*each: str) -> list[pb.IPAMConfig]:
    return [pb.IPAMConfig(subnet=subnet) for subnet in each]


def test_a_network_is_full_when_its_last_subnet_is() -> None:
    both = network("net", *subnets("10.9.0.0/29", "10.8.0.0/30"))
    view = settle(StoreView(), both, *service(6, "net"))
    [vip] = view.services["web"].endpoint.virtual_ips
    given_to = [
        task.networks_attachments[0].addresses[0] if task.networks_attachments else task.status.err
        for _, task in sorted(view.tasks.items())
    ]
    first = [f"10.9.0.{number}/29" for number in range(2, 7)]
    assert [vip.addr, *given_to] == [*first, "10.8.0.2/30", NO_ADDRESS]
    gateways = [config.gateway for config in view.networks["net"].ipam_options.configs]
    assert gateways == ["10.9.0.1", "10.8.0.1"]


def test_nodes_are_in_the_first_subnet_of_an_ingress_network_that_has_several() -> None:
    ingress = network("i", *subnets("10.9.0.0/29", "10.8.0.0/24"))
    ingress.spec.ingress = True
    view = settle(StoreView(), ingress, *(pb.Node(id=f"n{number}") for number in range(6)))
    given_to = [node.ingress_address for _, node in sorted(view.nodes.items())]
    assert given_to == [*(f"10.9.0.{number}/29" for number in range(2, 7)), ""]


Configs = st.sampled_from([
    pb.IPAMConfig(subnet="10.9.0.0/29", gateway="10.9.0.4"),
    pb.IPAMConfig(subnet="10.8.0.0/28", gateway="10.8.0.1", ip_range="10.8.0.4/30"),
    pb.IPAMConfig(
        subnet="10.7.0.0/29", gateway="10.7.0.1", auxiliary_addresses={"router": "10.7.0.2"}
    ),
])  # fmt: skip


@given(
    st.lists(Configs, min_size=1, max_size=3, unique_by=lambda config: config.subnet),
    st.frozensets(st.tuples(st.integers(7, 9), st.integers(0, 7)), max_size=12),
    st.frozensets(st.tuples(st.integers(7, 9), st.integers(0, 7)), max_size=12),
)
def test_what_is_given_is_free_where_it_may_be_and_of_the_dead_at_last(
    configs: Sequence[pb.IPAMConfig],
    held: frozenset[tuple[int, int]],
    dead: frozenset[tuple[int, int]],
) -> None:
    def numbers(of: frozenset[tuple[int, int]]) -> set[int]:
        return {number_of(f"10.{net}.0.{host}") for net, host in of}

    may_be: set[int] = set()
    for config in configs:
        subnet, taken = IPv4Network(config.subnet), [config.gateway]
        space = IPv4Network(config.ip_range or config.subnet)
        taken += [*config.auxiliary_addresses.values()]
        no_host = {int(subnet[0]), int(subnet[-1]), *map(number_of, taken)}
        may_be |= {*map(int, space)} - no_host - numbers(held)
    free = Subnets(configs, Known(numbers(held), numbers(dead)))
    found = []
    while (address := free.take()) is not None:
        interface = IPv4Interface(address)
        assert str(interface.network) in {config.subnet for config in configs}
        found.append(int(interface.ip))
    assert free.exhausted
    assert set(found) == may_be
    assert len(found) == len(may_be)
    worn = [number in numbers(dead) for number in found]
    assert worn == sorted(worn)
    for number in found:
        free.give_back(str(IPv4Address(number)))
    again = [address for _ in found if (address := free.take()) is not None]
    assert {int(IPv4Interface(address).ip) for address in again} == may_be


def test_a_subnet_that_is_full_is_not_walked_through_for_each_address() -> None:
    full, worn = (IPv4Network(subnet) for subnet in ("10.9.0.0/20", "10.8.0.0/28"))
    free = Subnets(subnets(str(full), str(worn)), Known(set(map(int, full)), set(map(int, worn))))
    counted = visits(lambda: [free.take() for _ in range(16)], Addresses._meet)
    assert counted[0] < 3 * full.num_addresses
    assert free.exhausted


def test_a_container_may_ask_for_an_address_of_any_subnet() -> None:
    both = network("net", *subnets("10.9.0.0/29", "10.8.0.0/30"))
    view = settle(StoreView(), both)
    wanted = pb.Attachment(container_id="c", network_id="net", address="10.8.0.2")
    assert attachments.refusal(wanted, view.networks, esp=True) == ""
    assert Subnets(both.spec.ipam_options.configs, Known()).take_this("10.8.0.2") == "10.8.0.2/30"
    wanted.address = "10.7.0.2"
    assert "not in the network's subnet" in attachments.refusal(wanted, view.networks, esp=True)
    assert attachments.share(view.networks["net"], alone=True) == 5 + 1


def test_a_vxlan_id_that_is_asked_for_is_had_and_not_counted_on_from() -> None:
    view = settle(
        StoreView().apply([Put(pb.Cluster(id="c"))]),
        network("auto", born=1),
        network("more", born=2),
        network("next", vxlan_id="4098", born=3),
        network("last", vxlan_id=str(vxlan_ids.LAST), born=4),
    )
    assert vnis(view) == {"auto": 4097, "more": 4099, "next": 4098, "last": vxlan_ids.LAST}
    assert view.networks["last"].driver_state.options[vxlan_ids.OPTION] == str(vxlan_ids.LAST)
    view = settle(view.apply([Delete(pb.Network, "more")]), network("again", born=5))
    assert view.networks["again"].vni == 4100


def test_a_vxlan_id_that_is_asked_for_makes_no_subnet_the_newest() -> None:
    view = settle(
        StoreView().apply([Put(pb.Cluster(id="c"))]),
        network("asked", vxlan_id="9000", born=1),
        network("gone", born=2),
        network("newest", born=3),
    )
    view = settle(view.apply([Delete(pb.Network, "gone")]), network("next", born=4))
    assert {name: each.ipam_options.configs[0].subnet for name, each in view.networks.items()} == {
        "asked": "10.0.0.0/24",
        "newest": "10.0.2.0/24",
        "next": "10.0.3.0/24",
    }


def test_what_an_older_version_did_not_look_at_is_in_nobodys_way() -> None:
    old = network("old", vxlan_id="4098,4099", born=1)
    held = network("held", vxlan_id="5000", born=2)
    held.vni = 4097
    held.ipam_options.configs.add(subnet="10.9.0.0/24", gateway="10.9.0.1")
    view = settle(StoreView(), held, old, network("new", vxlan_id="5000", born=3))
    assert vnis(view) == {"held": 4097, "old": 4098, "new": 5000}
