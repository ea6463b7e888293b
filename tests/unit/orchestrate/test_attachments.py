"""Containers of nodes on networks: a node's whole word, and what its containers are given."""

from __future__ import annotations

import random
from collections.abc import Iterable

from hypothesis import given
from hypothesis import strategies as st

from meshnet_control.api import control_pb2 as pb
from meshnet_control.cluster.attachments import attachment_id
from meshnet_control.controlapi.network_resource import users
from meshnet_control.orchestrate import attachments
from meshnet_control.orchestrate.pipeline import converge
from meshnet_control.orchestrate.store_view import Delete, Put, StoreView

NOW = 1_700_000_000.0
NODE, OTHER = "node1", "node2"
C1, C2 = "1" * 64, "2" * 64


def network(name: str, subnet: str = "10.9.0.0/24", *, attachable: bool = True) -> pb.Network:
    made = pb.Network(id=name)
    made.spec.name, made.spec.attachable = name, attachable
    made.spec.driver_configuration.name = "overlay"
    made.spec.ipam_options.configs.add(subnet=subnet)
    return made


def node(name: str) -> pb.Node:
    made = pb.Node(id=name)
    made.status.state, made.spec.availability = "ready", "active"
    made.description.resources.nano_cpus = 10**9
    return made


def place(container: str, on: str = "net", address: str = "") -> pb.Attachment:
    return pb.Attachment(container_id=container, network_id=on, address=address)


def view(*objects: pb.Network | pb.Node | pb.Service) -> StoreView:
    return settled(StoreView((node(NODE), node(OTHER), *objects)))


def settled(of: StoreView) -> StoreView:
    return of.apply(converge(of, NOW, random.Random(1)).writes)


def said(
    of: StoreView, who: str, wanted: Iterable[pb.Attachment]
) -> tuple[StoreView, attachments.Changes]:
    """The cluster after a node's word."""
    alone = len(of.nodes) == 1
    found = attachments.changes(who, wanted, of.tasks.values(), of.networks, NOW, alone=alone)
    return settled(of.apply(found.writes)), found


def addresses(of: StoreView) -> dict[str, str]:
    return {
        task.spec.network_attachment_spec.container_id[0]: attachment.addresses[0]
        for task in of.tasks.values()
        for attachment in task.networks_attachments
    }


def test_a_container_gets_an_address_and_its_node_hears_of_it_at_once():
    now, _ = said(view(network("net")), NODE, [place(C1), place(C2)])
    assert addresses(now) == {"1": "10.9.0.2/24", "2": "10.9.0.3/24"}
    for task in now.tasks.values():
        assert task.status.state == pb.TASK_STATE_ASSIGNED
        assert (task.node_id, task.service_id) == (NODE, "")
        assert task.allocated_at.seconds == NOW


def test_said_again_it_is_no_write_and_what_is_not_said_is_given_back():
    once, _ = said(view(network("net")), NODE, [place(C1), place(C2)])
    again, found = said(once, NODE, [place(C1), place(C2)])
    assert found.writes == []
    made = once.tasks[attachment_id(NODE, C1, "net")].allocated_at.ToNanoseconds()
    assert found.states[C1, "net"] == (made, "")
    left, found = said(again, NODE, [place(C2)])
    assert found.writes == [Delete(pb.Task, attachment_id(NODE, C1, "net"))]
    assert addresses(left) == {"2": "10.9.0.3/24"}


def test_a_node_touches_its_own_containers_alone():
    once, _ = said(view(network("net")), NODE, [place(C1)])
    both, found = said(once, OTHER, [place(C1)])  # the same container id: another container
    assert [type(write) for write in found.writes] == [Put]
    assert len(both.tasks) == 2
    assert said(both, OTHER, [])[0].tasks == once.tasks


def test_an_address_that_is_asked_for_is_had_or_said_to_be_taken():
    once, _ = said(view(network("net")), NODE, [place(C1, address="10.9.0.77")])
    assert addresses(once) == {"1": "10.9.0.77/24"}
    twice, _ = said(once, OTHER, [place(C2, address="10.9.0.77")])
    _, found = said(twice, OTHER, [place(C2, address="10.9.0.77")])
    assert found.states[C2, "net"] == (0, "Address already in use")
    freed, _ = said(twice, NODE, [])
    assert addresses(freed) == {"2": "10.9.0.77/24"}


def test_who_asks_for_an_address_gets_it_before_who_takes_any():
    now, _ = said(view(network("net")), NODE, [place(C1), place(C2, address="10.9.0.2")])
    assert addresses(now) == {"1": "10.9.0.3/24", "2": "10.9.0.2/24"}


