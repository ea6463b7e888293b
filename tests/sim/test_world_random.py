"""Whatever happens to a small cluster, in whatever order: in the end every node has the truth."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import Any

from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st
from simulated_world import Cluster, play

from meshnet.gossip.signing import SEED_BYTES
from meshnet_control.api import control_pb2 as pb
from meshnet_control.cluster import gossip_ring

NODES = 5
Event = tuple[str, int]


async def _scale(c: Cluster, number: int) -> None:
    for service in (await c.store.list(pb.Service))[:1]:
        await c.change(service.id, lambda spec: _replicas(spec, number + 1))


async def _update(c: Cluster, number: int) -> None:
    for service in (await c.store.list(pb.Service))[:1]:
        await c.change(service.id, lambda spec: _image(spec, f"web:{number % 2 + 1}"))


async def _deploy(c: Cluster, number: int) -> None:
    services = await c.store.list(pb.Service)
    if len(services) < 4:
        net = next(n.id for n in await c.store.list(pb.Network) if n.spec.name == "net")
        port = 8000 + number if all(_free(s, 8000 + number) for s in services) else 0
        await c.service(f"s{number}-{c.now:.3f}", number % 3, net, port=port)


async def _remove(c: Cluster, number: int) -> None:
    services = await c.store.list(pb.Service)
    if len(services) > 1:
        await c.remove(pb.Service, sorted(s.id for s in services)[number % len(services)])


async def _kill(c: Cluster, number: int) -> None:
    host = c.hosts[number % NODES]
    await (host.kill() if host.up else _back(c, number))


async def _off(c: Cluster, number: int) -> None:
    host = c.hosts[number % NODES]
    if number % NODES:  # the manager's host stays
        await (host.power_off() if host.up else _back(c, number))


async def _back(c: Cluster, number: int) -> None:
    host = c.hosts[number % NODES]
    if host.address in c.underlay.off:
        await host.power_on()
    elif not host.up:
        await host.start()


async def _drain(c: Cluster, number: int) -> None:
    host = c.hosts[number % NODES]
    what = "drain" if number % 2 and number % NODES else "active"
    await c.availability(host, what)


async def _cut(c: Cluster, number: int) -> None:
    away = [h.address for h in c.hosts.values() if h.number and (h.number + number) % 2]
    c.underlay.partition([h.address for h in c.hosts.values() if h.address not in away], away)


async def _heal(c: Cluster, _: int) -> None:
    c.underlay.heal()


async def _fail(c: Cluster, number: int) -> None:
    engine = c.hosts[number % NODES].engine
    for task in sorted(engine.running())[:1]:
        engine.end(engine.of_task(task).id, number % 2)


async def _rotate(c: Cluster, _: int) -> None:
    for cluster in await c.store.list(pb.Cluster):
        await c.edit(pb.Cluster, cluster.id, gossip_ring.want)


async def _lose_key(c: Cluster, number: int) -> None:
    """Its key for gossip is gone; it makes another one as it starts."""
    host = c.hosts[number % NODES]
    if host.up:
        await host.kill()
        await asyncio.sleep(3.0)  # the others give it up
        assert host.identity is not None
        seed = f"{number} {c.now:.3f}".encode().ljust(SEED_BYTES, b"-")
        host.identity = replace(host.identity, gossip_key=seed)
        await host.start()


async def _network(c: Cluster, number: int) -> None:
    """A network and its service go, and come back under their names."""
    services = [s for s in await c.store.list(pb.Service) if s.spec.name == "again"]
    for service in services:
        await c.remove(pb.Service, service.id)
        await c.remove(pb.Network, service.spec.task_template.networks[0].target)
    if not services or number % 2:
        await c.service("again", 2, await c.network("again"))


async def _wait(_: Cluster, number: int) -> None:
    await asyncio.sleep((0.01, 0.1, 0.5, 2.0, 6.0)[number % 5])


EVENTS: dict[str, Callable[[Cluster, int], Coroutine[Any, Any, None]]] = {
    "scale": _scale,
    "update": _update,
    "deploy": _deploy,
    "remove": _remove,
    "kill": _kill,
    "off": _off,
    "back": _back,
    "drain": _drain,
    "cut": _cut,
    "heal": _heal,
    "fail": _fail,
    "rotate": _rotate,
    "lose key": _lose_key,
    "network": _network,
    "wait": _wait,
}


def _free(service: pb.Service, port: int) -> bool:
    return all(each.published_port != port for each in service.spec.endpoint_spec.ports)


def _replicas(spec: pb.ServiceSpec, number: int) -> None:
    if spec.mode.HasField("replicated"):
        spec.mode.replicated.replicas = number


def _image(spec: pb.ServiceSpec, name: str) -> None:
    spec.task_template.container_spec.image = name
    spec.update_config.monitor = 10**9


async def history(c: Cluster, events: list[Event]) -> None:
    """All of it happens; then everything is repaired, and everybody has the truth in time."""
    net = await c.network("net")
    await c.service("web", 3, net, port=8080)
    c.excused = True  # who cannot be heard of may go on choosing what ends elsewhere
    for name, number in events:
        await EVENTS[name](c, number)
    await _heal(c, 0)
    for number in range(NODES):
        await _back(c, number)
        await c.availability(c.hosts[number], "active")
    await c.quiet(180)
    await c.until(lambda: _all_heard(c), 30)
    c.addresses_are_unique()


def _all_heard(c: Cluster) -> bool:
    """Every node counts for every other in gossip."""
    every = {host.id for host in c.there()}
    heard = [host.node.gossip.members() for host in c.there() if host.node is not None]
    return all(every <= {m.id for m in each.values() if m.counted} for each in heard)


@settings(
    max_examples=8,
    deadline=None,
    phases=(Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink),
    suppress_health_check=[HealthCheck.too_slow],
    derandomize=True,
)
@example([*3 * [("kill", 2), ("wait", 3), ("kill", 2), ("wait", 3)], ("lose key", 2)])
@given(st.lists(st.tuples(st.sampled_from(sorted(EVENTS)), st.integers(0, 9)), max_size=14))
def test_everybody_has_the_truth_in_the_end(events: list[Event]) -> None:
    play(lambda c: history(c, events), NODES)
