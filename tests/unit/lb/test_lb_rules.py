"""Laws of the load balancer's rules, on any cluster that Hypothesis thinks up."""

from __future__ import annotations

import re
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from meshnet.model.ids import NetworkId, NodeId, ServiceId, TaskId, Vni, mac_of
from meshnet.model.mesh import MESH_MARK
from meshnet.model.snapshot import (
    Endpoint,
    Gwbridge,
    Network,
    Node,
    PublishedPort,
    Sandbox,
    Service,
    Snapshot,
)
from meshnet.nft.objects import Chain, Ruleset
from meshnet.nft.ruleset_plan import ObservedTable, as_observed, plan
from meshnet_dns import redirect
from meshnet_lb import service
from meshnet_lb.chosen import Chosen
from meshnet_lb.rules import rulesets
from meshnet_lb.sandbox import mark_of

NODES = [NodeId(f"node{i}".ljust(25, "0")) for i in range(3)]
INGRESS = NetworkId("ingress".ljust(25, "0"))
NETWORKS = [NetworkId(f"net{i}".ljust(25, "0")) for i in range(3)]
SERVICES = [ServiceId(f"svc{i}".ljust(25, "0")) for i in range(4)]


def address(network: int, host: int) -> IPv4Address:
    return IPv4Address(f"10.{network}.0.{host}")


@st.composite
def snapshots(draw: Any) -> Snapshot:
    """A cluster of 3 nodes, 3 networks and the ingress, up to 4 services and 12 tasks."""
    everywhere = [*NETWORKS, INGRESS]
    nodes = {
        node: Node(
            node,
            f"host{i}",
            IPv4Address(f"192.0.2.{i + 1}"),
            ingress_address=address(3, 250 + i) if draw(st.booleans()) else None,
        )
        for i, node in enumerate(NODES)
    }
    networks = {
        net: Network(
            net,
            f"n{i}",
            Vni(4096 + i),
            IPv4Network(f"10.{i}.0.0/16"),
            address(i, 1),
            ingress=net == INGRESS,
        )
        for i, net in enumerate(everywhere)
    }
    services = {}
    for i, sid in enumerate(draw(st.lists(st.sampled_from(SERVICES), unique=True))):
        on = draw(st.lists(st.sampled_from(everywhere), unique=True))
        ports = tuple(
            PublishedPort(
                draw(st.sampled_from(["tcp", "udp"])),
                draw(st.integers(1, 9)),
                100 * (i + 1) + k,
                draw(st.sampled_from(["ingress", "host"])),
            )
            for k in range(draw(st.integers(0, 2)))
        )
        vips = {net: address(everywhere.index(net), 200 + i) for net in on}
        mode = draw(st.sampled_from(["vip", "vip", "dnsrr"]))
        services[sid] = Service(sid, f"s{i}", mode, vips, ports=ports)
    endpoints, sandboxes = {}, {}
    for i in range(draw(st.integers(0, 12))):
        task = TaskId(f"task{i}".ljust(25, "0"))
        node = draw(st.sampled_from(NODES))
        of = draw(st.sampled_from([None, *services]))
        on = draw(st.lists(st.sampled_from(everywhere), unique=True))
        addresses = {net: address(everywhere.index(net), 10 + i) for net in on}
        endpoints[task] = Endpoint(task, f"c{i}", node, of, addresses, ready=draw(st.booleans()))
        if node == NODES[0]:
            sandboxes[task] = Sandbox(
                task,
                f"/run/netns/{i}",
                tuple((net, IPv4Interface(f"{where}/16")) for net, where in addresses.items()),
                IPv4Interface(f"172.18.0.{10 + i}/16"),
                services[of].ports if of else (),
            )
    bridge = Gwbridge("docker_gwbridge", IPv4Network("172.18.0.0/16"), IPv4Address("172.18.0.1"))
    return Snapshot(1, NODES[0], nodes, networks, services, endpoints, sandboxes, bridge)


