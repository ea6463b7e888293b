"""What going through meshnet's docker.sock costs, against the engine's own socket beside it.

As typed: ``docker ps`` (which meshnet answers, of the engine's words), ``exec`` (an upgraded
connection) and 100 MB through ``cp``, in and out. A figure is the median of some calls of the CLI;
the CLI's own start is in both. Then memory: what meshnet's processes take more for each of 200
followers of a log, a container's and a service's.
"""

from __future__ import annotations

import contextlib
import socket
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator
from functools import partial

from bench.create20 import IMAGE, LIMIT_S, Api
from bench.engines import Engines, engines, until
from bench.rest import PROCESSES, memory
from bench.rounds import Goal, Line, interleave

ROUNDS = 5
CALLS = 15
MEGABYTES = 100
FOLLOWERS = 200
SOCKETS = {"meshnet": "/run/meshnet/docker.sock", "engine": "/run/docker.sock"}
BOX = "bench-front"


def typed(lab: Engines, path: str, line: str) -> float:
    """Seconds of one command of the CLI."""
    argv = lab.lab.command("h1", ["sh", "-c", f"exec docker -H unix://{path} {line}"])
    began = time.perf_counter()
    subprocess.run(argv, check=True, timeout=LIMIT_S, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began


def milliseconds(lab: Engines, line: str, path: str) -> float:
    """The median of some calls."""
    return statistics.median(typed(lab, path, line) for _ in range(CALLS)) * 1e3


def rate(lab: Engines, line: str, path: str) -> float:
    """MB a second of what moves the bench's file once."""
    return MEGABYTES / typed(lab, path, line)


@contextlib.contextmanager
def followers(path: str, request: str) -> Iterator[None]:
    """Clients of a log's stream, each of which has read its answer's head."""
    with contextlib.ExitStack() as stack:
        for _ in range(FOLLOWERS):
            client = stack.enter_context(socket.socket(socket.AF_UNIX))
            client.settimeout(LIMIT_S)
            client.connect(path)
            client.sendall(f"GET {request} HTTP/1.1\r\nHost: docker\r\n\r\n".encode())
            assert client.recv(12) == b"HTTP/1.1 200"
        yield


def growth(lab: Engines, request: str) -> float:
    """MB that meshnet's processes take more for each follower of a log."""
    pids = [pid for name in PROCESSES for pid in lab.pids("h1", name)]
    before = memory(pids)
    with followers(lab.socket("h1"), request):
        time.sleep(1)
        return (memory(pids) - before) / FOLLOWERS


def compared(measure: Callable[[str], float]) -> dict[str, list[float]]:
    """A measurement of both sockets, in turn."""
    return interleave({name: partial(measure, path) for name, path in SOCKETS.items()}, ROUNDS)


def measure() -> list[Line]:
    with engines("mbfront", 1, engine_only=False) as lab:
        lab.swarm()
        says = "while :; do echo says; sleep 1; done"
        fill = f"dd if=/dev/urandom of=/data bs=1M count={MEGABYTES}"
        run = ("docker", "run", "-d", "--name", BOX, "--network", "none", IMAGE)
        lab.run("h1", *run, "sh", "-c", f"{fill}; {says}")
        lab.run("h1", "docker", "service", "create", "-d", "--name", BOX, IMAGE, "sh", "-c", says)
        api = Api(lab.socket("h1"))
        until("the task", lambda: api.call("GET", "/services?status=1")[0]["ServiceStatus"]
              ["RunningTasks"] == 1, LIMIT_S)  # fmt: skip
        until("the file", lambda: "says" in lab.run("h1", "docker", "logs", BOX), LIMIT_S)
        lab.run("h1", "sh", "-c", f"docker cp {BOX}:/data - >/run/front.tar")
        lines = [
            Line(
                f"docker.sock: `docker {line.split()[0]}`, against the engine's own socket",
                Goal(1.3, at_least=False),
                *compared(partial(milliseconds, lab, line)).values(),
                "ms",
            )
            for line in ("ps", f"exec {BOX} true")
        ]
        lines += [
            Line(
                f"docker.sock: {MEGABYTES} MB {way} a container with `cp`, against the engine",
                Goal(0.8, at_least=True),
                *compared(partial(rate, lab, line)).values(),
                "MB/s",
            )
            for way, line in (
                ("out of", f"cp {BOX}:/data -"),
                ("into", f"cp - {BOX}:/ </run/front.tar"),
            )
        ]
        follow = "logs?follow=1&stdout=1&tail=1"
        lines += [
            Line(
                f"docker.sock: memory for each of {FOLLOWERS} followers of a {what}'s log",
                Goal(1.0, at_least=False, unit="MB"),
                [growth(lab, f"/{what}s/{BOX}/{follow}")],
                unit="MB",
            )
            for what in ("container", "service")
        ]
    return lines
