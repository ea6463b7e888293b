"""The agent on an engine in memory: one task's fault is its own, and no task runs twice."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

import pytest
from google.protobuf.message import Message

from meshnet.model.snapshot import Endpoint, Gwbridge, Sandbox
from meshnet_control.agent import gate_fifo, process_watch
from meshnet_control.agent.agent import Agent
from meshnet_control.agent.task_dir import TASKS, TaskDir
from meshnet_control.agent.worker import Worker
from meshnet_control.api import control_pb2 as pb
from meshnet_control.engine.fake import FakeContainer, FakeEngine

NODE = "n" * 25
BRIDGE = Gwbridge("docker_gwbridge", IPv4Network("172.18.0.0/16"), IPv4Address("172.18.0.1"))
RUNNING, SHUTDOWN, FAILED, REJECTED, COMPLETE = (
    pb.TASK_STATE_RUNNING,
    pb.TASK_STATE_SHUTDOWN,
    pb.TASK_STATE_FAILED,
    pb.TASK_STATE_REJECTED,
    pb.TASK_STATE_COMPLETE,
)


class Wires:
    """A data plane that records, and holds what it is told to hold."""

    def __init__(self) -> None:
        self.log: list[tuple[str, object]] = []
        self.wired, self.aware = asyncio.Event(), asyncio.Event()
        self.wired.set()
        self.aware.set()
        self.within_s = 0.0
        self.why = ""
        self.adoptions = 0

    def sandbox_added(self, sandbox: Sandbox) -> None:
        self.log.append((sandbox.task, "sandbox"))

    def sandbox_removed(self, task: str) -> None:
        self.log.append((task, "no sandbox"))

    def endpoint(self, task: str, endpoint: Endpoint | None) -> None:
        self.log.append((task, None if endpoint is None else endpoint.ready))

    def adopted(self) -> None:
        self.adoptions += 1

    async def ready(self, task: str) -> None:
        await self.wired.wait()

    def trouble(self, task: str) -> str:
        return self.why

    async def drained(self, task: str, within_s: float, /) -> None:
        self.within_s = within_s
        await self.aware.wait()


class Node:
    """An agent and everything it said."""

    def __init__(self, engine: FakeEngine, run_dir: Path) -> None:
        self.engine, self.wires = engine, Wires()
        self.said: dict[str, list[pb.TaskStatus]] = {}
        self.agent = Agent(
            engine,
            self.wires,
            lambda task, status: self.said.setdefault(task, []).append(status),
            node_id=NODE,
            hostname="h1",
            run_dir=run_dir,
            gwbridge=BRIDGE,
        )
        self.running = asyncio.create_task(self.agent.run())

    async def until(self, condition: Callable[[], object]) -> None:
        async with asyncio.timeout(10):
            while not condition():
                assert not self.running.done(), self.running
                await asyncio.sleep(0)

    async def reaches(self, task: str, state: int) -> pb.TaskStatus:
        await self.until(lambda: task in self.said and self.said[task][-1].state == state)
        return self.said[task][-1]

    def container(self, task: str) -> FakeContainer:
        (found,) = (c for c in self.engine.containers_by_id.values() if c.name.endswith(task))
        return found

    async def end(self) -> None:
        self.running.cancel()
        with suppress(asyncio.CancelledError):
            await self.running
        await self.agent.close()


@pytest.fixture
def engine() -> FakeEngine:
    """Name: engine; Scope: function. An engine with one image and no container."""
    return FakeEngine(images={"web": {"Config": {"Cmd": ["serve"]}}})


@pytest.fixture
async def node(engine: FakeEngine, tmp_path: Path) -> AsyncIterator[Node]:
    """Name: node; Scope: function; Depends: engine, tmp_path. A node whose agent runs."""
    made = Node(engine, tmp_path)
    yield made
    await made.end()


@pytest.fixture(autouse=True)
def opens(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Name: opens; Scope: function. The gates that were opened; nobody reads a FIFO in memory."""
    opened: list[Path] = []

    async def open_gate(path: Path) -> None:
        opened.append(path)

    monkeypatch.setattr(gate_fifo, "open_gate", open_gate)
    return opened


