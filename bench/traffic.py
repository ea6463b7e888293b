"""Requests from outside and inside over minutes, while hosts go off and come back."""

from __future__ import annotations

import contextlib
import json
import subprocess
from collections import Counter
from collections.abc import Callable

from bench import chaos
from bench.accounts import Account, Choices, Row, watching
from bench.asking import Five
from bench.rounds import BenchError
from bench.stream import ERRORS

OUTSIDE_PER_S, INSIDE_PER_S = 25.0, 2.0
LIMIT_S = 10.0
"""Five hosts share a machine of tests: an answer may take long, as long as it comes."""
LED_BEFORE_S, LED_AFTER_S = 2.0, 10.0
"""A request was led somewhere about when it was sent; what is heard is heard late."""


class Side:
    """The load and the ear inside one host: gone when the host goes, made anew afterwards."""

    def __init__(self, cluster: chaos.Cluster, host: str) -> None:
        space = f"--net=/proc/{cluster.clients[host]}/ns/net"
        self.choices = Choices(
            {
                host: cluster.lab.lab.command(host, watching(chaos.PORT)),
                f"in {host}": ["nsenter", space, *watching(80)],
            }
        )
        self.load = chaos.inside(cluster, host, INSIDE_PER_S, LIMIT_S)

    def stop(self) -> None:
        """Send nothing more; what it has is read in the end."""
        if self.load.stdin is not None and self.load.poll() is None:
            with contextlib.suppress(BrokenPipeError):
                self.load.stdin.write("\n")
                self.load.stdin.flush()


class Traffic:
    """All loads, from before the first blow to after the last."""

    def __init__(self, five: Five) -> None:
        self._five = five
        self._past: list[Side] = []
        self._now: dict[str, Side] = {}
        five.cluster.find_clients()
        self._outside = chaos.outside(five.cluster, OUTSIDE_PER_S, LIMIT_S)
        for host in five.hosts:
            self._now[host] = Side(five.cluster, host)

    def leave(self, host: str) -> None:
        if side := self._now.pop(host, None):
            side.stop()
            self._past.append(side)

    def resume(self) -> bool:
        """Begin anew on hosts that are back; whether all have."""
        for host in self._five.hosts:
            if host not in self._now:
                with contextlib.suppress(*ERRORS, subprocess.SubprocessError):
                    self._find(host)
                    self._now[host] = Side(self._five.cluster, host)
        return len(self._now) == len(self._five.hosts)

    def _find(self, host: str) -> None:
        cluster, engine = self._five.cluster, self._five.engine(host)
        names = "/containers/json?filters={%22name%22:[%22client.%22]}"
        found = engine.call("GET", names)
        if len(found) != 1:
            raise BenchError(f"{host} has {len(found)} clients")
        pid = engine.call("GET", f"/containers/{found[0]['Id']}/json")["State"]["Pid"]
        cluster.clients[host] = chaos.outside_pid(cluster.lab, host, str(pid))

    def end(
        self,
        what: str,
        excuses: Callable[[str, str, Row], bool],
        place: Callable[[str, Row], str],
    ) -> Account:
        """What became of every request.

        Args:
            what: took place meanwhile.
            excuses, place: see ``account``; "" stands for a backend that is not known.
        """
        sides = [*self._past, *self._now.values()]
        for side in self._now.values():
            side.stop()
        rows: list[Row] = []
        for load in (self._outside, *(side.load for side in sides)):
            said, _ = load.communicate("\n", timeout=60)
            rows += [tuple(json.loads(line)) for line in said.splitlines() if line[:1] == "["]
        for side in sides:
            side.choices.end()

        def led(row: Row) -> list[str]:
            label, begun, seconds, _, port, _ = row
            span = begun - LED_BEFORE_S, begun + seconds + LED_AFTER_S
            return [to for side in sides for to in side.choices.of(label, port, *span)]

        return account(what, rows, led, excuses, place)

    def kill(self) -> None:
        for load in (
            self._outside,
            *(side.load for side in (*self._past, *self._now.values())),
        ):
            load.kill()
            load.wait()


def account(
    what: str,
    rows: list[Row],
    led: Callable[[Row], list[str]],
    excuses: Callable[[str, str, Row], bool],
    place: Callable[[str, Row], str],
) -> Account:
    """The sum of a long load. PURE.

    Args:
        what: took place meanwhile.
        rows: its requests.
        led: backends a request was led to.
        excuses: whether nobody could have brought that request from a label to an address.
        place: what to call an address that such a request was led to, and when.
    """
    lost, excused = Counter[str](), 0
    for row in rows:
        label, _, _, outcome, _, _ = row
        if outcome == "ok":
            continue
        backends = led(row) or [""]
        if any(excuses(label, to, row) for to in backends):
            excused += 1
        else:
            lost[f"{label}, led to {place(backends[-1], row)}: {outcome}"] += 1
    slowest = max((row[2] for row in rows if row[3] == "ok"), default=0.0)
    return Account(what, len(rows), excused, dict(lost), slowest)
