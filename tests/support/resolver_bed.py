"""A real meshnet-resolver in namespaces, with the upstreams that it asks.

```
 c1, c2 (containers) ── 127.0.0.11 ── resolver in host ── 10.77.0.0/24 ── up (upstreams at .2 to .5)
        └───────────────────── 10.78.n.0/24 ─────────────────────────────┘
```
"""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from pathlib import Path
from typing import Any

from dnslib import QTYPE, RR, A, DNSRecord
from dnslib.server import BaseResolver, DNSHandler, DNSLogger, DNSServer

from meshnet.kernel import netns
from meshnet.kernel.nft import NftOperations
from meshnet.model.ids import NetworkId, NodeId, ServiceId, TaskId, Vni
from meshnet.model.snapshot import Endpoint, Network, Node, Sandbox, Service, Snapshot
from meshnet.reconcile import Operations
from meshnet_dns.operations import Observed, ResolverError, ResolverOperations, status
from meshnet_dns.redirect import rulesets

NOERROR, SERVFAIL, NXDOMAIN = 0, 2, 3
FRONT, INSIDE = NetworkId("f" * 25), NetworkId("i" * 25)
NODE = NodeId("n1")
SUBNETS = {FRONT: IPv4Network("10.0.1.0/24"), INSIDE: IPv4Network("10.0.2.0/24")}
WEB, RR_SERVICE = ServiceId("s1"), ServiceId("s2")
GATEWAY = IPv4Interface("172.18.0.3/16")
SILENT, REFUSES, GOOD, HOSTS = "10.77.0.2", "10.77.0.3", "10.77.0.4", "10.77.0.5"
NOBODY = "10.77.0.6"
"""Nobody listens there, the kernel says so at once."""


class Knows(BaseResolver):  # type: ignore[misc]
    """Says its number for ``who.test``, 60 addresses for ``big.test``, or one result code."""

    def __init__(self, address: str, rcode: int = NOERROR) -> None:
        self.address, self.rcode = address, rcode
        self.asked: list[tuple[str, str]] = []

    def resolve(self, request: Any, handler: Any) -> Any:
        self.asked.append((str(request.q.qname), handler.protocol))
        said = request.reply()
        said.header.rcode = self.rcode
        if self.rcode == NOERROR:
            for i in range(60 if str(request.q.qname) == "big.test." else 1):
                address = str(IPv4Address(self.address) + i)
                said.add_answer(RR(request.q.qname, QTYPE.A, ttl=5, rdata=A(address)))
        return said


class Cut(DNSHandler):  # type: ignore[misc]
    """Truncates what does not fit into 512 bytes by UDP."""

    udplen = 512


class Upstreams:
    """Name servers in one namespace."""

    def __init__(self, path: str) -> None:
        self.knows = {
            REFUSES: Knows(REFUSES, rcode=5),
            GOOD: Knows(GOOD),
            HOSTS: Knows(HOSTS),
        }
        with netns.inside(path):
            self._servers = [
                DNSServer(
                    knows, address, 53, tcp=tcp, handler=Cut, logger=DNSLogger("-request,-reply")
                )
                for address, knows in self.knows.items()
                for tcp in (False, True)
            ]
            self.silent = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.silent.bind((SILENT, 53))
        for server in self._servers:
            server.server.allow_reuse_address = True
            server.start_thread()

    def close(self) -> None:
        with ThreadPoolExecutor() as together:  # each takes half a second
            list(together.map(lambda server: server.stop(), self._servers))
        for server in self._servers:
            server.server.server_close()
        self.silent.close()


def picture(
    bed: Any,
    containers: Mapping[str, tuple[NetworkId, Sequence[str]]],
    *,
    revision: int = 1,
    web: str = "10.0.1.2",
) -> Snapshot:
    """A Snapshot with ``containers``: namespace -> (network, upstreams)."""
    tasks = {
        TaskId(f"t{i}"): Endpoint(
            TaskId(f"t{i}"), f"{name}.{i}.t{i}", NODE, service, {FRONT: SUBNETS[FRONT][10 + i]}
        )
        for i, (name, service) in enumerate([("web", WEB)] * 3 + [("rr", RR_SERVICE)] * 4)
    }
    return Snapshot(
        revision,
        NODE,
        nodes={NODE: Node(NODE, "h1", IPv4Address("10.77.0.1"))},
        networks={
            id_: Network(id_, name, Vni(4097 + i), SUBNETS[id_], SUBNETS[id_][1])
            for i, (id_, name) in enumerate(((FRONT, "Front"), (INSIDE, "inside")))
        },
        services={
            WEB: Service(WEB, "web", vips={FRONT: IPv4Address(web)}),
            RR_SERVICE: Service(RR_SERVICE, "rr", mode="dnsrr"),
        },
        endpoints=tasks,
        sandboxes={
            TaskId(name): Sandbox(
                TaskId(name),
                bed.path(name),
                ((network, IPv4Interface(f"{SUBNETS[network][100]}/24")),),
                GATEWAY if network == FRONT else None,
                upstreams=tuple(IPv4Address(upstream) for upstream in upstreams),
            )
            for name, (network, upstreams) in containers.items()
        },
        complete=True,
    )


