"""What becomes of tasks when their node comes back after it was Down."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from simulated_swarm import Cluster, image, node, scale, service, update_config

from meshnet_control.api import control_pb2 as pb
from meshnet_control.orchestrate.store_view import changed


def down(world: Cluster, number: int) -> None:
    lost = changed(world.view.nodes[f"n{number}"])
    lost.status.state = "down"
    world.put(lost)


def on(world: Cluster, number: int) -> list[pb.Task]:
    return [task for task in world.running() if task.node_id == f"n{number}"]


def test_tasks_whose_replacements_run_stop_when_their_node_is_back() -> None:
    world = Cluster(node(1), node(2), service(4))
    world.settle()
    old = on(world, 1)
    down(world, 1)
    world.settle()
    assert len(on(world, 2)) == 4
    world.put(node(1))
    world.settle()
    assert len(world.running()) == 4
    assert not on(world, 1)
    ended = {world.view.tasks[task.id].status.state for task in old}
    assert ended == {pb.TASK_STATE_SHUTDOWN}


def test_a_task_keeps_its_place_and_its_id_when_nobody_runs_in_it_yet() -> None:
    world = Cluster(node(1), node(2), service(4))
    world.settle()
    before = {task.id for task in world.running()}
    down(world, 1)
    world.converge()  # replacements are assigned, and none runs yet
    world.put(node(1))
    world.settle()
    assert {task.id for task in world.running()} == before


def test_a_task_that_fits_nowhere_else_runs_on_as_if_nothing_had_been() -> None:
    made = service(2)
    made.spec.task_template.placement.constraints.append("node.id == n1")
    world = Cluster(node(1), node(2), made)
    world.settle()
    before = {task.id for task in world.running()}
    down(world, 1)
    world.settle(30)
    world.put(node(1))
    world.settle()
    assert {task.id for task in world.running()} == before
    assert {task.id for task in world.live()} == before


def test_a_global_services_task_is_not_made_anew_beside_one_that_runs() -> None:
    made = service(1)
    made.spec.mode.ClearField("replicated")
    getattr(made.spec.mode, "global").SetInParent()
    world = Cluster(node(1), node(2), made)
    world.settle()
    before = {task.id for task in world.tasks()}
    down(world, 1)
    world.settle()
    world.put(node(1))
    world.settle()
    assert {task.id for task in world.tasks()} == before
    assert {task.id for task in world.running()} == before


def test_what_is_out_of_date_or_too_much_stops() -> None:
    world = Cluster(node(1), node(2), service(2, update_config=update_config()))
    world.settle()
    [old] = on(world, 1)
    down(world, 1)
    world.converge()
    world.edit_spec(image("web:2"))
    world.settle()
    world.put(node(1))
    world.settle()
    assert world.view.tasks[old.id].status.state == pb.TASK_STATE_SHUTDOWN
    down(world, 2)
    world.converge()
    world.edit_spec(scale(0))
    world.put(node(2))
    world.settle()
    assert not world.running()


def test_a_container_that_ended_meanwhile_is_replaced() -> None:
    world = Cluster(node(1), service(1))
    world.settle()
    [old] = world.running()
    down(world, 1)
    world.converge()
    world.put(world.reported(old, pb.TASK_STATE_FAILED))
    world.put(node(1))
    world.settle(10)
    [new] = world.running()
    assert new.id != old.id


@pytest.mark.timeout(120)
@settings(max_examples=15)
@given(st.lists(st.tuples(st.integers(1, 3), st.booleans(), st.integers(0, 3)), max_size=12))
def test_whatever_comes_and_goes_the_wanted_number_runs_and_no_more(events) -> None:
    world = Cluster(node(1), node(2), node(3), service(5))
    world.settle()
    for number, up, ticks in events:
        if up:
            world.put(node(number))
        else:
            down(world, number)
        for _ in range(ticks):
            world.tick()
    for number in (1, 2, 3):
        world.put(node(number))
    world.settle(70)
    assert len(world.running()) == 5
    assert {task.id for task in world.running()} == {task.id for task in world.live()}
    assert not any(task.displaced for task in world.live())