def chains_of(ruleset: Ruleset) -> dict[str, Chain]:
    return {chain.name: chain for chain in ruleset.chains}


def elements_of(ruleset: Ruleset, name: str) -> dict[str, str]:
    return dict(next(one for one in ruleset.sets if one.name == name).elements)


@given(snapshots(), st.randoms(use_true_random=False))
def test_the_order_of_inputs_does_not_matter(snapshot: Snapshot, random: Any) -> None:
    def shuffled(mapping: Any) -> Any:
        items = list(mapping.items())
        random.shuffle(items)
        return dict(items)

    other = replace(
        snapshot,
        nodes=shuffled(snapshot.nodes),
        networks=shuffled(snapshot.networks),
        services=shuffled(snapshot.services),
        endpoints=shuffled(snapshot.endpoints),
        sandboxes=shuffled(snapshot.sandboxes),
    )
    assert rulesets(other) == rulesets(snapshot)


def _chosen(snapshot: Snapshot) -> Chosen:
    made = Chosen()
    made.follow(snapshot)
    return made


@given(snapshots())
def test_backends_are_those_of_the_snapshot(snapshot: Snapshot) -> None:
    ready = _chosen(snapshot).ready
    for sid in SERVICES:
        for net in [*NETWORKS, INGRESS]:
            assert ready.get(net, {}).get(sid, ()) == snapshot.backends(sid, net)


def test_backends_stand_in_ascending_order_whatever_came_first() -> None:
    net, of, here = NETWORKS[0], SERVICES[0], NODES[0]
    # So many that no order of a set is the right one by luck.
    hosts = {f"task{i}": 1 + i * 89 % 241 for i in range(40)}
    endpoints = {
        TaskId(task): Endpoint(TaskId(task), task, here, of, {net: address(0, host)})
        for task, host in hosts.items()
    }
    ready = _chosen(Snapshot(1, here, endpoints=endpoints)).ready
    assert ready == {net: {of: tuple(address(0, host) for host in sorted(hosts.values()))}}


@given(snapshots(), st.data())
def test_one_service_changes_only_its_chains_and_elements(
    snapshot: Snapshot, data: st.DataObject
) -> None:
    if not snapshot.endpoints:
        return
    task = data.draw(st.sampled_from(sorted(snapshot.endpoints)))
    endpoint = snapshot.endpoints[task]
    turned = replace(endpoint, ready=not endpoint.ready)
    after = rulesets(replace(snapshot, endpoints={**snapshot.endpoints, task: turned}))
    before = rulesets(snapshot)
    of = snapshot.services.get(endpoint.service) if endpoint.service else None
    own = f"svc-{endpoint.service[:12]}-" if endpoint.service else "none"
    ports = {f"port-{p.protocol}-{p.published}" for p in of.ports} if of else set()
    keys = {f"{p.protocol} . {p.published}" for p in of.ports} if of else set()
    keys |= {str(vip) for vip in of.vips.values()} if of else set()
    assert after.keys() == before.keys()
    for where, rulesets_there in before.items():
        for old, new in zip(rulesets_there, after[where], strict=True):
            olds, news = chains_of(old), chains_of(new)
            for name in olds.keys() | news.keys():
                if olds.get(name) != news.get(name):
                    assert name.startswith(own) or name in ports
            for set_ in old.sets:
                if not set_.name.startswith(own):
                    was, now = dict(set_.elements), elements_of(new, set_.name)
                    assert {key for key, _ in was.items() ^ now.items()} <= keys


@given(snapshots())
def test_a_container_knows_the_services_of_its_networks_and_no_others(snapshot: Snapshot) -> None:
    found = rulesets(snapshot)
    for sandbox in snapshot.sandboxes.values():
        table = found[sandbox.netns][0]
        on = {network for network, _ in sandbox.networks} - {INGRESS}
        wanted = {
            (str(vip), bool(snapshot.backends(of.id, network)))
            for of in snapshot.services.values()
            if of.mode == "vip"
            for network, vip in of.vips.items()
            if network in on
        }
        verdicts = elements_of(table, "vips")
        assert wanted == {(vip, to != "goto refuse") for vip, to in verdicts.items()}


