"""Zones that are kept up are those made from scratch, and the resolver follows what changed."""

from __future__ import annotations

from collections.abc import Set
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Address
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory

import changing_cluster as world
import msgpack
from hypothesis import given, settings

from meshnet.model.ids import NetworkId, NodeId, ServiceId, Vni
from meshnet.model.shared_map import SharedMap
from meshnet.model.snapshot import (
    Endpoint,
    Network,
    Node,
    PublishedPort,
    Sandbox,
    Service,
    Snapshot,
)
from meshnet.process.notify import Notifier
from meshnet_dns import resolver as resolvers
from meshnet_dns.held import HeldSockets
from meshnet_dns.kept_zones import KeptZones
from meshnet_dns.loop import Loop
from meshnet_dns.operations import Desires, Observed, ResolverOperations, plan
from meshnet_dns.resolver import STATE, Resolver
from meshnet_dns.state import zone_digest, zone_payload, zone_sum
from meshnet_dns.zone import Claim, ServedPort, claims, zones


def resolver(run_dir: Path) -> Resolver:
    return Resolver(Loop(), run_dir / STATE, HeldSockets(Notifier(), {}))


def told(of: Resolver) -> Observed:
    said = of.status()
    return Observed(zones=said["zones"], sandboxes=said["sandboxes"])


def tell(of: Resolver, desires: Desires, snapshot: Snapshot) -> list[str]:
    """Tell it of the zones of a Snapshot; which messages that took."""
    found = plan(desires.of(snapshot), told(of), prune=True)
    messages = [change for change in found if change.op.endswith("-zone")]
    for change in messages:
        over_the_wire = msgpack.unpackb(msgpack.packb(change.message()), strict_map_key=False)
        assert of.handle(over_the_wire) == {}
    return [change.op for change in messages]


def held(of: Resolver) -> dict[str, object]:
    return dict(of.handle({"op": "zones"}))


def rivals(snapshot: Snapshot, network: NetworkId) -> dict[str, tuple[str, ...]]:
    found: dict[str, set[str]] = {}
    for each in claims(snapshot, network):
        if each.claim in {Claim.SERVICE, Claim.SERVICE_ALIAS}:
            found.setdefault(each.name, set()).add(each.owner)
    return {
        name: tuple(sorted(owners))
        for name, owners in found.items()
        if len(owners) > 1 and not name.startswith("tasks.")
    }


@given(world.histories())
def test_zones_that_are_kept_up_are_those_made_from_scratch(history: list[Snapshot]):
    kept = KeptZones()
    for at, snapshot in enumerate(history):
        wanted = {net for net in world.NETS[1:] if (at + world.NETS.index(net)) % 3}
        scratch = {net: zone for net, zone in zones(snapshot).items() if net in wanted}
        known = kept.of(snapshot, wanted)
        assert {net: each.zone for net, each in known.items()} == scratch
        assert all(each.digest == zone_digest(zone_sum(each.zone)) for each in known.values())
        for net, each in known.items():
            assert each.contested == rivals(snapshot, net)
        again = kept.of(replace(snapshot, revision=99), wanted)
        assert all(again[net] is each for net, each in known.items())


@settings(max_examples=40)
@given(world.histories())
def test_the_resolver_follows_and_is_told_no_more_than_what_changed(history: list[Snapshot]):
    with TemporaryDirectory() as run_dir:
        told_all, desires = resolver(Path(run_dir)), Desires()
        before: Set[NetworkId] = frozenset()
        for snapshot in history:
            ops = tell(told_all, desires, snapshot)
            known = desires.of(snapshot).zones
            assert held(told_all) == {net: zone_payload(each.zone) for net, each in known.items()}
            assert told(told_all).zones == {net: each.digest for net, each in known.items()}
            fresh = known.keys() - before
            assert ops.count("put-zone") >= len(fresh)
            if ops:
                assert tell(told_all, desires, snapshot) == []
            before = known.keys()
            told_all.save()
        again = resolver(Path(run_dir))
        again.restore()
        assert held(again) == held(told_all)
        assert told(again) == told(told_all)


def small() -> Snapshot:
    """A service of two tasks on one network, and a container here."""
    net, subnet = world.NETS[1], IPv4Network("10.0.1.0/24")
    service = Service(world.SERVICES[0], "web", vips={net: subnet[2]})
    endpoints = {
        task: Endpoint(task, f"web.{at}", world.SELF, service.id, {net: subnet[10 + at]})
        for at, task in enumerate(world.TASKS[:2])
    }
    box = Sandbox(world.TASKS[0], "/run/a", ((net, IPv4Interface("10.0.1.10/24")),), None)
    return Snapshot(
        1,
        world.SELF,
        networks={net: Network(net, "Net", Vni(4097), subnet, subnet[1])},
        services={service.id: service},
        endpoints=SharedMap(endpoints),
        sandboxes={box.task: box},
    )


def less(snapshot: Snapshot) -> Snapshot:
    """Its second task is not ready any more."""
    task = world.TASKS[1]
    put = {task: replace(snapshot.endpoints[task], ready=False)}
    return replace(snapshot, endpoints={**snapshot.endpoints, **put})


def test_what_is_told_of_an_endpoint_is_the_names_that_it_changed(tmp_path: Path):
    told_all, desires = resolver(tmp_path), Desires()
    assert tell(told_all, desires, small()) == ["put-zone"]
    [change] = [
        each
        for each in plan(desires.of(less(small())), told(told_all), prune=True)
        if each.op.endswith("-zone")
    ]
    assert change.op == "change-zone"
    assert change.payload is not None
    assert change.payload["names"] == {"tasks.web": IPv4Address("10.0.1.10").packed}
    assert change.payload["pointers"] == {}
    assert told_all.handle(change.message()) == {}


