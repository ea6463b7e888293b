"""What the page shows: rows of what there is, no secrets, and the difference of two pictures."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from shown_cluster import (
    FAILED,
    PENDING,
    RUNNING,
    SHUTDOWN,
    STARTING,
    answer,
    network,
    node,
    service,
    shop,
    task,
)

from meshnet_control.api import control_pb2 as pb
from meshnet_control.controlapi.services import with_status
from meshnet_control.dashboard import view

ROWS = st.dictionaries(st.sampled_from("abcde"), st.fixed_dictionaries({"x": st.integers(0, 2)}))
PICTURES = st.fixed_dictionaries(dict.fromkeys(view.KINDS, ROWS))


def pictured(objects):
    tasks = [each for each in objects if isinstance(each, pb.Task)]
    services = [
        with_status(each, [row for row in tasks if row.service_id == each.id])
        for each in objects
        if isinstance(each, pb.Service)
    ]
    nodes = [each for each in objects if isinstance(each, pb.Node)]
    return view.picture(nodes, services, tasks, [network()])


@given(PICTURES, PICTURES)
def test_a_difference_makes_the_one_the_other(before, after):
    found = view.difference(before, after)
    for kind in view.KINDS:
        rows = dict(before[kind])
        for key in found.get(kind, {}).get("gone", ()):
            del rows[key]
        left = set(rows)
        names = {id(row): key for key, row in after[kind].items()}
        for row in found.get(kind, {}).get("put", ()):
            rows[names[id(row)]] = row
        assert rows == after[kind]
        assert left <= set(after[kind])
    assert (found == {}) == (before == after)


@pytest.mark.parametrize(
    ("state", "wanted", "group"),
    [
        (RUNNING, RUNNING, "running"),
        (STARTING, RUNNING, "coming"),
        (PENDING, RUNNING, "coming"),
        (pb.TASK_STATE_READY, pb.TASK_STATE_READY, "coming"),
        (RUNNING, pb.TASK_STATE_COMPLETE, "running"),
        (RUNNING, SHUTDOWN, "going"),
        (STARTING, pb.TASK_STATE_REMOVE, "going"),
        (PENDING, SHUTDOWN, ""),
        (FAILED, RUNNING, "failed"),
        (pb.TASK_STATE_REJECTED, RUNNING, "failed"),
        (FAILED, SHUTDOWN, ""),
        (SHUTDOWN, SHUTDOWN, ""),
        (pb.TASK_STATE_COMPLETE, pb.TASK_STATE_COMPLETE, ""),
        (pb.TASK_STATE_ORPHANED, SHUTDOWN, ""),
    ],
)
def test_a_task_is_drawn_by_what_it_does_and_should(state, wanted, group):
    assert view.group_of(task(service("web", 1), 1, "h1", state, wanted)) == group


def test_a_node_a_service_and_a_task_have_what_is_looked_for():
    found = pictured(shop())
    assert found["nodes"]["nodeh1"] == {
        "id": "nodeh1", "name": "h1", "role": "manager", "leader": True, "reachability": "",
        "state": "ready", "message": "", "availability": "active", "address": "192.168.50.11",
        "cpus": 4.0, "memory": 8 * 10**9, "platform": "linux/x86_64", "engine": "20.10.24",
        "labels": {},
    }  # fmt: skip
    api = found["services"]["serviceshop_api"]
    assert (api["running"], api["wanted"], api["mode"], api["image"]) == (
        4,
        4,
        "replicated",
        "shop/api:2.1",
    )
    assert api["update"] == {"state": "updating", "message": "", "fresh": 2}
    assert api["vips"] == [{"network": "shop", "address": "10.0.1.10/24"}]
    assert api["ports"] == [{"published": 9090, "target": 80, "protocol": "tcp", "mode": "ingress"}]
    assert api["trouble"] == ""
    assert found["services"]["servicemailer"]["trouble"]
    going = [row for row in found["tasks"].values() if row["group"] == "going"]
    assert [(row["name"], row["node"], row["wanted"]) for row in going] == [
        ("shop_api.4", "nodeh3", "shutdown")
    ]


def test_no_environment_secret_or_command_is_shown():
    web = service("web", 1)
    spec = web.spec.task_template.container_spec
    spec.env.append("PASSWORD=sesame")
    spec.command.append("sesame")
    spec.secrets.add(secret_name="sesame")  # noqa: S106
    said = json.dumps(pictured([node("h1", 1), web, task(web, 1, "h1")]))
    assert "sesame" not in said


def test_containers_of_docker_run_are_no_tasks_of_a_service():
    assert pictured([pb.Task(id="a", desired_state=RUNNING)])["tasks"] == {}


@given(st.integers(0, 40))
def test_services_have_colours_of_their_own_while_there_are_any(count):
    services = [service(f"s{number}", 1) for number in range(count)]
    colours = [row["colour"] for row in pictured(services)["services"].values()]
    assert len(set(colours)) == min(count, view.COLOURS)
    assert all(0 <= each < view.COLOURS for each in colours)


def test_a_service_keeps_its_colour_when_another_one_comes():
    old, new = service("old", 1), service("new", 1)
    new.created_at.seconds = 9
    before = pictured([old])["services"][old.id]["colour"]
    assert pictured([new, old])["services"][old.id]["colour"] == before


def test_backends_have_their_shares_and_who_is_missing_is_said():
    web = service("web", 2)
    tasks = [task(web, 1, "h1"), task(web, 2, "h2")]
    counted = answer(web, tasks, [30, 10]).answers[0].answer.balancing
    found = view.backends(counted, web.id, ["h3 does not answer"])
    assert [(row["name"], row["node"], row["share"]) for row in found["backends"]] == [
        ("web.1", "h1", 0.75),
        ("web.2", "h2", 0.25),
    ]
    assert found["missing"] == ["h3 does not answer"]
    assert view.backends(counted, "other", [])["backends"] == []
