"""Why a name is answered as it is, and where what is heard differs from what should be."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address, IPv4Interface, IPv4Network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshnet.errors import ControlError
from meshnet.model.ids import NetworkId, NodeId, ServiceId, TaskId, Vni
from meshnet.model.snapshot import (
    Endpoint,
    Network,
    Node,
    PublishedPort,
    Sandbox,
    Service,
    Snapshot,
)
from meshnet_control.explain import containers, names
from meshnet_dns.answer import A, Question, Why, answer, decide
from meshnet_dns.explained import Explained, Heard
from meshnet_dns.zone import Claim, claims, zones

H1, H2 = NodeId("n1"), NodeId("n2")
APP, DATA = NetworkId("app"), NetworkId("data")
WEB = ServiceId("s1")
ONE, TWO = TaskId("one"), TaskId("two")


def network(key, third):
    subnet = IPv4Network(f"10.0.{third}.0/24")
    return Network(key, key, Vni(4096 + third), subnet, subnet[1])


def endpoint(task, node, last, **more):
    addresses = {APP: IPv4Address(f"10.0.1.{last}")}
    return Endpoint(task, f"web.1.{task}", node, WEB, addresses, f"{task}c" * 16, **more)


SANDBOX = Sandbox(
    ONE, "/ns/one", ((APP, IPv4Interface("10.0.1.11/24")), (DATA, IPv4Interface("10.0.2.11/24"))),
    None,
)  # fmt: skip
SNAPSHOT = Snapshot(
    1,
    H1,
    {H1: Node(H1, "h1", IPv4Address("192.0.2.1")), H2: Node(H2, "h2", IPv4Address("192.0.2.2"))},
    {APP: network(APP, 1), DATA: network(DATA, 2)},
    {WEB: Service(WEB, "web", vips={APP: IPv4Address("10.0.1.2")})},
    {ONE: endpoint(ONE, H1, 11, hostname="web"), TWO: endpoint(TWO, H2, 12, ready=False)},
    {ONE: SANDBOX},
)


def explained(question, snapshot=SNAPSHOT, upstreams=("192.0.2.53",), *, own=False):
    """As a resolver that knows this Snapshot says it."""
    stack = snapshot.sandboxes[ONE].stack.lower()
    found = decide(question, list(zones(snapshot).values()), stack)
    addresses = found.answer.told if found.answer is not None else ()
    return Explained(
        found.why,
        found.zone.network if found.zone is not None else "",
        addresses,
        own,
        upstreams if found.answer is None else (),
    )


def told(name, *, snapshot=SNAPSHOT, heard=None, known=None, kind=A, **more):
    question = names.question(name, kind)
    said = explained(question, known or snapshot, **more)
    heard = heard or Heard("NOERROR", said.addresses, 0.001)
    box = snapshot.sandboxes[ONE]
    return names.answer(snapshot, snapshot.endpoints[ONE], box, question, said, heard)


@pytest.mark.parametrize(
    ("name", "more", "reason"),
    [
        ("web", {}, "the service web on app has that name, before 1 more that claim it"),
        ("Web.App.", {}, "the service web on app has that name, before 1 more that claim it"),
        ("tasks.web", {}, "the service web on app has that name"),
        ("web.1.one", {}, "the container web.1.one on app has that name"),
        (
            "example.org",
            {},
            "no network of the container knows the name: the host's servers are asked",
        ),
        (
            "example.org",
            {"own": True},
            "no network of the container knows the name: the container's own servers are asked",
        ),
        (
            "example.org",
            {"upstreams": ()},
            "no network of the container knows the name: there is nobody who may be asked",
        ),
        ("2.1.0.10.in-addr.arpa", {"kind": 12}, "the address is on app, and has a name"),
        (
            "77.2.0.10.in-addr.arpa",
            {"kind": 12},
            "the address is of data and nobody's: no other server can know it",
        ),
    ],
)
def test_the_reason(name, more, reason):
    found = told(name, **more)
    assert found.reason == reason
    assert list(found.differs) == []


def test_a_name_without_an_address_says_so():
    nobody = replace(SNAPSHOT, endpoints={ONE: endpoint(ONE, H1, 11, ready=False)})
    assert told("tasks.web", snapshot=nobody).reason.endswith("; it has no address now")


def test_a_name_that_has_no_address_of_ipv4_is_where_a_way_ends():
    found = told("web", heard=Heard("NOERROR", ("other.example.", "10.0.1.2"), 0.001))
    assert names.addresses(found) == [IPv4Address("10.0.1.2")]
    alias = replace_records(found, "other.example.")
    step = names.step(alias, "c.1", "no such container: wbe; did you mean web?")
    assert (step.ends, step.ok, step.should) == (True, False, "an address")
    assert step.mend.startswith("no such container: wbe; did you mean web?; see what names")


def replace_records(found, *records):
    del found.records[:], found.differs[:]
    found.records.extend(records)
    return found


def test_who_else_claims_a_name_stands_below_the_best():
    (first, second) = told("web").claims
    assert (first.kind, list(first.addresses)) == ("service", ["10.0.1.2"])
    assert (second.kind, second.owner) == ("hostname", "web.1.one")


@pytest.mark.parametrize(
    ("heard", "sentence"),
    [
        (Heard("", (), 3.0), names.NOT_HEARD),
        (Heard("NOERROR", ("10.0.1.99",), 0.1), names.OTHERWISE),
        (Heard("NXDOMAIN", (), 0.1), names.OTHERWISE),
    ],
)
def test_what_is_heard_and_is_not_answered_is_marked(heard, sentence):
    assert list(told("web", heard=heard).differs) == [sentence]


def test_a_resolver_that_is_behind_is_marked():
    before = replace(SNAPSHOT, services={WEB: Service(WEB, "web", vips={})})
    assert list(told("web", known=before).differs) == [names.BEHIND]


def test_a_reply_that_was_cut_is_no_difference():
    both = replace(SNAPSHOT, endpoints={ONE: endpoint(ONE, H1, 11), TWO: endpoint(TWO, H2, 12)})
    heard = Heard("NOERROR", ("10.0.1.12",), 0.001)
    assert list(told("tasks.web", snapshot=both, heard=heard).differs) == []


def test_the_dump_has_every_name_with_its_best_claim_and_says_what_is_behind():
    held = zones(SNAPSHOT)
    app, data = names.dump(SNAPSHOT, held, [APP, DATA]).networks
    assert [each.name for each in app.records] == sorted(held[APP].names)
    (web,) = (each for each in app.records if each.name == "web")
    assert (web.kind, web.owner, list(web.addresses)) == ("service", "web", ["10.0.1.2"])
    assert (app.differs, data.differs, list(data.records)) == ("", "", [])
    old = zones(replace(SNAPSHOT, endpoints={}))
    assert names.dump(SNAPSHOT, old, [APP]).networks[0].differs == names.BEHIND
    assert "no container here" in names.dump(SNAPSHOT, {}, [APP]).networks[0].differs


@given(
    st.lists(st.sampled_from(["web", "WEB", "x", "db.", ""]), max_size=4),
    st.sampled_from(["web", "x", "db", "tasks.web", "one"]),
)
def test_a_zone_answers_by_the_best_of_the_claims(hostnames, name):
    made = {
        TaskId(f"t{n}"): endpoint(TaskId(f"t{n}"), H1, 20 + n, hostname=hostname)
        for n, hostname in enumerate(hostnames)
    }
    snapshot = replace(SNAPSHOT, endpoints={**SNAPSHOT.endpoints, **made})
    found = [each for each in claims(snapshot, APP) if each.name == name]
    said = answer(Question(name, A), [zones(snapshot)[APP]])
    if not found:
        assert said is None
        return
    assert said is not None
    best = [each.addresses for each in found if each.claim == found[0].claim]
    assert set(said.addresses) == {address for addresses in best for address in addresses}
    assert [each.claim for each in found] == sorted(each.claim for each in found)


def test_whom_a_reference_means():
    assert containers.endpoint(SNAPSHOT, "onec").task == ONE
    assert containers.endpoint(SNAPSHOT, "two").node == H2
    with pytest.raises(ControlError, match=r"did you mean web\.1\?"):
        containers.endpoint(SNAPSHOT, "web.1.on3")
    with pytest.raises(ControlError, match="no such container"):
        containers.endpoint(SNAPSHOT, "")


def test_a_container_of_another_node_is_said_to_be_there():
    with pytest.raises(ControlError, match="runs on h2"):
        containers.sandbox(SNAPSHOT, SNAPSHOT.endpoints[TWO])
    with pytest.raises(ControlError, match="has no network here"):
        containers.sandbox(replace(SNAPSHOT, sandboxes={}), SNAPSHOT.endpoints[ONE])


def test_claims_are_ordered_as_the_zone_takes_them():
    assert Claim.SERVICE < Claim.SERVICE_ALIAS < Claim.CONTAINER < Claim.ALIAS < Claim.HOSTNAME
    assert Why("name") is Why.NAME


def test_a_short_name_of_two_stacks_says_whose_it_is_and_who_else_has_it():
    stacks = {
        ServiceId(name): Service(
            ServiceId(name), name, vips={APP: IPv4Address(address)}, aliases={APP: ("db",)}
        )
        for name, address in (("Shop_db", "10.0.1.20"), ("blog_db", "10.0.1.21"))
    }
    of_shop = replace(SNAPSHOT, services=stacks, sandboxes={ONE: replace(SANDBOX, stack="Shop")})
    found = told("db", snapshot=of_shop)
    assert list(found.records) == ["10.0.1.20"]
    assert found.reason == (
        "the service Shop_db on app is of the container's own stack, before blog_db there"
    )
    assert not found.differs
    of_none = replace(of_shop, sandboxes={ONE: SANDBOX})
    assert sorted(told("db", snapshot=of_none).records) == ["10.0.1.20", "10.0.1.21"]


def test_a_port_says_who_publishes_it():
    web = replace(SNAPSHOT.services[WEB], ports=(PublishedPort("tcp", 80, 8080),))
    snapshot = replace(SNAPSHOT, services={WEB: web})
    found = told("_80._tcp.web", snapshot=snapshot, kind=33)
    assert list(found.records) == ["0 1 80 web.1.one.app"]
    assert found.reason == "a service on app publishes that port: its ready tasks"
    found = told("_81._tcp.web", snapshot=snapshot, kind=33, heard=Heard("NXDOMAIN", (), 0.001))
    assert found.reason == "the service is on app, and publishes no such port"
