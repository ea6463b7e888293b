"""The agent against a real engine, and a data plane that records and holds the gate."""

from __future__ import annotations

import asyncio
import json
import os
import time
from functools import partial
from typing import Any

import pytest
from engine_node import assigned, node, task

from meshnet_control.agent.agent import remove_task_containers
from meshnet_control.agent.task_dir import TASKS, TaskDir
from meshnet_control.api import control_pb2 as pb

pytestmark = [pytest.mark.docker, pytest.mark.timeout(120)]


def ready(wires, task):
    """Whether the task is a backend."""
    return wires.endpoints[task].ready


SECRET = pb.SecretReference(
    file=pb.FileTarget(name="key", uid="1000", mode=0o400),
    secret_id="sec",  # noqa: S106 - an object's ID
)
ODD_SECRET = pb.SecretReference(
    file=pb.FileTarget(name="key", uid="99999999999"),
    secret_id="sec",  # noqa: S106 - an object's ID
)


async def test_a_task_starts_only_when_it_is_wired(engine, run_dir):
    async with node(engine, run_dir) as d:
        d.wires.gate.clear()
        one = task(args=("sh", "-c", "echo went; sleep 1000"))
        d.agent.assign(assigned(one))
        await d.until(lambda: one.id in d.wires.sandboxes, "sandbox")
        sandbox = d.wires.sandboxes[one.id]
        assert engine.inside("ls", sandbox.netns)
        assert str(sandbox.gateway_address).endswith(".3/16")
        assert d.wires.endpoints[one.id].ready is False
        name = f"web.1.{one.id}"
        assert engine.docker("logs", name) == ""
        assert d.state(one.id) == pb.TASK_STATE_STARTING
        d.wires.gate.set()
        status = await d.reaches(one.id, pb.TASK_STATE_RUNNING)
        assert status.container_status.pid > 0
        await d.until(lambda: d.wires.endpoints[one.id].ready, "ready")
        await d.until(lambda: engine.docker("logs", name) == "went", "program")
        assert engine.docker("exec", name, "cat", "/etc/resolv.conf").splitlines() == [
            "nameserver 127.0.0.11",
            "options ndots:0",
        ]
        assert engine.docker("exec", name, "cat", "/proc/1/cmdline") == "sleep\x001000\x00"
        hosts = engine.docker("exec", name, "cat", "/etc/hosts")
        assert f"10.0.1.3\t{status.container_status.container_id[:12]}" in hosts
        assert d.states(one.id) == sorted(d.states(one.id))


async def test_what_the_spec_says_is_in_the_container(engine, run_dir):
    async with node(engine, run_dir) as d:
        one = task(
            hostname="{{.Service.Name}}-{{.Task.Slot}}",
            env=["NODE={{.Node.Hostname}}"],
            labels={"a": "b"},
            user="worker",
            read_only=True,
            secrets=[SECRET],
        )
        d.agent.assign(assigned(one, secrets=[pb.SecretAssignment(id="sec", data=b"hidden")]))
        await d.reaches(one.id, pb.TASK_STATE_RUNNING)
        name = f"web.1.{one.id}"
        await d.until(
            lambda: engine.docker("exec", name, "cat", "/proc/1/cmdline").startswith("sleep"), "run"
        )
        assert engine.docker("exec", name, "hostname") == "web-1"
        assert "NODE=h1" in engine.docker("exec", name, "env").splitlines()
        assert engine.docker("exec", name, "id", "-u") == "1000"
        assert engine.docker("exec", name, "cat", "/run/secrets/key") == "hidden"
        labels = engine.docker("inspect", "-f", "{{json .Config.Labels}}", name)
        assert '"a":"b"' in labels
        assert f'"com.docker.swarm.task.id":"{one.id}"' in labels
        d.agent.assign(assigned())
        await d.until(lambda: d.agent.running == 0 and not list(run_dir.glob("tasks/*")), "gone")


