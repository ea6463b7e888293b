"""meshnet-resolver dies while containers ask: its supervisor holds the sockets, and queries wait.

```
 c1 ── 2 000 questions a second ──> socket ──> resolver (killed, again and again)
                                      └ held by meshnet-supervisor
```
"""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from pathlib import Path
from typing import Any

import pytest
from dnslib import DNSRecord

from meshnet.kernel.nft import NftOperations
from meshnet.model.ids import NetworkId, NodeId, ServiceId, TaskId, Vni
from meshnet.model.snapshot import Network, Node, Sandbox, Service, Snapshot
from meshnet.process.revival import living
from meshnet.reconcile import Operations
from meshnet_control.host.supervision import STEADY_S
from meshnet_dns.operations import ResolverError, ResolverOperations, status
from meshnet_dns.redirect import rulesets

pytestmark = pytest.mark.netns

NET, NODE, WEB = NetworkId("f" * 25), NodeId("n1"), ServiceId("s1")
SUBNET = IPv4Network("10.0.1.0/24")
NAME = "meshnet-supervisor"
RATE, RUNS_S = 2000, 3.0
SO_RCVBUFFORCE = 33
WATCHDOG_S = 2.0
HELD_EACH = 2
"""Of each namespace: UDP and TCP."""
IN_HAND = 64
"""Of a batch that the process had taken when it was killed: nobody else has them."""


def picture(*paths: str) -> Snapshot:
    return Snapshot(
        1,
        NODE,
        nodes={NODE: Node(NODE, "h1", IPv4Address("10.77.0.1"))},
        networks={NET: Network(NET, "front", Vni(4097), SUBNET, SUBNET[1])},
        services={WEB: Service(WEB, "web", vips={NET: SUBNET[2]})},
        sandboxes={
            TaskId(path): Sandbox(
                TaskId(path), path, ((NET, IPv4Interface(f"{SUBNET[100]}/24")),), None
            )
            for path in paths
        },
        complete=True,
    )


class Host:
    """A supervisor with a resolver."""

    def __init__(self, run_dir: Path) -> None:
        self.run_dir = run_dir
        self.pid_file = run_dir / f"{NAME}.pid"
        self._nft = NftOperations([rulesets])
        self._told = ResolverOperations(run_dir)
        self.supervisor = self.start()

    def start(self) -> subprocess.Popen[bytes]:
        program = Path(sys.executable).with_name(NAME)
        places = ["--run-dir", str(self.run_dir), "--state-dir", str(self.run_dir / "state")]
        started = subprocess.Popen(
            [str(program), *places, "--foreground", "meshnet-resolver"],
            env={**os.environ, "MESHNET_WATCHDOG_S": str(WATCHDOG_S)},
        )
        until("the resolver answers", lambda: self.pid() > 0)
        return started

    def pid(self) -> int:
        try:
            return status(self.run_dir / "resolver.sock").pid
        except ResolverError:
            return 0

    def tell(self, snapshot: Snapshot) -> None:
        both: list[Operations[Any, Any, Any]] = [self._told, self._nft]
        for operations in both:
            desired = operations.desired(snapshot)
            changes = operations.plan(desired, operations.observe(desired), prune=True)
            operations.apply(changes)

    def kill(self, number: signal.Signals) -> None:
        """Returns when another one answers."""
        before = self.pid()
        os.kill(before, number)
        until("another resolver", lambda: self.pid() not in {0, before})

    def held(self) -> int:
        """Sockets in namespaces that the supervisor holds."""
        links = Path(f"/proc/{self.supervisor.pid}/fd").iterdir()
        return sum(int(link.name) >= 10_000 for link in links)

    def close(self) -> None:
        pid = living(self.pid_file, NAME)
        if pid is not None:
            os.kill(pid, signal.SIGTERM)
        self.supervisor.wait(10)
        until("the supervisor ended", lambda: not self.pid_file.exists())
        self._nft.close()


