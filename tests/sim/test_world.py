"""Whole clusters on the virtual clock: what users see is so, on every node, whatever happens."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from simulated_world import RUNNING, Cluster, play
from world_figures import avoided

from meshnet_control.api import control_pb2 as pb

SEEDS = (1,)
"""More: what ``test_world_random`` makes up."""


def replicas(number: int) -> Any:
    def change(spec: pb.ServiceSpec) -> None:
        spec.mode.replicated.replicas = number

    return change


def image(name: str, *, parallelism: int = 1, order: str = "stop-first") -> Any:
    def change(spec: pb.ServiceSpec) -> None:
        spec.task_template.container_spec.image = name
        spec.update_config.parallelism, spec.update_config.order = parallelism, order
        spec.update_config.monitor = 10**9

    return change


async def serving(c: Cluster, number: int, *, port: int = 8080) -> tuple[str, str]:
    """A service with a client beside it on every node; (service, client)."""
    net = await c.network("net")
    web = await c.service("web", number, net, port=port)
    client = await c.service("client", 0, net)
    await c.converged()
    await c.quiet()
    return web, client


async def reached(c: Cluster, client: str, service: str, port: int = 8080) -> None:
    """Every client, and every node's published port, gets to every task of the service."""
    wanted = {t.id for t in await c.tasks(service)}
    assert wanted
    by_id = {str(host.id): host for host in c.there()}
    clients = await c.tasks(client)
    assert {t.node_id for t in clients} <= by_id.keys()
    for task in clients:
        assert set(c.reach(by_id[task.node_id], task.id, "web").values()) == wanted
    for host in c.there():
        assert set(c.mesh(host, port).values()) == wanted


@pytest.mark.parametrize("seed", SEEDS)
def test_a_service_is_reached_from_everywhere_and_gone_when_it_is_removed(seed: int) -> None:
    async def scene(c: Cluster) -> None:
        web, client = await serving(c, 6)
        await reached(c, client, web)
        c.addresses_are_unique()
        for service in (web, client):
            await c.remove(pb.Service, service)
        await c.until(lambda: not any(h.engine.kept for h in c.there()), 30)
        await c.quiet()
        for host in c.there():
            assert not host.kernel.containers()
            assert not host.kernel.zones
            assert not host.kernel.sandboxes
            assert not list((host.files / "run" / "tasks").iterdir())
            assert not list((host.files / "state" / "tasks").iterdir())
            assert host.node is not None
            assert not [key for _, key in host.node.gossip.records() if key.startswith("ep/")]

    play(scene, 4, seed=seed)


@pytest.mark.parametrize("order", ["stop-first", "start-first"])
@pytest.mark.parametrize("seed", SEEDS)
def test_a_rolling_update_loses_no_request(seed: int, order: str) -> None:
    """``Cluster.check``: nobody who is told to end is chosen. Whoever is chosen is there."""

    async def scene(c: Cluster) -> None:
        web, client = await serving(c, 5)
        before = {t.id for t in await c.tasks(web)}
        await c.change(web, image("web:2", order=order))
        updating = asyncio.ensure_future(c.converged(120))
        while not updating.done():
            for host in c.there():
                for task in list(host.engine.running()):
                    lost = [to for to in c.reach(host, task, "web").values() if "lost" in to]
                    assert not lost, f"{c.now:.3f} {lost}"
            await asyncio.sleep(0.01)
        await updating
        assert not before & {t.id for t in await c.tasks(web)}
        await c.quiet()
        await reached(c, client, web)

    play(scene, 4, seed=seed)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_host_that_is_lost_is_chosen_no_more_and_its_tasks_run_elsewhere(seed: int) -> None:
    async def scene(c: Cluster) -> None:
        web, client = await serving(c, 6)
        lost = c.hosts[3]
        gone = {a.ip for n in lost.kernel.netns.netns.values() for _, a in n.addresses}
        await lost.power_off()
        others = c.there()
        took = await c.until(lambda: not any(gone & c.chosen(h) for h in others), 10)
        assert took < 3.0, "dead backends are gone from every node"
        await c.converged(20)
        await c.quiet()
        await reached(c, client, web)
        c.addresses_are_unique()
        await lost.power_on()
        await c.converged(30)
        await c.quiet()
        await reached(c, client, web)

    play(scene, 5, seed=seed)


@pytest.mark.parametrize("seed", [*SEEDS, 2, 3, 4])
def test_a_host_that_dies_is_avoided_by_all_within_a_second_and_a_half(seed: int) -> None:
    assert max(play(avoided, 3, seed=seed)) < 1.5


