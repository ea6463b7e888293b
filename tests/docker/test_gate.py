"""A task's container is the user's: its process, words, environment, and the engine's refusals.

What passed the gate is compared with a container that the engine itself started.
"""

from __future__ import annotations

import json

import pytest
from engine_node import assigned, node, task

from meshnet_control.agent import gate
from meshnet_control.api import control_pb2 as pb

pytestmark = [pytest.mark.docker, pytest.mark.timeout(120)]

ENVIRONMENT = (
    "discovery.type=single-node", "my-var=a b", "PLAIN=x=y", "IFS=,", "PWD=/nowhere", "SHLVL=7",
    "PS1=> ", "meshnet_x=", "lines=one\ntwo", "p=1", "n=2", "d=3", "i=4", "_=5", "OPTIND=9",
    "RANDOM=4", "quoted='\"$HOME",
)  # fmt: skip
"""Names and values that a shell would drop or change."""


def first_process(engine, name, what):
    return engine.docker("exec", name, "/bin/cat", f"/proc/1/{what}").split("\0")


async def started(d, engine, one):
    """The name of its container once its program runs."""
    d.agent.assign(assigned(one))
    await d.reaches(one.id, pb.TASK_STATE_RUNNING)
    name = f"web.1.{one.id}"
    await d.until(
        lambda: not first_process(engine, name, "cmdline")[0].startswith(gate.ROOM), "program"
    )
    return name


PROCESS = "readlink /proc/1/cwd; grep -E '^(Uid|Gid|Sig|Cap|NoNew|Seccomp)' /proc/1/status"


@pytest.mark.parametrize("environment", [(), ENVIRONMENT])
async def test_the_first_process_is_what_the_engine_would_start(engine, run_dir, environment):
    given = [word for entry in environment for word in ("-e", entry)]
    program = ("/bin/sh", "-c", "sleep 1000; true", "", "a b", "$HOME", "*", "end")
    options = ["-d", "--network", "none", "-h", "h", *given, "-u", "worker", "-w", "/etc"]
    plain = engine.docker("run", *options, "busybox:latest", *program)
    async with node(engine, run_dir) as d:
        one = task(args=program, env=environment, hostname="h", user="worker", dir="/etc")
        name = await started(d, engine, one)
        for what in ("environ", "cmdline"):
            ours, theirs = (sorted(first_process(engine, each, what)) for each in (name, plain))
            assert ours == theirs, what
        inside = ("exec", "-u", "0")
        ours, theirs = (
            engine.docker(*inside, each, "/bin/sh", "-c", PROCESS) for each in (name, plain)
        )
        assert ours == theirs


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({"args": ["nope", "x"]}, 'exec: "nope": executable file not found in $PATH'),
        ({"args": ["/bin/nope"]}, 'exec: "/bin/nope": stat /bin/nope: no such file or directory'),
        ({"args": ["./nope"], "dir": "/etc"}, 'exec: "./nope": stat ./nope: no such file'),
        ({"args": ["/etc"]}, 'exec: "/etc": permission denied'),
        ({"args": ["/etc/passwd"]}, 'exec: "/etc/passwd": permission denied'),
        ({"args": ["sleep"], "env": ["PATH=/sbin::/etc"]}, 'exec: "sleep": executable file not'),
        ({"command": ["nope"], "args": ["x"]}, 'exec: "nope": executable file not found in $PATH'),
    ],
)
async def test_a_program_that_is_not_there_is_refused_by_the_engine(
    engine, run_dir, spec, expected
):
    async with node(engine, run_dir) as d:
        one = task(**spec)
        d.agent.assign(assigned(one))
        status = await d.reaches(one.id, pb.TASK_STATE_FAILED)
        assert status.err.startswith("starting container failed: failed to create shim task: OCI")
        assert expected in status.err
        [found] = json.loads(engine.docker("inspect", f"web.1.{one.id}"))
        assert found["State"]["Status"] == "created"
        assert found["State"]["ExitCode"] in {126, 127}
        assert [found["Path"], *found["Args"]] == [*spec.get("command", ()), *spec["args"]]
        assert pb.TASK_STATE_RUNNING not in d.states(one.id)


@pytest.mark.parametrize(
    "spec",
    [
        {"args": ["sleep", "1000"], "env": ["PATH=/nowhere:/bin"]},
        {"args": ["bin/sleep", "1000"]},
        {"args": ["./sleep", "1000"], "dir": "/bin"},
        {"args": ["sleep", "1000"], "env": ["PATH=:/nowhere"], "dir": "/bin"},
        {"args": ["../../bin/sleep", "1000"], "dir": "/new/place/"},
        {"command": ["sleep"], "args": ["1000"], "read_only": True},
        {"args": ["sleep", "1000"], "user": "4711:4712"},
    ],
)
async def test_a_program_is_found_where_the_engine_finds_it(engine, run_dir, spec):
    async with node(engine, run_dir) as d:
        name = await started(d, engine, task(**spec))
        words = [*spec.get("command", ()), *spec["args"]]
        assert first_process(engine, name, "cmdline") == [*words, ""]


