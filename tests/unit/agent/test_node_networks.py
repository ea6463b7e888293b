"""Networks of the cluster that each node makes: when they are there, and when they go."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from agent_node import IMAGE, NODE, NodeUnderTest, make_task

from meshnet_control.agent import task_networks
from meshnet_control.agent.container import Place, create_arguments
from meshnet_control.api import control_pb2 as pb
from meshnet_control.engine.client import EngineConflictError, EngineNotFoundError
from meshnet_control.engine.labels import NETWORK_LABEL

MV, MV2 = "m" * 25, "k" * 25
IPAM = {"Driver": "default", "Options": {}, "Config": [{"Subnet": "192.168.50.0/24"}]}
LAN = {
    "Name": "lan", "Driver": "null", "ConfigOnly": True, "EnableIPv6": False,
    "IPAM": IPAM, "Options": {"parent": "eth0"}, "Labels": {"site": "here"},
}  # fmt: skip


def network(name: str = "mv", identity: str = MV, source: str = "lan") -> pb.Network:
    made = pb.Network(id=identity)
    made.spec.name, made.spec.config_from = name, source
    made.spec.driver_configuration.name = made.driver_state.name = "macvlan"
    return made


def on(*networks: pb.Network, wired: bool = False) -> pb.Task:
    made = make_task(wired=wired)
    for each in networks:
        made.networks_attachments.add(network=each, aliases=["front"])
    return made


def names(node: NodeUnderTest) -> list[str]:
    return [each["Name"] for each in node.engine.made_networks]


def test_a_task_s_network_is_made_from_its_configuration_and_goes_with_its_last_container(play):
    async def scene(node: NodeUnderTest) -> None:
        await node.engine.create_network(LAN)
        task = on(network())
        await node.running(task)
        [made] = await node.engine.networks(NETWORK_LABEL)
        assert (made["Name"], made["Driver"], made["IPAM"]) == ("mv", "macvlan", IPAM)
        assert made["Options"] == {"parent": "eth0"}
        assert made["Labels"][NETWORK_LABEL] == MV
        assert made["Labels"]["site"] == "here"
        config: Any = node.kept(task).config
        assert config["HostConfig"]["NetworkMode"] == "mv"
        aliases = {"mv": {"Aliases": ["web", "tasks.web", "front"]}}
        assert config["NetworkingConfig"] == {"EndpointsConfig": aliases}
        assert not node.wires.sandboxes, "nothing of it is the data plane's"
        node.assign()
        await node.until(lambda: names(node) == ["lan"])

    play(scene)


def test_a_node_without_the_configuration_rejects_the_task_in_the_engine_s_words(play):
    async def scene(node: NodeUnderTest) -> None:
        task = on(network(source="nolan"))
        node.assign(task)
        said = await node.reaches(task, pb.TASK_STATE_REJECTED)
        assert said.err == 'configuration network "nolan" does not exist'
        assert names(node) == []

    play(scene)


def test_a_container_may_be_on_several_and_on_overlays_behind_them(play):
    async def scene(node: NodeUnderTest) -> None:
        await node.engine.create_network(LAN)
        task = on(network(), network("mv2", MV2, ""), wired=True)
        await node.running(task)
        kept = node.kept(task)
        assert kept.mode == "mv"
        assert list(kept.networks) == ["mv2"]
        [box] = node.wires.sandboxes.values()
        assert [box.interface(at) for at in range(len(box.networks))] == ["eth10"]
        assert [str(server) for server in box.upstreams] == ["127.0.0.11"]
        assert box.gateway_address is None, "its way out is the engine's"
        assert box.mesh == frozenset()

    play(scene)


def test_the_way_out_is_ours_where_no_network_of_the_engine_has_one():
    inner = network()
    inner.spec.internal = True
    assert not task_networks.needs_gateway(on(network(), wired=True))
    assert task_networks.needs_gateway(on(inner, wired=True))


def test_the_data_plane_is_told_which_network_is_the_ingress_network():
    task = on(network(), wired=True)
    (wired,) = task_networks.overlays_of(task)
    wired.network.spec.ingress = True
    assert task_networks.sandbox_of(task, "/run/a", None).mesh == {wired.network.id}


def test_a_network_stays_while_it_is_held_and_while_a_container_that_does_not_run_is_on_it(play):
    async def scene(node: NodeUnderTest) -> None:
        networks, mv = node.agent.networks, network(source="")
        async with networks.held([mv]):
            await networks.sweep()
            assert names(node) == ["mv"]
            made = await node.engine.create(
                "c", {"Image": IMAGE, "HostConfig": {"NetworkMode": "mv"}}
            )
        await networks.sweep()
        assert names(node) == ["mv"]
        await node.engine.remove(made)
        await node.until(lambda: names(node) == [])

    play(scene)


def test_a_name_that_another_network_has_is_refused_and_one_of_a_network_that_was_is_free(play):
    async def scene(node: NodeUnderTest) -> None:
        networks = node.agent.networks
        await node.engine.create_network({"Name": "mv"})
        with pytest.raises(EngineConflictError, match="network with name mv already exists"):
            async with networks.held([network(source="")]):
                pass
        await node.engine.remove_network("mv")
        await node.engine.create_network({"Name": "mv", "Labels": {NETWORK_LABEL: MV2}})
        async with networks.held([network(source="")]):
            [made] = await node.engine.networks(NETWORK_LABEL)
            assert made["Labels"][NETWORK_LABEL] == MV
        with pytest.raises(EngineNotFoundError, match='"mv" does not exist'):
            async with networks.held([network("other", MV2, source="mv")]):
                pass

    play(scene)


def test_a_node_that_leaves_has_none_left(play):
    async def scene(node: NodeUnderTest) -> None:
        await node.running(on(network(source="")))
        assert names(node) == ["mv"]
        await node.agent.stop_all()
        assert names(node) == []

    play(scene)


def test_ports_of_the_host_are_the_engine_s_to_bind_where_it_has_the_only_network():
    task = on(network())
    task.endpoint_spec.ports.add(
        target_port=80, published_port=8080, publish_mode="host", protocol="tcp"
    )
    made = create_arguments(task, {"Config": {"Cmd": ["x"]}}, Place(NODE, "h1"), Path("/t"), None)
    assert made.config["HostConfig"]["PortBindings"] == {"80/tcp": [{"HostPort": "8080"}]}