@given(snapshots())
def test_verdicts_name_chains_that_are_there_and_every_backend_has_one_slot(
    snapshot: Snapshot,
) -> None:
    for rulesets_there in rulesets(snapshot).values():
        for ruleset in rulesets_there:
            chains = chains_of(ruleset)
            for set_ in ruleset.sets:
                if set_.type.endswith("verdict"):
                    for verdict in set_.elements.values():
                        assert verdict.removeprefix("goto ") in chains
            named = {v for s in ruleset.sets for v in s.elements.values()} | {"goto refuse"}
            assert all(c.hook or f"goto {c.name}" in named for c in ruleset.chains)


@given(snapshots())
def test_every_node_is_known_by_mac_and_mark_in_both_directions(snapshot: Snapshot) -> None:
    for sandbox in snapshot.sandboxes.values():
        found = rulesets(snapshot)[sandbox.netns]
        if INGRESS not in [network for network, _ in sandbox.networks]:
            assert [table.family for table in found] == ["ip"]
            continue
        gateways = [n.ingress_address for n in snapshot.nodes.values() if n.ingress_address]
        wanted = {str(mac_of(g)): f"{mark_of(g):#010x}" for g in gateways}
        assert elements_of(found[0], "gateways") == wanted
        assert elements_of(found[1], "macs") == {mark: mac for mac, mark in wanted.items()}


@given(snapshots())
def test_connections_are_told_apart_by_the_gateway_that_they_came_in_by(snapshot: Snapshot) -> None:
    """Before conntrack looks (-200): one port of a client through two nodes is two connections."""
    for sandbox in snapshot.sandboxes.values():
        networks = [network for network, _ in sandbox.networks]
        on_ingress = [sandbox.interface(at) for at, n in enumerate(networks) if n == INGRESS]
        (table, *_) = rulesets(snapshot)[sandbox.netns]
        zones = [chain for chain in table.chains if chain.name == "mesh_zone"]
        assert [chain.rules for chain in zones] == [
            (f'iifname "{interface}" ct original zone set @ll,80,16',) for interface in on_ingress
        ]
        assert {chain.hook for chain in zones} <= {"type filter hook prerouting priority -300;"}


@given(snapshots())
def test_a_published_port_is_either_answered_or_closed(snapshot: Snapshot) -> None:
    (host,) = rulesets(snapshot)[None]
    verdicts = elements_of(host, "ports")
    closed = {key for key, verdict in verdicts.items() if verdict == "goto refuse"}
    ports = verdicts.keys() - closed
    connected = snapshot.nodes[snapshot.self_id].ingress_address is not None
    for of in snapshot.services.values():
        for port in of.ports:
            key = f"{port.protocol} . {port.published}"
            if port.mode == "ingress":
                answered = connected and bool(snapshot.backends(of.id, INGRESS))
                assert (key in ports, key in closed) in {(answered, not answered), (True, False)}


@given(snapshots())
def test_whoever_is_sent_vxlan_may_send_some_and_strangers_may_not(snapshot: Snapshot) -> None:
    (host,) = rulesets(snapshot)[None]
    own = str(snapshot.nodes[snapshot.self_id].vtep)
    admitted = elements_of(host, "vteps").keys()
    sent_to = {
        str(vtep)
        for network in snapshot.networks
        for _, vtep in snapshot.remote_macs(network).values()
    }
    assert sent_to <= admitted | {own}
    known, strangers, of_others = chains_of(host)["raw_in"].rules[:3]
    assert known.endswith("ip saddr @vteps notrack accept")
    vnis = re.search(r"@th,96,24 \{ ([0-9, ]+) \} counter drop$", strangers)
    assert vnis is not None
    assert {*vnis[1].split(", ")} == {str(network.vni) for network in snapshot.networks.values()}
    assert of_others.endswith("notrack accept")
    (host,) = rulesets(replace(snapshot, complete=False))[None]
    assert not any("counter drop" in rule for rule in chains_of(host)["raw_in"].rules)