async def test_a_program_in_a_volume_is_found(engine, run_dir):
    tools = run_dir / "tools"
    tools.mkdir()
    (tools / "mine").write_text("#!/bin/sh\nsleep 1000; true\n")
    (tools / "mine").chmod(0o755)
    async with node(engine, run_dir) as d:
        mount = pb.Mount(type="bind", source=str(tools), target="/usr/local/bin")
        name = await started(d, engine, task(args=("mine", "x"), mounts=[mount]))
        assert first_process(engine, name, "cmdline")[:3] == ["/bin/sh", "/usr/local/bin/mine", "x"]


async def test_init_is_the_first_process_and_its_child_the_program(engine, run_dir):
    async with node(engine, run_dir) as d:
        one = task(args=("sleep", "1000"), init=True)
        d.agent.assign(assigned(one))
        await d.reaches(one.id, pb.TASK_STATE_RUNNING)
        name = f"web.1.{one.id}"
        await d.until(
            lambda: engine.docker("exec", name, "ps", "-o", "args").splitlines()[2:3]
            == ["sleep 1000"],
            "program",
        )  # fmt: skip
        plain = engine.docker(
            "run", "-d", "--init", "--network", "none", "busybox:latest", "sleep", "1000"
        )
        for words in (("cat", "/proc/1/cmdline"), ("ps", "-o", "pid,ppid,args")):
            ours, theirs = (
                [line for line in engine.docker("exec", each, *words).splitlines() if line]
                for each in (name, plain)
            )
            assert _without_ps(ours) == _without_ps(theirs)
        assert first_process(engine, name, "cmdline")[:2] == ["/sbin/docker-init", "--"]
        one.desired_state = pb.TASK_STATE_SHUTDOWN
        d.agent.assign(assigned(one))
        await d.reaches(one.id, pb.TASK_STATE_SHUTDOWN)
        code = engine.docker("inspect", "-f", "{{.State.ExitCode}}", name)
        assert code == "143"  # by SIGTERM, which tini passed on


def _without_ps(lines):
    """What ``ps`` says, but for itself and for PIDs, which depend on what ran before."""
    rows = [line.split(maxsplit=2) for line in lines]
    return [
        (*row[:1], *row[2:]) if row[0] == "1" else row[1:] for row in rows if "ps" not in row[-1]
    ]


async def test_an_init_says_itself_what_is_not_there(engine, run_dir):
    plain = engine.docker("create", "--init", "--network", "none", "busybox:latest", "nope", "x")
    engine.docker("start", "-a", plain, check=False)
    async with node(engine, run_dir) as d:
        one = task(args=("nope", "x"), init=True)
        d.agent.assign(assigned(one))
        status = await d.reaches(one.id, pb.TASK_STATE_FAILED)
        assert status.err == "task: non-zero exit (127)"
        codes = [
            engine.docker("inspect", "-f", "{{.State.ExitCode}}", each)
            for each in (f"web.1.{one.id}", plain)
        ]
        assert codes == ["127", "127"]


async def test_a_health_check_looks_at_the_program_and_not_at_the_gate(engine, run_dir):
    second = 10**9
    check = pb.HealthConfig(
        test=["CMD-SHELL", "cat /tmp/ready"], interval=second // 5, timeout=second, retries=50
    )
    async with node(engine, run_dir) as d:
        one = task(
            args=("sh", "-c", "echo > /tmp/ready; exec sleep 1000"),
            healthcheck=check,
            mounts=[pb.Mount(type="tmpfs", target="/tmp")],  # noqa: S108 - of the container
            read_only=True,
        )
        d.agent.assign(assigned(one))
        await d.until(lambda: d.wires.endpoints.get(one.id), "endpoint")
        await d.until(lambda: d.wires.endpoints[one.id].ready, "healthy")
        assert d.state(one.id) == pb.TASK_STATE_RUNNING


async def test_host_gateway_is_the_hosts_address(engine, run_dir):
    async with node(engine, run_dir) as d:
        one = task(hosts=["host-gateway host.docker.internal", "10.9.8.7 other"])
        name = await started(d, engine, one)
        hosts = engine.docker("exec", name, "cat", "/etc/hosts").splitlines()
        bridge = await d.client.gwbridge()
        assert f"{bridge.gateway}\thost.docker.internal" in hosts
        assert "10.9.8.7\tother" in hosts
