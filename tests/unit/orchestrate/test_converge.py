"""All steps together: from a service to assigned tasks, and the leader that commits them."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meshnet_control.api import control_pb2 as pb
from meshnet_control.manager.leader import Manager
from meshnet_control.orchestrate.allocate import ingress_network, timestamp
from meshnet_control.orchestrate.pipeline import converge
from meshnet_control.orchestrate.store_view import Delete, Put, Step, StoreView, changed
from meshnet_control.store.sqlite import SqliteStore
from meshnet_control.store.store import OutOfSequenceError

NOW = 1_700_000_000.0
ALIVE = (pb.TASK_STATE_ASSIGNED, pb.TASK_STATE_RUNNING)


def node(number: int) -> pb.Node:
    made = pb.Node(id=f"n{number}")
    made.spec.role, made.spec.availability = "worker", "active"
    made.description.hostname = f"host{number}"
    made.status.state = "ready"
    return made


def service(name: str, replicas: int | None, *, on: str = "net", port: int = 0) -> pb.Service:
    made = pb.Service(id=name, spec_version=1)
    made.spec.name = name
    if replicas is None:
        made.spec.mode.SetInParent()
        getattr(made.spec.mode, "global").SetInParent()
    else:
        made.spec.mode.replicated.replicas = replicas
    made.spec.task_template.container_spec.image = "web:1"
    made.spec.task_template.networks.add(target=on)
    if port:
        made.spec.endpoint_spec.ports.add(target_port=80, published_port=port)
    return made


def base(nodes: int, rng: random.Random) -> list[pb.Cluster | pb.Node | pb.Network]:
    net = pb.Network(id="net")
    net.spec.name = "net"
    return [pb.Cluster(id="c"), ingress_network(rng), net, *(node(i) for i in range(nodes))]


class Play:
    """The pure pipeline, agents that do as told, and a clock."""

    def __init__(self, *objects: pb.Cluster | pb.Node | pb.Network | pb.Service) -> None:
        self.rng = random.Random(7)
        self.view = StoreView.of(objects)
        self.now = NOW
        self.wake_at: float | None = None

    def converge(self) -> Step:
        before = self.view
        step = converge(before, self.now, self.rng)
        self.view = before.apply(step.writes)
        self.check(before)
        again = converge(self.view, self.now, self.rng)
        assert again.writes == ()
        self.wake_at = again.wake_at
        return step

    def check(self, before: StoreView) -> None:
        for task in self.view.tasks.values():
            old = before.tasks.get(task.id)
            assert old is None or old.status.state <= task.status.state
            assert old is None or old.desired_state <= task.desired_state
        live = [t for t in self.view.tasks.values() if t.status.state <= pb.TASK_STATE_RUNNING]
        held = [a for t in live for n in t.networks_attachments for a in n.addresses]
        held += [v.addr for s in self.view.services.values() for v in s.endpoint.virtual_ips]
        held += [n.ingress_address for n in self.view.nodes.values() if n.ingress_address]
        assert len(held) == len(set(held))

    def agents(self) -> None:
        """Every task on a node that is up reaches what is desired of it."""
        for task in list(self.view.tasks.values()):
            host = self.view.nodes.get(task.node_id)
            if host is None or host.status.state != "ready":
                continue
            state = min(task.desired_state, pb.TASK_STATE_RUNNING)
            if task.desired_state > pb.TASK_STATE_RUNNING:
                state = pb.TASK_STATE_SHUTDOWN
            if task.status.state < min(state, pb.TASK_STATE_SHUTDOWN):
                self.report(task, state)

    def report(self, task: pb.Task, state: pb.TaskState) -> None:
        new = changed(task)
        new.status.state = state
        new.status.timestamp.CopyFrom(timestamp(self.now))
        self.view = self.view.apply([Put(new)])

    def settle(self, rounds: int = 40) -> None:
        for _ in range(rounds):
            self.converge()
            self.agents()
            self.now += 0.5
        self.converge()

    def running(self, of: str) -> list[pb.Task]:
        return [
            t
            for t in self.view.tasks_of_service(of)
            if t.status.state == pb.TASK_STATE_RUNNING and t.desired_state == pb.TASK_STATE_RUNNING
        ]

    def spread(self, of: str) -> dict[str, int]:
        return dict(Counter(t.node_id for t in self.running(of)))


def test_twenty_replicas_are_assigned_in_one_call() -> None:
    rng = random.Random(1)
    ready = StoreView.of(base(3, rng))
    ready = ready.apply(converge(ready, NOW, rng).writes)
    ready = ready.apply([Put(service("web", 20, port=8080))])
    tasks = ready.apply(converge(ready, NOW, rng).writes).tasks_of_service("web")
    assert [t.status.state for t in tasks] == [pb.TASK_STATE_ASSIGNED] * 20
    assert sorted(Counter(t.node_id for t in tasks).values()) == [6, 7, 7]
    assert {a.network.spec.name for t in tasks for a in t.networks_attachments} == {
        "ingress",
        "net",
    }


def test_tasks_of_a_dead_node_move_at_once_and_stay_when_it_returns() -> None:
    play = Play(*base(3, random.Random(1)), service("web", 6))
    play.settle()
    assert play.spread("web") == {"n0": 2, "n1": 2, "n2": 2}
    down = changed(play.view.nodes["n1"])
    down.status.state = "down"
    play.view = play.view.apply([Put(down)])
    play.converge()
    play.agents()
    play.converge()
    play.agents()
    assert play.spread("web") == {"n0": 3, "n2": 3}
    play.view = play.view.apply([Put(node(1))])
    play.settle()
    assert play.spread("web") == {"n0": 3, "n2": 3}


def test_a_global_service_has_one_task_a_node_and_follows_new_nodes() -> None:
    play = Play(*base(2, random.Random(1)), service("agent", None))
    play.settle()
    play.view = play.view.apply([Put(node(2))])
    play.settle()
    assert play.spread("agent") == {"n0": 1, "n1": 1, "n2": 1}


def test_an_update_replaces_every_task_one_by_one() -> None:
    play = Play(*base(3, random.Random(1)), service("web", 4))
    play.settle()
    vip = play.view.services["web"].endpoint.virtual_ips[0].addr
    new = changed(play.view.services["web"])
    new.previous_spec.CopyFrom(new.spec)
    new.previous_spec_version, new.spec_version = new.spec_version, 2
    new.spec.task_template.container_spec.image = "web:2"
    new.spec.update_config.parallelism = 1
    play.view = play.view.apply([Put(new)])
    for _ in range(80):
        play.converge()
        assert len(play.running("web")) >= 3
        play.agents()
        play.now += 0.5
    play.settle()
    assert {t.spec.container_spec.image for t in play.running("web")} == {"web:2"}
    assert play.view.services["web"].update_status.state == "completed"
    assert play.view.services["web"].endpoint.virtual_ips[0].addr == vip


def test_a_removed_service_leaves_nothing() -> None:
    play = Play(*base(3, random.Random(1)), service("web", 4, port=80))
    play.settle()
    play.view = play.view.apply([Delete(pb.Service, "web")])
    play.settle()
    assert not play.view.tasks


def test_steps_without_end_are_a_programming_error() -> None:
    def restless(view: StoreView, now: float, rng: object) -> Step:
        more = pb.Cluster(id="c", last_vni=(view.cluster.last_vni if view.cluster else 0) + 1)
        return Step((Put(more),))

    with pytest.raises(RuntimeError, match="does not settle after 50 rounds: Cluster c"):
        converge(StoreView(), NOW, random.Random(1), [restless])


def test_writes_are_one_an_object_and_none_without_effect() -> None:
    one, two = pb.Node(id="a"), pb.Node(id="a", ingress_address="10.0.0.2/24")
    answers = iter([Step((Put(two),)), Step((Put(one), Delete(pb.Task, "t"))), Step()])

    def undo(view: StoreView, now: float, rng: object) -> Step:
        return next(answers)

    assert converge(StoreView.of([one]), NOW, random.Random(1), [undo]).writes == ()


@given(
    st.lists(
        st.tuples(
            st.sampled_from("abc"), st.sampled_from("st"), st.sampled_from(["", "n"]), st.booleans()
        )
    ),
    st.integers(0, 5),
)
def test_a_view_is_a_value(changes: list[tuple[str, str, str, bool]], cut: int) -> None:
    writes: list[Put | Delete] = [
        Put(pb.Task(id=key, service_id=of, node_id=on)) if put else Delete(pb.Task, key)
        for key, of, on, put in changes
    ]
    first = StoreView().apply(writes[:cut])
    picture = dict(first.tasks), first.tasks_of_service("s"), first.tasks_on_node("n")
    second = first.apply(writes[cut:])
    assert (dict(first.tasks), first.tasks_of_service("s"), first.tasks_on_node("n")) == picture
    for of in "st":
        wanted = [t for _, t in sorted(second.tasks.items()) if t.service_id == of]
        assert second.tasks_of_service(of) == wanted
    on_node = [t for _, t in sorted(second.tasks.items()) if t.node_id == "n"]
    assert second.tasks_on_node("n") == on_node
    assert StoreView().apply(writes).tasks == second.tasks


@settings(deadline=None, max_examples=25)
@given(st.integers(1, 4), st.lists(st.integers(0, 8), min_size=1, max_size=4), st.data())
def test_wherever_it_is_led_it_comes_to_the_wanted_number(
    nodes: int, replicas: list[int], data: st.DataObject
) -> None:
    play = Play(*base(nodes, random.Random(1)), service("web", 3))
    for wanted in replicas:
        new = changed(play.view.services["web"])
        new.spec.mode.replicated.replicas = wanted
        play.view = play.view.apply([Put(new)])
        for _ in range(data.draw(st.integers(0, 3))):
            play.converge()
            play.agents()
            play.now += 0.5
        fails = data.draw(st.booleans())
        running = play.running("web")
        if running and fails:
            play.report(running[0], pb.TASK_STATE_FAILED)
    play.settle()
    assert len(play.running("web")) == replicas[-1]
    slots = [t.slot for t in play.running("web")]
    assert len(set(slots)) == len(slots)


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    opened = SqliteStore.open(tmp_path / "store.db", tmp_path / "store.key")
    yield opened
    await opened.close()


@contextlib.asynccontextmanager
async def leading(store: SqliteStore) -> AsyncIterator[None]:
    running = asyncio.create_task(Manager(store, random.Random(3), time.time).run())
    try:
        yield
    finally:
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running


async def until(store: SqliteStore, holds: Callable[[list[pb.Task]], bool]) -> list[pb.Task]:
    async with asyncio.timeout(10):
        changes = store.watch(store.revision)
        while not holds(tasks := await store.list(pb.Task)):
            await anext(changes)
    return tasks


def all_assigned(count: int) -> Callable[[list[pb.Task]], bool]:
    return lambda tasks: (
        sum(t.status.state == pb.TASK_STATE_ASSIGNED for t in tasks if t.desired_state in ALIVE)
        == count
    )


async def test_the_leader_assigns_what_is_written_and_what_comes_later(store: SqliteStore) -> None:
    await store.commit([Put(item) for item in base(3, random.Random(1))])
    async with leading(store):
        await store.commit([Put(service("web", 5))])
        await until(store, all_assigned(5))
        web = await store.get(pb.Service, "web")
        assert web is not None
        web.spec.mode.replicated.replicas = 7
        while True:
            try:
                await store.commit([Put(web)], {(pb.Service, "web"): web.version.index})
                break
            except OutOfSequenceError:
                web = await store.get(pb.Service, "web")
                assert web is not None
                web.spec.mode.replicated.replicas = 7
        tasks = await until(store, all_assigned(7))
    assert len({t.networks_attachments[0].addresses[0] for t in tasks}) == 7


async def test_the_leader_decides_again_when_somebody_was_faster(store: SqliteStore) -> None:
    await store.commit([Put(item) for item in base(2, random.Random(1))])
    async with leading(store):
        for index in range(20):
            await store.commit([Put(service(f"s{index}", 1)), Put(node(index % 2))])
        tasks = await until(store, all_assigned(20))
    assert len(tasks) == 20


async def test_the_leader_wakes_by_itself_when_a_restart_is_due(store: SqliteStore) -> None:
    await store.commit([Put(item) for item in base(1, random.Random(1))])
    web = service("web", 1)
    web.spec.task_template.restart_policy.condition = "any"
    web.spec.task_template.restart_policy.delay = 50_000_000
    async with leading(store):
        await store.commit([Put(web)])
        [task] = await until(store, all_assigned(1))
        task.status.state = pb.TASK_STATE_FAILED
        task.status.timestamp.GetCurrentTime()
        await store.commit([Put(task)])
        tasks = await until(
            store,
            lambda tasks: any(
                t.id != task.id and t.desired_state == pb.TASK_STATE_RUNNING for t in tasks
            ),
        )
    [fresh] = [t for t in tasks if t.id != task.id]
    assert fresh.slot == task.slot
    assert fresh.networks_attachments[0].addresses != task.networks_attachments[0].addresses


async def test_the_leader_ends_with_the_store(store: SqliteStore) -> None:
    running = asyncio.create_task(Manager(store, random.Random(3), time.time).run())
    await asyncio.sleep(0)
    await store.close()
    async with asyncio.timeout(5):
        await running


async def test_a_programming_error_ends_the_leader(
    store: SqliteStore,
) -> None:
    broken = pb.Network(id="bad")
    broken.spec.ipam_options.configs.add(subnet="not a subnet")
    await store.commit([Put(broken)])
    async with asyncio.timeout(5):
        with pytest.raises(ValueError, match="not a subnet"):
            await Manager(store, random.Random(3), time.time).run()