@given(snapshots())
def test_vxlan_s_rules_are_for_the_cluster_s_port(snapshot: Snapshot) -> None:
    (usual,), (other,) = (
        rulesets(each)[None] for each in (snapshot, replace(snapshot, vxlan_port=7777))
    )
    assert "4789" in str(usual)
    assert str(other) == str(usual).replace("udp dport 4789", "udp dport 7777")


@given(snapshots())
def test_a_published_port_leads_to_the_target_port_of_each_ready_task(snapshot: Snapshot) -> None:
    itself = snapshot.nodes[snapshot.self_id]
    host = next((one for one in rulesets(snapshot).get(None, ()) if one.family == "ip"), None)
    if host is None or itself.ingress_address is None:
        return
    chains = chains_of(host)
    taken = {
        (port.protocol, port.published)
        for sandbox in snapshot.sandboxes.values()
        for port in sandbox.ports
        if port.mode == "host"
    }
    for of in snapshot.services.values():
        backends = snapshot.backends(of.id, INGRESS)
        for port in of.ports:
            key = (port.protocol, port.published)
            if port.mode != "ingress" or not backends or key in taken:
                continue
            [rule] = chains[f"port-{port.protocol}-{port.published}"].rules
            led_to = re.findall(r"(\d+) : (\S+) \. (\d+)", rule)
            assert led_to == [
                (str(slot), str(backend), str(port.target)) for slot, backend in enumerate(backends)
            ]
            assert f"mod {len(backends)} map" in rule


@given(snapshots())
def test_elements_are_in_the_form_that_the_kernel_gives_back(snapshot: Snapshot) -> None:
    for where, rulesets_there in rulesets(snapshot).items():
        both = [*rulesets_there, *redirect.rulesets(snapshot).get(where, ())]
        changes = plan(both, {}, prune=True)
        held = {change.table: change.result for change in changes if change.result}
        for ruleset in both:
            for set_ in ruleset.sets:
                table = held[ruleset.family, ruleset.name]
                assert dict(table.sets[set_.name].elements) == dict(set_.elements)
        assert plan(both, held, prune=True) == []


@given(snapshots())
def test_what_is_silent_for_a_moment_is_on_overlays_alone(snapshot: Snapshot) -> None:
    for sandbox in snapshot.sandboxes.values():
        held = rulesets(snapshot)[sandbox.netns][0]
        overlays = {f'"eth{number}"' for number in range(len(sandbox.networks))}
        if not overlays:
            assert "guard" not in chains_of(held)
            continue
        first = chains_of(held)["guard"].rules[0]
        assert set(re.findall('"eth[0-9]+"', first)) == overlays
        assert first.startswith("iifname != ")
        assert first.endswith(" accept")
        assert elements_of(held, "young").keys() == overlays


def test_the_turn_of_four() -> None:
    assert service.round_robin(["10.0.1.2", "10.0.1.3"]) == (
        "dnat to numgen inc mod 2 map { 0 : 10.0.1.2, 1 : 10.0.1.3 }"
    )


def test_one_backend_of_hundreds_that_goes_or_comes_changes_a_slot_and_the_rule() -> None:
    addresses = [str(IPv4Address(0x0A000100 + host)) for host in range(500)]

    def table(those: list[str]) -> Ruleset:
        chain = Chain("svc", (service.turn(len(those), "svc"),))
        return Ruleset("ip", "meshnet", (chain,), (service.slots("svc", those),))

    (made,) = plan([table(addresses)], {}, prune=True)
    assert made.result is not None
    fewer = [*addresses[:100], *addresses[101:]]
    (gone,) = plan([table(fewer)], {made.table: made.result}, prune=True)
    assert gone.commands[-2:] == (
        f"delete element ip meshnet svc {{ 100 : {addresses[100]}, 499 : {addresses[499]} }}",
        f"add element ip meshnet svc {{ 100 : {addresses[499]} }}",
    )
    assert gone.result is not None
    assert len(gone.text) < 500
    assert not plan([table(fewer)], {made.table: gone.result}, prune=True)
    (back,) = plan([table(addresses)], {made.table: gone.result}, prune=True)
    assert back.commands[-1] == f"add element ip meshnet svc {{ 499 : {addresses[100]} }}"


