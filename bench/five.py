"""Five managers under random kills, power cuts and partitions, a stream of changes and traffic.

    python -m bench.five [SECONDS [SEED]]

Blow after blow, some of them two at a time: processes killed (-9) or frozen, a host off and on, the
cable between two hosts cut. Meanwhile services are created, scaled, updated and removed through
managers of chance, and requests come from outside through every host and by name from inside each.
During the play and at its end the cluster is asked whether anything is there that must not be.

Be aware: a request is excused only if it entered at, or was led to, a host that was off just then,
or was led across a cable that was cut. What processes' deaths cost is not excused.
"""

from __future__ import annotations

import contextlib
import random
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from bench import chaos
from bench.accounts import Account, Row
from bench.asking import SIZE, TASK, Five, Managed
from bench.blows import LEADER, Blow, Turn, strike, turn
from bench.engines import until
from bench.ledger import Json, Sightings, differences, wanted
from bench.rounds import BenchError
from bench.stream import ERRORS, Stream
from bench.traffic import Traffic

NAME = "mnfive"
STREAMS = 2
LOOK_S = 2.0
WHOLE_S, AGREE_S = 150.0, 120.0
SLACK_S = 2.0
"""A host is off or cut a moment before this clock says so, and after."""
NEAR_S = 10.0
"""Where an address was is known by looks so near."""


@dataclass
class Window:
    """When a blow excuses requests; Unix seconds."""

    fault: chaos.Fault
    since: float
    until: float = float("inf")


@dataclass
class Report:
    """What a play was, and what it found; ``problems`` empty: all that must hold held."""

    seed: int
    blows: Counter[str] = field(default_factory=Counter)
    changes: Counter[tuple[str, str]] = field(default_factory=Counter)
    stale: list[str] = field(default_factory=list)
    slowest_change_s: float = 0.0
    looks: int = 0
    traffic: Account | None = None
    whole_after_s: float = 0.0
    tracebacks: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        lines = [f"seed {self.seed}: {sum(self.blows.values())} blows {dict(self.blows)}"]
        lines.append(
            f"{sum(self.changes.values())} changes, the slowest that was acknowledged took "
            f"{self.slowest_change_s:.1f} s; {len(self.stale)} stale answers; {self.looks} looks"
        )
        lines += [f"    {count} {op}: {what}" for (op, what), count in sorted(self.changes.items())]
        lines += [f"    stale: {each}" for each in self.stale[:10]]
        if traffic := self.traffic:
            lines.append(
                f"{traffic.sent} requests, {traffic.total_lost} lost, {traffic.excused} more at "
                f"hosts off or cut; the slowest took {traffic.slowest_s:.1f} s"
            )
        lines.append(f"whole again after {self.whole_after_s:.0f} s")
        lines += [f"    traceback: {count} of {what}" for what, count in self.tracebacks.items()]
        return "\n".join([*lines, *(f"PROBLEM {each}" for each in self.problems)])


