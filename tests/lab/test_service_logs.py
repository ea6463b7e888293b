"""``docker service logs`` on two hosts: lines of all tasks, with each docker CLI's own output.

Two services say numbered lines on both hosts. Followers are killed as a user kills them, and what
each meshnetd holds open is counted before and after. The last test loses a host.
"""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Iterator

import pytest
from docker_clis import distinct_clis
from lab_swarm import swarm_of

from meshnet_control.lab import adapter
from meshnet_control.lab.play import Play

pytestmark = [pytest.mark.lab, pytest.mark.timeout(120)]
NAME = "mnlogs"
CLIS = distinct_clis()
SAY = "sh -c 'echo out $(hostname) 1; sleep 1; echo err $(hostname) >&2; sleep 1; {then}'"
COUNT = "i=1; while true; do i=$((i+1)); echo out $(hostname) $i; sleep 0.2; done"
LINE = re.compile(r"^say\.[12]\.\w{12}@(h[12])    \| (.*)$")
OPEN = "ls /proc/$(cat /run/meshnet/meshnetd.pid)/fd | wc -l"
THREADS = "ls /proc/$(cat /run/meshnet/meshnetd.pid)/task | wc -l"
MISSING = (
    "error from daemon in stream: Error grabbing logs: rpc error: code = Unknown desc = "
    "warning: incomplete log stream. some logs could not be retrieved for the following reasons: "
)


@pytest.fixture(scope="module")
def play() -> Iterator[Play]:
    """
    Name: play; Scope: module; Depends: nothing.

    A swarm of two with a task of ``say`` (three lines each) and of ``count`` on both; removed also
    when a test fails.
    """
    with swarm_of(NAME) as made:
        create = "docker service create -d -q --no-resolve-image --stop-grace-period 1s --name"
        third = "echo out $(hostname) 2; sleep 1000"
        made.on("h1", f"{create} say --replicas 2 meshnet/tools:1 {SAY.format(then=third)}")
        made.on("h1", f"{create} count --mode global meshnet/tools:1 sh -c '{COUNT}'")
        made.on("h1", f"{create} screen --tty meshnet/tools:1 sh -c 'echo seen; sleep 1000'")
        made.on("h1", f"{create} mute --log-driver none meshnet/tools:1 sleep 1000")
        made.until("h1", "docker service logs say 2>&1", lambda said: said.count(" 2\n") == 2)
        yield made


@pytest.fixture(scope="module", params=CLIS)
def docker(play: Play, request: pytest.FixtureRequest) -> str:
    """Name: docker; Scope: module; Depends: play. Each CLI, none of which may wait for ever."""
    return f"timeout 20 {request.param}"


