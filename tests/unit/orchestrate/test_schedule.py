"""Which node a task gets, and what a task says that gets none."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshnet_control.api import control_pb2 as pb
from meshnet_control.orchestrate import constraints, schedule
from meshnet_control.orchestrate.store_view import StoreView, changed

NOW = 1_700_000_000.0
RNG = random.Random(1)


def node(name: str, **labels: str) -> pb.Node:
    made = pb.Node(id=name)
    made.description.hostname = f"host-{name}"
    made.description.platform.os, made.description.platform.architecture = "linux", "x86_64"
    made.description.resources.nano_cpus = 2_000_000_000
    made.description.resources.memory_bytes = 1 << 30
    made.spec.role, made.spec.availability = "worker", "active"
    made.spec.labels.update(labels)
    made.status.state, made.status.addr = "ready", "192.0.2.7"
    return made


def task(
    name: str,
    service: str = "web",
    *,
    on: str = "",
    state: pb.TaskState = pb.TASK_STATE_PENDING,
    desired: pb.TaskState = pb.TASK_STATE_RUNNING,
) -> pb.Task:
    made = pb.Task(id=name, service_id=service, node_id=on, desired_state=desired)
    made.status.state = state
    made.status.timestamp.seconds = int(NOW) - 10
    return made


def placed(*objects: pb.Node | pb.Task) -> StoreView:
    view = StoreView.of(objects)
    view = view.apply(schedule.step(view, NOW, RNG).writes)
    assert schedule.step(view, NOW, RNG).writes == ()
    return view


def error(view: StoreView, name: str = "t") -> str:
    assert view.tasks[name].status.state == pb.TASK_STATE_PENDING
    return str(view.tasks[name].status.err)


def test_a_task_is_assigned_with_swarms_words() -> None:
    done = placed(node("a"), task("t")).tasks["t"]
    assert (done.node_id, done.status.state) == ("a", pb.TASK_STATE_ASSIGNED)
    assert done.status.message == "scheduler assigned task to node"
    assert (done.status.err, done.status.timestamp.seconds) == ("", int(NOW))


def test_a_preassigned_task_is_confirmed_on_its_node_or_says_why_not() -> None:
    view = placed(node("a"), node("b"), task("t", on="b"))
    assert view.tasks["t"].status.message == "scheduler confirmed task can run on preassigned node"
    down = node("b")
    down.status.state = "down"
    assert error(placed(node("a"), down, task("t", on="b"))) == "1 node not available for new tasks"


def test_without_nodes() -> None:
    assert error(placed(task("t"))) == "no suitable node"


def test_reasons_are_counted_and_the_most_frequent_comes_first() -> None:
    drained = node("a")
    drained.spec.availability = "drain"
    wanted = task("t")
    wanted.spec.placement.constraints.append("node.labels.zone==x")
    wanted.endpoint_spec.ports.add(target_port=80, published_port=80, publish_mode="host")
    holder = task("h", "other", on="d", state=pb.TASK_STATE_RUNNING)
    holder.endpoint_spec.CopyFrom(wanted.endpoint_spec)
    view = placed(drained, node("b"), node("c"), node("d", zone="x"), holder, wanted)
    assert error(view) == (
        "no suitable node (scheduling constraints not satisfied on 2 nodes; "
        "1 node not available for new tasks; host-mode port already in use on 1 node)"
    )


def test_the_port_of_a_predecessor_that_leaves_is_free() -> None:
    old = task("old", on="a", state=pb.TASK_STATE_RUNNING, desired=pb.TASK_STATE_SHUTDOWN)
    old.endpoint_spec.ports.add(target_port=80, published_port=80, publish_mode="host")
    new = task("t", desired=pb.TASK_STATE_READY)
    new.endpoint_spec.CopyFrom(old.endpoint_spec)
    assert placed(node("a"), old, new).tasks["t"].node_id == "a"
    new.desired_state = pb.TASK_STATE_RUNNING
    assert "host-mode port already in use on 1 node" in error(placed(node("a"), old, new))


@pytest.mark.parametrize(
    ("kind", "taken", "more"),
    [("nano_cpus", 1_500_000_000, 500_000_001), ("memory_bytes", 600 << 20, (424 << 20) + 1)],
)
def test_reservations_of_running_tasks_count(kind: str, taken: int, more: int) -> None:
    running = task("r", on="a", state=pb.TASK_STATE_RUNNING)
    setattr(running.spec.resources.reservations, kind, taken)
    wanted = task("t")
    setattr(wanted.spec.resources.reservations, kind, more - 1)
    assert placed(node("a"), running, wanted).tasks["t"].node_id == "a"
    setattr(wanted.spec.resources.reservations, kind, more)
    assert error(placed(node("a"), running, wanted)) == (
        "no suitable node (insufficient resources on 1 node)"
    )
    running.status.state = pb.TASK_STATE_SHUTDOWN
    assert placed(node("a"), running, wanted).tasks["t"].node_id == "a"


def test_generic_resources_are_counted_by_kind() -> None:
    here = node("a")
    for name in ("one", "two"):
        here.description.resources.generic_resources.add().named_resource_spec.kind = "gpu"
        here.description.resources.generic_resources[-1].named_resource_spec.value = name
    tasks = [task(name) for name in ("s", "t")]
    for each, amount in zip(tasks, (2, 1), strict=True):
        wanted = each.spec.resources.reservations.generic_resources.add().discrete_resource_spec
        wanted.kind, wanted.value = "gpu", amount
    assert "insufficient resources on 1 node" in error(placed(here, *tasks))
    assert placed(here, tasks[1]).tasks["t"].node_id == "a"


def resources_of(task: pb.Task) -> list[str]:
    return [
        f"{each.named_resource_spec.kind}={each.named_resource_spec.value}"
        if each.HasField("named_resource_spec")
        else f"{each.discrete_resource_spec.kind}:{each.discrete_resource_spec.value}"
        for each in task.generic_resources
    ]


def test_a_named_resource_is_one_tasks_alone_as_long_as_it_is_not_over() -> None:
    here = node("a")
    has = here.description.resources.generic_resources
    for name in ("c", "a", "b"):
        has.add(named_resource_spec={"kind": "gpu", "value": name})
    has.add(discrete_resource_spec={"kind": "ssd", "value": 4})
    tasks = [task(name) for name in ("s", "t", "u")]
    for each, gpus in zip(tasks, (2, 1, 1), strict=True):
        wanted = each.spec.resources.reservations.generic_resources
        wanted.add(discrete_resource_spec={"kind": "gpu", "value": gpus})
    wanted = tasks[1].spec.resources.reservations.generic_resources
    wanted.add(discrete_resource_spec={"kind": "ssd", "value": 3})
    view = placed(here, *tasks)
    assert resources_of(view.tasks["s"]) == ["gpu=a", "gpu=b"]
    assert resources_of(view.tasks["t"]) == ["gpu=c", "ssd:3"]
    assert not view.tasks["u"].node_id
    ended = changed(view.tasks["s"])
    ended.status.state = pb.TASK_STATE_SHUTDOWN
    after = placed(here, ended, view.tasks["t"], tasks[2])
    assert resources_of(after.tasks["u"]) == ["gpu=a"]


def test_plugins_platform_and_replicas_per_node() -> None:
    volume = task("t")
    mount = volume.spec.container_spec.mounts.add(type="volume")
    mount.volume_options.driver_config.name = "nfs"
    assert "missing plugin on 2 nodes" in error(placed(node("a"), node("b"), volume))
    arm = task("t")
    arm.spec.placement.platforms.add(os="linux", architecture="arm64")
    assert "unsupported platform on 1 node" in error(placed(node("a"), arm))
    arm.spec.placement.platforms.add(os="linux", architecture="amd64")
    assert placed(node("a"), arm).tasks["t"].node_id == "a"
    one, two = task("s"), task("t")
    one.spec.placement.max_replicas = two.spec.placement.max_replicas = 1
    assert error(placed(node("a"), one, two)) == (
        "no suitable node (max replicas per node limit exceed)"
    )


def test_own_service_is_spread_before_the_total_counts() -> None:
    busy = [task(f"o{i}", "other", on="a", state=pb.TASK_STATE_RUNNING) for i in range(3)]
    own = task("own", on="b", state=pb.TASK_STATE_RUNNING)
    assert placed(node("a"), node("b"), *busy, own, task("t")).tasks["t"].node_id == "a"
    assert placed(node("a"), node("b"), *busy, task("t")).tasks["t"].node_id == "b"
    more = [task(f"m{i}", on="a", state=pb.TASK_STATE_RUNNING) for i in range(2)]
    assert placed(node("a"), node("b"), *more, own, task("t")).tasks["t"].node_id == "b"


def test_a_node_where_the_service_keeps_failing_comes_last() -> None:
    failed = [task(f"f{i}", on="a", state=pb.TASK_STATE_FAILED) for i in range(5)]
    own = task("own", on="b", state=pb.TASK_STATE_RUNNING)
    assert placed(node("a"), node("b"), *failed, own, task("t")).tasks["t"].node_id == "b"
    assert placed(node("a"), node("b"), *failed[1:], own, task("t")).tasks["t"].node_id == "a"
    for each in failed:
        each.status.timestamp.seconds -= 300
    assert placed(node("a"), node("b"), *failed, own, task("t")).tasks["t"].node_id == "a"


def test_spread_preference_levels_the_branches() -> None:
    nodes = [node("a", zone="x"), node("b", zone="x"), node("c", zone="x"), node("d", zone="y")]
    tasks = [task(f"t{i}") for i in range(6)]
    for each in tasks:
        each.spec.placement.preferences.add().spread.spread_descriptor = "node.labels.zone"
    view = placed(*nodes, *tasks)
    assert Counter(t.node_id for t in view.tasks.values()) == {"a": 1, "b": 1, "c": 1, "d": 3}


def test_a_branch_that_is_full_gives_way() -> None:
    tasks = [task(f"t{i}") for i in range(4)]
    for each in tasks:
        each.spec.placement.preferences.add().spread.spread_descriptor = "node.labels.zone"
        each.spec.placement.max_replicas = 1
    view = placed(node("a", zone="x"), node("b", zone="y"), node("c", zone="y"), *tasks)
    assert Counter(t.node_id for t in view.tasks.values()) == {"a": 1, "b": 1, "c": 1, "": 1}
    assert error(view, "t3") == "no suitable node (max replicas per node limit exceed)"


def test_a_second_preference_levels_the_branches_within_each_of_the_first() -> None:
    nodes = [
        node("a", zone="x", rack="1"),
        node("b", zone="x", rack="1"),
        node("c", zone="x", rack="2"),
        node("d", zone="y", rack="1"),
        node("e", zone="y"),
    ]
    tasks = [task(f"t{i}") for i in range(8)]
    for each in tasks:
        for key in ("node.labels.zone", "node.labels.rack"):
            each.spec.placement.preferences.add().spread.spread_descriptor = key
    view = placed(*nodes, *tasks)
    counted = Counter(t.node_id for t in view.tasks.values())
    assert counted == {"a": 1, "b": 1, "c": 2, "d": 2, "e": 2}


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ("node.id==A", True),
        ("node.id != a", False),
        ("node.hostname == HOST-a", True),
        ("Node.Role==worker", True),
        ("node.ip==192.0.2.7", True),
        ("node.ip==192.0.2.0/24", True),
        ("node.ip!=192.0.2.0/24", False),
        ("node.ip==nonsense", False),
        ("node.platform.os==linux", True),
        ("node.platform.arch!=x86_64", False),
        ("node.labels.zone==Eu", True),
        ("node.labels.Zone==eu", False),
        ("node.labels.none!=x", True),
        ("engine.labels.gpu==1", True),
        ("node.weather==fine", False),
        ("node.weather!=fine", False),
        ("node.role", False),
    ],
)
def test_constraints(text: str, holds: bool) -> None:  # noqa: FBT001 - a table's column
    here = node("a", zone="eu")
    here.description.engine.labels["gpu"] = "1"
    assert constraints.satisfied(text, here) == holds


@given(st.integers(1, 6), st.integers(0, 30))
def test_equal_nodes_differ_by_at_most_one_task(nodes: int, replicas: int) -> None:
    view = placed(*(node(f"n{i}") for i in range(nodes)), *(task(f"t{i}") for i in range(replicas)))
    counts = Counter({f"n{i}": 0 for i in range(nodes)})
    counts.update(t.node_id for t in view.tasks.values())
    assert max(counts.values()) - min(counts.values()) <= 1
    assert sum(counts.values()) == replicas


def test_what_the_first_of_two_tasks_reserves_the_second_does_not_get() -> None:
    tasks = [task(name) for name in "tu"]
    for each in tasks:
        each.spec.resources.reservations.memory_bytes = 600 << 20
        each.spec.resources.reservations.nano_cpus = 10**9
    view = placed(node("a"), *tasks)
    assert view.tasks["t"].node_id == "a"
    assert error(view, "u") == "no suitable node (insufficient resources on 1 node)"


def test_a_privileged_task_goes_to_a_node_that_allows_it_alone() -> None:
    asks = task("t")
    asks.service_labels["meshnet.devices"] = "/dev/fuse"
    words = "no suitable node (2 nodes do not allow services with devices)"
    assert error(placed(node("a"), node("b"), asks)) == words
    allows = node("c")
    allows.description.engine.labels["meshnet.privileged"] = "true"
    assert placed(node("a"), node("b"), allows, asks).tasks["t"].node_id == "c"


def test_a_task_on_an_encrypted_network_goes_to_a_node_whose_kernel_has_esp() -> None:
    secret = task("t")
    network = secret.networks_attachments.add().network
    network.spec.driver_configuration.options["encrypted"] = "true"
    words = "no suitable node (kernel without ESP, for an encrypted network, on 2 nodes)"
    assert error(placed(node("a"), node("b"), secret)) == words
    able = node("c")
    able.description.esp = True
    assert placed(node("a"), node("b"), able, secret).tasks["t"].node_id == "c"
    network.spec.driver_configuration.options["encrypted"] = "false"
    assert placed(node("a"), secret).tasks["t"].node_id == "a"
