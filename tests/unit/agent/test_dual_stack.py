"""Tasks, and containers of ``docker run``, on a dual stack network: wired, told and written."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Interface, IPv6Address, IPv6Interface
from pathlib import Path

from meshnet.model.ids import NetworkId
from meshnet_control.agent import task_networks
from meshnet_control.agent.attached_look import endpoint_of, look_of, sandbox_of
from meshnet_control.agent.attached_record import Place, Record, RecordDir, load
from meshnet_control.api import control_pb2 as pb

NET, OLD = NetworkId("net"), NetworkId("old")


def task() -> pb.Task:
    made = pb.Task(id="t1", service_id="s1")
    for network, addresses in (
        (NET, ["10.0.1.3/24", "fd00:7::3/64"]),
        (OLD, ["10.0.2.3/24"]),
    ):
        net = made.networks_attachments.add(addresses=addresses)
        net.network.id = network
        net.network.driver_state.name = "overlay"
        net.network.ipam_options.configs.add(subnet=f"{addresses[0][:-4]}0/24")
    return made


def test_a_task_is_wired_and_told_with_both_addresses():
    box = task_networks.sandbox_of(task(), "/n", None)
    assert box.networks == (
        (NET, IPv4Interface("10.0.1.3/24")),
        (OLD, IPv4Interface("10.0.2.3/24")),
    )
    assert box.networks6 == ((NET, IPv6Interface("fd00:7::3/64")),)
    said = task_networks.endpoint_of(task(), "n1", "c" * 64, hostname="h", ready=True)
    assert said.addresses == {NET: IPv4Address("10.0.1.3"), OLD: IPv4Address("10.0.2.3")}
    assert said.addresses6 == {NET: IPv6Address("fd00:7::3")}


def test_it_finds_itself_by_either():
    written = task_networks.hosts_file(task(), "h", IPv4Address("172.18.0.1")).splitlines()
    assert written[-3:] == ["10.0.1.3\th", "fd00:7::3\th", "10.0.2.3\th"]


def record() -> Record:
    places = (
        Place(
            NET, "net", 0, asked6="fd00:7::9", given="10.0.1.9/24", given6="fd00:7::9/64", made=7
        ),
        Place(OLD, "old", 1, given="10.0.2.9/24", made=5),
    )
    return Record(key="k" * 25, container="c" * 64, places=places, gateway_number=2)


def test_an_attached_container_is_wired_and_told_with_both_addresses():
    look = look_of(
        {
            "Id": "c" * 64,
            "Name": "/c",
            "State": {"Running": True, "StartedAt": "2026", "ExitCode": 0},
            "Config": {"Hostname": "h"},
            "NetworkSettings": {"SandboxKey": "/n"},
        }
    )
    box, said = sandbox_of(record(), look), endpoint_of(record(), "n1", look)
    assert box is not None
    assert said is not None
    assert box.networks6 == ((NET, IPv6Interface("fd00:7::9/64")),)
    assert said.addresses6 == {NET: IPv6Address("fd00:7::9")}
    assert not any(place.given6 for place in record().without_addresses().places)


def test_what_is_remembered_has_both(tmp_path: Path):
    RecordDir(tmp_path, "k" * 25).write(record())
    assert load(tmp_path) == [record()]