def test_the_lines_of_both_hosts_in_order_of_time(play: Play, docker: str) -> None:
    found = [LINE.match(line) for line in play.on("h1", f"{docker} service logs say").splitlines()]
    assert all(found), found
    for host in ("h1", "h2"):
        texts = [m[2].split() for m in found if m and m[1] == host]
        assert sorted((kind, *number) for kind, _, *number in texts) == [
            ("err",), ("out", "1"), ("out", "2"),
        ]  # fmt: skip
    stamped = play.on("h1", f"{docker} service logs -t say 2>/dev/null").splitlines()
    assert len(stamped) == 4
    assert stamped == sorted(stamped)
    assert re.match(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z say\.\d\.", stamped[0])


def test_what_the_flags_show(play: Play, docker: str) -> None:
    logs = f"{docker} service logs"
    raw = play.on("h1", f"{logs} --raw say 2>/dev/null").splitlines()
    assert sorted(re.sub(r"[0-9a-f]{12}", "H", line) for line in raw) == [
        "out H 1", "out H 1", "out H 2", "out H 2",
    ]  # fmt: skip
    assert play.on("h1", f"{logs} say 2>&1 >/dev/null").count("err") == 2
    assert len(play.on("h1", f"{logs} --tail 1 say").splitlines()) == 2
    assert play.on("h1", f"{logs} --since 2000-01-01T00:00:00 say").count("\n") == 6
    assert play.on("h1", f"{logs} --since 2999-01-01T00:00:00 say") == ""
    plain = play.on("h1", f"{logs} --no-task-ids --tail 1 say").splitlines()
    assert sorted(line.partition(" ")[0] for line in plain) in (
        ["say.1@h1", "say.2@h2"], ["say.1@h2", "say.2@h1"],
    )  # fmt: skip
    assert re.match(r"say\.\d\.\w{25}@h\d    \|  out", play.on(
        "h1", f"{logs} --details --no-trunc --tail 1 say"
    ))  # fmt: skip
    for task in play.on("h1", f"{docker} service ps -q say").split():
        assert play.on("h1", f"{logs} {task}").count(f".{task[:12]}@h") == 3


@pytest.mark.parametrize(
    ("command", "says"),
    [
        ("screen", "tty service logs only supported with --raw"),
        ("nosuch", "no such task or service: nosuch"),
        ("--tail x say", 'tail value must be a positive integer or "all"'),
        ("--tail -2 say", "negative tail values not supported"),
        ("mute", f"{MISSING}container "),
    ],
)
def test_refusals_in_swarms_words(play: Play, docker: str, command: str, says: str) -> None:
    code, said = play.attempt("h1", f"{docker} service logs {command}")
    assert code == 1
    assert says in said


def test_a_terminal_is_shown_raw_and_a_worker_shows_nothing(play: Play, docker: str) -> None:
    assert play.on("h1", f"{docker} service logs --raw screen") == "seen\n"
    code, said = play.attempt("h2", f"{docker} service logs say")
    assert code == 1
    assert "Worker nodes can't be used to view or modify cluster state" in said


def test_followers_see_new_tasks_and_leave_nothing_open(play: Play, docker: str) -> None:
    def held() -> list[int]:
        return [int(play.quietly(h, what)) for h in ("h1", "h2") for what in (OPEN, THREADS)]

    before = held()
    follow = f"echo $$; exec {docker.rpartition(' ')[2]} service logs -f --tail 0 count"
    argv = play.lab.command("h1", ["sh", "-c", follow])
    followers = [
        subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        for _ in range(3)
    ]
    pids: list[str] = []
    try:
        for follower in followers:
            assert follower.stdout is not None
            pids.append(follower.stdout.readline().strip())
            hosts: set[str] = set()
            while hosts != {"h1", "h2"}:
                line = follower.stdout.readline()
                assert " | out " in line, line
                hosts.add(line.partition(" ")[0].partition("@")[2])
        assert held()[0] > before[0] + 3
        stdout = followers[0].stdout
        assert stdout is not None
        victim = play.quietly("h2", "docker ps -q --filter name=count")
        play.on("h2", f"docker rm -f {victim}")
        ends = time.monotonic() + 20
        while not re.search(r"@h2 +\| out (?!" + victim + r")\w+ 2$", line := stdout.readline()):
            assert time.monotonic() < ends, line
    finally:
        play.quietly("h1", f"kill -9 {' '.join(pids)}")
        for follower in followers:
            follower.communicate()
    adapter.wait_for(  # the loop's own files and the engine's kept connections may differ by a few
        "the followers' files", lambda: all(
            now <= then + 3 for now, then in zip(held(), before, strict=True)
        ), timeout_s=10,
    )  # fmt: skip


def test_a_host_that_is_lost_is_said_and_holds_up_nobody(play: Play) -> None:
    began = time.monotonic()
    node = play.quietly("h1", "docker node inspect -f '{{.ID}}' h2")
    play.lab.kill("h2")
    code, said = play.attempt("h1", "docker service logs say")
    assert code == 1
    assert f"{MISSING}node {node} is not available" in said
    assert time.monotonic() - began < 20
    ours = [line for line in said.splitlines() if "@h1 " in line]
    assert len(ours) >= 3
