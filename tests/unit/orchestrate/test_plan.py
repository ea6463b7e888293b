"""What is decided from what changed is what is decided from everything."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any, TypeAlias

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from meshnet.model.ids import Rng
from meshnet_control.api import control_pb2 as pb
from meshnet_control.orchestrate import pipeline
from meshnet_control.orchestrate import plan as plans
from meshnet_control.orchestrate.allocate import ingress_network, timestamp
from meshnet_control.orchestrate.indexes import Indexes
from meshnet_control.orchestrate.pipeline import STEPS, converge, find, key_of
from meshnet_control.orchestrate.plan import Plan, batches, decide
from meshnet_control.orchestrate.scope import Due, Scope, scope_of
from meshnet_control.orchestrate.store_view import (
    Delete,
    Put,
    Step,
    StepFunction,
    StoreView,
    Write,
    changed,
)
from meshnet_control.store.store import Object

NOW = 1_700_000_000.0
STATES = (
    pb.TASK_STATE_RUNNING,
    pb.TASK_STATE_COMPLETE,
    pb.TASK_STATE_FAILED,
    pb.TASK_STATE_REJECTED,
    pb.TASK_STATE_SHUTDOWN,
)
MODES = ("replicated", "global", "job", "global job")
INDEXES = [name for name, each in vars(Indexes).items() if isinstance(each, property)]
Draw: TypeAlias = Callable[[st.SearchStrategy[Any]], Any]


def node(number: int) -> pb.Node:
    made = pb.Node(id=f"n{number}", created_at=timestamp(NOW - 1000))
    made.spec.role, made.spec.availability = "worker", "active"
    made.spec.labels["zone"] = "ab"[number % 2]
    made.description.hostname = f"host{number}"
    made.description.resources.nano_cpus, made.status.state = 4 * 10**9, "ready"
    return made


def network(name: str, subnet: str = "") -> pb.Network:
    made = pb.Network(id=name)
    made.spec.name = name
    if subnet:
        made.spec.ipam_options.configs.add(subnet=subnet)
    return made


def service(draw: Draw, name: str, now: float) -> pb.Service:
    made = pb.Service(id=name, created_at=timestamp(now))
    made.spec.name = name
    mode = draw(st.sampled_from(MODES))
    if mode == "replicated":
        made.spec.mode.replicated.replicas = draw(st.integers(0, 6))
    elif mode == "global":
        getattr(made.spec.mode, "global").SetInParent()
    elif mode == "job":
        made.spec.mode.replicated_job.total_completions = draw(st.integers(1, 4))
        made.spec.mode.replicated_job.max_concurrent = 2
    else:
        made.spec.mode.global_job.SetInParent()
    if "job" in mode:
        made.job_status.last_execution.CopyFrom(timestamp(now))
    template = made.spec.task_template
    template.container_spec.image = "web:1"
    template.restart_policy.condition = draw(st.sampled_from(("any", "none", "on-failure")))
    template.restart_policy.max_attempts = draw(st.integers(0, 2))
    template.networks.add(target=draw(st.sampled_from(("net", "small", "later"))))
    template.resources.reservations.nano_cpus = draw(st.sampled_from((0, 10**9)))
    if draw(st.booleans()):
        template.placement.constraints.append("node.labels.zone==a")
    if draw(st.booleans()):
        template.placement.preferences.add().spread.spread_descriptor = "node.labels.zone"
    if draw(st.booleans()):
        how = draw(st.sampled_from(("ingress", "host")))
        number = draw(st.sampled_from((0, 80)))
        made.spec.endpoint_spec.ports.add(
            target_port=80, published_port=number, publish_mode=how, protocol="tcp"
        )
    return made


def first() -> list[Object]:
    nets = [network("net"), network("small", "10.9.0.0/29")]
    nodes = [node(number) for number in range(3)]
    return [pb.Cluster(id="c"), ingress_network(random.Random(1)), *nets, *nodes]


def one_change(  # noqa: PLR0911 - one for each thing that happens
    draw: Draw, view: StoreView, now: float
) -> list[Write]:
    """Something that users, agents or other managers do."""
    what = draw(st.sampled_from("sssttttttnnNxc"))
    if what == "t" and view.tasks:
        task = changed(view.tasks[draw(st.sampled_from(sorted(view.tasks)))])
        state = draw(st.sampled_from(STATES))
        if not task.node_id or task.status.state >= state:
            return []
        task.status.state = state
        task.status.timestamp.CopyFrom(timestamp(now))
        task.updated_at.CopyFrom(timestamp(now))
        return [Put(task)]
    if what == "s":
        name = draw(st.sampled_from("abcd"))
        old = view.services.get(name)
        if old is None:
            return [Put(service(draw, name, now))]
        return [_other(draw, old, now)]
    if what == "n":
        known = view.nodes.get(name := f"n{draw(st.integers(0, 3))}")
        if known is None:
            return [Put(node(int(name[1])))]
        if draw(st.integers(0, 5)) == 0:
            return [Delete(pb.Node, name)]
        new = changed(known)
        new.status.state = draw(st.sampled_from(("ready", "ready", "down", "unknown")))
        new.spec.availability = draw(st.sampled_from(("active", "active", "pause", "drain")))
        new.spec.labels["zone"] = draw(st.sampled_from("ab"))
        new.updated_at.CopyFrom(timestamp(now))
        return [Put(new)]
    if what == "N":
        there = "later" in view.networks
        return [Delete(pb.Network, "later") if there else Put(network("later", "10.8.0.0/29"))]
    if what == "x":
        lost = next((n for n in view.networks.values() if n.spec.ingress), None)
        gone = Delete(pb.Network, lost.id) if lost is not None else None
        return [gone or Put(ingress_network(random.Random(2)))]
    if what == "c" and view.cluster is not None:
        cluster = changed(view.cluster)
        cluster.spec.orchestration.task_history_retention_limit = draw(st.integers(0, 3))
        return [Put(cluster)]
    return []


def _other(draw: Draw, old: pb.Service, now: float) -> Write:
    if draw(st.integers(0, 4)) == 0:
        return Delete(pb.Service, old.id)
    new = changed(old)
    if new.spec.mode.HasField("replicated"):
        new.spec.mode.replicated.replicas = draw(st.integers(0, 6))
    if draw(st.booleans()):
        new.previous_spec.CopyFrom(old.spec)
        new.previous_spec_version, new.spec_version = old.spec_version, old.spec_version + 1
        new.spec.task_template.container_spec.image = f"web:{new.spec_version}"
        new.spec.update_config.parallelism = draw(st.integers(0, 2))
        new.spec.update_config.failure_action = draw(st.sampled_from(("pause", "rollback")))
        new.ClearField("update_status")
        if new.HasField("job_status"):
            new.job_status.job_iteration.index += 1
            new.job_status.last_execution.CopyFrom(timestamp(now))
    return Put(new)


def written(writes: tuple[Write, ...] | list[Write], version: int) -> list[Write]:
    """As the store has them."""
    found: list[Write] = []
    for write in writes:
        if isinstance(write, Put):
            stamped: Any = changed(write.message)  # type: ignore[type-var]
            stamped.version.index = version
            found.append(Put(stamped))
        else:
            found.append(write)
    return found


def by_key(writes: tuple[Write, ...] | list[Write]) -> dict[Any, Write]:
    return {key_of(write): write for write in writes}


def asked_until_quiet(view: StoreView, now: float, rng: Rng) -> Step:
    """What ``converge`` finds, by asking every step again after each write of any."""
    current, last = view, dict[Any, Write]()
    while True:
        said = []
        for step in STEPS:
            said.append(step(current, now, rng))
            current = current.apply(said[-1].writes)
            last.update(by_key(said[-1].writes))
        if not any(each.writes for each in said):
            wakes: dict[Due, float] = {}
            for each in said:
                for due, at in each.wakes.items():
                    wakes[due] = min(at, wakes.get(due, at))
            writes = tuple(write for write in last.values() if has_effect(view, write))
            return Step(writes, wakes, frozenset().union(*(each.lacking for each in said)))


def has_effect(view: StoreView, write: Write) -> bool:
    old = find(view, key_of(write))
    return old is not None if isinstance(write, Delete) else write.message != old


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_looking_at_what_changed_decides_what_looking_at_everything_does(
    data: st.DataObject,
) -> None:
    now, rng = NOW, random.Random(7)
    plan = Plan.of(first())
    for version in range(2, data.draw(st.integers(3, 12))):
        for _ in range(data.draw(st.integers(0, 4))):
            plan = plan.noted(written(one_change(data.draw, plan.view, now), version))
        now += data.draw(st.sampled_from((0.0, 1.0, 6.0, 70.0, 90_000.0)))
        seed = data.draw(st.integers(0, 100))
        decision = decide(plan, now, random.Random(seed))
        everything = plan.view.within(plan.view.everything())
        full = converge(everything, now, random.Random(seed))
        decided = [write for batch in decision.batches for write in batch]
        assert by_key(decided) == by_key(full.writes)
        plain = asked_until_quiet(everything, now, random.Random(seed))
        assert by_key(full.writes) == by_key(plain.writes)
        assert (full.wakes, full.lacking) == (plain.wakes, plain.lacking)
        after = decision.after.written(written(decided, version))
        assert not converge(after.view.within(after.view.everything()), now, rng).writes
        due_at = after.due_at()  # what is gone may wake once more, nothing that is there too late
        assert full.wake_at is None or (due_at is not None and due_at <= full.wake_at)
        plan = after
        scratch = StoreView.of(
            [
                *plan.view.nodes.values(),
                *plan.view.services.values(),
                *plan.view.networks.values(),
                *plan.view.tasks.values(),
            ]
        )
        kept, made = plan.view.indexes, scratch.indexes
        assert kept.given_ns >= made.given_ns
        for name in INDEXES:
            assert getattr(kept, name) == getattr(made, name), name


@settings(deadline=None, max_examples=25)
@given(st.data())
def test_many_small_decisions_come_to_rest_where_one_does(data: st.DataObject) -> None:
    with pytest.MonkeyPatch.context() as patched:
        for name in ("PART", "MOST_NEW", "MOST_WRITES"):
            patched.setattr(plans, name, data.draw(st.integers(1, 3)))
        now, rng = NOW, random.Random(7)
        plan = Plan.of(first())
        for version in range(2, data.draw(st.integers(3, 8))):
            for _ in range(data.draw(st.integers(0, 4))):
                plan = plan.noted(written(one_change(data.draw, plan.view, now), version))
            for _ in range(200):
                if (due := plan.due_at()) is None or due > now:
                    break
                decision = decide(plan, now, rng)
                writes = [write for batch in decision.batches for write in batch]
                plan = decision.after.written(written(writes, version))
            else:
                raise AssertionError("it does not come to rest")
            assert not converge(plan.view.within(plan.view.everything()), now, rng).writes
            now += data.draw(st.sampled_from((0.0, 1.0, 6.0, 70.0)))


def test_a_decision_makes_a_large_service_in_portions() -> None:
    big = pb.Service(id="big")
    big.spec.name = "big"
    big.spec.mode.replicated.replicas = 600
    plan, sizes, rng = Plan.of([*first(), big]), [], random.Random(1)
    while plan.due_at() is not None:
        decision = decide(plan, NOW, rng)
        writes = [write for batch in decision.batches for write in batch]
        sizes.append(sum(isinstance(w, Put) and isinstance(w.message, pb.Task) for w in writes))
        plan = decision.after.written(written(writes, 5))
    assert sizes[:2] == [256, 256 + 88]
    assert len(plan.view.tasks) == 600


def test_what_is_written_again_is_decided_again() -> None:
    one = pb.Service(id="one")
    one.spec.name = "one"
    plan = Plan.of([*first(), one])
    decision = decide(plan, NOW, random.Random(1))
    assert decision.batches
    later = plan.noted([Put(node(9))])  # the batches were not written: another was faster
    assert later.view.scope.services == plan.view.scope.services
    again = decide(later, NOW, random.Random(1))
    tasks = [w for batch in again.batches for w in batch if key_of(w)[0] is pb.Task]
    assert len(tasks) == 1


def test_steps_that_nothing_new_concerns_are_not_asked_again() -> None:
    asked: list[str] = []

    def noting(step: StepFunction) -> StepFunction:
        def asks(view: StoreView, now: float, rng: Rng) -> Step:
            asked.append(step.__module__.rpartition(".")[2])
            return step(view, now, rng)

        return asks

    noted = {step: noting(step) for step in STEPS}
    view = StoreView.of([*first(), replicated("one")])
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(pipeline, "PLACING", frozenset(map(noted.__getitem__, pipeline.PLACING)))
        made = converge(view, NOW, random.Random(1), tuple(noted.values()))
    assert any(isinstance(w, Put) and isinstance(w.message, pb.Task) for w in made.writes)
    again = asked[len(STEPS) :]
    assert again == ["roots", "returned", "globals", "replicated", "allocate", "schedule"]


def test_a_slots_tasks_are_written_together() -> None:
    tasks = [pb.Task(id=f"{slot}{n}", service_id="s", slot=slot) for slot in (2, 1) for n in "ab"]
    node_write = Put(node(1))
    made = batches([*map(Put, tasks), node_write], StoreView(), 1)
    assert [[key_of(w)[1] for w in batch] for batch in made] == [["n1"], ["1a", "1b"], ["2a", "2b"]]


def test_a_heartbeats_news_of_a_node_concern_no_service() -> None:
    plan = Plan.of(first())
    plan = decide(plan, NOW, random.Random(1)).after
    said = changed(node(1))
    said.status.message = "no packet passes between this node and n2"
    seen = StoreView.of([node(1), *first()[:2]]).rested().apply([Put(said)])
    assert seen.scope == Scope(nodes=frozenset({"n1"}))


def replicated(name: str) -> pb.Service:
    made = pb.Service(id=name)
    made.spec.name = name
    made.spec.mode.replicated.replicas = 1
    return made


def test_services_with_tasks_on_a_node_that_went_down_are_looked_at() -> None:
    task = pb.Task(id="t", service_id="s", node_id="n1", slot=1)
    view = StoreView.of([*first(), replicated("s"), replicated("other"), task]).rested()
    down = changed(node(1))
    down.status.state = "down"
    assert view.apply([Put(down)]).scope == Scope(frozenset({"s"}), frozenset({"n1"}))


def test_what_lacked_something_is_looked_at_with_whatever_changes() -> None:
    view = StoreView.of([*first(), replicated("lacks"), replicated("other")])
    plan = Plan(view.within(scope_of(["other"])), lacking=frozenset({"lacks"}))
    writes = [write for batch in decide(plan, NOW, random.Random(1)).batches for write in batch]
    put = [write.message for write in writes if isinstance(write, Put)]
    made = {message.service_id for message in put if isinstance(message, pb.Task)}
    assert made == {"lacks", "other"}