def task(number: int = 1, *, overlay: bool = True, **spec: object) -> pb.Task:
    made = pb.Task(id=f"t{number:024d}", service_name="web", slot=number, node_id=NODE)
    made.desired_state, made.status.state = RUNNING, pb.TASK_STATE_ASSIGNED
    for name, value in ({"image": "web"} | spec).items():
        if isinstance(value, Message):
            getattr(made.spec.container_spec, name).CopyFrom(value)
        else:
            setattr(made.spec.container_spec, name, value)
    if overlay:
        attachment = made.networks_attachments.add(addresses=[f"10.0.1.{number + 2}/24"])
        attachment.network.id = "w" * 25
        attachment.network.driver_state.name = "overlay"
        attachment.network.ipam_options.configs.add(subnet="10.0.1.0/24")
    return made


def assigned(*tasks: pb.Task) -> pb.Assignments:
    return pb.Assignments(full=True, tasks=tasks)


async def test_a_task_runs_and_is_stopped_politely(node: Node) -> None:
    one = task(stop_grace_period=7 * 10**9)
    node.agent.assign(assigned(one))
    await node.reaches(one.id, RUNNING)
    one.desired_state = SHUTDOWN
    node.agent.assign(assigned(one))
    await node.reaches(one.id, SHUTDOWN)
    assert node.wires.within_s == 7.0
    assert [what for _, what in node.wires.log] == [
        "sandbox", False, True, False, None, "no sandbox",
    ]  # fmt: skip


async def test_the_gate_opens_after_the_network_is_wired(node: Node, opens: list[Path]) -> None:
    node.wires.wired.clear()
    one = task()
    node.agent.assign(assigned(one))
    await node.until(lambda: (one.id, "sandbox") in node.wires.log)
    for _ in range(50):
        await asyncio.sleep(0)
    assert opens == []
    node.wires.wired.set()
    await node.reaches(one.id, RUNNING)
    assert len(opens) == 1