FIELDS: dict[str, tuple[Any, dict[str, Any]]] = {
    "CapAdd": (["NET_ADMIN"], {"capability_add": ["NET_ADMIN"]}),
    "CapDrop": (["MKNOD"], {"capability_drop": ["MKNOD"]}),
    "OomScoreAdj": (500, {"oom_score_adj": 500}),
    "Sysctls": ({"net.core.somaxconn": "200"}, {"sysctls": {"net.core.somaxconn": "200"}}),
    "Ulimits": (
        [{"Name": "nofile", "Hard": 200, "Soft": 100}],
        {"ulimits": [pb.Ulimit(name="nofile", hard=200, soft=100)]},
    ),
    "GroupAdd": (["7"], {"groups": ["7"]}),
    "Init": (False, {"init": True}),  # the gate becomes it
    "SecurityOpt": (
        [
            "no-new-privileges=true",
            'seccomp={"defaultAction": "SCMP_ACT_ALLOW"}',
            "apparmor=unconfined",
        ],
        {
            "privileges": pb.Privileges(
                no_new_privileges=True,
                seccomp={"mode": "custom", "profile": b'{"defaultAction": "SCMP_ACT_ALLOW"}'},
                app_armor={"mode": "disabled"},
            )
        },
    ),
}
"""What the API calls it in HostConfig, what is there, and what is said in a service."""
LIMITS = {
    "NanoCpus": 500_000_000,
    "Memory": 64 << 20,
    "MemorySwap": 96 << 20,
    "MemorySwappiness": 7,
    "MemoryReservation": 16 << 20,
    "PidsLimit": 50,
}


async def test_limits_and_rights_reach_the_engine(engine, run_dir):
    async with node(engine, run_dir) as d:
        one = task(**{k: v for _, said in FIELDS.values() for k, v in said.items()})
        resources = one.spec.resources
        resources.limits.CopyFrom(pb.Limit(nano_cpus=500_000_000, memory_bytes=64 << 20, pids=50))
        resources.reservations.memory_bytes = 16 << 20
        resources.swap_bytes, resources.memory_swappiness = 32 << 20, 7
        d.agent.assign(assigned(one))
        status = await d.reaches(one.id, pb.TASK_STATE_RUNNING)
        container = status.container_status.container_id
        has = json.loads(engine.docker("inspect", "-f", "{{json .HostConfig}}", container))
        for name, value in {**{n: v for n, (v, _) in FIELDS.items()}, **LIMITS}.items():
            assert has[name] == value, name


async def test_what_the_engine_is_too_old_for_is_refused_by_name(engine, run_dir):
    newest = engine.docker("version", "-f", "{{.Server.APIVersion}}")
    async with node(engine, run_dir) as d:
        checked = pb.HealthConfig(test=["CMD", "true"], start_interval=500_000_000)
        one = task(healthcheck=checked)
        d.agent.assign(assigned(one))
        if tuple(map(int, newest.split("."))) >= (1, 44):
            status = await d.reaches(one.id, pb.TASK_STATE_RUNNING)
            container = status.container_status.container_id
            has = engine.docker("inspect", "-f", "{{.Config.Healthcheck.StartInterval}}", container)
            assert has == "500ms"
        else:
            status = await d.reaches(one.id, pb.TASK_STATE_REJECTED)
            assert "cannot do a start interval of health checks" in status.err


async def test_a_removed_container_fails_at_once(engine, run_dir):
    async with node(engine, run_dir) as d:
        one = task()
        d.agent.assign(assigned(one))
        status = await d.reaches(one.id, pb.TASK_STATE_RUNNING)
        asyncio.get_running_loop().run_in_executor(
            None, engine.docker, "rm", "-f", status.container_status.container_id
        )
        began = time.monotonic()
        status = await d.reaches(one.id, pb.TASK_STATE_FAILED)
        assert time.monotonic() - began < 2
        assert status.err == "task: non-zero exit (137)"
        await d.until(lambda: not d.wires.endpoints and not d.wires.sandboxes, "withdrawn")


async def test_a_restart_of_the_agent_restarts_no_task(engine, run_dir):
    one, two = task(1), task(2)
    async with node(engine, run_dir) as d:
        d.agent.assign(assigned(one, two))
        await d.reaches(two.id, pb.TASK_STATE_RUNNING)
        before = (await d.reaches(one.id, pb.TASK_STATE_RUNNING)).container_status
        gateway = d.wires.sandboxes[one.id].gateway_address
    async with node(engine, run_dir) as d:
        await d.until(lambda: d.wires.adoptions, "adopted")
        assert set(d.wires.sandboxes) == {one.id, two.id}
        assert d.wires.endpoints[one.id].ready
        assert d.wires.sandboxes[one.id].gateway_address == gateway
        after = (await d.reaches(one.id, pb.TASK_STATE_RUNNING)).container_status
        assert (after.pid, after.container_id) == (before.pid, before.container_id)
        d.agent.assign(assigned(one))
        await d.until(lambda: two.id not in d.wires.sandboxes, "the other is removed")
        await d.until(lambda: len(engine.docker("ps", "-aq").split()) == 1, "container removed")
        await d.agent.stop_all()
        assert engine.docker("ps", "-aq") == ""