BACKENDS = st.lists(st.integers(1, 12).map("10.0.1.{}".format), min_size=1, max_size=8, unique=True)


@given(st.lists(st.tuples(BACKENDS, st.integers(0, 9)), min_size=1, max_size=6))
def test_turns_are_strict_between_changes_and_every_backend_is_in_the_first_one(
    changes: list[tuple[list[str], int]],
) -> None:
    """As the kernel counts: a rule that is written begins anew, one that stays goes on."""
    tables: dict[Any, ObservedTable] = {}
    turn = 0
    for backends, asked_in_between in changes:
        for again in (False, True):  # the same ones in another order are no change
            those = backends[::-1] if again else backends
            chain = Chain("svc", (service.turn(len(those), "svc"),))
            wanted = Ruleset("ip", "meshnet", (chain,), (service.slots("svc", those),))
            for change in plan([wanted], tables, prune=True):
                assert not again
                assert change.result is not None
                tables[change.table] = change.result
                if any(
                    command.startswith("add rule ip meshnet svc") for command in change.commands
                ):
                    turn = 0
        taken = tables["ip", "meshnet"].sets["svc"].elements
        number = len(backends)
        led_to = [taken[str((turn + request) % number)] for request in range(2 * number)]
        assert sorted(led_to[:number]) == sorted(backends)
        assert led_to[number:] == led_to[:number]
        turn = (turn + 2 * number + asked_in_between) % number


@given(st.lists(st.integers(0, 0xFFFFFF), unique=True, max_size=20))
def test_no_two_gateways_of_an_eight_share_a_mark(hosts: list[int]) -> None:
    gateways = [IPv4Address(0x0A000000 + host) for host in hosts]
    assert len({mark_of(gateway) for gateway in gateways}) == len(gateways)
    assert all(mark_of(gateway) & MESH_MARK == MESH_MARK for gateway in gateways)


def test_two_gateways_that_differ_in_the_second_byte_have_two_marks() -> None:
    assert mark_of(IPv4Address("10.0.0.2")) != mark_of(IPv4Address("10.1.0.2"))


@given(snapshots())
def test_a_port_that_a_process_of_the_host_has_is_left_to_it(snapshot: Snapshot) -> None:
    (whole,) = rulesets(snapshot)[None]
    for port in snapshot.published:
        (host,) = rulesets(replace(snapshot, taken=frozenset({port})))[None]
        key = f"{port[0]} . {port[1]}"
        assert key not in elements_of(host, "ports")
        others = {k: v for k, v in elements_of(whole, "ports").items() if k != key}
        assert elements_of(host, "ports") == others


def test_a_port_that_a_task_here_has_is_not_refused_for_a_service_without_tasks() -> None:
    here = NODES[0]
    snapshot = Snapshot(
        1,
        here,
        {here: Node(here, "h", IPv4Address("192.0.2.1"), ingress_address=address(3, 250))},
        {
            INGRESS: Network(
                INGRESS, "i", Vni(4096), IPv4Network("10.3.0.0/16"), address(3, 1), ingress=True
            )
        },
        {
            SERVICES[0]: Service(
                SERVICES[0], "s", vips={INGRESS: address(3, 2)},
                ports=(PublishedPort("tcp", 80, 8080),),
            )
        },
        sandboxes={
            TaskId("t"): Sandbox(
                TaskId("t"), "/run/netns/t", (), IPv4Interface("172.18.0.9/16"),
                (PublishedPort("tcp", 81, 8080, "host"),),
            )
        },
    )  # fmt: skip
    (host,) = rulesets(snapshot)[None]
    assert elements_of(host, "ports") == {"tcp . 8080": "goto port-tcp-8080"}
    assert chains_of(host)["port-tcp-8080"].rules == ("meta l4proto tcp dnat to 172.18.0.9:81",)


