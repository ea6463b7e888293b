"""Laws of the tables that backends are chosen by, and of what policies make of a service."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network
from math import gcd

import changing_cluster as world
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meshnet.model.families import Address
from meshnet.model.ids import NetworkId, NodeId, ServiceId, TaskId, Vni
from meshnet.model.policy import ROUND_ROBIN, Kind, Policy
from meshnet.model.snapshot import Endpoint, Network, Node, PublishedPort, Service, Snapshot
from meshnet.nft.objects import Chain, Ruleset, Set
from meshnet.nft.ruleset_plan import ObservedTable, TableKey, plan
from meshnet_lb.choice import Choice
from meshnet_lb.jhash import jhash, slot_of
from meshnet_lb.policies import choose, mark_text
from meshnet_lb.rules import Rules, rulesets
from meshnet_lb.service import slots
from meshnet_lb.tables import FEW_BACKENDS, MOST_TURNS, Table, rendezvous, size_for, turns

NET, WEB = NetworkId("net".ljust(25, "0")), ServiceId("web".ljust(25, "0"))
NODES = [NodeId(f"node{at}".ljust(25, "0")) for at in range(3)]
ADDRESSES = st.lists(
    st.integers(2, 250).map("10.0.1.{}".format), min_size=1, max_size=12, unique=True
)
WEIGHTS = st.dictionaries(st.sampled_from("abcdefgh"), st.integers(0, 100), min_size=1)
KINDS: tuple[Kind, ...] = ("rr", "random", "source-hash", "sticky", "weighted", "nearest")
POLICIES = st.sampled_from(KINDS).map(
    lambda kind: Policy(
        kind,
        sticky_s=60 if kind == "sticky" else 0,
        weights=(("h0", 3), ("h1", 0)) if kind == "weighted" else (),
    )
)


@given(ADDRESSES, st.randoms(use_true_random=False))
def test_a_backend_that_leaves_moves_its_own_clients_alone(some: list[str], rng) -> None:
    whole = rendezvous(WEB, some)
    assert set(whole.owners) == set(some)
    shuffled = rng.sample(some, len(some))
    assert rendezvous(WEB, shuffled) == whole
    for gone in shuffled[1:3]:
        less = rendezvous(WEB, [each for each in some if each != gone])
        for before, after in zip(whole.owners, less.owners, strict=True):
            assert before in {after, gone}


@given(st.lists(ADDRESSES, min_size=2, max_size=5))
def test_an_earlier_table_says_nothing_new(history: list[list[str]]) -> None:
    before: Table | None = None
    for some in history:
        before = rendezvous(WEB, some, before)
        assert before == rendezvous(WEB, some)
        assert rendezvous("another", some, before) == rendezvous("another", some)


@pytest.mark.parametrize("number", [2, 10, FEW_BACKENDS, FEW_BACKENDS + 1])
def test_one_of_n_that_leaves_moves_about_one_nth(number: int) -> None:
    some = [str(IPv4Address(0x0A000100 + at)) for at in range(number)]
    whole = rendezvous(WEB, some)
    assert len(whole.owners) == size_for(number)
    had = Counter(whole.owners)
    even = size_for(number) / number
    assert all(abs(slots_ - even) < 5 * even**0.5 for slots_ in had.values())


@given(WEIGHTS)
def test_shares_are_exact_and_as_small_as_they_can_be(weights: dict[str, int]) -> None:
    some = {name: weight for name, weight in weights.items() if weight} or dict.fromkeys(weights, 1)
    shared = gcd(*some.values())
    order = turns(weights)
    assert Counter(order) == {name: weight // shared for name, weight in some.items()}
    assert order == turns(dict(reversed(weights.items())))


def test_heavy_turns_are_spread_and_too_many_are_made_fewer() -> None:
    assert turns({"a": 3, "b": 1, "c": 2}) == ["a", "c", "a", "b", "c", "a"]
    many = turns({str(at): 99 + at % 2 for at in range(500)})
    assert len(many) <= MOST_TURNS
    assert set(Counter(many).values()) == {8}
    assert len(turns({str(at): 1 + at % 2 for at in range(5000)})) == 5000


def test_the_kernels_hash() -> None:
    """Values of ``jhash`` of linux/jhash.h, as nft on Linux 6.18 gave them."""
    assert jhash(IPv4Address("10.0.1.10").packed, 0) == 0xE2A367F2
    assert slot_of(IPv4Address("10.0.1.10"), 509, 0) == 0xE2A367F2 * 509 >> 32


def test_an_address_as_a_packets_priority() -> None:
    assert mark_text("10.0.1.2") == "a00:102"
    assert mark_text("10.1.0.0") == "a01:0"


@given(st.lists(ADDRESSES, min_size=2, max_size=5))
def test_slots_with_weights_change_as_few_elements_as_they_can(history: list[list[str]]) -> None:
    tables: dict[TableKey, ObservedTable] = {}
    for some in history:
        order = turns({each: 1 + int(each.rpartition(".")[2]) % 4 for each in some})
        wanted = Ruleset("ip", "meshnet", (Chain("svc", ("accept",)),), (slots("svc", order),))
        have = dict(tables[next(iter(tables))].sets["svc"].elements) if tables else {}
        for change in plan([wanted], tables, prune=True):
            assert change.result is not None
            tables[change.table] = change.result
        (table,) = tables.values()
        now = table.sets["svc"].elements
        assert Counter(now.values()) == Counter(order)
        kept = sum(now.get(slot) == backend for slot, backend in have.items())
        assert kept >= sum((Counter(have.values()) & Counter(order)).values()) - max(
            0, len(have) - len(order)
        )
        assert not plan([wanted], tables, prune=True)


@settings(max_examples=15)
@given(world.histories(), st.lists(POLICIES, min_size=1, max_size=5))
def test_tables_that_are_kept_up_are_those_made_from_scratch_under_every_policy(
    history: list[Snapshot], policies: list[Policy]
) -> None:
    rules = Rules()
    for at, snapshot in enumerate(history):
        services = {
            of: replace(each, policy=policies[(at // 2 + number) % len(policies)])
            for number, (of, each) in enumerate(sorted(snapshot.services.items()))
        }
        now = replace(snapshot, services=services)
        assert rules.rulesets(now) == rulesets(now)
        fresh = Rules()
        fresh.rulesets(now)
        assert vars(rules._chosen) == vars(fresh._chosen)


def snapshot(policy: Policy, hosts: list[int]) -> Snapshot:
    """A published service on the ingress network, one backend on each of these hosts."""
    subnet = IPv4Network("10.0.1.0/24")
    nodes = {
        node: Node(node, f"h{at}", IPv4Address(f"192.0.2.{at}"), ingress_address=subnet[250 + at])
        for at, node in enumerate(NODES)
    }
    network = Network(NET, "ingress", Vni(4096), subnet, subnet[1], ingress=True)
    endpoints = {
        task: Endpoint(task, task, NODES[host], WEB, {NET: subnet[10 + at]})
        for at, host in enumerate(hosts)
        if (task := TaskId(f"task{at}".ljust(25, "0")))
    }
    ports = (PublishedPort("tcp", 80, 8080), PublishedPort("sctp", 81, 8081))
    service = Service(WEB, "web", ports=ports, policy=policy)
    return Snapshot(1, NODES[0], nodes, {NET: network}, {WEB: service}, endpoints)


def sets_of(policy: Policy, hosts: list[int]) -> dict[str, Set]:
    return {each.name: each for each in rulesets(snapshot(policy, hosts))[None][0].sets}


def test_strict_turns_stay_as_they_were() -> None:
    (table,) = rulesets(snapshot(ROUND_ROBIN, [0, 1]))[None]
    chain = next(each for each in table.chains if each.name == "port-tcp-8080")
    assert chain.rules == (
        "meta l4proto tcp dnat to numgen inc mod 2 map { 0 : 10.0.1.10 . 80, 1 : 10.0.1.11 . 80 }",
    )
    assert {each.name for each in table.sets} == {"ports", "vteps"}


def test_a_task_that_moves_to_another_host_with_its_address_weighs_what_that_one_does() -> None:
    for policy in (Policy("nearest"), Policy("weighted", weights=(("h2", 5),))):
        rules, first = Rules(), snapshot(policy, [0, 1])
        for hosts in ([0, 1], [2, 1], [0, 0]):
            now = replace(snapshot(policy, hosts), services=first.services)
            assert rules.rulesets(now) == rulesets(now)


def test_nearest_is_on_this_node_or_else_anywhere() -> None:
    for hosts, near in (([1, 0, 2, 0], {11, 13}), ([1, 2], {10, 11})):
        (table,) = rulesets(snapshot(Policy("nearest"), hosts))[None]
        led = next(each for each in table.sets if each.slots).elements.values()
        assert set(led) == {f"10.0.1.{host}" for host in near}


def test_weights_follow_the_name_of_a_host() -> None:
    policy, rules = Policy("weighted", weights=(("new", 5),)), Rules()
    before = snapshot(policy, [0, 1])
    assert rules.rulesets(before) == rulesets(before)
    nodes = {**before.nodes, NODES[1]: replace(before.nodes[NODES[1]], hostname="new")}
    now = replace(before, nodes=nodes)
    assert rules.rulesets(now) == rulesets(now)
    (table,) = rulesets(now)[None]
    order = next(each for each in table.sets if each.slots).elements.values()
    assert Counter(order) == {"10.0.1.10": 1, "10.0.1.11": 5}


def test_weights_follow_a_node_whose_host_is_not_named() -> None:
    rules = Rules()
    for policy, weights, expected in (
        (Policy("weighted"), (None, None), {10: 1, 11: 1}),
        (Policy("weighted"), (None, 4), {10: 1, 11: 4}),
        (Policy("weighted"), (0, 4), {11: 1}),
        (Policy("weighted", weights=(("h1", 2),)), (3, 4), {10: 3, 11: 2}),
    ):
        now = snapshot(policy, [0, 1])
        nodes = {
            name: replace(node, weight=dict(zip(NODES, weights, strict=False)).get(name))
            for name, node in now.nodes.items()
        }
        now = replace(now, nodes=nodes)
        assert rules.rulesets(now) == rulesets(now)
        (table,) = rulesets(now)[None]
        order = next(each for each in table.sets if each.slots).elements.values()
        assert Counter(order) == {f"10.0.1.{host}": turns for host, turns in expected.items()}


def test_ports_of_a_service_share_what_it_remembers() -> None:
    sets = sets_of(Policy("sticky", sticky_s=60), [0, 1])
    assert len([name for name in sets if name.startswith("stuck-60-")]) == 1
    assert next(each.size for name, each in sets.items() if name.startswith("stuck-")) == 65_536


@given(POLICIES, st.lists(st.integers(0, 2), min_size=1, max_size=6))
def test_every_choice_leads_to_ready_backends_alone_and_uses_its_maps(
    policy: Policy, hosts: list[int]
) -> None:
    now = snapshot(policy, hosts)
    ready = now.backends(WEB, NET)
    of: dict[Address, Node] = {
        each.addresses[NET]: now.nodes[each.node] for each in now.endpoints.values()
    }
    choice = choose(now.services[WEB], NET, ready, of.get, NODES[0])
    if policy.kind == "rr":
        assert choice is None
        return
    assert isinstance(choice, Choice)
    rules = " ".join(choice.to_port("tcp", 80))
    assert all(f"@{each.name}" in rules for each in choice.sets)
    led = next(each for each in choice.sets if each.name == choice.backends)
    assert set(led.elements.values()) <= {str(each) for each in ready}
    assert rules.count("dnat to") == rules.count(" : 80")