class Played:
    """One play: the cluster, what befell it, what was seen.

    Args:
        five: the cluster.
        seed: of all that is left to chance.
        say: told what happens.
    """

    def __init__(self, five: Five, seed: int, say: Callable[[str], None]) -> None:
        self._five, self._say = five, say
        self._chance = random.Random(seed)
        self._windows: list[Window] = []
        self._places: list[tuple[float, dict[str, str]]] = []
        self._seen = Sightings()
        self._began = time.time()
        self._ended = threading.Event()
        self._networks = [
            str(network["Id"])
            for network in five.api("h1").call("GET", "/networks")
            if network["Name"] in ("app", "ingress")
        ]
        self.report = Report(seed)
        self._traffic = Traffic(five)
        self._streams = [
            Stream(str(number), five.hosts, five.api, seed + number) for number in range(STREAMS)
        ]

    def play(self, seconds: float) -> None:
        looking = threading.Thread(target=self._look, daemon=True)
        for thread in (looking, *self._streams):
            thread.start()
        try:
            until_s = time.monotonic() + seconds
            while time.monotonic() < until_s:
                self._play(turn(self._chance, self._five.hosts))
            for stream in self._streams:
                stream.stop()
            self._settle()
            self._ended.set()
            looking.join()
            self._judge()
        finally:
            for stream in self._streams:
                stream.stop()
            self._ended.set()
            looking.join()
            self._traffic.kill()

    # ---- blows ----

    def _play(self, what: Turn) -> None:
        """Blows of one turn; each is over when this returns."""
        ends: list[tuple[float, Blow, Callable[[], None]]] = []
        try:
            for blow in what.blows:
                aimed = self._aimed(blow, [host for _, other, _ in ends for host in other.hosts])
                ends.append((time.monotonic() + aimed.away_s, aimed, self._begin(aimed)))
                time.sleep(what.apart_s)
        finally:
            for at, blow, end in sorted(ends, key=lambda each: each[0]):
                time.sleep(max(0.0, at - time.monotonic()))
                end()
                if blow.kind == "cut":
                    self._close(blow)
        # A host that is off comes back before the next blow, so that a majority is left.
        off = any(blow.kind == "off" for _, blow, _ in ends)
        if what.rests or off:
            self._until_whole(everywhere=what.rests)
        else:
            time.sleep(self._chance.uniform(0.5, 3.0))

    def _aimed(self, blow: Blow, taken: list[str]) -> Blow:
        """The blow with a host of a name, and another one than those already hit."""
        if blow.kind == "cut":
            return blow
        host = self._five.leader() if blow.hosts == (LEADER,) else blow.hosts[0]
        if host is None or host in taken:
            host = self._chance.choice([host for host in self._five.hosts if host not in taken])
        return replace(blow, hosts=(host,))

    def _begin(self, blow: Blow) -> Callable[[], None]:
        self._tell(str(blow))
        self.report.blows[" ".join((blow.kind, *blow.programs[:1]))] += 1
        off = blow.hosts if blow.kind == "off" else ()
        cut = blow.hosts if blow.kind == "cut" else ()
        if off or cut:
            excuse = chaos.Fault(str(blow), lambda _: None, off=off, cut=cut)
            self._windows.append(Window(excuse, time.time() - SLACK_S))
        for host in off:
            self._traffic.leave(host)
        return strike(self._five.cluster.lab, blow)

    def _close(self, blow: Blow | None = None) -> None:
        """Requests are not excused any more."""
        for window in self._windows:
            if window.until == float("inf") and (blow is None or window.fault.what == str(blow)):
                window.until = time.time() + SLACK_S

    def _until_whole(self, *, everywhere: bool) -> None:
        """What hinders it, should it not come to be, is a problem and no end of the play."""
        try:
            until("a whole cluster", lambda: self._whole(everywhere=everywhere), WHOLE_S, 0.5)
        except BenchError as error:
            unwell = filter(None, map(self._five.unwell, self._five.hosts))
            self.report.problems += [str(error), *unwell]

    def _whole(self, *, everywhere: bool) -> bool:
        """All managers are there, in the eyes of all or of one, and a client on each host."""
        unwell = [self._five.unwell(host) for host in self._five.hosts]
        well = not any(unwell) if everywhere else "" in unwell
        if well and self._traffic.resume():
            self._close()
            return True
        return False

    # ---- looking ----

    def _look(self) -> None:
        try:
            while not self._ended.wait(LOOK_S):
                host = random.choice(self._five.hosts)
                with contextlib.suppress(*ERRORS):
                    self._tasks(self._five.ask(host, "/tasks"), self._five.ask(host, "/nodes"))
                    self.report.looks += 1
                self._engines()
        except Exception as error:
            self.report.problems.append(f"no looks any more: {error!r}")
            raise

    def _tasks(self, tasks: list[Json], nodes: list[Json], services: Sequence[Json] = ()) -> None:
        self._seen.cluster(tasks, list(services), self._networks)
        names = {node["ID"]: node["Description"]["Hostname"] for node in nodes}
        places = {
            address.partition("/")[0]: names.get(task.get("NodeID"), "")
            for task in tasks
            for attachment in task.get("NetworksAttachments") or []
            for address in attachment.get("Addresses") or []
        }
        self._places.append((time.time(), places))

    def _engines(self, *, inspected: bool = False) -> None:
        for host in self._five.hosts:
            with contextlib.suppress(*ERRORS):
                for each in self._five.containers(host):
                    started = self._five.started(host, each["Id"]) if inspected else ""
                    self._seen.runs(each["Labels"][TASK], each["Id"], started)

    def _hosts(self, to: str, row: Row) -> list[str]:
        """Where an address was about when a request was sent."""
        begun, ended = row[1], row[1] + row[2]
        looks = [
            places[to]
            for at, places in self._places
            if to in places and begun - NEAR_S <= at <= ended + NEAR_S
        ]
        return list(dict.fromkeys(looks)) or [""]

    def _excuses(self, label: str, to: str, row: Row) -> bool:
        begun, ended = row[1], row[1] + row[2]
        return any(
            window.fault.excuses(label, place)
            for window in self._windows
            if window.since <= ended and begun <= window.until
            for place in self._hosts(to, row)
        )

    def _place(self, to: str, row: Row) -> str:
        at = (row[1] - self._began) // 10 * 10
        return f"{'/'.join(self._hosts(to, row)) or 'nobody knows where'} at {at:.0f} s"

    # ---- the end ----

    def _settle(self) -> None:
        """All is whole and all managers say the same, or why not."""
        began = time.monotonic()
        self._until_whole(everywhere=True)
        try:
            until("all managers to say the same", lambda: not self._unlike(), AGREE_S, 0.5)
        except BenchError as error:
            self.report.problems += [str(error), *self._unlike()]
        self.report.whole_after_s = time.monotonic() - began

    def _unlike(self) -> list[str]:
        """Where managers differ, and services that have not what they should."""
        found = []
        try:
            for path in ("/services?status=true", "/nodes", "/tasks"):
                answers = {host: self._five.ask(host, path) for host in self._five.hosts}
                found += [f"{path} {each}" for each in differences(answers)]
                if path.startswith("/services"):
                    found += [
                        f"{each['Spec']['Name']} has {each['ServiceStatus']}"
                        for each in answers["h1"]
                        if each["ServiceStatus"]["RunningTasks"]
                        != each["ServiceStatus"]["DesiredTasks"]
                    ]
        except ERRORS as error:
            return [str(error)]
        return found

    def _judge(self) -> None:
        report, five = self.report, self._five
        for host in five.hosts:
            services = five.ask(host, "/services")
            self._tasks(five.ask(host, "/tasks"), five.ask(host, "/nodes"), services)
            for stream in self._streams:
                wrong = stream.ledger.wrong(wanted(services, stream.prefix))
                report.problems += [f"{host}: {each}" for each in wrong]
            report.problems += five.ailing(host)
            report.tracebacks += five.tracebacks(host)
        self._engines(inspected=True)
        report.problems += list(self._seen.problems)
        for stream in self._streams:
            report.changes += stream.outcomes
            report.stale += stream.stale
            report.slowest_change_s = max(report.slowest_change_s, stream.slowest_s)
            if stream.broken is not None:
                report.problems.append(f"{stream.name} broke: {stream.broken!r}")
        report.traffic = self._traffic.end("five managers", self._excuses, self._place)
        report.problems += [
            f"{count} requests lost: {why}" for why, count in report.traffic.lost.items()
        ]

    def _tell(self, what: str) -> None:
        self._say(f"    {time.time() - self._began:6.1f} s  {what}")


def play(seconds: float, seed: int, say: Callable[[str], None] = print) -> Report:
    """Play on a cluster of its own, which is gone afterwards."""
    with chaos.cluster(Managed, NAME, disk=False, hosts=SIZE) as cluster:
        five = Five(cluster)
        until("five managers", lambda: not any(map(five.unwell, five.hosts)), WHOLE_S, 0.5)
        played = Played(five, seed, say)
        played.play(seconds)
        return played.report


def main() -> None:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that finally blocks run
    seconds, seed, *_ = [*sys.argv[1:], *("300", "1")[len(sys.argv) - 1 :]]
    report = play(float(seconds), int(seed), lambda text: print(text, flush=True))
    print(report)
    raise SystemExit(bool(report.problems))


if __name__ == "__main__":
    main()
