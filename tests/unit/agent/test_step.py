"""Laws of a task's steps, and what a container is made of."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from meshnet.errors import ControlError, PoolExhaustedError
from meshnet.model.snapshot import Gwbridge
from meshnet_control.agent import container
from meshnet_control.agent.gateway_addresses import GatewayAddresses
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
    knocked=st.booleans(),
    failing=st.sampled_from(["", UNHEALTHY]),
    ended=st.booleans(),
    look_at=st.none() | st.sampled_from([5.0, 15.0]),
    stopping_since=st.none() | st.just(5.0),
    killed=st.booleans(),
)


@given(VIEWS)
def test_a_state_only_grows(view):
    following = step(view, 10.0)
    assert following.state is None or following.state > view.state
    assert following.state is None or not final(view.state)


@given(VIEWS)
def test_nothing_starts_that_is_not_wanted(view):
    action = step(view, 10.0).action
    if view.desired > pb.TASK_STATE_RUNNING or final(view.state) or view.failing:
        starting = {Action.CREATE, Action.START, Action.OPEN, Action.KNOCK, Action.PUBLISH}
        assert action not in starting


@given(VIEWS)
def test_a_backend_is_drained_before_it_is_stopped(view):
    if step(view, 10.0).action is Action.STOP:
        assert not view.published


@given(VIEWS)
def test_looking_again_at_once_means_something_was_reported(view):
    following = step(view, 10.0)
    if following.action is Action.NONE and following.until == 0.0:
        assert following.state is not None


@given(VIEWS)
@example(TaskView(pb.TASK_STATE_RUNNING, 0, Seen("c", running=True), lost=True))
def test_a_final_state_is_said_when_nothing_runs_and_nothing_is_announced(view):
    following = step(view, 10.0)
    if following.state is not None and final(following.state):
        assert view.container is None or not view.container.running
        assert not view.announced


@given(VIEWS)
def test_what_may_have_run_never_runs_again(view):
    action = step(view, 10.0).action
    seen = view.container
    if view.lost and seen is None:
        assert action is not Action.CREATE
    if seen is not None and (seen.started or seen.error):
        assert action not in {Action.CREATE, Action.START}


@given(VIEWS)
def test_the_gate_opens_for_a_container_that_runs(view):
    if step(view, 10.0).action in {Action.OPEN, Action.KNOCK, Action.PUBLISH}:
        assert view.container is not None
        assert view.container.running
        assert not view.ended


@given(VIEWS)
def test_a_backend_whose_process_is_gone_is_withdrawn_first(view):
    following = step(replace(view, look_at=None), 10.0)
    if view.announced and view.ended and view.container is not None and view.container.running:
        assert following.action is Action.WITHDRAW


@given(VIEWS)
def test_a_doubt_is_looked_into_in_time(view):
    following = step(view, 10.0)
    if view.container is None or view.look_at is None:
        return
    if view.look_at <= 10.0:
        assert following.action is Action.LOOK
    elif following.action is Action.NONE:
        assert following.until is not None
        assert following.until <= view.look_at


@pytest.mark.parametrize(
    ("state", "code", "err"),
    [
        (pb.TASK_STATE_RUNNING, 143, f"task: non-zero exit (143): {UNHEALTHY}"),
        (pb.TASK_STATE_RUNNING, 0, UNHEALTHY),
        (pb.TASK_STATE_STARTING, 143, UNHEALTHY),
    ],
)
def test_an_unhealthy_container_is_stopped_then_failed(state, code, err):
    seen = Seen("c", running=True, started=True, health="unhealthy")
    view = TaskView(
        desired=pb.TASK_STATE_RUNNING, state=state, container=seen, opened=True,
        announced=True, published=True, has_health=True,
    )  # fmt: skip
    assert step(view, 0.0).action is Action.CONDEMN
    view = replace(view, failing=UNHEALTHY)
    assert step(view, 0.0).action is Action.DRAIN
    view = replace(view, published=False)
    assert step(view, 0.0).action is Action.STOP
    view = replace(view, stopping_since=0.0)
    assert step(view, 1.0).state is None
    assert step(view, 11.0).action is Action.KILL
    view = replace(view, container=replace(seen, running=False, exit_code=code))
    assert step(view, 1.0).action is Action.WITHDRAW
    following = step(replace(view, announced=False), 1.0)
    assert (following.state, following.err) == (pb.TASK_STATE_FAILED, err)


@pytest.mark.parametrize("code", [0, 3, 143])
@pytest.mark.parametrize("health", ["healthy", "unhealthy"])
def test_a_stop_on_purpose_ends_in_shutdown(code, health):
    seen = Seen("c", started=True, exit_code=code, health=health)
    view = TaskView(
        desired=pb.TASK_STATE_SHUTDOWN, state=pb.TASK_STATE_RUNNING, container=seen,
        opened=True, has_health=True, stopping_since=0.0,
    )  # fmt: skip
    assert step(view, 1.0).state == pb.TASK_STATE_SHUTDOWN


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


def test_what_a_task_was_given_of_its_node_is_in_its_environment():
    made = task(env=["A=1"])
    for value in ("x", "y"):
        made.generic_resources.add(named_resource_spec={"kind": "gpu", "value": value})
    made.generic_resources.add(discrete_resource_spec={"kind": "SSD", "value": 3})
    wanted = ["A=1", "DOCKER_RESOURCE_SSD=3", "DOCKER_RESOURCE_GPU=x,y"]
    assert body(made).config["Env"] == wanted


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
    addresses = GatewayAddresses(bridge)
    for host in (3, 4, 5, 6):
        assert addresses.of(f"t{host}") == IPv4Interface(f"172.18.0.{host}/29")
    with pytest.raises(PoolExhaustedError):
        addresses.of("t7")