async def test_a_stopped_task_is_no_failure_after_a_restart_of_the_agent(engine, run_dir):
    one = task(args=("sh", "-c", "trap 'exit 7' TERM; while :; do sleep 0.1; done"))
    async with node(engine, run_dir) as d:
        d.agent.assign(assigned(one))
        await d.reaches(one.id, pb.TASK_STATE_RUNNING)
        one.desired_state = pb.TASK_STATE_SHUTDOWN
        d.agent.assign(assigned(one))
        await d.reaches(one.id, pb.TASK_STATE_SHUTDOWN)
    async with node(engine, run_dir) as d:
        await d.until(lambda: one.id in d.said, "said again")
        assert d.states(one.id) == [pb.TASK_STATE_SHUTDOWN]


async def test_an_unknown_image_is_rejected_in_the_engines_words(engine, run_dir):
    async with node(engine, run_dir) as d:
        one = task(image="127.0.0.1:9/nope:latest")
        d.agent.assign(assigned(one))
        status = await d.reaches(one.id, pb.TASK_STATE_REJECTED)
        assert status.err == "No such image: 127.0.0.1:9/nope:latest"


@pytest.mark.parametrize(
    ("args", "state", "err"),
    [
        (("true",), pb.TASK_STATE_COMPLETE, ""),
        (("sh", "-c", "exit 3"), pb.TASK_STATE_FAILED, "task: non-zero exit (3)"),
    ],
)
async def test_how_programs_end(engine, run_dir, args, state, err):
    async with node(engine, run_dir) as d:
        one = task(args=args)
        d.agent.assign(assigned(one))
        assert (await d.reaches(one.id, state)).err == err


async def test_stopping_drains_then_asks_then_kills(engine, run_dir):
    async with node(engine, run_dir) as d:
        polite = task(1, ("sh", "-c", "trap 'exit 0' TERM; while :; do sleep 0.05; done"))
        deaf = task(2, stop_grace_period=600_000_000)
        d.agent.assign(assigned(polite, deaf))
        for one in (polite, deaf):
            await d.reaches(one.id, pb.TASK_STATE_RUNNING)
            await d.until(partial(ready, d.wires, one.id), "ready")
        began = time.monotonic()
        polite.desired_state = deaf.desired_state = pb.TASK_STATE_SHUTDOWN
        d.agent.assign(assigned(polite, deaf))
        await d.reaches(polite.id, pb.TASK_STATE_SHUTDOWN)
        await d.reaches(deaf.id, pb.TASK_STATE_SHUTDOWN)
        assert 0.6 <= time.monotonic() - began < 5
        assert [what for who, what in d.wires.log if who == polite.id] == [
            False, True, False, "drained", None,
        ]  # fmt: skip


HEALTH = {"interval": 200_000_000, "retries": 2, "timeout": 10**9}


async def test_an_unhealthy_task_is_stopped_before_it_has_failed(engine, run_dir):
    check = pb.HealthConfig(test=["CMD-SHELL", "cat /tmp/ok"], **HEALTH)
    async with node(engine, run_dir) as d:
        script = "trap 'sleep 1; exit 3' TERM; mkdir -p /tmp; echo > /tmp/ok; sleep 1.5;"
        script += " rm /tmp/ok; while :; do sleep 0.1; done"
        one = task(args=("/bin/busybox", "sh", "-c", script), healthcheck=check)
        d.agent.assign(assigned(one))
        status = await d.reaches(one.id, pb.TASK_STATE_RUNNING)
        name = f"web.1.{one.id}"

        def running():
            return engine.docker("inspect", "-f", "{{.State.Running}}", name)

        d.ends[one.id] = running
        status = await d.reaches(one.id, pb.TASK_STATE_FAILED)
        assert status.err == "task: non-zero exit (3): dockerexec: unhealthy container"
        assert d.ended[one.id] == "false"
        assert [what for who, what in d.wires.log if who == one.id] == [
            False, True, False, "drained", None,
        ]  # fmt: skip


async def test_a_task_with_a_health_check_that_is_stopped_ends_in_shutdown(engine, run_dir):
    check = pb.HealthConfig(test=["CMD-SHELL", "true"], **HEALTH)
    async with node(engine, run_dir) as d:
        script = "trap 'sleep 1; exit 3' TERM; while :; do sleep 0.1; done"
        one = task(args=("sh", "-c", script), healthcheck=check)
        d.agent.assign(assigned(one))
        await d.reaches(one.id, pb.TASK_STATE_RUNNING)
        name = f"web.1.{one.id}"
        d.ends[one.id] = lambda: engine.docker("inspect", "-f", "{{.State.Running}}", name)
        one.desired_state = pb.TASK_STATE_SHUTDOWN
        d.agent.assign(assigned(one))
        await d.until(lambda: d.state(one.id) > pb.TASK_STATE_RUNNING, "the end")
        assert d.state(one.id) == pb.TASK_STATE_SHUTDOWN
        assert d.ended[one.id] == "false"