async def test_a_network_that_is_not_wired_is_explained(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("meshnet_control.agent.worker._EXPLAIN_S", 0.001)
    node.wires.wired.clear()
    node.wires.why = "mn-ingress: 10.0.0.0/24 overlaps with a route of this host"
    one = task()
    node.agent.assign(assigned(one))
    await node.until(lambda: one.id in node.said and node.said[one.id][-1].err)
    status = node.said[one.id][-1]
    assert (status.state, status.err) == (pb.TASK_STATE_STARTING, node.wires.why)
    node.wires.wired.set()
    assert (await node.reaches(one.id, RUNNING)).err == ""


async def test_nobody_is_stopped_before_every_node_knows(node: Node) -> None:
    node.wires.aware.clear()
    one = task()
    node.agent.assign(assigned(one))
    await node.reaches(one.id, RUNNING)
    one.desired_state = SHUTDOWN
    node.agent.assign(assigned(one))
    await node.until(lambda: node.wires.log[-1] == (one.id, False))
    for _ in range(50):
        await asyncio.sleep(0)
    assert node.container(one.id).running
    node.wires.aware.set()
    await node.reaches(one.id, SHUTDOWN)


async def test_an_unhealthy_task_has_failed_when_its_container_has_ended(node: Node) -> None:
    one = task(healthcheck=pb.HealthConfig(test=["CMD", "true"]), stop_grace_period=10**7)
    node.agent.assign(assigned(one))
    await node.until(lambda: node.engine.starts)
    found = node.container(one.id)
    found.deaf = True
    await node.until(lambda: (one.id, "sandbox") in node.wires.log)
    node.engine.turned(found.id, "healthy")
    await node.reaches(one.id, RUNNING)
    node.engine.turned(found.id, "unhealthy")
    status = await node.reaches(one.id, FAILED)
    assert not found.running
    assert status.err == "dockerexec: unhealthy container"


async def test_turning_unhealthy_while_being_stopped_is_no_failure(node: Node) -> None:
    one = task(healthcheck=pb.HealthConfig(test=["CMD", "true"]), stop_grace_period=10**7)
    node.agent.assign(assigned(one))
    await node.until(lambda: node.engine.starts)
    found = node.container(one.id)
    found.deaf = True
    await node.until(lambda: (one.id, "sandbox") in node.wires.log)
    node.engine.turned(found.id, "healthy")
    await node.reaches(one.id, RUNNING)
    one.desired_state = SHUTDOWN
    node.agent.assign(assigned(one))
    await node.until(lambda: TaskDir(node.agent._host.tasks_dir / one.id).stopping)
    node.engine.turned(found.id, "unhealthy")
    await node.reaches(one.id, SHUTDOWN)
    assert [status.state for status in node.said[one.id] if status.state > RUNNING] == [SHUTDOWN]


async def test_an_error_nobody_expected_ends_its_task_and_no_other(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = TaskDir.write_files

    def fails(directory: TaskDir, files: list[tuple[pb.FileTarget, bytes]]) -> None:
        if directory.path.name.endswith("1"):
            raise OverflowError("uid is too large")
        written(directory, files)

    monkeypatch.setattr(TaskDir, "write_files", fails)
    one, two = task(1), task(2)
    node.agent.assign(assigned(one, two))
    await node.reaches(two.id, RUNNING)
    assert (await node.reaches(one.id, REJECTED)).err == "OverflowError: uid is too large"


async def test_a_task_no_worker_can_be_made_for_is_rejected_once(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    await node.until(lambda: node.wires.adoptions)
    made = Worker.__init__

    def fails(worker: Worker, host: object, one: pb.Task) -> None:
        if one.id.endswith("1"):
            raise ValueError("no such thing")
        made(worker, host, one)  # type: ignore[arg-type]

    monkeypatch.setattr(Worker, "__init__", fails)
    one, two = task(1), task(2)
    for _ in range(3):
        node.agent.assign(assigned(one, two))
    await node.reaches(two.id, RUNNING)
    assert [(s.state, s.err) for s in node.said[one.id]] == [
        (REJECTED, "ValueError: no such thing")
    ]


async def test_a_container_that_was_made_and_cannot_be_used_is_removed_with_its_task(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = TaskDir.write_hosts

    def fails(directory: TaskDir, text: str) -> None:
        if text:
            raise OSError(28, "No space left on device")
        written(directory, text)

    monkeypatch.setattr(TaskDir, "write_hosts", fails)
    one = task()
    node.agent.assign(assigned(one))
    assert "No space left" in (await node.reaches(one.id, REJECTED)).err
    node.agent.assign(assigned())
    await node.until(lambda: not node.engine.containers_by_id)


# ---- what an earlier life left ----


async def test_a_restart_of_the_agent_goes_on_with_its_tasks(
    engine: FakeEngine, tmp_path: Path
) -> None:
    one = task()
    first = Node(engine, tmp_path)
    first.agent.assign(assigned(one))
    await first.reaches(one.id, RUNNING)
    await first.end()
    second = Node(engine, tmp_path)
    second.agent.assign(assigned(one))  # before what is there has been found
    assert second.agent._workers == {}
    await second.reaches(one.id, RUNNING)
    assert len(engine.starts) == 1
    await second.end()


@pytest.mark.parametrize("passed", [True, False])
async def test_a_gate_that_was_opened_and_not_marked_is_looked_at(
    engine: FakeEngine,
    tmp_path: Path,
    opens: list[Path],
    monkeypatch: pytest.MonkeyPatch,
    *,
    passed: bool,
) -> None:
    one = task()
    first = Node(engine, tmp_path)
    first.agent.assign(assigned(one))
    await first.reaches(one.id, RUNNING)
    await first.end()
    (tmp_path / TASKS / one.id / "opened").unlink()  # the crash came between both
    opens.clear()
    monkeypatch.setattr(process_watch, "is_of", lambda *_: True)
    monkeypatch.setattr(gate_fifo, "passed", lambda _: passed)
    second = Node(engine, tmp_path)
    second.agent.assign(assigned(one))
    await second.reaches(one.id, RUNNING)
    assert len(opens) == (0 if passed else 1)
    await second.end()


async def test_nobody_is_led_to_a_program_that_ended_before_the_engine_says_so(
    node: Node,
) -> None:
    one = task()
    node.agent.assign(assigned(one))
    await node.reaches(one.id, RUNNING)
    await node.until(lambda: node.wires.log[-1] == (one.id, True))
    worker, _ = node.agent._workers[one.id]
    worker._process_ended()
    await node.until(lambda: node.wires.log[-1] == (one.id, "no sandbox"))
    assert node.said[one.id][-1].state == RUNNING
    node.engine.ended(node.container(one.id).id, 3)
    assert (await node.reaches(one.id, FAILED)).err == "task: non-zero exit (3)"


async def test_the_kernel_tells_that_a_process_has_ended() -> None:
    ended = asyncio.Event()
    watch = process_watch.ProcessWatch(ended.set)
    process = await asyncio.create_subprocess_exec("cat", stdin=asyncio.subprocess.PIPE)
    watch.follow(process.pid)
    watch.follow(process.pid)
    assert not process_watch.is_of(process.pid, "c" * 64)
    process.kill()
    async with asyncio.timeout(10):
        await ended.wait()
    await process.wait()
    watch.follow(process.pid)  # gone: left to the engine's word
    watch.close()


async def test_what_ran_before_a_boot_has_ended_and_is_not_run_again(
    engine: FakeEngine, tmp_path: Path
) -> None:
    one, two = task(1), task(2)
    first = Node(engine, tmp_path / "before")
    first.agent.assign(assigned(one, two))
    await first.reaches(one.id, RUNNING)
    await first.reaches(two.id, RUNNING)
    await first.end()
    for each in list(engine.containers_by_id.values()):
        engine.ended(each.id, 255, said=False)
    second = Node(engine, tmp_path / "after")  # the run directory is new with each boot
    second.agent.assign(assigned(one))
    assert (await second.reaches(one.id, FAILED)).err == "task: non-zero exit (255)"
    await second.until(lambda: len(engine.containers_by_id) == 1)  # the other is known to nobody
    assert len(engine.starts) == 2
    await second.end()


async def test_a_task_that_began_and_left_nothing_is_lost(node: Node) -> None:
    one = task()
    one.status.state = pb.TASK_STATE_STARTING
    node.agent.assign(assigned(one))
    assert (await node.reaches(one.id, FAILED)).err == "No such container"
    assert node.engine.starts == []


async def test_no_descriptor_to_read_with_is_no_memory_lost(
    engine: FakeEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = task()
    first = Node(engine, tmp_path)
    first.agent.assign(assigned(one))
    await first.reaches(one.id, RUNNING)
    await first.end()
    read, refused = Path.read_bytes, [0]

    def starved(path: Path) -> bytes:
        if path.name == "task" and refused[0] < 1:
            refused[0] += 1
            raise OSError(24, "Too many open files")
        return read(path)

    monkeypatch.setattr(Path, "read_bytes", starved)
    monkeypatch.setattr("meshnet_control.agent.agent._RETRY_S", 0.001)
    second = Node(engine, tmp_path)
    second.agent.assign(assigned(one))
    await second.reaches(one.id, RUNNING)
    assert refused == [1]
    assert len(engine.starts) == 1
    await second.end()


async def test_ends_that_nobody_told_are_seen_after_a_resync(node: Node) -> None:
    one = task(overlay=False)
    node.agent.assign(assigned(one))
    await node.reaches(one.id, RUNNING)
    node.engine.ended(node.container(one.id).id, 0, said=False)
    await node.agent._refresh()
    await node.reaches(one.id, COMPLETE)