def test_an_ingress_network_that_was_removed_publishes_nothing() -> None:
    bridge = Gwbridge("docker_gwbridge", IPv4Network("172.18.0.0/16"), IPv4Address("172.18.0.1"))
    snapshot = Snapshot(1, NODES[0], gwbridge=bridge)
    (host,) = rulesets(snapshot)[None]
    assert all(not set_.elements for set_ in host.sets)
    assert redirect.rulesets(snapshot) == {}


def test_a_node_in_no_cluster_has_no_table() -> None:
    assert rulesets(Snapshot(1, NODES[0])) == {}


@given(snapshots())
def test_backends_of_a_table_are_the_addresses_in_its_rules(snapshot: Snapshot) -> None:
    for rulesets_there in rulesets(snapshot).values():
        for ruleset in rulesets_there:
            led = [c for c in ruleset.chains if not c.hook and c != service.REFUSE]
            text = " ".join(r for c in led for r in c.rules)
            found = re.findall(r"\d+\.\d+\.\d+\.\d+", text)
            slots = {to for each in ruleset.sets if each.slots for to in each.elements.values()}
            assert ruleset.backends >= slots.union(found)


@given(snapshots())
def test_connections_are_kept_to_all_but_what_the_managers_call_down(snapshot: Snapshot) -> None:
    """Silence takes a host's tasks out of the choice; it does not break what goes on."""
    silent = {n: replace(node, live=False) for n, node in snapshot.nodes.items()}
    on = {
        box.netns: {network for network, _ in box.networks} for box in snapshot.sandboxes.values()
    }
    mesh = {snapshot.ingress.id} if snapshot.ingress is not None else set()
    for path, tables in rulesets(replace(snapshot, nodes=silent)).items():
        everybody = {
            str(address)
            for endpoint in snapshot.endpoints.values()
            for network, address in endpoint.addresses.items()
            if network in (mesh if path is None else on[path])
        }
        for table in tables:
            if table.family == "ip":
                assert table.there >= everybody
    down = {n: replace(node, down=True) for n, node in snapshot.nodes.items()}
    away = {
        str(address)
        for endpoint in snapshot.endpoints.values()
        if endpoint.node in down
        for address in endpoint.addresses.values()
    }
    for tables in rulesets(replace(snapshot, nodes=down)).values():
        for table in tables:
            assert not (table.there - table.backends) & away


@given(snapshots())
def test_what_a_vip_or_port_leads_to_is_what_its_chain_chooses_from(snapshot: Snapshot) -> None:
    for tables in rulesets(snapshot).values():
        for table in tables:
            chains = chains_of(table)
            slots = {each.name: {*each.elements.values()} for each in table.sets if each.slots}
            for key, to, verdict in (
                (key, to, each.elements[key])
                for each in table.sets
                for key, to in each.leads.items()
            ):
                name = verdict.removeprefix("goto ")
                text = " ".join(chains[name].rules if chains[name] != service.REFUSE else ())
                assert to == slots.get(name, {*re.findall(r"\d+\.\d+\.\d+\.\d+", text)}), key


def _realised(snapshot: Snapshot, before: Any, rules: dict[str, Chain]) -> tuple[Any, list[str]]:
    """Tables by namespace after a round, and the commands that it ran; ``rules``: fingerprints."""
    after, commands = dict(before), list[str]()
    for path, wanted in rulesets(snapshot).items():
        for chain in (chain for ruleset in wanted for chain in ruleset.chains):
            rules[as_observed(chain).fingerprint] = chain
        tables = dict(after.get(path, {}))
        for change in plan(wanted, tables, prune=snapshot.complete):
            commands += change.commands
            if change.result is not None:
                tables[change.table] = change.result
        after[path] = tables
    return after, commands


