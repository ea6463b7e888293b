"""Laws of the lab's plan: applied it leaves nothing to do, and it never touches what is whole."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Interface

from hypothesis import given
from hypothesis import strategies as st
from lab_model import applied

from meshnet_control.lab.lab_plan import (
    Desired,
    Make,
    MakeLan,
    MakeRouter,
    Observed,
    Place,
    Unmake,
    UnmakeLan,
    UnmakeRouter,
    plan,
)

NAMES = ["h1", "h2", "h3", "h4", "client"]
LANS = ["lan", "front"]
GATEWAYS = [IPv4Interface("192.168.50.254/24"), IPv4Interface("192.168.60.254/24")]
places = st.builds(
    Place,
    st.sampled_from(LANS),
    st.sampled_from([IPv4Interface("192.168.50.11/24"), IPv4Interface("192.168.50.12/24")]),
)
lans = st.dictionaries(st.sampled_from(LANS), st.sampled_from(GATEWAYS))
subsets = st.frozensets(st.sampled_from(NAMES))


@st.composite
def wishes(draw):
    """A lab, or none; each machine is on one of its LANs."""
    made = draw(lans)
    members = draw(st.dictionaries(st.sampled_from(NAMES), places)) if made else {}
    return Desired({name: at for name, at in members.items() if at.lan in made}, made)


@st.composite
def states(draw):
    """Anything that may be left of a lab; a bridge or port is in the LANs' namespace."""
    router = draw(st.booleans())
    namespaces = draw(subsets)
    ports = st.dictionaries(st.sampled_from(NAMES), st.sampled_from([*LANS, ""]))
    addresses = st.sampled_from([IPv4Interface("192.168.50.11/24"), None])
    return Observed(
        namespaces=namespaces | ({"lan"} if router else set()),
        inits=draw(subsets),
        booted=draw(subsets),
        ports=draw(ports) if router else {},
        lans=draw(lans) if router else {},
        addresses={name: draw(addresses) for name in sorted(namespaces) if draw(st.booleans())},
    )


@given(wishes(), states())
def test_plan_after_apply_is_empty(wanted, state):
    after = applied(plan(wanted, state), state, wanted)
    assert plan(wanted, after) == []
    assert after.members == wanted.members.keys()
    assert after.lans == wanted.lans


@given(wishes(), states())
def test_machines_that_are_where_they_should_be_are_left_alone(wanted, state):
    touched = {c.member for c in plan(wanted, state) if isinstance(c, Unmake | Make)}
    fine = {
        name
        for name, place in wanted.members.items()
        if state.is_at(name, place) and state.lans.get(place.lan) == wanted.lans[place.lan]
    }
    assert "lan" not in state.namespaces or not touched & fine


PLACES = {
    "h1": Place("lan", IPv4Interface("192.168.50.11/24")),
    "client": Place("lan", IPv4Interface("192.168.50.100/24")),
}
WANTED = Desired(PLACES, {"lan": GATEWAYS[0]})
WHOLE = frozenset(PLACES)
RUNNING = Observed(
    WHOLE | {"lan"},
    WHOLE,
    WHOLE,
    dict.fromkeys(PLACES, "lan"),
    {"lan": GATEWAYS[0]},
    {name: place.address for name, place in PLACES.items()},
)


def test_nothing_desired_nothing_there():
    assert plan(Desired(), Observed()) == []


def test_what_is_there_and_desired_is_left_alone():
    assert plan(WANTED, RUNNING) == []


def test_an_empty_machine_gets_a_lan_first():
    assert plan(WANTED, Observed()) == [
        MakeRouter(),
        MakeLan("lan"),
        Make("h1"),
        Make("client"),
    ]


def test_a_lost_bridge_takes_the_machines_with_it():
    state = replace(RUNNING, ports=dict.fromkeys(PLACES, ""), lans={})
    assert plan(WANTED, state) == [
        Unmake("h1"),
        Unmake("client"),
        MakeLan("lan"),
        Make("h1"),
        Make("client"),
    ]


def test_a_machine_whose_address_somebody_took_is_made_anew():
    for address in (IPv4Interface("192.168.50.12/24"), None):
        state = replace(RUNNING, addresses={**RUNNING.addresses, "h1": address})
        assert plan(WANTED, state) == [Unmake("h1"), Make("h1")]


def test_a_machine_moves_alone():
    there = Place("front", IPv4Interface("192.168.60.11/24"))
    wanted = Desired({**PLACES, "h1": there}, {"lan": GATEWAYS[0], "front": GATEWAYS[1]})
    assert plan(wanted, RUNNING) == [Unmake("h1"), MakeLan("front"), Make("h1")]


def test_a_lan_of_another_subnet_is_made_anew():
    wanted = Desired({}, {"lan": GATEWAYS[1]})
    state = replace(RUNNING, namespaces=frozenset({"lan"}), inits=frozenset(), ports={})
    assert plan(wanted, state) == [UnmakeLan("lan"), MakeLan("lan")]


def test_nothing_desired_takes_the_namespace_with_all_in_it():
    assert plan(Desired(), RUNNING) == [Unmake("h1"), Unmake("client"), UnmakeRouter()]