def test_a_change_of_another_zone_than_the_resolver_has_is_refused_and_told_whole(tmp_path: Path):
    first, other, desires = resolver(tmp_path), resolver(tmp_path), Desires()
    tell(first, desires, small())
    wanted = desires.of(less(small()))
    [change] = [each for each in plan(wanted, told(first), prune=True) if each.op[-4:] == "zone"]
    assert "a change of another zone" in other.handle(change.message())["error"]
    renamed = {s.id: replace(s, name="shop") for s in small().services.values()}
    tell(other, Desires(), replace(small(), services=renamed))
    assert "a change of another zone" in other.handle(change.message())["error"]
    assert tell(other, desires, less(small())) == ["put-zone"]
    assert held(other) == held(first) | {
        net: zone_payload(known.zone) for net, known in wanted.zones.items()
    }


def test_messages_are_appended_until_they_are_more_than_the_whole(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(resolvers, "LEAST_BYTES", 200)
    state, told_all, desires = tmp_path / STATE, resolver(tmp_path), Desires()
    tell(told_all, desires, small())
    told_all.save()
    whole = state.read_bytes()
    sizes = []
    for turn in range(8):
        tell(told_all, desires, less(small()) if turn % 2 == 0 else small())
        told_all.save()
        sizes.append(state.stat().st_size)
    assert sizes[0] > len(whole), "appended"
    assert any(later < sooner for sooner, later in pairwise(sizes)), "and written anew"
    assert max(sizes) <= 2 * max(len(whole), 200) + 100


def test_a_message_that_was_written_by_halves_is_left_out(tmp_path: Path):
    told_all, desires = resolver(tmp_path), Desires()
    tell(told_all, desires, small())
    told_all.save()
    tell(told_all, desires, less(small()))
    told_all.save()
    state = tmp_path / STATE
    state.write_bytes(state.read_bytes()[:-5])
    again, before = resolver(tmp_path), Desires()
    again.restore()
    assert held(again) == {n: zone_payload(z.zone) for n, z in before.of(small()).zones.items()}
    tell(again, desires, less(small()))
    again.save()
    third = resolver(tmp_path)
    third.restore()
    assert held(third) == held(again), "what could not be read is gone from the file"


def one_network(*services: Service) -> Snapshot:
    """On ``Shared``, where a container is."""
    net, subnet = world.NETS[1], IPv4Network("10.0.1.0/24")
    box = Sandbox(world.TASKS[0], "/run/a", ((net, IPv4Interface("10.0.1.10/24")),), None)
    return Snapshot(
        1,
        world.SELF,
        networks={net: Network(net, "Shared", Vni(4097), subnet, subnet[1])},
        services={service.id: service for service in services},
        sandboxes={box.task: box},
    )


def test_a_port_that_is_published_no_more_is_served_no_more():
    net, kept = world.NETS[1], KeptZones()
    web = Service(ServiceId("web"), "web", vips={net: IPv4Address("10.0.1.2")})
    served = replace(web, ports=(PublishedPort("tcp", 80, 8080),))
    seen = [dict(kept.of(one_network(each), {net})[net].zone.ports) for each in (web, served, web)]
    assert seen == [{}, {"web": (ServedPort("tcp", 80),)}, {}]


def test_a_second_virtual_ip_that_comes_later_is_found_by_name_and_address():
    net, kept = world.NETS[1], KeptZones()
    web = Service(ServiceId("web"), "web", vips={net: IPv4Address("10.0.1.2")})
    both = replace(web, vips6={net: IPv6Address("fd00::2")})
    seen = [kept.of(one_network(each), {net})[net].zone for each in (web, both, web)]
    assert [zone.names["web"] for zone in seen] == [
        (IPv4Address("10.0.1.2"),),
        (IPv4Address("10.0.1.2"), IPv6Address("fd00::2")),
        (IPv4Address("10.0.1.2"),),
    ]
    assert [IPv6Address("fd00::2") in zone.pointers for zone in seen] == [False, True, False]


def test_a_task_on_a_host_that_is_silent_is_named_only_where_nobody_else_is():
    net, kept, away = world.NETS[1], KeptZones(), world.TASKS[1]
    other = replace(small().endpoints[away], node=NodeId("h2"))
    seen = replace(small(), endpoints=SharedMap({**small().endpoints, away: other}))
    silent = Node(NodeId("h2"), "h2", IPv4Address("192.0.2.2"), doubted=True)
    both = kept.of(seen, {net})[net].zone.names["tasks.web"]
    one = kept.of(replace(seen, revision=2, nodes={silent.id: silent}), {net})[net].zone
    assert sorted(map(str, both)) == ["10.0.1.10", "10.0.1.11"]
    assert one.names["tasks.web"] == (IPv4Address("10.0.1.10"),)


def test_a_name_that_two_services_have_is_logged_once(tmp_path, caplog):
    net = world.NETS[1]
    services = [
        Service(ServiceId(name), name, vips={net: at}, aliases={net: ("db",)})
        for name, at in (("shop_db", IPv4Address("10.0.1.2")), ("blog_db", IPv4Address("10.0.1.3")))
    ]
    told_of = ResolverOperations(tmp_path)
    for revision in (1, 2):
        told_of.desired(replace(one_network(*services), revision=revision))
    assert [record.getMessage() for record in caplog.records] == [
        "db on shared is a name of blog_db, shop_db: containers of a stack get their own stack's"
    ]
