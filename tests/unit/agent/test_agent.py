"""The agent and its workers on an engine and a data plane in memory: faults, ends, starts."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from meshnet_control.agent.fake import FakePorts
from meshnet_control.agent.task_dir import TASKS, TaskDir
from meshnet_control.agent.worker import Worker
from meshnet_control.api import control_pb2 as pb
from meshnet_control.engine.client import EngineError, Event

RUNNING, SHUTDOWN = pb.TASK_STATE_RUNNING, pb.TASK_STATE_SHUTDOWN
FAILED, REJECTED = pb.TASK_STATE_FAILED, pb.TASK_STATE_REJECTED
HEALTH = {"healthcheck": pb.HealthConfig(test=["CMD-SHELL", "true"])}


# ---- one task's fault is that task's ----


@pytest.mark.parametrize(
    ("wired", "odd", "err"),
    [
        (
            True,
            {"dns_config": pb.DNSConfig(nameservers=["nobody"])},
            "invalid IP address in DNS configuration: 'nobody'",
        ),
        (
            True,
            {"privileges": pb.Privileges(seccomp={"mode": "custom", "profile": b"\xff"})},
            "seccomp",
        ),
        (True, {"image": "nope:latest"}, "No such image: nope:latest"),
    ],
)
def test_a_task_that_makes_no_sense_is_rejected_and_the_others_run(play, task, wired, odd, err):
    async def scene(node):
        bad, good = (
            task(1, wired=wired, **odd),
            task(2, hosts=[""]),
        )
        node.assign(bad, good)
        assert err in (await node.reaches(bad, REJECTED)).err
        await node.reaches(good, RUNNING)
        assert not TaskDir(node.run_dir / TASKS / bad.id).made

    play(scene)


def test_credentials_go_with_the_pull_and_stay_nowhere_on_the_node(play, task):
    async def scene(node):
        asked: list[str] = []
        found = node.engine.image

        async def image(reference: str, auth: str = "") -> dict[str, Any]:
            asked.append(auth)
            image: dict[str, Any] = await found(reference, auth)
            return image

        node.engine.image = image
        one = task(1, wired=True, pull_options=pb.PullOptions(registry_auth="c2VjcmV0"))
        await node.running(one)
        assert asked == ["c2VjcmV0"]
        written = [p for d in (node.run_dir, node.state_dir) for p in d.rglob("*") if p.is_file()]
        assert written
        assert not [path for path in written if b"c2VjcmV0" in path.read_bytes()]
        assert "c2VjcmV0" not in str(node.kept(one).config)

    play(scene)


@pytest.mark.parametrize(
    ("others", "why"),
    [
        (FakePorts(published=frozenset({("tcp", 80)})), "port is already allocated"),
        (FakePorts(sockets=frozenset({("tcp", 80)})), "address already in use"),
    ],
)
def test_a_task_whose_port_somebody_has_fails_in_the_engine_s_words(play, task, others, why):
    async def scene(node):
        one, other = task(1, wired=True), task(2, wired=True)
        one.endpoint_spec.ports.add(target_port=8080, published_port=80, publish_mode="host")
        other.endpoint_spec.ports.add(target_port=8080, published_port=80, publish_mode="ingress")
        node.wires.ports = others
        node.assign(one, other)
        err = (await node.reaches(one, FAILED)).err
        begins = "starting container failed: driver failed programming external connectivity"
        assert err.startswith(begins)
        assert err.endswith(why)
        await node.reaches(other, RUNNING)

    play(scene)


@pytest.mark.parametrize("hosts", [[""], ["10.0.0.1"], ["10.0.0.1 a b", " "]])
def test_hosts_without_a_name_say_nothing(play, task, hosts):
    async def scene(node):
        one, two = task(1, wired=True, hosts=hosts), task(2, wired=False, hosts=hosts)
        await node.running(one, two)
        text = (node.run_dir / TASKS / one.id / "hosts").read_text()
        assert all(len(line.split()) > 1 for line in text.splitlines())
        wanted = ["a:10.0.0.1", "b:10.0.0.1"] if "a" in hosts[0] else []
        assert node.kept(two).config["HostConfig"]["ExtraHosts"] == wanted

    play(scene)


@pytest.mark.parametrize(
    ("call", "state"),
    [("create", REJECTED), ("start", FAILED), ("kill", None), ("image", REJECTED)],
)
def test_an_error_nobody_thought_of_ends_its_task_and_nothing_else(play, task, call, state, caplog):
    caplog.set_level(logging.CRITICAL)

    async def scene(node):
        one, other = task(1, wired=False), task(2, wired=False)
        await node.running(other)
        node.engine.refusals[call] = ZeroDivisionError("nobody thought of it")
        node.assign(one, other)
        if state is None:
            await node.reaches(one, RUNNING)
            one.desired_state = SHUTDOWN
            node.assign(one, other)
            await node.until(lambda: node.calls("kill"))
            await asyncio.sleep(60.0)
            assert node.last(one).state == RUNNING  # it does run
            node.engine.refusals.clear()
            await node.until(lambda: not node.kept(one).running)
            await node.until(lambda: node.last(one).state > RUNNING)
        else:
            assert (await node.reaches(one, state)).err == "nobody thought of it"
            node.engine.refusals.clear()
        assert node.kept(other).running
        assert node.last(other).state == RUNNING

    node = play(scene)
    assert not any(node.running_when_final.values())


def test_a_task_no_worker_can_be_made_for_is_rejected_once(play, task, monkeypatch):
    made = Worker.__init__

    def fails(worker, host, one):
        if one.slot == 1:
            raise ValueError("no such thing")
        made(worker, host, one)

    async def scene(node):
        monkeypatch.setattr(Worker, "__init__", fails)
        one, two = task(1), task(2)
        for _ in range(3):
            node.assign(one, two)
        await node.reaches(two, RUNNING)
        assert [(s.state, s.err) for s in node.said[one.id]] == [(REJECTED, "no such thing")]

    play(scene)


def test_what_was_made_before_an_error_is_cleaned_up(play, task, monkeypatch):
    async def scene(node):
        one = task()
        texts = []

        def write(self, text):
            texts.append(text)
            if text:
                raise ValueError("no such letter")

        monkeypatch.setattr(TaskDir, "write_hosts", write)
        node.assign(one)
        assert (await node.reaches(one, REJECTED)).err == "no such letter"
        assert len(texts) == 2
        assert not node.engine.kept
        assert not (node.run_dir / TASKS / one.id).exists()

    play(scene)


def test_an_odd_event_is_odd_for_one_container_alone(play, task):
    async def scene(node):
        one, other = task(1), task(2)
        await node.running(one, other)
        none: Any = None
        for action in (none, "health_status: ", "die"):
            for queue in node.engine._followers:
                queue.put_nowait(Event(action, "another container", one.id))
                queue.put_nowait(Event(action, node.kept(one).id, "another task"))
        for queue in node.engine._followers:
            queue.put_nowait(Event(none, node.kept(one).id, one.id))
        await node.turn()
        assert node.alive
        node.engine.end(node.kept(other).id, 3)
        assert (await node.reaches(other, FAILED)).err == "task: non-zero exit (3)"
        assert node.last(one).state == RUNNING

    play(scene)


# ---- the end of a task ----


def test_a_stop_on_purpose_is_drained_and_ends_in_shutdown(play, task):
    async def scene(node):
        one = task(**HEALTH)
        node.assign(one)
        await node.until(lambda: node.kept(one).running if node.engine.kept else False)
        node.engine.health(node.kept(one).id, "healthy")
        await node.reaches(one, RUNNING)
        await node.turn()
        node.wires.acknowledged.clear()
        one.desired_state = SHUTDOWN
        node.assign(one)
        await asyncio.sleep(5.0)
        assert node.kept(one).signals == []  # not every node knows
        assert not node.wires.endpoints[one.id].ready
        node.wires.acknowledged.set()
        await node.reaches(one, SHUTDOWN)
        assert node.kept(one).signals == ["SIGTERM"]
        assert node.states(one)[-2:] == [RUNNING, SHUTDOWN]
        assert [what for _, what in node.wires.log] == [False, True, False, "drained", None]

    node = play(scene)
    assert not any(node.running_when_final.values())


def test_a_drain_nobody_acknowledges_ends_with_the_grace_period(play, task):
    async def scene(node):
        one = task(stop_grace_period=20 * 10**9)
        await node.running(one)
        node.wires.acknowledged.clear()
        one.desired_state = SHUTDOWN
        node.assign(one)
        await asyncio.sleep(19.0)
        assert node.kept(one).signals == []
        await asyncio.sleep(2.0)
        assert node.kept(one).signals == ["SIGTERM"]
        await node.reaches(one, SHUTDOWN)

    play(scene)


def test_an_unhealthy_task_has_failed_when_its_container_has_ended(play, task):
    async def scene(node):
        one = task(image="deaf:latest", **HEALTH)
        node.assign(one)
        await node.until(lambda: node.kept(one).running if node.engine.kept else False)
        node.engine.health(node.kept(one).id, "healthy")
        await node.reaches(one, RUNNING)
        await node.turn()
        node.engine.health(node.kept(one).id, "unhealthy")
        await asyncio.sleep(9.0)
        assert node.kept(one).signals == ["SIGTERM"]
        assert node.last(one).state == RUNNING
        assert not node.wires.endpoints[one.id].ready
        status = await node.reaches(one, FAILED)
        assert status.err == "task: non-zero exit (137): dockerexec: unhealthy container"
        assert node.kept(one).signals == ["SIGTERM", "SIGKILL"]

    node = play(scene)
    assert not any(node.running_when_final.values())


def test_turning_unhealthy_while_being_stopped_is_no_failure(play, task):
    async def scene(node):
        one = task(image="deaf:latest", **HEALTH)
        node.assign(one)
        await node.until(lambda: node.kept(one).running if node.engine.kept else False)
        node.engine.health(node.kept(one).id, "healthy")
        await node.reaches(one, RUNNING)
        one.desired_state = SHUTDOWN
        node.assign(one)
        await node.until(lambda: node.kept(one).signals)
        node.engine.health(node.kept(one).id, "unhealthy")
        await node.until(lambda: node.last(one).state > RUNNING)
        assert node.last(one).state == SHUTDOWN

    node = play(scene)
    assert not any(node.running_when_final.values())


def test_why_a_task_is_ended_is_known_to_the_next_process(play, task):
    async def scene(node):
        one = task(image="deaf:latest", **HEALTH)
        node.assign(one)
        await node.until(lambda: node.kept(one).running if node.engine.kept else False)
        node.engine.health(node.kept(one).id, "healthy")
        await node.reaches(one, RUNNING)
        node.engine.health(node.kept(one).id, "unhealthy")
        await node.until(lambda: node.kept(one).signals)
        await node.end()
        await node.begin()
        node.assign(one)
        status = await node.reaches(one, FAILED)
        assert status.err.endswith("dockerexec: unhealthy container")

    play(scene)


# ---- a process that starts ----


def test_no_task_is_made_before_what_runs_is_found(play, task):
    async def scene(node):
        one, two = task(1), task(2)
        await node.running(one)
        await node.end()
        node.engine.listing.clear()
        await node.begin()
        node.assign(one, two)
        await asyncio.sleep(60.0)
        assert node.wires.adoptions == 0
        assert len(node.calls("create")) == 1
        node.engine.listing.set()
        await node.reaches(two, RUNNING)
        assert node.wires.adoptions == 1
        assert len(node.calls("create")) == 2
        await node.reaches(one, RUNNING)
        assert node.kept(one).running
        assert node.calls("remove") == []

    play(scene)


def test_what_runs_stays_a_ready_backend_while_a_process_starts(play, task):
    async def scene(node):
        one = task()
        await node.running(one)
        await node.end()
        await node.begin()
        await node.until(lambda: node.wires.adoptions)
        assert [what for _, what in node.wires.log] == [True]

    play(scene)


def test_a_container_the_engine_does_not_describe_is_not_made_anew(play, task):
    async def scene(node):
        one, two = task(1), task(2)
        await node.running(one)
        await node.end()
        node.engine.refusals["inspect"] = EngineError("no space left on device", 500)
        await node.begin()
        node.assign(one, two)
        await node.until(lambda: node.wires.adoptions)
        assert len(node.calls("start")) == 1 or node.said[two.id]
        node.engine.refusals.clear()
        await node.reaches(one, RUNNING)
        await node.until(lambda: one.id in node.wires.sandboxes)
        assert node.calls("create").count(f"web.1.{one.id}") == 1

    play(scene)


def test_files_of_tasks_nobody_knows_any_more_are_removed(play, task):
    async def scene(node):
        one = task()
        await node.running(one)
        await node.end()
        await node.engine.remove(node.kept(one).id)
        await node.begin()
        node.assign()
        await node.turn()
        for parent in (node.run_dir, node.state_dir):
            assert list(parent.glob(f"{TASKS}/*")) == []

    play(scene)


# ---- an engine that goes ----


def test_tasks_that_ended_with_their_engine_have_failed_when_it_is_back(play, task):
    async def scene(node):
        one = task()
        await node.running(one)
        node.engine.go()
        await node.turn()
        assert node.last(one).state == RUNNING
        node.engine.come()
        await node.reaches(one, FAILED)
        assert one.id not in node.wires.endpoints
        assert one.id not in node.wires.sandboxes

    play(scene)
