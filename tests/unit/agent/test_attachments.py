"""Containers of ``docker run`` on an engine and a data plane in memory: starts, ends, restarts."""

from __future__ import annotations

import asyncio
import random
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from typing import Any

import pytest
from agent_node import IMAGE, NODE, NodeUnderTest

from meshnet.errors import ControlError
from meshnet.model.ids import TaskId, new_id
from meshnet_control.agent import attached, attached_files, attachment_states, gate
from meshnet_control.agent.attached_record import ATTACHED, LABEL, Place, Record, RecordDir, load
from meshnet_control.api import control_pb2 as pb
from meshnet_control.cluster.attachments import attachment_id

NET, NET2 = "w" * 25, "v" * 25
PLACE = Place(network=NET, name="net", number=0, aliases=("alias",))
_RNG = random.Random(1)


class Managers:
    """They give each container the address that they are told, when they are asked."""

    def __init__(self, node: NodeUnderTest) -> None:
        self.node = node
        self.made: dict[tuple[str, str], tuple[str, int]] = {}
        self.given = 0
        self.refusal = ""

    def hear(self) -> list[tuple[str, str]]:
        """The node says the whole; what it says is answered and assigned."""
        said = self.node.agent.attachments.wanted()
        asked = {(each.container_id, each.network_id): each for each in said}
        for key in self.made.keys() - asked.keys():
            del self.made[key]
        for key in asked.keys() - self.made.keys():
            if not self.refusal:
                self.given += 1
                self.made[key] = (f"10.0.1.{self.given + 1}/24", self.given)
        self.answer(list(asked))
        self.assign()
        return list(asked)

    def answer(self, asked: list[tuple[str, str]]) -> None:
        self.node.agent.attachments.answered(
            pb.AttachmentState(
                container_id=container,
                network_id=network,
                made=self.made.get((container, network), ("", 0))[1],
                trouble="" if (container, network) in self.made else self.refusal,
            )
            for container, network in asked
        )

    def assign(self) -> None:
        tasks = []
        for (container, network), (address, made) in self.made.items():
            task = pb.Task(id=attachment_id(NODE, container, network), node_id=NODE)
            task.spec.network_attachment_spec.container_id = container
            task.allocated_at.FromNanoseconds(made)
            task.networks_attachments.add(addresses=[address]).network.id = network
            tasks.append(task)
        self.node.assign(*tasks)


async def make(node: NodeUnderTest, managers: Managers, *places: Place) -> tuple[str, TaskId]:
    """A container that waits at its gate, as the gateway makes one."""
    containers, key = node.agent.attachments, new_id(_RNG)
    wanted = places or (PLACE,)
    containers.prepare(Record(key=key, places=wanted, gated=True, gateway_number=len(wanted)))
    source = str(containers.directory(key).gate)
    container = await node.engine.create(
        f"c{key[:4]}",
        {
            "Image": IMAGE,
            "Entrypoint": [gate.SHELL_TARGET, "sh"],
            "Labels": {LABEL: key},
            "HostConfig": {"Mounts": [{"Source": source}]},
        },
    )
    making = asyncio.ensure_future(containers.made(key, container))
    await node.until(lambda: managers.hear() is not None and making.done())
    await making
    return container, TaskId(key)


async def run(node: NodeUnderTest, managers: Managers, *places: Place) -> tuple[str, TaskId]:
    container, key = await make(node, managers, *places)
    await node.engine.start(container)
    await node.agent.attachments.settled(container)
    return container, key


def lines(node: NodeUnderTest, container: str) -> bytes:
    return node.engine.kept[container].lines


def test_the_gate_opens_once_the_network_is_wired_and_not_before(play):
    async def scene(node):
        managers = Managers(node)
        node.wires.gate.clear()
        container, key = await make(node, managers)
        await node.engine.start(container)
        await node.until(lambda: key in node.wires.sandboxes)
        await node.turn()
        assert lines(node, container) == b""
        node.wires.gate.set()
        await node.agent.attachments.settled(container)
        assert lines(node, container) == b"\n"
        box = node.wires.sandboxes[key]
        assert box.networks == ((NET, IPv4Interface("10.0.1.2/24")),)
        assert box.gateway_address == IPv4Interface("172.18.0.3/16")
        [endpoint] = node.wires.endpoints.values()
        assert (endpoint.task, endpoint.made) == (key, 1)
        assert (endpoint.container, endpoint.service) == (container, None)
        assert endpoint.addresses == {NET: IPv4Address("10.0.1.2")}
        assert endpoint.aliases == {NET: ("alias",)}
        assert endpoint.name == node.engine.kept[container].name

    play(scene)