def until(what: str, seconds: float, condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"{what}: not within {seconds} s"
        time.sleep(0.02)


class World:
    """Host, upstreams and containers of one test."""

    def __init__(self, bed: Any, run_dir: Path) -> None:
        self.bed, self.run_dir = bed, run_dir
        self.host, self.up = bed.namespace("h"), bed.namespace("u")
        bed.veth(self.host, "u0", self.up, "h0")
        bed.run(f"ip -n {self.host} address add 10.77.0.1/24 dev u0")
        for address in (SILENT, REFUSES, GOOD, HOSTS, NOBODY):
            bed.run(f"ip -n {self.up} address add {address}/24 dev h0")
        self.upstreams = Upstreams(bed.path(self.up))
        self.etc = Path("/etc/netns") / self.host  # man ip-netns: its /etc/resolv.conf
        self.etc.mkdir(parents=True)
        (self.etc / "resolv.conf").write_text(f"nameserver 127.0.0.11\nnameserver {HOSTS}\n")
        self._nft = NftOperations([rulesets])
        self._told = ResolverOperations(run_dir)
        self.process = self.start()

    def start(self) -> subprocess.Popen[bytes]:
        serve = "from meshnet_dns.server import main; main()"
        process = subprocess.Popen(
            [
                *("ip", "netns", "exec", self.host, sys.executable, "-c", serve),
                *("--run-dir", str(self.run_dir)),
            ]
        )
        until("the resolver listens", 10, lambda: self.status() is not None)
        return process

    def status(self) -> Observed | None:
        try:
            return status(self.run_dir / "resolver.sock")
        except ResolverError:
            return None

    def container(self, label: str, *, out: bool = True) -> str:
        """A namespace; with a way ``out`` it can reach the upstreams itself."""
        name: str = self.bed.namespace(label)
        if out:
            net = f"10.78.{label[1:]}"
            self.bed.veth(name, "eth1", self.up, label)
            self.bed.run(
                f"ip -n {name} address add {net}.2/24 dev eth1\n"
                f"ip -n {self.up} address add {net}.1/24 dev {label}\n"
                f"ip -n {name} route add 10.77.0.0/24 via {net}.1"
            )
        return name

    def tell(self, snapshot: Snapshot, *, nft: bool = True) -> None:
        """One round of both reconcilers; a second one would change nothing."""
        both: list[Operations[Any, Any, Any]] = [self._told, self._nft]
        for operations in both if nft else both[:1]:
            desired = operations.desired(snapshot)
            operations.apply(
                operations.plan(desired, operations.observe(desired), prune=snapshot.complete)
            )
            assert operations.plan(desired, operations.observe(desired), prune=True) == []

    def fds(self) -> int:
        """Descriptors it has open once nobody speaks to it: the fewest of a tenth of a second."""
        return min(self._open() for _ in range(10))

    def _open(self) -> int:
        time.sleep(0.01)
        return len(list(Path(f"/proc/{self.process.pid}/fd").iterdir()))

    def ask(
        self, name: str, question: str, kind: str = "A", *, tcp: bool = False, timeout: float = 8
    ) -> Any:
        """The reply that a program in namespace ``name`` gets from 127.0.0.11:53."""
        asked: Any = DNSRecord.question(question, kind)
        packet = asked.pack()
        with self.bed.socket(name, "127.0.0.11", 53, udp=not tcp) as asking:
            asking.settimeout(timeout)
            asking.sendall((len(packet).to_bytes(2) if tcp else b"") + packet)
            reply = asking.recv(65535)
            while tcp and (len(reply) < 2 or len(reply) < 2 + int.from_bytes(reply[:2])):
                reply += asking.recv(65535)
        said = DNSRecord.parse(reply[2:] if tcp else reply)
        assert said.header.id == asked.header.id
        assert said.q == asked.q
        return said

    def addresses(
        self, name: str, question: str, kind: str = "A", *, tcp: bool = False
    ) -> list[str]:
        said = self.ask(name, question, kind, tcp=tcp)
        assert said.header.rcode == NOERROR
        return [str(record.rdata) for record in said.rr]

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        self.upstreams.close()
        self._nft.close()
        shutil.rmtree(self.etc)
