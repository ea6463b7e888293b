"""Ports published with mode=host on the engine's own network."""

from __future__ import annotations

from pathlib import Path

from meshnet_control.agent import container, task_networks
from meshnet_control.api import control_pb2 as pb
from meshnet_control.cluster import engine_networks

PLACE = container.Place("n" * 25, "h1", "x86_64")


def test_the_engine_is_told_a_port_twice() -> None:
    """It binds only what ExposedPorts names as well."""
    task = pb.Task(id="t", service_name="web", slot=1)
    task.spec.container_spec.args.append("serve")
    task.endpoint_spec.ports.add(target_port=80, published_port=8099, publish_mode="host")
    made = container.create_arguments(task, {}, PLACE, Path("/run/x"), None)
    assert made.config["ExposedPorts"] == {"80/tcp": {}}
    assert made.config["HostConfig"]["PortBindings"] == {"80/tcp": [{"HostPort": "8099"}]}


def test_a_target_may_be_published_twice() -> None:
    task = pb.Task(id="t", service_name="web", slot=1)
    task.spec.container_spec.args.append("serve")
    for number in (8098, 8099):
        task.endpoint_spec.ports.add(target_port=80, published_port=number, publish_mode="host")
    made = container.create_arguments(task, {}, PLACE, Path("/run/x"), None)
    bound = made.config["HostConfig"]["PortBindings"]["80/tcp"]
    assert bound == [{"HostPort": "8098"}, {"HostPort": "8099"}]


def test_a_task_on_the_hosts_network_is_the_engines() -> None:
    task = pb.Task(id="t", service_name="web", slot=1)
    task.spec.container_spec.args.append("serve")
    task.networks_attachments.add(network=engine_networks.network("host"))
    made = container.create_arguments(task, {}, PLACE, Path("/run/x"), None)
    assert made.config["HostConfig"]["NetworkMode"] == "host"
    assert task_networks.on_host_network(task)
    assert not task_networks.overlays_of(task)
