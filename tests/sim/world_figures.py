"""What a whole cluster of some size does in its life, in virtual seconds and in counts."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass
from typing import Any

from simulated_world import Cluster

from meshnet_control.api import control_pb2 as pb

REST_S = 2.0


@dataclass(frozen=True)
class Paid:
    """In some time, by the whole cluster."""

    seconds: float
    nodes: int
    gossip_bytes: int
    call_bytes: int
    calls: int
    commits: int
    made: Counter[tuple[int, str]]
    """(host, kind of reconciler) -> changes that it made."""
    read: Counter[tuple[int, str]]
    """The same -> namespaces that it read."""
    snapshots: Counter[int]
    """Host -> Snapshots that it made."""
    containers: Counter[int]
    """Host -> containers that it started."""

    @property
    def gossip(self) -> float:
        """Bytes that a node sent in a second."""
        return self.gossip_bytes / self.seconds / self.nodes

    def others(self, paid: Counter[tuple[int, str]]) -> int:
        """The most that a host paid which started no container, all its reconcilers together."""
        each: Counter[int] = Counter()
        for (host, _), number in paid.items():
            each[host] += 0 if self.containers[host] else number
        return max(each.values(), default=0)

    @property
    def control(self) -> float:
        """Bytes of calls that a node and its managers sent for it in a second."""
        return self.call_bytes / self.seconds / self.nodes


class Meter:
    """Counts from its making on."""

    def __init__(self, c: Cluster) -> None:
        self._c, self._began, self._before = c, c.now, self._counted(c)

    def read(self) -> Paid:
        c, now = self._c, self._counted(self._c)
        numbers = {name: now[name] - before for name, before in self._before.items()}
        return Paid(max(c.now - self._began, 0.001), len(c.there()), **numbers)

    @staticmethod
    def _counted(c: Cluster) -> dict[str, Any]:
        made: Counter[tuple[int, str]] = Counter()
        read: Counter[tuple[int, str]] = Counter()
        for host in c.whole():
            made += Counter({(host.number, kind): n for kind, n in host.kernel.made.items()})
            read += Counter({(host.number, kind): n for kind, n in host.kernel.read.items()})
        return {
            "gossip_bytes": c.underlay.gossip_bytes.total(),
            "call_bytes": c.underlay.call_bytes.total(),
            "calls": c.underlay.messages.total(),
            "commits": c.etcd.writes,
            "made": made,
            "read": read,
            "snapshots": Counter({h.number: h.plane.snapshot.revision for h in c.whole()}),
            "containers": Counter({h.number: h.engine.started.total() for h in c.whole()}),
        }


async def life(c: Cluster) -> dict[str, float]:
    """Services, a change, rest, a host's loss, a host that comes; what each took or cost."""
    found: dict[str, float] = {}
    net = await c.network("net")
    web = await c.service("web", 30, net, port=8080)
    other = await c.service("other", 10, net)
    found["deployed"] = await c.quiet(20)
    meter = Meter(c)
    await c.change(other, lambda spec: _replicas(spec, 11))
    found["changed"] = await c.quiet(20)
    await asyncio.sleep(1)
    paid = meter.read()
    found["commits of one change"] = paid.commits
    found["changes to a kernel of another host"] = paid.others(paid.made)
    meter = Meter(c)
    await asyncio.sleep(REST_S)
    paid = meter.read()
    assert not paid.commits
    assert not paid.made
    found["gossip, bytes a second and node"] = paid.gossip
    found["control, bytes a second and node"] = paid.control
    lost = next(h for h in reversed(c.there()) if h.light and h.engine.running())
    gone = {a.ip for s in lost.plane.snapshot.sandboxes.values() for _, a in s.networks}
    await lost.power_off()
    found["a host's loss is known"] = await c.until(
        lambda: not any(gone & c.chosen(host) for host in c.whole()), 20
    )
    await c.until(lambda: _is_down(c, lost.id), 20)
    await c.quiet(20)
    began = c.now
    await c.join(len(c.hosts))
    await c.quiet(20)
    found["one more node"] = c.now - began
    for service in (web, other):
        await c.remove(pb.Service, service)
    await c.until(lambda: not any(h.engine.kept for h in c.there()), 30)
    await c.quiet(20)
    assert not any(host.kernel.containers() for host in c.whole())
    return found


async def _is_down(c: Cluster, node: str) -> bool:
    found = await c.store.get(pb.Node, node)
    return found is not None and found.status.state == "down"


def _replicas(spec: pb.ServiceSpec, number: int) -> None:
    spec.mode.replicated.replicas = number


async def avoided(c: Cluster) -> list[float]:
    """A host with tasks goes off; of each other one, when its rules led past it, seconds."""
    net = await c.network("net")
    await c.service("web", 3 * len(c.there()), net, port=8080)
    await c.quiet(60)
    await asyncio.sleep(1 + c.world.rng.random())
    lost = next(h for h in reversed(c.there()) if h.number and h.engine.running())
    gone = {a.ip for s in lost.plane.snapshot.sandboxes.values() for _, a in s.networks}
    await lost.power_off()
    began, found = c.now, dict[int, float]()
    while len(found) < len(c.whole()):
        await asyncio.sleep(0.01)
        for host in c.whole():
            if not gone & c.chosen(host):
                found.setdefault(host.number, c.now - began)
    return list(found.values())
