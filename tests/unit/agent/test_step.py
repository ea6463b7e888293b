"""Laws of a task's steps, and what a container is made of."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshnet.errors import ControlError, PoolExhaustedError
from meshnet.model.snapshot import Gwbridge
from meshnet_control.agent import container
from meshnet_control.agent.step import UNHEALTHY, Action, Seen, TaskView, final, step
from meshnet_control.api import control_pb2 as pb

STATES = [number for number in pb.TaskState.values() if number <= pb.TASK_STATE_REJECTED]
SEEN = st.builds(
    Seen,
    id=st.just("c"),
    running=st.booleans(),
    started=st.booleans(),
    exit_code=st.sampled_from([0, 3, 137]),
    health=st.sampled_from(["", "starting", "healthy", "unhealthy"]),
    gone=st.booleans(),
)
VIEWS = st.builds(
    TaskView,
    desired=st.sampled_from(
        [pb.TASK_STATE_READY, pb.TASK_STATE_RUNNING, pb.TASK_STATE_SHUTDOWN, pb.TASK_STATE_REMOVE]
    ),
    state=st.sampled_from(STATES),
    container=st.none() | SEEN,
    lost=st.booleans(),
    wired=st.booleans(),
    opened=st.booleans(),
    published=st.booleans(),
    announced=st.booleans(),
    has_health=st.booleans(),
    stopping_since=st.none() | st.just(5.0),
    killed=st.booleans(),
    cause=st.sampled_from(["", "dockerexec: unhealthy container"]),
)


@given(VIEWS)
def test_a_state_only_grows(view):
    following = step(view, 10.0)
    assert following.state is None or following.state > view.state
    assert following.state is None or not final(view.state)


@given(VIEWS)
def test_nothing_starts_that_is_not_wanted(view):
    action = step(view, 10.0).action
    if view.desired > pb.TASK_STATE_RUNNING or final(view.state):
        starting = {Action.CREATE, Action.START, Action.OPEN, Action.PUBLISH}
        assert action not in starting


@given(VIEWS)
def test_a_backend_is_drained_before_it_is_stopped(view):
    if step(view, 10.0).action is Action.STOP:
        assert not view.published


@given(VIEWS)
def test_looking_again_at_once_means_something_is_new(view):
    following = step(view, 10.0)
    if following.action is Action.NONE and following.until == 0.0:
        assert following.state is not None or following.cause != view.cause


@given(VIEWS)
def test_no_end_is_said_while_the_container_runs(view):
    following = step(view, 10.0)
    if following.state is not None and final(following.state):
        assert view.container is None or not view.container.running


@given(VIEWS)
def test_what_was_stopped_on_purpose_did_not_fail(view):
    following = step(view, 10.0)
    on_purpose = view.desired > pb.TASK_STATE_RUNNING and view.stopping_since is not None
    if on_purpose and not view.cause and following.state is not None and final(following.state):
        assert following.state == pb.TASK_STATE_SHUTDOWN


@given(VIEWS)
def test_nobody_is_led_to_a_process_that_has_ended(view):
    gone = view.container is not None and view.container.running and view.container.gone
    if gone and view.announced and (view.opened or view.desired > pb.TASK_STATE_RUNNING):
        assert step(view, 10.0).action in {Action.WITHDRAW, Action.NONE}


def test_an_unhealthy_container_is_drained_and_stopped_before_it_has_failed():
    sick = Seen("c", running=True, started=True, health="unhealthy")
    view = TaskView(
        desired=pb.TASK_STATE_RUNNING,
        state=pb.TASK_STATE_RUNNING,
        container=sick,
        opened=True,
        published=True,
        announced=True,
        has_health=True,
    )
    first = step(view, 0)
    assert (first.action, first.state, first.cause) == (Action.NONE, None, UNHEALTHY)
    view = replace(view, cause=first.cause)
    assert step(view, 0).action is Action.DRAIN
    view = replace(view, published=False)
    assert step(view, 0).action is Action.STOP
    view = replace(view, stopping_since=0.0)
    assert step(view, 1).action is Action.NONE
    assert step(view, view.grace_s).action is Action.KILL
    view = replace(view, container=replace(sick, running=False, exit_code=137))
    assert step(view, 11).action is Action.WITHDRAW
    ended = step(replace(view, announced=False), 11)
    assert (ended.state, ended.err) == (pb.TASK_STATE_FAILED, UNHEALTHY)


def test_the_way_of_a_task():
    view, seen = TaskView(desired=pb.TASK_STATE_RUNNING, state=pb.TASK_STATE_ASSIGNED), Seen("c")
    assert step(view, 0).action is Action.CREATE
    view = replace(view, container=seen, state=pb.TASK_STATE_READY)
    assert step(view, 0).action is Action.START
    view = replace(view, container=replace(seen, running=True, started=True), announced=True)
    assert step(view, 0).action is Action.OPEN
    view = replace(view, opened=True)
    assert step(view, 0).state == pb.TASK_STATE_RUNNING
    assert step(view, 0).action is Action.PUBLISH


def task(**spec):
    made = pb.Task(id="t1", service_id="s1", service_name="web", slot=2, node_id="n1")
    made.spec.container_spec.CopyFrom(pb.ContainerSpec(**({"image": "nginx"} | spec)))
    attachment = made.networks_attachments.add(addresses=["10.0.1.5/24"])
    attachment.network.driver_state.name = "overlay"
    return made


IMAGE = {"Config": {"Entrypoint": ["/entry"], "Cmd": ["run"]}}
PLACE = container.Place("n1", "h1")


def body(made, image=IMAGE):
    return container.create_arguments(made, image, PLACE, Path("/run/x"), None)


@pytest.mark.parametrize(
    ("spec", "argv"),
    [
        ({}, ["/entry", "run"]),
        ({"args": ["a"]}, ["/entry", "a"]),
        ({"command": ["b"]}, ["b"]),
        ({"command": ["b"], "args": ["a"]}, ["b", "a"]),
    ],
)
def test_what_runs_behind_the_gate(spec, argv):
    made = body(task(**spec))
    assert made.name == "web.2.t1"
    assert made.config["Cmd"] == argv
    assert made.config["HostConfig"]["NetworkMode"] == "none"


def test_no_command_is_refused_in_the_engines_words():
    with pytest.raises(ControlError, match="No command specified"):
        body(task(), {})


def test_templates():
    made = task(
        env=["A={{.Task.Name}}", 'B={{index .Service.Labels "x"}}'], hostname="{{.Node.ID}}"
    )
    made.service_labels["x"] = "y"
    config = body(made).config
    assert config["Env"] == ["A=web.2.t1", "B=y"]
    assert config["Hostname"] == "n1"
    with pytest.raises(ControlError, match=r"expanding env failed"):
        body(task(env=["A={{.Nothing}}"]))


def test_without_an_overlay_it_is_an_ordinary_container():
    made = task()
    del made.networks_attachments[:]
    config = body(made).config
    assert "Entrypoint" not in config
    assert config["HostConfig"]["NetworkMode"] == "default"


def test_gateway_addresses_start_at_three_and_end():
    bridge = Gwbridge("docker_gwbridge", IPv4Network("172.18.0.0/29"), IPv4Address("172.18.0.1"))
    used: list[IPv4Interface] = []
    for host in (3, 4, 5, 6):
        used.append(container.free_gateway_address(bridge, used))
        assert used[-1] == IPv4Interface(f"172.18.0.{host}/29")
    with pytest.raises(PoolExhaustedError):
        container.free_gateway_address(bridge, used)
