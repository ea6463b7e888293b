"""What encrypted overlays need, Snapshot after Snapshot, and in which order it comes and goes."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from pathlib import Path

from meshnet.model.ids import NetworkId, NodeId, TaskId, Vni
from meshnet.model.snapshot import Network, Node, Sandbox, Snapshot
from meshnet.netstate.changes import AddVxlan, DelNetns
from meshnet.netstate.esp import AddPolicy, Association, DelPolicy, EspState, Life, digest
from meshnet.netstate.esp_plan import policies
from meshnet.netstate.values import Desired, NetnsState
from meshnet.netstate.values import Observed as NetnsObserved
from meshnet.overlay.desired import VXLAN, Overlays, netns_name
from meshnet.overlay.operations import Encrypt, Observed, plan

DIR = Path("/run/netns")
SECRET, PLAIN = NetworkId("secret".ljust(25, "0")), NetworkId("plain".ljust(25, "0"))
PATHS = {network: str(DIR / netns_name(network)) for network in (SECRET, PLAIN)}
A, B, C = (
    Node(NodeId(name), name, IPv4Address(f"192.0.2.{n}"), salt=name.encode() * 16)
    for n, name in enumerate("abc", 1)
)
RING = (b"k" * 16,)


def snapshot(*nodes: Node, on: tuple[NetworkId, ...] = (SECRET, PLAIN)) -> Snapshot:
    networks = {
        network: Network(
            network,
            network[:6],
            Vni(4097 + n),
            IPv4Network(f"10.0.{n}.0/24"),
            IPv4Address(f"10.0.{n}.1"),
            encrypted=network == SECRET,
        )
        for n, network in enumerate(PATHS)
    }
    places = tuple((network, IPv4Interface(f"10.0.{n}.9/24")) for n, network in enumerate(on))
    task = TaskId("t".ljust(25, "0"))
    return Snapshot(
        1,
        A.id,
        {node.id: node for node in nodes},
        networks,
        sandboxes={task: Sandbox(task, "/run/t", places, None)},
        esp_keys=RING,
    )


def associations(made: Desired) -> frozenset[Association]:
    assert made.esp is not None
    return made.esp.associations


def test_what_is_kept_up_is_what_is_made_from_scratch():
    overlays = Overlays(DIR)
    for now in (
        snapshot(A, B),
        snapshot(A, B, C),
        snapshot(A, replace(B, salt=b"x" * 16), C),
        snapshot(A, replace(B, vtep=IPv4Address("192.0.2.77")), C),
        replace(snapshot(A, B), esp_keys=(b"n" * 16, *RING)),
        snapshot(replace(A, salt=b"y" * 16), B),
        snapshot(A, B, on=(PLAIN,)),
        snapshot(A, B),
    ):
        kept, fresh = overlays.of(now), Overlays(DIR).of(now)
        assert kept == fresh
        if kept.esp is not None:
            keys = {each: each.key for each in associations(kept)}
            assert keys == {each: each.key for each in associations(fresh)}


def test_encrypted_overlays_have_a_port_of_their_own():
    made = Overlays(DIR).of(snapshot(A, B))
    ports = {path: made.specs[path].vxlans[VXLAN].vxlan.port for path in PATHS.values()}
    assert ports == {PATHS[SECRET]: 4790, PATHS[PLAIN]: 4789}
    assert made.esp is not None
    assert made.esp.namespaces == {PATHS[SECRET]}


def test_associations_are_with_all_that_told_their_salt():
    silent = replace(C, salt=b"")
    found = associations(Overlays(DIR).of(snapshot(A, B, silent)))
    assert {(each.source, each.destination) for each in found} == {
        (A.vtep, B.vtep),
        (B.vtep, A.vtep),
    }
    assert not associations(Overlays(DIR).of(snapshot(replace(A, salt=b""), B)))


def test_policies_come_before_the_links_and_go_after_them():
    nothing = Observed(NetnsObserved({None: NetnsState()}), esp=EspState())
    desired = Overlays(DIR).of(snapshot(A, B))
    changes = plan(desired, nothing, prune=True)
    kinds = [type(each) for each in changes]
    assert isinstance(changes[0], Encrypt)
    assert [type(each) for each in changes[0].changes][:2] == [AddPolicy, AddPolicy]
    assert kinds.index(AddVxlan) > 0
    assert changes[0].namespaces == {PATHS[SECRET]}
    assert desired.esp is not None
    there = EspState(frozenset(), policies(desired.esp), Life(A.salt, digest(frozenset())))
    links = NetnsObserved({None: NetnsState()}, made=frozenset(PATHS.values()))
    after = plan(Desired({None: desired.specs[None]}), Observed(links, esp=there), prune=True)
    assert {type(each) for each in after[:-1]} == {DelNetns}
    assert isinstance(after[-1], Encrypt)
    assert isinstance(after[-1].changes[-1], DelPolicy)


def test_the_policy_of_a_vtep_of_before_goes_after_its_links():
    desired = Overlays(DIR).of(snapshot(A, B))
    assert desired.esp is not None
    old = policies(replace(desired.esp, vtep=IPv4Address("192.0.2.99")))
    there = EspState(frozenset(), old, Life(A.salt, digest(frozenset())))
    observed = Observed(NetnsObserved({None: NetnsState()}), esp=there)
    changes = plan(desired, observed, prune=True)
    first, last = changes[0], changes[-1]
    assert isinstance(first, Encrypt)
    assert not any(isinstance(each, DelPolicy) for each in first.changes)
    assert isinstance(last, Encrypt)
    assert {type(each) for each in last.changes} == {DelPolicy}
