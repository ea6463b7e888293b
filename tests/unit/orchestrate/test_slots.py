"""A change of one task of a large service is looked at in its slot; of others, whole."""

from __future__ import annotations

import random

import pytest
from immutables import Map

from meshnet_control.api import control_pb2 as pb
from meshnet_control.orchestrate.allocate import timestamp
from meshnet_control.orchestrate.plan import Plan, decide
from meshnet_control.orchestrate.slots import Tally
from meshnet_control.orchestrate.store_view import Delete, Put, StoreView, changed

NOW = 1_700_000_000.0
SLOTS = 300


def _service(replicas: int = SLOTS) -> pb.Service:
    made = pb.Service(id="web", created_at=timestamp(NOW - 9))
    made.spec.name, made.version.index = "web", 1
    made.spec.mode.replicated.replicas = replicas
    made.spec.task_template.networks.add(target="net")
    return made


def _written(plan: Plan, now: float) -> Plan:
    """The plan after everything that it decides now."""
    rng = random.Random(len(plan.view.tasks))
    while (due := plan.due_at()) is not None and due <= now:
        decision = decide(plan, now, rng)
        writes = [write for batch in decision.batches for write in batch]
        for write in writes:
            if isinstance(write, Put):
                write.message.version.index += 1
        plan = decision.after.written(writes)
    return plan


@pytest.fixture
def plan() -> Plan:
    """A service whose tasks all run."""
    network = pb.Network(id="net", vni=4097)
    network.spec.name, network.driver_state.name = "net", "overlay"
    network.ipam_options.configs.add(subnet="10.0.0.0/16", gateway="10.0.0.1")
    nodes = [pb.Node(id=f"n{at}", created_at=timestamp(NOW - 99)) for at in range(3)]
    for node in nodes:
        node.status.state, node.spec.availability = "ready", "active"
    found = _written(Plan.of([pb.Cluster(id="c"), network, *nodes, _service()]), NOW)
    running = [changed(task) for task in found.view.tasks.values()]
    for task in running:
        task.status.state = pb.TASK_STATE_RUNNING
    return _written(found.noted([Put(task) for task in running]), NOW)


def _in(plan: Plan, slot: int) -> pb.Task:
    return changed(plan.view.indexes.slots["web", slot][-1])


def _fails(plan: Plan, slot: int, now: float = NOW) -> Plan:
    task = _in(plan, slot)
    task.status.state = pb.TASK_STATE_FAILED
    task.status.timestamp.CopyFrom(timestamp(now))
    return plan.noted([Put(task)])


def test_a_task_that_fails_is_replaced_by_a_look_at_its_slot(plan: Plan) -> None:
    failed = _fails(plan, 7)
    assert not failed.view.due_services()
    [(service, slots)] = failed.view.parts()
    assert (service.id, slots) == ("web", [("web", 7)])
    after = _written(failed, NOW)
    old, new = after.view.indexes.slots["web", 7]
    assert old.desired_state == pb.TASK_STATE_SHUTDOWN
    assert new.desired_state == pb.TASK_STATE_READY
    assert len(after.view.tasks) == SLOTS + 1


def test_each_slot_has_its_turn_though_others_are_looked_at(plan: Plan) -> None:
    first = _written(_fails(plan, 7), NOW)
    both = _written(_fails(first, 9, NOW + 3), NOW + 3)
    assert sorted(both.wakes.items()) == [(("web", 7), NOW + 5), (("web", 9), NOW + 8)]
    later = _written(both, NOW + 5)
    assert _in(later, 7).desired_state == pb.TASK_STATE_RUNNING
    assert _in(later, 9).desired_state == pb.TASK_STATE_READY
    assert _in(_written(later, NOW + 8), 9).desired_state == pb.TASK_STATE_RUNNING


def test_a_task_of_a_service_that_is_not_as_it_should_be_concerns_all_of_it(plan: Plan) -> None:
    fewer = _service(SLOTS - 1)
    other = _service()
    other.spec_version = 5
    for service in (fewer, other):
        unsettled = Plan(plan.view.apply([Put(service)]).rested())
        failed = _fails(unsettled, 7)
        assert [each.id for each in failed.view.due_services()] == ["web"]
        assert not failed.view.parts()


def test_a_slot_that_became_free_concerns_the_whole_service(plan: Plan) -> None:
    gone = plan.noted([Delete(pb.Task, _in(plan, 7).id)])
    assert [each.id for each in gone.view.due_services()] == ["web"]
    assert len(_written(gone, NOW).view.tasks) == SLOTS


def test_tallies_say_what_occupies_slots(plan: Plan) -> None:
    version = _in(plan, 7).spec_version
    assert plan.view.indexes.tallies["web"] == Tally(SLOTS, 0, Map({version: SLOTS}))
    stopped = _in(plan, 7)
    stopped.desired_state = pb.TASK_STATE_SHUTDOWN
    tally = plan.view.apply([Put(stopped)]).indexes.tallies["web"]
    assert tally == Tally(SLOTS, 1, Map({version: SLOTS - 1}))
    none = plan.view.apply([Delete(pb.Task, name) for name in plan.view.tasks])
    assert none.indexes.tallies == StoreView().indexes.tallies


def test_addresses_of_a_network_of_many_blocks_go_upwards(plan: Plan) -> None:
    assert plan.view.indexes.blocks["net"] == (10 << 16, 10 << 16 | 1)
    few = plan.noted([Delete(pb.Task, _in(plan, slot).id) for slot in (3, 4)])
    fresh = [task for task in _written(few, NOW).view.tasks.values() if task.slot in (3, 4)]
    addresses = sorted(task.networks_attachments[0].addresses[0] for task in fresh)
    assert addresses == ["10.0.1.47/16", "10.0.1.48/16"]