def _reach(tables: Any, rules: dict[str, Chain]) -> set[tuple[str, str]]:
    """(VIP or port, backend) of all that the maps of these tables lead to."""
    table = tables.get(("ip", "meshnet"))
    found = set()
    maps = [table.sets[name] for name in ("vips", "ports") if table and name in table.sets]
    for each in maps:
        for key, verdict in each.elements.items():
            chain = rules[table.chains[verdict.removeprefix("goto ")].fingerprint]
            found |= {(key, to) for to in _takes_turns(table, chain.rules[0])}
    return found


def _takes_turns(table: ObservedTable, rule: str) -> list[str]:
    """Who is handed connections by a rule: of a map, those whose slot the turn comes to."""
    named = re.fullmatch(r"dnat to numgen inc mod (\d+) map @(\S+)", rule)
    if named is None:
        return re.findall(r" : (\S+)", rule)
    return [table.sets[named[2]].elements[str(slot)] for slot in range(int(named[1]))]


@given(snapshots(), st.data())
def test_what_an_incomplete_snapshot_leads_to_only_grows(snapshot: Snapshot, data: Any) -> None:
    rules: dict[str, Chain] = {}
    before, _ = _realised(snapshot, {}, rules)
    kept = {task: e for task, e in snapshot.endpoints.items() if data.draw(st.booleans())}
    known = replace(snapshot, endpoints=kept, complete=False)
    after, commands = _realised(known, before, rules)
    for path, tables in before.items():
        assert _reach(after[path], rules) >= _reach(tables, rules)
    assert not any("refuse" in each for each in commands), "nothing is refused for not being known"
    assert not any(each.startswith(("flush", "delete chain")) for each in commands)
    fresh, commands = _realised(known, {}, rules)
    assert not any("goto refuse" in each for each in commands)
    whole, _ = _realised(snapshot, after, rules)
    assert whole == before, "and when all is known it is as it was"
    assert fresh.keys() == before.keys()


@given(snapshots())
def test_what_was_refused_is_led_on_as_soon_as_a_backend_is_known(snapshot: Snapshot) -> None:
    rules: dict[str, Chain] = {}
    before, _ = _realised(replace(snapshot, endpoints={}), {}, rules)
    after, _ = _realised(replace(snapshot, complete=False), before, rules)
    whole, _ = _realised(snapshot, before, rules)
    for path in whole:
        assert _reach(after[path], rules) == _reach(whole[path], rules)


@given(snapshots())
def test_each_vip_leads_to_its_own_services_backends_on_its_own_network(snapshot: Snapshot) -> None:
    ingress = snapshot.ingress
    for network, made in _chosen(snapshot).vips.items():
        chains = {chain.name: chain for chain in made.chains}
        assert len(chains) == len(made.chains), "a counter each"
        verdicts = dict(made.verdicts)
        for of in snapshot.services.values():
            wanted = [str(a) for a in sorted(snapshot.backends(of.id, network))]
            shown = of.mode == "vip" and network in of.vips
            if not shown or not wanted or (ingress is not None and network == ingress.id):
                continue
            chain = chains[verdicts[str(of.vips[network])].removeprefix("goto ")]
            assert chain.name == service.chain_name(of.id, network)
            assert chain.rules == (f"dnat to numgen inc mod {len(wanted)} map @{chain.name}",)
            slots = next(each for each in made.sets if each.name == chain.name)
            assert [slots.elements[str(slot)] for slot in range(len(wanted))] == wanted
            assert slots.slots


def test_services_of_one_network_and_networks_of_one_service_have_chains_of_their_own() -> None:
    services = [ServiceId("s" * 25), ServiceId("t" * 25)]
    networks = [NetworkId("n" * 25), NetworkId("o" * 25)]
    names = {service.chain_name(of, on) for of in services for on in networks}
    assert len(names) == 4