def test_a_restart_is_wired_and_let_go_anew_with_the_same_address(play):
    async def scene(node):
        managers = Managers(node)
        container, key = await run(node, managers)
        assert lines(node, container) == b"\n"
        node.engine.end(container, 1)
        await node.until(lambda: key not in node.wires.sandboxes)
        assert node.wires.endpoints == {}
        assert managers.hear() == [(container, NET)]  # held for a moment
        await node.engine.start(container)
        await node.agent.attachments.settled(container)
        assert lines(node, container) == b"\n"
        assert node.wires.sandboxes[key].networks[0][1] == IPv4Interface("10.0.1.2/24")

    play(scene)


def test_what_ended_gives_its_address_back_and_takes_no_old_word_for_a_new_one(play):
    async def scene(node):
        managers = Managers(node)
        container, key = await run(node, managers)
        node.engine.end(container, 0)
        await asyncio.sleep(attached.LINGER_S + 1)
        before = dict(managers.made)
        assert node.agent.attachments.wanted() == []  # the managers' answer is on its way
        starting = asyncio.ensure_future(node.agent.attachments.about_to_start(container))
        await node.turn()
        managers.made = before
        managers.assign()  # an older word
        await node.turn()
        assert not starting.done()
        managers.made = {}
        managers.hear()  # another address; the word on it and the answer
        await starting
        await node.engine.start(container)
        await node.agent.attachments.settled(container)
        assert node.wires.sandboxes[key].networks[0][1] == IPv4Interface("10.0.1.3/24")

    play(scene)


def test_while_no_manager_is_there_a_container_starts_again_with_what_it_had(play):
    async def scene(node):
        container, key = await run(node, Managers(node))
        node.engine.end(container, 0)
        await asyncio.sleep(attached.LINGER_S + 60)
        await node.agent.attachments.about_to_start(container)
        await node.engine.start(container)
        await node.agent.attachments.settled(container)
        assert node.wires.sandboxes[key].networks[0][1] == IPv4Interface("10.0.1.2/24")

    play(scene)


def test_a_refusal_comes_to_who_makes_it_and_silence_ends_the_wait(play):
    async def scene(node):
        managers = Managers(node)
        managers.refusal = "Address already in use"
        with pytest.raises(ControlError) as refused:
            await make(node, managers)
        assert str(refused.value) == "Could not attach to network net: Address already in use"
        managers.refusal, managers.given = "", 10
        containers = node.agent.attachments
        containers.prepare(Record(key="k" * 25, places=(PLACE,)))
        container = await node.engine.create("silent", {"Image": IMAGE})
        begun = asyncio.get_running_loop().time()
        with pytest.raises(ControlError) as refused:
            await containers.made("k" * 25, container)
        assert str(refused.value) == "Could not attach to network net: context deadline exceeded"
        assert asyncio.get_running_loop().time() - begun >= attachment_states.ATTACH_S

    play(scene)


def test_nothing_is_left_of_a_container_that_was_removed(play):
    async def scene(node):
        managers = Managers(node)
        container, _ = await run(node, managers)
        await node.engine.remove(container)
        await node.until(lambda: load(node.state_dir / ATTACHED) == [])
        assert (node.wires.sandboxes, node.wires.endpoints) == ({}, {})
        assert managers.hear() == []
        assert node.agent.attachments.record(container) is None
        assert list((node.state_dir / ATTACHED).iterdir()) == []
        other, key = await run(node, managers)  # its address on the bridge is free again
        assert other != container
        assert node.wires.sandboxes[key].gateway_address == IPv4Interface("172.18.0.3/16")

    play(scene)


def test_a_restart_of_meshnetd_says_all_before_anything_is_pruned_and_opens_no_gate_twice(play):
    async def scene(node):
        container, key = await run(node, Managers(node))
        endpoints = dict(node.wires.endpoints)
        assert lines(node, container) == b"\n"
        await node.end()
        await node.begin()
        await node.until(lambda: node.wires.adoptions)
        assert node.wires.sandboxes[key].networks[0][1] == IPv4Interface("10.0.1.2/24")
        assert node.wires.endpoints == endpoints
        assert node.wires.empty_starts == 0
        await node.agent.attachments.settled(container)
        assert [each.container_id for each in node.agent.attachments.wanted()] == [container]
        other, fresh = await run(node, Managers(node))
        assert node.wires.sandboxes[fresh].gateway_address == IPv4Interface("172.18.0.4/16")
        assert other != container

    play(scene)


