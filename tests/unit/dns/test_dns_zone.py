"""Laws of zones, and what the resolver is told, on any cluster that Hypothesis thinks up."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from meshnet.model.ids import NetworkId, NodeId, ServiceId, TaskId, Vni
from meshnet.model.snapshot import Endpoint, Network, Sandbox, Service, Snapshot
from meshnet_dns.operations import Change, Observed, desired, plan
from meshnet_dns.state import (
    Memory,
    decode_memory,
    digest,
    encode_memory,
    sandbox_of,
    sandbox_payload,
    zone_digest,
    zone_of,
    zone_payload,
    zone_sum,
)
from meshnet_dns.zone import Zone, zones

NODE = NodeId("node".ljust(25, "0"))
NETWORKS = [NetworkId(f"net{i}".ljust(25, "0")) for i in range(2)]
INGRESS = NetworkId("ingress".ljust(25, "0"))
NAMES = st.sampled_from(["web", "API", "db", "cache", "web.1", "app_x"])
PREFIX = {network: f"10.{i}.0" for i, network in enumerate([*NETWORKS, INGRESS])}


def address(network: NetworkId, host: int) -> IPv4Address:
    return IPv4Address(f"{PREFIX[network]}.{host}")


def placed(draw: Any, host: int) -> dict[NetworkId, IPv4Address]:
    on = draw(st.sets(st.sampled_from([*NETWORKS, INGRESS]), min_size=1))
    return {network: address(network, host) for network in sorted(on)}


def aliases(draw: Any) -> dict[NetworkId, tuple[str, ...]]:
    return {
        network: tuple(draw(st.lists(NAMES, max_size=2)))
        for network in NETWORKS
        if draw(st.booleans())
    }


@st.composite
def snapshots(draw: Any) -> Snapshot:
    """Up to 3 services and 6 tasks on 2 networks and the ingress; 3 of the tasks may be here."""
    services = {}
    for i in range(draw(st.integers(0, 3))):
        key = ServiceId(f"svc{i}".ljust(25, "0"))
        mode = draw(st.sampled_from(["vip", "dnsrr"]))
        vips = placed(draw, 100 + i) if mode == "vip" else {}
        services[key] = Service(key, draw(NAMES), mode, vips, aliases(draw))
    endpoints, sandboxes = {}, {}
    for i in range(draw(st.integers(0, 6))):
        task = TaskId(f"task{i}".ljust(25, "0"))
        at = placed(draw, 10 + i)
        endpoints[task] = Endpoint(
            task, f"{draw(NAMES)}.{i}.{task}", NODE,
            draw(st.sampled_from([None, *services])), at,
            container=draw(st.sampled_from(["", f"{i:064x}"])),
            hostname=draw(st.sampled_from(["", "Host", "web"])),
            aliases=aliases(draw), ready=draw(st.booleans()),
        )  # fmt: skip
        if draw(st.booleans()):
            sandboxes[task] = Sandbox(
                task, f"/run/netns/{i}",
                tuple((network, IPv4Interface(f"{at[network]}/24")) for network in at),
                draw(st.sampled_from([None, IPv4Interface("172.18.0.5/16")])),
                upstreams=tuple(draw(st.sets(st.just(IPv4Address("192.0.2.53"))))),
            )  # fmt: skip
    return Snapshot(
        1, NODE, services=services, endpoints=endpoints, sandboxes=sandboxes,
        networks={
            key: Network(
                key, f"Net{i}", Vni(4097 + i), IPv4Network(f"10.{i}.0.0/24"),
                IPv4Address(f"10.{i}.0.1"), ingress=key == INGRESS,
            )
            for i, key in enumerate([*NETWORKS, INGRESS])
        },
    )  # fmt: skip


@settings(max_examples=50)
@given(snapshots())
def test_a_zone_says_what_the_snapshot_says(snapshot):
    found = zones(snapshot)
    assert found.keys() == set(NETWORKS), "the ingress network has no names"
    for network, zone in found.items():
        for service in snapshot.services.values():
            ready = set(snapshot.backends(service.id, network))
            vip = service.vips.get(network)
            if vip is not None:
                assert vip in zone.names[service.name.lower()], "with 0 tasks too"
                assert ready <= set(zone.names[f"tasks.{service.name.lower()}"])
                assert zone.pointers[vip] == f"{service.name}.{snapshot.networks[network].name}"
            elif ready and service.mode == "dnsrr":
                assert ready <= set(zone.names[service.name.lower()])
        for endpoint in snapshot.endpoints.values():
            if network in endpoint.addresses:
                at = endpoint.addresses[network]
                assert zone.names[endpoint.name.lower()] == (at,), "ready or not"
                assert zone.pointers[at] == f"{endpoint.name}.{snapshot.networks[network].name}"
                if endpoint.container:
                    assert at in zone.names[endpoint.container[:12]]


@settings(max_examples=50)
@given(snapshots())
def test_names_are_lower_case_and_addresses_of_the_network(snapshot):
    for network, zone in zones(snapshot).items():
        for name, addresses in zone.names.items():
            assert name
            assert name == name.lower()
            assert list(addresses) == sorted(set(addresses))
            assert all(one in snapshot.networks[network].subnet for one in addresses)
            assert zone.find(f"{name}.{zone.network}") == addresses


@settings(max_examples=50)
@given(snapshots(), st.randoms())
def test_the_order_of_the_snapshot_does_not_matter(snapshot, random):
    def shuffled(mapping: Any) -> Any:
        items = list(mapping.items())
        random.shuffle(items)
        return dict(items)

    other = replace(
        snapshot,
        services=shuffled(snapshot.services),
        endpoints=shuffled(snapshot.endpoints),
        networks=shuffled(snapshot.networks),
        sandboxes=shuffled(snapshot.sandboxes),
    )
    assert desired(other) == desired(snapshot), "digests too"


@settings(max_examples=50)
@given(snapshots())
def test_zones_and_sandboxes_survive_the_wire_and_the_state_file(snapshot):
    wanted = desired(snapshot)
    held = zones(snapshot)
    for network, known in wanted.zones.items():
        assert zone_of(zone_payload(known.zone)) == held[network]
        assert zone_digest(zone_sum(held[network])) == known.digest
    for told in wanted.sandboxes.values():
        assert digest(sandbox_payload(sandbox_of(told.payload))) == told.digest
    memory = Memory(
        {network: known.zone for network, known in wanted.zones.items()},
        {task: sandbox_of(told.payload) for task, told in wanted.sandboxes.items()},
    )
    assert decode_memory(encode_memory(memory)) == (memory, [])


@settings(max_examples=50)
@given(snapshots())
def test_only_a_container_with_a_way_out_may_ask_others(snapshot):
    for task, told in desired(snapshot).sandboxes.items():
        has_way_out = snapshot.sandboxes[task].gateway_address is not None
        assert sandbox_of(told.payload).forwards is has_way_out


def applied(observed: Observed, changes: list[Change]) -> Observed:
    """What the resolver knows after ``changes``, as its digests say."""
    held: dict[str, dict[Any, str]] = {
        "zone": dict(observed.zones),
        "sandbox": dict(observed.sandboxes),
    }
    for change in changes:
        verb, kind = change.op.split("-")
        if verb == "drop":
            del held[kind][change.id]
        else:
            assert change.payload is not None
            zone = kind == "zone"
            total = zone_sum(zone_of(change.payload)) if zone else 0
            held[kind][change.id] = zone_digest(total) if zone else digest(change.payload)
    return Observed(held["zone"], held["sandbox"])


@settings(max_examples=25)
@given(snapshots(), snapshots())
def test_a_plan_that_was_applied_leaves_nothing_to_plan(before, after):
    known = applied(Observed(), plan(desired(before), Observed(), prune=True))
    changes = plan(desired(after), known, prune=True)
    assert plan(desired(after), applied(known, changes), prune=True) == []
    assert {change.op for change in plan(desired(before), known, prune=True)} == set()


@settings(max_examples=25)
@given(snapshots(), snapshots())
def test_without_prune_nothing_is_dropped_and_no_zone_replaced(before, after):
    known = applied(Observed(), plan(desired(before), Observed(), prune=True))
    changes = plan(desired(after), known, prune=False)
    now = applied(known, changes)
    assert not [change for change in changes if change.op.startswith("drop")]
    assert {network: now.zones[network] for network in known.zones} == known.zones
    assert desired(after).zones.keys() <= now.zones.keys()


@settings(max_examples=25)
@given(snapshots(), snapshots())
def test_no_sandbox_is_without_its_zones_in_between(before, after):
    wanted = desired(after)
    known = applied(Observed(), plan(desired(before), Observed(), prune=True))
    for change in plan(wanted, known, prune=True):
        known = applied(known, [change])
        if change.op == "put-sandbox":
            assert set(sandbox_of(change.payload or {}).networks) <= known.zones.keys()
        if change.op == "drop-zone":
            assert known.sandboxes.keys() <= wanted.sandboxes.keys()


def test_a_better_claim_takes_a_name_and_equal_claims_share_it():
    subnet = IPv4Network("10.0.0.0/24")
    network, first, second = NETWORKS[0], ServiceId("a" * 25), ServiceId("b" * 25)
    shared = {network: ("shared",)}
    snapshot = Snapshot(
        1,
        NODE,
        networks={network: Network(network, "n", Vni(1), subnet, subnet[1])},
        services={
            first: Service(first, "web", vips={network: subnet[5]}, aliases=shared),
            second: Service(second, "api", vips={network: subnet[6]}, aliases=shared),
        },
        endpoints={
            TaskId("t"): Endpoint(
                TaskId("t"), "x.1.t", NODE, None, {network: subnet[9]},
                hostname="web", aliases={network: ("api",)},
            )
        },
    )  # fmt: skip
    names = zones(snapshot)[network].names
    assert names["web"] == (subnet[5],), "not the container whose hostname is web"
    assert names["api"] == (subnet[6],)
    assert names["shared"] == (subnet[5], subnet[6])


def test_a_service_is_its_ready_tasks_and_a_container_finds_itself_ready_or_not():
    subnet = IPv4Network("10.0.0.0/24")
    network, balanced, listed = NETWORKS[0], ServiceId("a" * 25), ServiceId("b" * 25)
    snapshot = Snapshot(
        1,
        NODE,
        networks={network: Network(network, "n", Vni(1), subnet, subnet[1])},
        services={
            balanced: Service(balanced, "web", vips={network: subnet[5]}),
            listed: Service(listed, "db", "dnsrr"),
        },
        endpoints={
            TaskId(name): Endpoint(
                TaskId(name), name, NODE, of, {network: subnet[host]}, ready=ready
            )
            for name, of, host, ready in (
                ("web.1", balanced, 11, True), ("web.2", balanced, 12, False),
                ("db.1", listed, 21, False), ("db.2", listed, 22, True),
            )
        },
    )  # fmt: skip
    names = zones(snapshot)[network].names
    assert names["tasks.web"] == (subnet[11],)
    assert names["db"] == names["tasks.db"] == (subnet[22],)
    assert (names["web.2"], names["db.1"]) == ((subnet[12],), (subnet[21],))


def test_a_network_s_further_subnets_are_told():
    one = Zone("net", IPv4Network("10.0.1.0/24"))
    more = replace(one, more=(IPv4Network("10.7.0.0/24"),))
    assert zone_of(zone_payload(more)).more == more.more
    assert zone_sum(more) != zone_sum(one)