@pytest.mark.parametrize("seed", SEEDS)
def test_a_daemon_that_is_killed_costs_nothing(seed: int) -> None:
    async def scene(c: Cluster) -> None:
        web, client = await serving(c, 6)
        before = {t.id for t in await c.tasks(web)}
        host = c.hosts[2]
        held = host.kernel.picture()
        await host.kill()
        await asyncio.sleep(8)
        assert host.kernel.picture() == held
        for other in c.there():
            assert not [to for to in c.mesh(other, 8080).values() if "lost" in to]
        await host.start()
        await c.converged()
        await c.quiet()
        assert {t.id for t in await c.tasks(web)} == before
        await reached(c, client, web)

    play(scene, 4, seed=seed)


@pytest.mark.parametrize("seed", SEEDS)
def test_halves_that_changed_apart_are_one_again(seed: int) -> None:
    async def scene(c: Cluster) -> None:
        web, client = await serving(c, 6)
        left = [h.address for h in c.hosts.values() if h.number < 3]
        right = [h.address for h in c.hosts.values() if h.number >= 3]
        c.excused = True
        c.underlay.partition(left, right)
        await asyncio.sleep(5)
        await c.change(web, replicas(9))  # the managers are on the left
        there = c.hosts[4].engine.running()
        ended = next(iter(there))
        c.hosts[4].engine.end(c.hosts[4].engine.of_task(ended).id, 1)  # on the right
        await asyncio.sleep(20)
        c.underlay.heal()
        await c.quiet(20)  # a node asks its managers again after 8 s at most, and waits 5 s for one
        c.excused = False
        await reached(c, client, web)
        c.addresses_are_unique()

    play(scene, 6, seed=seed)


@pytest.mark.parametrize("seed", SEEDS)
def test_the_leader_dies_in_the_middle_of_a_change(seed: int) -> None:
    async def scene(c: Cluster) -> None:
        web, client = await serving(c, 6)
        leading = next(h for h in c.hosts.values() if h.manager is not None and h.manager.leads)
        await c.change(web, image("web:2", parallelism=2))
        await asyncio.sleep(0.4)
        await leading.kill_manager()
        if c.etcd.leader == leading.number:
            c.etcd.elect(next(h.number for h in c.hosts.values() if h.manager is not None))
        await c.converged(120)
        await c.quiet()
        await reached(c, client, web)
        assert {t.spec.container_spec.image for t in await c.tasks(web)} == {"web:2"}

    play(scene, 5, managers=3, seed=seed)


@pytest.mark.parametrize("seed", SEEDS)
def test_one_datagram_of_ten_is_lost(seed: int) -> None:
    async def scene(c: Cluster) -> None:
        c.underlay.loss = 0.1
        web, client = await serving(c, 6)
        for number in (9, 3, 7):
            await c.change(web, replicas(number))
            await c.converged(60)
            await c.quiet(10)
        await reached(c, client, web)
        nodes = await c.store.list(pb.Node)
        assert {n.status.state for n in nodes} == {"ready"}, "nobody is taken for lost"

    play(scene, 5, seed=seed)


@pytest.mark.parametrize("seed", SEEDS)
def test_nodes_come_leave_and_come_back_under_their_names(seed: int) -> None:
    async def scene(c: Cluster) -> None:
        web, client = await serving(c, 6)
        new = await c.join(4)
        await c.converged()
        await c.quiet()
        await c.change(web, replicas(10))
        await c.converged()
        await c.quiet()
        assert new.engine.running()
        old = c.hosts[2]
        name, gone = old.name, old.id
        await old.leave()
        await c.converged(60)
        await c.quiet()
        assert not old.kernel.containers(), "nothing is left on its host"
        assert not old.engine.kept
        await c.remove(pb.Node, gone)
        back = await c.join(2, name)
        await c.converged(60)
        await c.quiet()
        assert back.id != gone
        await reached(c, client, web)
        c.addresses_are_unique()

    play(scene, 4, seed=seed)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_node_that_is_drained_is_empty_and_nothing_is_lost(seed: int) -> None:
    async def scene(c: Cluster) -> None:
        web, client = await serving(c, 6)
        drained = c.hosts[1]
        await c.availability(drained, "drain")
        await c.until(lambda: not drained.engine.running(), 60)
        await c.converged()
        await c.quiet()
        for host in c.there():
            assert set(c.mesh(host, 8080).values()) == {t.id for t in await c.tasks(web)}
        await c.availability(drained, "active")
        await c.converged()
        await c.quiet()
        await reached(c, client, web)

    play(scene, 4, seed=seed)


def test_the_laws_can_be_broken() -> None:
    """Else the tests above prove nothing."""

    async def scene(c: Cluster) -> None:
        web, _ = await serving(c, 4)
        host = c.hosts[1]
        host.kernel.zones.clear()
        assert any("zone" in each for each in await c.differences())
        task = (await c.tasks(web))[0]
        at = next(h for h in c.there() if h.id == task.node_id)
        await at.engine.kill(at.engine.of_task(task.id).id, "SIGTERM")  # not withdrawn
        assert c.torn
        assert task.status.state == RUNNING
        c.torn.clear()

    play(scene, 3)