def until(what, condition, seconds=10.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"{what}: not within {seconds} s"
        time.sleep(0.01)


@pytest.fixture
def host(tmp_path):
    made = Host(tmp_path)
    try:
        yield made
    finally:
        made.close()


@dataclass
class Asked:
    """What one client saw: the longest it heard nothing, and IDs without an answer."""

    gap_s: float = 0.0
    missing: set[int] = field(default_factory=set)


def ask_steadily(asking: socket.socket, seen: Asked) -> None:
    """``RATE`` questions a second for ``RUNS_S``, then wait for what is late."""
    question = DNSRecord.question("web").pack()[2:]
    began = heard = time.monotonic()
    sent = 0
    while (now := time.monotonic()) < began + RUNS_S + 2:
        due = min(int((now - began) * RATE), int(RUNS_S * RATE))
        while sent < due:
            asking.send(sent.to_bytes(2) + question)
            seen.missing.add(sent)
            sent += 1
        if not seen.missing and sent == int(RUNS_S * RATE):
            break
        if select.select([asking], [], [], 0.0005)[0]:
            heard, before = time.monotonic(), heard
            seen.gap_s = max(seen.gap_s, heard - before)
            while select.select([asking], [], [], 0)[0]:
                reply = asking.recv(2048)
                assert reply[12:] != b""
                seen.missing.discard(int.from_bytes(reply[:2]))


def lost_and_gap(bed, name, meanwhile) -> Asked:
    """What a client in namespace ``name`` sees while ``meanwhile`` runs."""
    seen = Asked()
    with bed.socket(name, "127.0.0.11", 53, udp=True) as asking:
        asking.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 8 << 20)  # late answers come at once
        client = threading.Thread(target=ask_steadily, args=(asking, seen))
        client.start()
        try:
            meanwhile()
        finally:
            client.join()
    return seen


@pytest.fixture
def c1(bed, host):
    """
    Name: c1; Scope: function; Depends: bed, host.

    The namespace of a container that the resolver answers in.
    """
    name = bed.namespace("c1")
    host.tell(picture(bed.path(name)))
    until("the state is written", (host.run_dir / "resolver.state").exists)
    until("its sockets are held", lambda: host.held() == HELD_EACH)
    return name


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV])
def test_no_query_is_lost_while_the_resolver_is_killed(bed, host, c1, number, record_property):
    kills = 2

    def meanwhile():
        for _ in range(kills):
            time.sleep(STEADY_S - 1)
            host.kill(number)

    seen = lost_and_gap(bed, c1, meanwhile)
    record_property("silent_s", seen.gap_s)
    record_property("lost", len(seen.missing))
    assert len(seen.missing) <= kills * IN_HAND
    assert seen.gap_s < 2


def test_asked_to_end_it_ends_within_two_seconds_and_another_one_loses_nothing(bed, host, c1):
    pid = host.pid()

    def meanwhile():
        time.sleep(0.5)
        os.kill(pid, signal.SIGTERM)
        until("the resolver ended", lambda: not Path(f"/proc/{pid}").exists(), 2)

    seen = lost_and_gap(bed, c1, meanwhile)
    assert not seen.missing, "its sockets were held all the time"
    assert seen.gap_s < 2
    assert host.pid() not in {0, pid}


def test_the_resolver_starts_another_supervisor_which_goes_on_with_it_and_its_sockets(
    bed, host, c1
):
    pid = host.pid()
    host.supervisor.kill()
    host.supervisor.wait()
    until("another supervisor", lambda: living(host.pid_file, NAME) is not None, 2)
    assert host.pid() == pid
    time.sleep(WATCHDOG_S)  # a sign of life, and with it the sockets
    seen = lost_and_gap(bed, c1, lambda: host.kill(signal.SIGKILL))
    assert len(seen.missing) <= IN_HAND
    assert seen.gap_s < 2


def test_a_resolver_that_hangs_is_replaced(bed, host, c1):
    pid = host.pid()
    os.kill(pid, signal.SIGSTOP)
    until("another resolver", lambda: not Path(f"/proc/{pid}").exists(), WATCHDOG_S + 4)
    until("it answers", lambda: host.pid() not in {0, pid})
    assert not lost_and_gap(bed, c1, lambda: None).missing


def test_what_belongs_to_no_container_any_more_is_let_go(bed, host, c1):
    """The resolver is killed, and meanwhile the container ends and its state is lost."""
    c2 = bed.namespace("c2")
    host.tell(picture(bed.path(c1), bed.path(c2)))
    until("the sockets of both are held", lambda: host.held() == 2 * HELD_EACH)
    (host.run_dir / "resolver.state").unlink()
    host.kill(signal.SIGKILL)
    assert host.held() == 2 * HELD_EACH, "they wait for meshnetd to tell of them"
    host.tell(picture(bed.path(c1)))
    until("those of c2 are closed", lambda: host.held() == HELD_EACH, 15)
    seen = lost_and_gap(bed, c1, lambda: None)
    assert not seen.missing
