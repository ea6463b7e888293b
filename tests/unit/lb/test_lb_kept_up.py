"""Tables that are kept up are those made from scratch; the same objects where nothing changed."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network, IPv6Interface, IPv6Network

import changing_cluster as world
from hypothesis import given

from meshnet.model.ids import ServiceId, Vni
from meshnet.model.snapshot import Endpoint, Network, Node, PublishedPort, Service, Snapshot
from meshnet_lb.published import Backends, PublishedPorts, Terms
from meshnet_lb.rules import Rules, rulesets


@given(world.histories())
def test_tables_that_are_kept_up_are_those_made_from_scratch(history: list[Snapshot]):
    rules = Rules()
    for snapshot in history:
        kept = rules.rulesets(snapshot)
        assert kept == rulesets(snapshot)
        again = rules.rulesets(replace(snapshot, revision=99))
        assert all(again[path] is tables for path, tables in kept.items())


@given(world.histories())
def test_nothing_is_remembered_of_what_is_gone(history: list[Snapshot]):
    rules = Rules()
    for snapshot in history:
        rules.rulesets(snapshot)
        fresh = Rules()
        fresh.rulesets(snapshot)
        assert vars(rules._chosen) == vars(fresh._chosen)
        for dialect, table in rules._tables.items():
            assert vars(table._ports) == vars(fresh._tables[dialect]._ports)


@given(world.histories())
def test_tables_of_ipv6_are_those_of_ipv4_in_its_words(history: list[Snapshot]):
    now = history[-1]
    alone = {t: replace(e, addresses=_on_dual(e.addresses)) for t, e in now.endpoints.items()}
    services = {s: replace(e, vips=_on_dual(e.vips)) for s, e in now.services.items()}
    boxes = {
        t: replace(
            box,
            networks=tuple(each for each in box.networks if each[0] == world.DUAL),
            networks6=own,
        )
        for t, box in now.sandboxes.items()
        if (own := tuple(each for each in box.networks6 if each[0] == world.DUAL))
    }
    one = replace(now, endpoints=alone, services=services, sandboxes=boxes)
    both = replace(
        one,
        endpoints={t: replace(e, addresses6=_second(e.addresses)) for t, e in alone.items()},
        services={s: replace(e, vips6=_second(e.vips)) for s, e in services.items()},
    )
    for path, tables in rulesets(both).items():
        if path is None:
            continue
        first, other = sorted(tables, key=lambda table: table.family)
        assert (first.family, other.family) == ("ip", "ip6")
        assert _words(first) == _words(other)
        assert "10.0." not in str(other)
        assert "fd00:" not in str(first)
    only_ipv4 = {t: replace(box, networks6=()) for t, box in boxes.items()}
    alike = rulesets(replace(one, sandboxes=only_ipv4))
    for path, (table, *more) in alike.items():
        assert path is None or (table == rulesets(both)[path][0] and not more)


@given(world.histories())
def test_the_mesh_of_ipv6_is_that_of_ipv4_in_its_words(history: list[Snapshot]):
    """But for VXLAN, docker_gwbridge and what servers of datagrams need by IPv4."""
    now, mesh = history[-1], world.MESH
    subnet, second = IPv4Network("10.0.0.0/24"), (IPv6Network("fd00::/64"),)
    network = Network(mesh, "ingress", Vni(4096), subnet, subnet[1], ingress=True, subnets6=second)
    nodes = {
        n: replace(
            node,
            ingress_address6=world.second(node.ingress_address) if node.ingress_address else None,
        )
        for n, node in now.nodes.items()
    }
    endpoints = {
        t: replace(each, addresses=own, addresses6=_second(own))
        for t, each in now.endpoints.items()
        for own in ({n: at for n, at in each.addresses.items() if n == mesh},)
    }
    boxes = {
        t: replace(
            box,
            networks=on,
            networks6=tuple((n, IPv6Interface((world.second(at.ip), 64))) for n, at in on),
            gateway_address=None,
        )
        for t, box in now.sandboxes.items()
        for on in (tuple(each for each in box.networks if each[0] == mesh),)
        if on
    }
    both = replace(
        now, nodes=nodes, networks={mesh: network}, endpoints=endpoints, sandboxes=boxes,
        gwbridge=None, taken6=now.taken,
    )  # fmt: skip
    for path, tables in rulesets(both).items():
        first, other = (next(t for t in tables if t.family == each) for each in ("ip", "ip6"))
        if path is None:
            first = replace(
                first,
                chains=tuple(each for each in first.chains if not each.name.startswith("raw_")),
                sets=tuple(each for each in first.sets if each.name != "vteps"),
            )
        assert _words(first) == _words(other)
        assert "10.0." not in str(other)
        assert "fd00:" not in str(first)
    plain = replace(both, networks={mesh: replace(network, subnets6=())})
    assert [table.family for table in rulesets(plain)[None]] == ["ip"]
    assert rulesets(plain)[None][0] == rulesets(both)[None][0]


def _on_dual(addresses):
    return {net: at for net, at in addresses.items() if net == world.DUAL}


def _second(addresses):
    return {net: world.second(at) for net, at in addresses.items()}


def _words(table):
    """What a table holds in words of both families, whatever its order."""

    def text(said):
        for of, both in (
            ("fd00:0:0:2::", "10.0.2."), ("fd00:0:0:2:", "10.0.2."), ("fd00::", "10.0.0."),
            ("ip6 daddr != fe80::/10 ", ""), ("ip6 ", "ip "),
            ("ipv6_addr", "ipv4_addr"), ("icmpv6", "icmp"), ("[::1]", "127.0.0.1"),
        ):  # fmt: skip
            said = said.replace(of, both)
        return said

    def texts(said):
        return frozenset(map(text, said))

    def pairs(said):
        return {text(key): texts([to] if isinstance(to, str) else to) for key, to in said.items()}

    return (
        {each.name: (tuple(map(text, each.rules)), each.hook) for each in table.chains},
        {
            each.name: (
                text(each.type), text(each.typeof), each.flags, each.slots,
                pairs(each.elements), pairs(each.leads),
            )
            for each in table.sets
        },
        texts(table.backends), texts(table.there), texts(table.avoided),
    )  # fmt: skip


@given(world.histories())
def test_an_endpoint_leaves_the_tables_of_other_networks_as_they_are(history: list[Snapshot]):
    rules, now = Rules(), history[-1]
    before = rules.rulesets(now)
    for task, endpoint in now.endpoints.items():
        put = replace(endpoint, ready=not endpoint.ready)
        after = rules.rulesets(replace(now, endpoints={**now.endpoints, task: put}))
        networks = endpoint.addresses.keys()
        for sandbox in now.sandboxes.values():
            if networks.isdisjoint(network for network, _ in sandbox.networks):
                assert after[sandbox.netns] is before[sandbox.netns]
        if now.ingress is None or now.ingress.id not in networks:
            assert after.get(None) is before.get(None)
        before = rules.rulesets(now)


def test_a_published_port_follows_its_backends_and_others_keep_their_chains():
    mesh, subnet = world.NETS[0], IPv4Network("10.0.0.0/24")
    services = {
        of: Service(of, f"s{at}", ports=(PublishedPort("tcp", 80, 8080 + at),))
        for at, of in enumerate(world.SERVICES[:2])
    }
    endpoints = {
        task: Endpoint(task, task, world.SELF, world.SERVICES[at % 2], {mesh: subnet[10 + at]})
        for at, task in enumerate(world.TASKS[:4])
    }
    itself = Node(world.SELF, "h", IPv4Address("192.168.0.1"), ingress_address=subnet[2])
    network = Network(mesh, "ingress", Vni(4096), subnet, subnet[1], ingress=True)
    nodes = {world.SELF: itself}
    now = Snapshot(1, world.SELF, nodes, {mesh: network}, services, endpoints)
    rules, gone = Rules(), world.TASKS[0]
    before = {each.name: each for each in rules.rulesets(now)[None][0].chains}
    less = replace(now, endpoints={t: each for t, each in endpoints.items() if t != gone})
    [after] = rules.rulesets(less)[None]
    assert after == rulesets(less)[None][0]
    others = {each.name for each in after.chains if each is not before.get(each.name)}
    assert "port-tcp-8080" in others
    assert "port-tcp-8081" not in others


def _services(*ports: PublishedPort) -> dict[ServiceId, Service]:
    """One for each port."""
    return {
        of: Service(of, of, ports=(port,)) for of, port in zip(world.SERVICES, ports, strict=False)
    }


def test_a_port_that_two_services_claim_is_whose_has_backends():
    ports, terms = PublishedPorts(), Terms(connected=True, complete=True)
    services = _services(PublishedPort("tcp", 80, 9000), PublishedPort("tcp", 81, 9000))
    first, second = services
    one, two = IPv4Address("10.0.0.1"), IPv4Address("10.0.0.2")
    targets = []
    for ready in ({first: (one,), second: (two,)}, {first: (one,)}, {}, {second: (two,)}):
        ports.follow(services, Backends(ready, {}, frozenset()), {}, terms)
        targets.append([chain.rules[0].rpartition("0 : ")[2] for chain in ports.chains()])
    assert targets == [["10.0.0.2 . 81 }"], ["10.0.0.1 . 80 }"], [], ["10.0.0.2 . 81 }"]]
    assert ports.ports.elements == {"tcp . 9000": "goto port-tcp-9000"}


def test_an_address_that_goes_to_another_service_is_still_led_to():
    ports, terms = PublishedPorts(), Terms(connected=True, complete=True)
    services = _services(PublishedPort("tcp", 80, 9000), PublishedPort("tcp", 80, 9001))
    here = (IPv4Address("10.0.0.1"),)
    one, two = services
    for some in ((one,), (two,), (one, two), (one,), (one, two), (two,)):
        ready = dict.fromkeys(some, here)
        ports.follow(services, Backends(ready, {}, frozenset()), {}, terms)
        assert ports.led_to == {"10.0.0.1"}
    ports.follow(services, Backends({}, {}, frozenset()), {}, terms)
    assert ports.led_to == frozenset()
