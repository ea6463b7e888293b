"""Our gossip and serf's (HashiCorp's memberlist), each as twenty processes on a LAN of namespaces.

Both seal what they send, with a key of 16 bytes, and have their usual timing for a LAN. Rounds
alternate. What is measured is the same of both: bytes that leave a node's interface, headers
included; the time from an event at the node that makes it until the last one has printed it; from
SIGKILL until half of the others have printed that the node failed.

Be aware: a node of ours keeps records, whose fingerprints are compared five times a second by
everybody; serf keeps tags, and its events are not repaired. Twenty interpreters share the cores.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import selectors
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from bench import fabric, gossip_agent
from bench.bed import Bed, run
from bench.rounds import BenchError, Line

NODES = 20
ROUNDS = 3
REST_S = 15.0
EVENTS = 15
KILLS = 3
SETTLE_S = 3.0
_LONGEST_S = 30.0
_RPC = "127.0.0.1:7373"


@dataclass
class Agents:
    """Twenty of one kind, and what they print."""

    bed: Bed
    argv: Callable[[int], Sequence[str]]
    say: Callable[[Agents, int, str], None]
    marks: tuple[str, str]
    """What a line has before the name of an event, and of a node that failed."""
    procs: dict[int, subprocess.Popen[bytes]] = field(default_factory=dict)
    heard: selectors.DefaultSelector = field(default_factory=selectors.DefaultSelector)

    def start(self) -> None:
        for number in range(1, NODES + 1):
            proc = self.bed.converse(f"h{number}", *self.argv(number))
            assert proc.stdout is not None
            os.set_blocking(proc.stdout.fileno(), False)
            self.heard.register(proc.stdout, selectors.EVENT_READ, number)
            self.procs[number] = proc

    def end(self) -> None:
        for proc in self.procs.values():
            with contextlib.suppress(ProcessLookupError):
                os.killpg(proc.pid, signal.SIGKILL)
            proc.wait()
        self.heard.close()

    def lines(self, seconds: float) -> Iterator[tuple[float, int, str]]:
        """(when, by whom, what) until the time is over."""
        end = time.monotonic() + seconds
        rest = dict.fromkeys(self.procs, b"")
        while (left := end - time.monotonic()) > 0:
            for key, _ in self.heard.select(left):
                now, number = time.monotonic(), key.data
                said = os.read(key.fd, 1 << 16)
                if not said:
                    self.heard.unregister(key.fileobj)
                *whole, rest[number] = (rest[number] + said).split(b"\n")
                for line in whole:
                    yield now, number, line.decode(errors="replace")

    def spread_s(self, number: int, event: str) -> float:
        """From an event at one node until all have it."""
        self.say(self, number, event)
        seen: dict[int, float] = {}
        for when, by, line in self.lines(_LONGEST_S):
            if line.rstrip().endswith(self.marks[0] + event):
                seen.setdefault(by, when)
                if len(seen) == len(self.procs):
                    return max(seen.values()) - seen[number]
        raise BenchError(f"event {event} reached {len(seen)} of {len(self.procs)}")

    def death_s(self, number: int) -> float:
        """From a node's end until half of the others know."""
        proc = self.procs.pop(number)
        assert proc.stdout is not None
        self.heard.unregister(proc.stdout)
        begun, seen = time.monotonic(), dict[int, float]()
        os.killpg(proc.pid, signal.SIGKILL)
        proc.wait()
        mark = f"{self.marks[1]}h{number}"
        for when, by, line in self.lines(_LONGEST_S):
            if by != number and mark in f"{line} ".replace(mark + " ", mark):
                seen.setdefault(by, when)
                if len(seen) > len(self.procs) / 2:
                    return statistics.median(seen.values()) - begun
        raise BenchError(f"the end of h{number} was noticed by {len(seen)} of {len(self.procs)}")

    def rest_bytes_per_s(self) -> float:
        """What a node sends."""
        before = _sent(self.bed)
        for _ in self.lines(REST_S):
            pass
        return (_sent(self.bed) - before) / REST_S / NODES


def _sent(bed: Bed) -> int:
    """Bytes that came from all nodes, by the ports of their switch."""
    links = json.loads(run("ip", "-n", bed.name("lan"), "-j", "-s", "link"))
    ports = [link for link in links if link["ifname"].startswith("lh")]
    return sum(port["stats64"]["rx"]["bytes"] for port in ports)


def _ours(bed: Bed) -> Agents:
    def say(agents: Agents, number: int, event: str) -> None:
        stdin = agents.procs[number].stdin
        assert stdin is not None
        stdin.write(f"{event}\n".encode())
        stdin.flush()

    def argv(number: int) -> Sequence[str]:
        return (sys.executable, "-m", "bench.gossip_agent", str(number), str(NODES))

    return Agents(bed, argv, say, ("event ", "failed "))


def _serf(bed: Bed) -> Agents:
    key = base64.b64encode(gossip_agent.KEY).decode()

    def say(agents: Agents, number: int, event: str) -> None:
        agents.bed.inside(f"h{number}", "serf", "event", "-coalesce=false", event)

    def argv(number: int) -> Sequence[str]:
        at = ("-node", f"h{number}", "-bind", f"{fabric.vtep(number)}:7946", "-rpc-addr", _RPC)
        join = ("-retry-join", fabric.vtep(1)) if number > 1 else ()
        return ("serf", "agent", *at, "-encrypt", key, "-log-level", "info", *join)

    return Agents(bed, argv, say, ("user-event: ", "EventMemberFailed: "))


def _measured(make: Callable[[Bed], Agents], number: int) -> tuple[float, float, float]:
    with Bed(f"g{number}") as bed:
        fabric.lan(bed, NODES)
        agents = make(bed)
        try:
            agents.start()
            for _ in agents.lines(2 * SETTLE_S):
                pass
            agents.spread_s(1, "warm")  # all are there, and print
            rest = agents.rest_bytes_per_s()
            events = [agents.spread_s(1 + n % NODES, f"e{n}") for n in range(EVENTS)]
            deaths = []
            for victim in range(2, 2 + KILLS):
                deaths.append(agents.death_s(victim))
                for _ in agents.lines(SETTLE_S):
                    pass
        finally:
            agents.end()
    return rest, statistics.median(events), statistics.median(deaths)


def measure() -> list[Line]:
    kinds = {"ours": _ours, "serf": _serf}
    found: dict[str, list[tuple[float, float, float]]] = {name: [] for name in kinds}
    for number in range(ROUNDS):
        names = list(kinds) if number % 2 == 0 else list(reversed(kinds))
        for name in names:
            found[name].append(_measured(kinds[name], number))
            rest, event, death = found[name][-1]
            print(f"    {name}: {rest:,.0f} B/s, {event:.3f} s, {death:.2f} s", flush=True)
    what = (
        ("sent by a node at rest", "B/s"),
        ("an event until all have it, the median of 15", "s"),
        ("a killed node until half of the others know, the median of 3", "s"),
    )
    return [
        Line(
            f"gossip, {NODES} processes, against serf: {sentence}",
            None,
            [each[place] for each in found["ours"]],
            [each[place] for each in found["serf"]],
            unit=unit,
        )
        for place, (sentence, unit) in enumerate(what)
    ]
