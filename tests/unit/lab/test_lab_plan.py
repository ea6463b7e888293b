"""Laws of the lab's plan: applied it leaves nothing to do, and it never touches what is whole."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from meshnet_control.lab.lab_plan import (
    Change,
    Desired,
    Make,
    MakeLan,
    Observed,
    Unmake,
    UnmakeLan,
    plan,
)

NAMES = ["h1", "h2", "h3", "h4", "client"]
members = st.lists(st.sampled_from(NAMES), unique=True).map(tuple)
subsets = st.frozensets(st.sampled_from(NAMES))


@st.composite
def states(draw):
    """Anything that may be left of a lab; a port needs a bridge to be on."""
    bridge = draw(st.booleans())
    lan = bridge or draw(st.booleans())
    return Observed(
        namespaces=draw(subsets) | ({"lan"} if lan else set()),
        inits=draw(subsets),
        booted=draw(subsets),
        ports=draw(subsets) if bridge else frozenset(),
        bridge=bridge,
    )


def apply(changes: list[Change], state: Observed) -> Observed:
    namespaces, inits, ports = set(state.namespaces), set(state.inits), set(state.ports)
    booted = set(state.booted)
    bridge = state.bridge
    for change in changes:
        match change:
            case Unmake(member):
                for part in (namespaces, inits, booted, ports):
                    part.discard(member)
            case UnmakeLan():
                namespaces.discard("lan")
                ports.clear()
                bridge = False
            case MakeLan():
                assert "lan" not in namespaces
                namespaces.add("lan")
                bridge = True
            case Make(member):
                assert bridge
                assert not {member} & (namespaces | inits | ports)
                for part in (namespaces, inits, booted, ports):
                    part.add(member)
    parts = [frozenset(part) for part in (namespaces, inits, booted, ports)]
    return Observed(parts[0], parts[1], parts[2], parts[3], bridge=bridge)


@given(members, states())
def test_plan_after_apply_is_empty(names, state):
    desired = Desired(names)
    after = apply(plan(desired, state), state)
    assert plan(desired, after) == []
    assert after.members == set(names)
    assert after.bridge == bool(names)


@given(members, states())
def test_whole_machines_on_a_whole_lan_are_left_alone(names, state):
    if not (state.bridge and "lan" in state.namespaces):
        return
    touched = {c.member for c in plan(Desired(names), state) if isinstance(c, Unmake | Make)}
    assert not touched & {name for name in names if state.is_whole(name)}


def test_nothing_desired_nothing_there():
    assert plan(Desired(), Observed()) == []


def test_an_empty_machine_gets_a_lan_first():
    assert plan(Desired(("h1", "client")), Observed()) == [
        MakeLan(),
        Make("h1"),
        Make("client"),
    ]


def test_a_lost_bridge_takes_the_machines_with_it():
    whole = frozenset({"h1", "client"})
    state = Observed(whole | {"lan"}, whole, whole, frozenset(), bridge=False)
    assert plan(Desired(("h1", "client")), state) == [
        Unmake("h1"),
        Unmake("client"),
        UnmakeLan(),
        MakeLan(),
        Make("h1"),
        Make("client"),
    ]