async def test_what_went_down_with_its_host_has_failed_and_never_runs_again(engine, run_dir):
    one, two = task(1), task(2)
    async with node(engine, run_dir) as d:
        d.agent.assign(assigned(one, two))
        for each in (one, two):
            await d.reaches(each.id, pb.TASK_STATE_RUNNING)
    # A host that comes back: processes and the run directory are gone, and so is a container.
    engine.docker("kill", f"web.1.{one.id}")
    engine.docker("rm", "-f", f"web.2.{two.id}")
    for directory in run_dir.glob(f"{TASKS}/*"):
        TaskDir(directory).remove()
    async with node(engine, run_dir) as d:
        d.agent.assign(assigned(one, two))
        status = await d.reaches(one.id, pb.TASK_STATE_FAILED)
        assert status.err == "task: non-zero exit (137)"
        status = await d.reaches(two.id, pb.TASK_STATE_FAILED)
        assert status.err == f"No such container: web.2.{two.id}"
        assert engine.docker("ps", "-q") == ""
        d.agent.assign(assigned())
        await d.until(lambda: engine.docker("ps", "-aq") == "", "removed")
        await d.until(lambda: not list(run_dir.glob(f"state/{TASKS}/*")), "forgotten")


async def test_a_gate_that_cannot_be_read_is_shut(engine, run_dir):
    async with node(engine, run_dir) as d:
        d.wires.gate.clear()
        one = task(args=("sh", "-c", "echo went; sleep 1000"))
        d.agent.assign(assigned(one))
        await d.until(lambda: one.id in d.wires.sandboxes, "sandbox")
        gate = TaskDir(run_dir / TASKS / one.id).gate
        await d.until(lambda: _touched(gate), "the program at its gate", 10)
        await asyncio.sleep(0.5)
        assert engine.docker("logs", f"web.1.{one.id}") == ""
        d.wires.gate.set()
        await d.until(lambda: engine.docker("logs", f"web.1.{one.id}") == "went", "program")


def _touched(gate):
    """A writer that opened the gate and died before it wrote."""
    try:
        os.close(os.open(gate, os.O_WRONLY | os.O_NONBLOCK))
    except OSError:
        return False
    return True


@pytest.mark.parametrize(
    ("spec", "err"),
    [
        (
            {"secrets": [ODD_SECRET]},
            "file key: uid '99999999999' is not a number in range",
        ),
        ({"dns_config": pb.DNSConfig(nameservers=["nobody"])},
         "invalid IP address in DNS configuration: 'nobody'"),
    ],
)  # fmt: skip
async def test_a_task_that_makes_no_sense_is_rejected_alone(engine, run_dir, spec, err):
    async with node(engine, run_dir) as d:
        odd, well = task(1, **spec), task(2, hosts=[""])
        secrets = [pb.SecretAssignment(id="sec", data=b"hidden")]
        d.agent.assign(assigned(odd, well, secrets=secrets))
        assert (await d.reaches(odd.id, pb.TASK_STATE_REJECTED)).err == err
        await d.reaches(well.id, pb.TASK_STATE_RUNNING)
        assert engine.docker("ps", "-aq", "--filter", f"name={odd.id}") == ""
        assert not (run_dir / TASKS / odd.id).exists()


async def test_an_image_without_a_shell(engine, run_dir):
    async with node(engine, run_dir) as d:
        one = task(image="bare:latest", args=("cat", "/etc/passwd"))
        d.agent.assign(assigned(one))
        await d.reaches(one.id, pb.TASK_STATE_COMPLETE)
        assert "worker" in engine.docker("logs", f"web.1.{one.id}")


async def test_seven_at_once(engine, run_dir, record_property):
    async with node(engine, run_dir) as d:
        tasks = [task(number) for number in range(1, 8)]
        began = time.monotonic()
        d.agent.assign(assigned(*tasks))
        for one in tasks:
            await d.reaches(one.id, pb.TASK_STATE_RUNNING)
        took = time.monotonic() - began
        record_property("seconds", took)
        print(f"7 tasks from assigned to running: {took:.2f} s")  # noqa: T201
        gateways = {sandbox.gateway_address for sandbox in d.wires.sandboxes.values()}
        assert len(gateways) == 7
        await remove_task_containers(d.client)
        for one in tasks:
            await d.reaches(one.id, pb.TASK_STATE_FAILED)