def test_a_bridge_that_is_another_one_since_gives_another_way_out(play):
    async def scene(node):
        _, key = await run(node, Managers(node))
        await node.end()
        subnet = IPv4Network("172.30.0.0/16")
        node.bridge = replace(node.bridge, subnet=subnet, gateway=subnet[1])
        await node.begin()
        await node.until(lambda: key in node.wires.sandboxes)
        gateway = node.wires.sandboxes[key].gateway_address
        assert gateway == IPv4Interface("172.30.0.3/16")

    play(scene)


def test_a_container_that_was_made_when_meshnetd_ended_is_known_by_its_key(play):
    """Its record does not say so yet; without it its gate would go, and it could never start."""

    async def scene(node):
        container, key = await make(node, Managers(node))
        await node.end()
        directory = RecordDir(node.state_dir / ATTACHED, key)
        (record,) = load(node.state_dir / ATTACHED)
        directory.write(replace(record, container=""))
        labels = node.engine.kept[container].labels  # an image of it hands them on
        await node.engine.create("of-its-image", {"Image": IMAGE, "Labels": labels, "Cmd": ["x"]})
        await node.begin()
        await node.until(lambda: node.wires.adoptions)
        assert [each.container for each in load(node.state_dir / ATTACHED)] == [container]
        managers = Managers(node)
        await node.engine.start(container)
        await node.until(lambda: managers.hear() is not None and lines(node, container))

    play(scene)


def test_a_container_that_went_while_meshnetd_was_away_is_forgotten(play):
    async def scene(node):
        container, _ = await run(node, Managers(node))
        await node.end()
        await node.engine.remove(container)
        await node.begin()
        await node.until(lambda: node.wires.adoptions)
        await node.until(lambda: load(node.state_dir / ATTACHED) == [])
        assert node.agent.attachments.wanted() == []

    play(scene)


def test_labels_of_a_task_from_its_image_keep_nothing_from_a_container(play, task):
    async def scene(node):
        one = task()
        await node.running(one)
        container, _ = await run(node, Managers(node))
        labels = node.engine.kept[container].config["Labels"]
        labels |= {"com.docker.swarm.task.id": one.id}
        node.assign(one)
        await node.turn()
        assert len(node.wires.endpoints) == 2
        node.engine.end(container, 0)
        await node.until(lambda: len(node.wires.endpoints) == 1)

    play(scene)


def test_an_engine_that_restarts_ends_and_starts_them(play):
    async def scene(node):
        container, key = await run(node, Managers(node))
        assert lines(node, container) == b"\n"
        node.engine.go()
        node.engine.come()
        await node.until(lambda: key not in node.wires.sandboxes)
        await node.engine.start(container)  # its restart policy
        await node.agent.attachments.settled(container)
        assert key in node.wires.sandboxes
        assert lines(node, container) == b"\n"

    play(scene)


def test_after_a_boot_the_others_choose_none_of_them_until_they_are_wired_again(play):
    async def scene(node):
        container, key = await run(node, Managers(node))
        await node.end()
        node.power_cut()
        await node.begin()
        await node.until(lambda: node.wires.adoptions)
        assert node.wires.empty_starts == 1
        assert node.wires.sandboxes == {}
        await node.engine.start(container)  # its restart policy
        await node.agent.attachments.settled(container)
        assert node.wires.sandboxes[key].networks[0][1] == IPv4Interface("10.0.1.2/24")
        assert lines(node, container) == b"\n"

    play(scene)


def test_what_nobody_thought_of_is_one_container_s_alone(play, caplog):
    async def scene(node):
        managers = Managers(node)
        bad, _ = await make(node, managers)
        record = node.agent.attachments.record(bad)
        node.agent.attachments._all[bad][0].record = replace(record, upstreams=("nobody",))
        await node.engine.start(bad)
        good, key = await run(node, managers)
        assert key in node.wires.sandboxes
        assert "nobody" in caplog.text
        assert good != bad

    play(scene)