def test_what_cannot_be_is_said_and_not_made():
    before = view(network("net"), network("closed", "10.8.0.0/24", attachable=False))
    wanted = [place(C1, "gone"), place(C1, "closed"), place(C1, "net", "10.1.1.1")]
    after, found = said(before, NODE, wanted)
    assert not after.tasks
    assert found.states == {
        (C1, "gone"): (0, "rpc error: code = NotFound desc = network gone not found"),
        (C1, "closed"): (
            0,
            "rpc error: code = PermissionDenied desc = network closed not manually attachable",
        ),
        (C1, "net"): (0, "requested address 10.1.1.1 is not in the network's subnet"),
    }


def test_a_full_network_says_so_and_gives_what_comes_free():
    before, _ = said(view(network("net", "10.9.0.0/30")), NODE, [place(C1)])
    full, _ = said(before, OTHER, [place(C2)])
    _, found = said(full, OTHER, [place(C2)])
    assert found.states[C2, "net"] == (0, "could not find an available IP")
    assert addresses(said(full, NODE, [])[0]) == {"2": "10.9.0.2/30"}


def test_the_network_is_in_use_and_the_node_no_less_free_for_tasks():
    now, _ = said(view(network("net")), NODE, [place(C1)])
    [task] = now.tasks.values()
    assert users(now.networks["net"], [], now.tasks.values()) == f"task {task.id}"
    service = pb.Service(id="s", spec_version=1)
    service.spec.name, service.spec.mode.replicated.replicas = "s", 2
    placed = settled(now.apply([Put(service)]))
    assert {t.node_id for t in placed.tasks.values() if t.service_id} == {NODE, OTHER}
    one = pb.Service(id="t", spec_version=1)
    one.spec.name, one.spec.mode.replicated.replicas = "t", 1
    placed = settled(said(view(network("net")), NODE, [place(C1)])[0].apply([Put(one)]))
    assert [t.node_id for t in placed.tasks.values() if t.service_id] == [NODE]


def test_a_node_that_is_down_keeps_its_addresses_and_one_that_is_gone_does_not():
    now, _ = said(view(network("net")), NODE, [place(C1)])
    down = pb.Node()
    down.CopyFrom(now.nodes[NODE])
    down.status.state = "down"
    kept = settled(now.apply([Put(down)]))
    assert addresses(kept) == {"1": "10.9.0.2/24"}
    assert not settled(kept.apply([Delete(pb.Node, NODE)])).tasks


@given(st.lists(st.tuples(st.sampled_from([NODE, OTHER]), st.sets(st.integers(0, 9))), max_size=8))
def test_no_address_is_given_twice_and_each_node_has_what_it_said_last(words):
    now = view(network("net", "10.9.0.0/27"))
    last: dict[str, set[int]] = {NODE: set(), OTHER: set()}
    for who, numbers in words:
        last[who] = numbers
        now, _ = said(now, who, [place(f"{number:064x}") for number in sorted(numbers)])
        given_out = [t.networks_attachments[0].addresses[0] for t in now.tasks.values()]
        assert len(set(given_out)) == len(given_out) == sum(map(len, last.values()))


def test_a_node_gets_half_of_a_network_s_addresses_and_keeps_what_it_has():
    small = network("net", "10.9.0.0/28")  # 13 addresses
    every = [place(f"{at:064x}") for at in range(8)]
    now, found = said(view(small), NODE, every)
    refused = [why for _, (_, why) in sorted(found.states.items()) if why]
    words = (
        "containers of this node have 6 addresses of network net, of which one node may have 6: "
        "remove some first"
    )
    assert (refused, len(now.tasks)) == ([words] * 2, 6)
    _, again = said(now, NODE, reversed(every))
    assert again.writes == [], "those that have one keep it, in whatever order they are said"
    both, found = said(now, OTHER, every)
    assert len(both.tasks) == 12
    assert sum(not why for _, why in found.states.values()) == 6, "each node is counted by itself"


def test_the_only_node_may_have_all_addresses():
    small = network("net", "10.9.0.0/28")
    alone = settled(StoreView((node(NODE), small)))
    _, found = said(alone, NODE, [place(f"{at:064x}") for at in range(14)])
    assert sum(bool(why) for _, why in found.states.values()) == 1
    tiny = view(network("net", "10.9.0.0/30")).networks["net"]
    assert attachments.share(tiny, alone=False) == 1


def test_a_node_without_esp_has_no_container_on_an_encrypted_network():
    secret = network("net")
    secret.spec.driver_configuration.options["encrypted"] = ""
    of = view(secret)
    tasks, networks = of.tasks.values(), of.networks
    refused = attachments.changes(NODE, [place(C1)], tasks, networks, NOW, esp=False)
    assert refused.writes == []
    assert "kernel without ESP" in refused.states[C1, "net"][1]
    assert attachments.changes(NODE, [place(C1)], tasks, networks, NOW, esp=True).writes
