"""A lab made as its file says: applied it leaves nothing to do, and a cluster keeps a manager."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from lab_model import applied

from meshnet_control.lab import lab_plan
from meshnet_control.lab.apply_plan import (
    OUTSIDE,
    Init,
    Join,
    Leave,
    Machines,
    Names,
    Seen,
    Serve,
    SetLinks,
    SetRole,
    plan,
)
from meshnet_control.lab.errors import LabError
from meshnet_control.lab.lab_file import parsed
from meshnet_control.lab.lab_plan import Make, Unmake
from meshnet_control.lab.layout import Layout

LANS = "lans: {lan: 192.168.50.0/24, back: 192.168.61.0/24}\n"
NAMES = ["h1", "h2", "h3", "h4"]


def layout(text: str) -> Layout:
    topology = parsed(LANS + text, "lab.yaml")
    return Layout("mnlab", len(topology.hosts), topology=topology)


def said(steps) -> list[str]:
    return [line for step in steps for line in str(step).split("; ")]


def follow(wanted: Layout, seen: Seen) -> Seen:
    """The lab after a whole plan, step by step; a cluster is never without a manager."""
    for step in plan(wanted, seen):
        had_manager = "manager" in seen.standings.values()
        match step:
            case Machines(changes):
                seen = changed(wanted, seen, changes)
            case Names(member):
                seen = replace(seen, named=seen.named | {member})
            case SetLinks(links):
                seen = replace(seen, links=dict(links))
            case Serve(host):
                seen = replace(seen, standings={**seen.standings, host: OUTSIDE})
            case _:
                seen = in_cluster(step, seen)
        assert not had_manager or "manager" in seen.standings.values(), step
    known = frozenset(host.name for host in wanted.hosts)
    return replace(seen, disks=known, named=known | {"client"})


def changed(wanted: Layout, seen: Seen, changes) -> Seen:
    made = applied(changes, seen.machines, lab_plan.desired(wanted))
    unmade = {change.member for change in changes if isinstance(change, Unmake)}
    standings = {host: role for host, role in seen.standings.items() if host not in unmade}
    hosts = {change.member for change in changes if isinstance(change, Make)} - {"client"}
    standings |= dict.fromkeys(hosts, OUTSIDE)
    return replace(seen, machines=made, standings=standings, named=seen.named | made.members)


def in_cluster(step, seen: Seen) -> Seen:
    standings, nodes = dict(seen.standings), dict(seen.nodes)
    match step:
        case Init(host):
            assert standings[host] == OUTSIDE
            assert "manager" not in standings.values()
            standings[host], nodes[host] = "manager", True
        case Join(host, role):
            assert standings[host] == OUTSIDE
            assert "manager" in standings.values()
            standings[host], nodes[host] = role, True
        case SetRole(host, role):
            standings[host] = role
        case Leave(host):
            nodes.pop(host, None)
            standings[host] = OUTSIDE
    return replace(seen, standings=standings, nodes=nodes)


@st.composite
def files(draw):
    """A lab whose hosts are anywhere, and of any role."""
    hosts = draw(st.lists(st.sampled_from(NAMES), unique=True, min_size=1))
    words = [
        f"  {host}: {{lan: {draw(st.sampled_from(['lan', 'back']))},"
        f" manager: {draw(st.sampled_from(['true', 'false']))}}}"
        for host in hosts
    ]
    links = draw(st.sampled_from(["", "\nlinks: [{between: [lan, back], loss: 3%}]"]))
    return layout("hosts:\n" + "\n".join(words) + links)


@given(files(), files())
def test_one_file_after_the_other_leaves_nothing_to_do(first, second):
    seen = follow(first, Seen())
    assert plan(first, seen) == []
    try:
        after = follow(second, seen)
    except LabError:
        assume(False)  # noqa: FBT003 - the cluster would end; see below
        raise
    assert [step for step in plan(second, after) if not isinstance(step, SetRole)] == []


TWO = "hosts:\n  h1: {manager: true}\n  h2: {}\n"
RUNNING = follow(layout(TWO), Seen())


def test_a_lab_from_nothing():
    assert said(plan(layout(TWO), Seen())) == [
        "router: make",
        "LAN lan: make",
        "LAN back: make",
        "h1: make and plug in",
        "h2: make and plug in",
        "client: make and plug in",
        "h1: begin the cluster",
        "h2: join as a worker",
    ]


def test_a_host_that_is_added_joins_and_all_are_told_its_name():
    wanted = layout(TWO + "  h3: {lan: back}\n")
    assert said(plan(wanted, replace(RUNNING, named=frozenset()))) == [
        "h3: make and plug in",
        "h1: tell it the names of the others",
        "h2: tell it the names of the others",
        "client: tell it the names of the others",
        "h3: join as a worker",
    ]


def test_a_host_that_moves_leaves_where_it_was_and_joins_where_it_is():
    wanted = layout("hosts:\n  h1: {manager: true}\n  h2: {lan: back}\n")
    assert said(plan(wanted, RUNNING)) == [
        "h2: leave the cluster",
        "h2: power off and unplug",
        "h2: make and plug in",
        "h2: join as a worker",
    ]


def test_another_manager_comes_before_the_first_one_goes():
    wanted = layout("hosts:\n  h2: {manager: true}\n  h3: {}\n")
    assert said(plan(wanted, RUNNING)) == [
        "h3: make and plug in",
        "h3: join as a worker",
        "h2: promote",
        "h1: leave the cluster",
        "h1: power off and unplug",
    ]


def test_the_last_manager_does_not_go():
    with pytest.raises(LabError, match=r"moves or removes every manager that there is \(h1\)"):
        plan(layout("hosts:\n  h1: {manager: true, lan: back}\n  h2: {}\n"), RUNNING)


def test_a_host_that_was_powered_off_is_started_and_asked_then():
    machines = replace(
        RUNNING.machines,
        inits=RUNNING.machines.inits - {"h2"},
        namespaces=RUNNING.machines.namespaces - {"h2"},
        ports={"h1": "lan", "client": "lan"},
    )
    seen = replace(RUNNING, machines=machines, standings={"h1": "manager"})
    assert said(plan(layout(TWO), seen)) == ["h2: make and plug in"]


def test_a_node_that_died_and_is_in_no_file_is_forgotten():
    seen = replace(RUNNING, nodes={"h1": True, "h2": True, "h9": False})
    assert plan(layout(TWO), seen) == [Leave("h9", alive=False)]


def test_a_cluster_that_the_file_does_not_speak_of_is_left_alone():
    assert plan(layout("hosts: {h1: , h2: }"), RUNNING) == []


def test_links_alone():
    wanted = layout(TWO + "links: [{between: [h1, h2], loss: 3%}]")
    assert said(plan(wanted, RUNNING)) == ["link h1 h2: loss 3%"]
    assert said(plan(layout(TWO), replace(RUNNING, links=dict(wanted.links)))) == [
        "link h1 h2: as it comes"
    ]