def test_networks_come_and_go_while_it_runs_and_interfaces_keep_their_names(play):
    async def scene(node):
        managers = Managers(node)
        container, key = await run(node, managers)
        containers = node.agent.attachments
        record = containers.record(container)
        assert record is not None
        other = Place(network=NET2, name="other", number=0)
        connecting = asyncio.ensure_future(containers.connect(record, other, running=True))
        await node.until(lambda: managers.hear() and connecting.done())
        await connecting
        box = node.wires.sandboxes[key]
        assert [(net, box.interface(at)) for at, (net, _) in enumerate(box.networks)] == [
            (NET, "eth0"),
            (NET2, "eth2"),
        ]
        assert box.interface(2) == "eth1"  # the gateway's
        [endpoint] = node.wires.endpoints.values()
        assert (endpoint.addresses.keys(), endpoint.made) == ({NET, NET2}, 2)
        with pytest.raises(ControlError, match="already exists in network other"):
            await containers.connect(record, other, running=True)
        assert await containers.disconnect(container, NET)
        box = node.wires.sandboxes[key]
        assert ([net for net, _ in box.networks], box.interface(0)) == ([NET2], "eth2")
        assert not await containers.disconnect(container, NET)
        assert managers.hear() == [(container, NET2)]

    play(scene)


def test_a_container_of_the_engines_own_is_ours_while_it_is_on_a_network_of_ours(play):
    async def scene(node):
        managers = Managers(node)
        container = await node.engine.create("plain", {"Image": IMAGE})
        await node.engine.start(container)
        containers = node.agent.attachments
        fresh = Record(key="k" * 25, container=container, gateway_number=10, first_number=10)
        connecting = asyncio.ensure_future(containers.connect(fresh, PLACE, running=True))
        await node.until(lambda: managers.hear() and connecting.done())
        await connecting
        assert node.wires.sandboxes[TaskId("k" * 25)].interface(0) == "eth11"
        await containers.disconnect(container, NET)
        assert node.wires.endpoints == {}
        assert node.wires.sandboxes[TaskId("k" * 25)].networks == ()
        node.engine.end(container, 0)
        await node.until(lambda: load(node.state_dir / ATTACHED) == [])
        assert node.wires.sandboxes == {}

    play(scene)


def test_a_node_that_leaves_withdraws_them_and_leaves_them_running(play):
    async def scene(node):
        container, _ = await run(node, Managers(node))
        await node.agent.stop_all()
        assert (node.wires.sandboxes, node.wires.endpoints) == ({}, {})
        assert node.engine.kept[container].running
        [record] = load(node.state_dir / ATTACHED)
        assert record.places == (replace(PLACE, given="", made=0),)

    play(scene)


def test_a_record_that_is_damaged_is_passed_over(play, caplog):
    async def scene(node):
        container, _ = await run(node, Managers(node))
        await node.end()
        [path] = (node.state_dir / ATTACHED).iterdir()
        (path / "record.json").write_text('{"places": 7}')
        await node.begin()
        await node.until(lambda: node.wires.adoptions)
        assert node.agent.attachments.record(container) is None
        assert "what is remembered of a container cannot be read" in caplog.text

    play(scene)


# ---- files ----

HOSTS = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost\n172.17.0.2\tc1\n"


def test_its_own_name_is_in_hosts_once_for_each_network():
    once = attached_files.hosts(HOSTS, "c1", ["10.0.1.2"], ["172.17.0.2"])
    assert once == HOSTS + "10.0.1.2\tc1\n"
    other = attached_files.hosts(once, "c1", ["10.0.1.9", "10.0.2.2"], ["172.17.0.2"])
    assert other == HOSTS + "10.0.1.9\tc1\n10.0.2.2\tc1\n"
    assert attached_files.hosts(other, "c1", [], ["172.17.0.2"]) == HOSTS


def test_we_are_asked_for_names_and_the_rest_of_the_file_stays():
    text = "# by the engine\nnameserver 192.168.50.1\nsearch a b\noptions edns0\nnameserver x\n"
    assert attached_files.name_servers(text) == ("192.168.50.1",)
    asked: Any = attached_files.resolv(text)
    assert asked == "nameserver 127.0.0.11\nsearch a b\noptions edns0 ndots:0\n"
    assert attached_files.resolv(asked) == asked
    assert attached_files.name_servers(asked) == ()
    assert "ndots:5" in attached_files.resolv("options ndots:5\n")
