"""How a task's container finds names: resolv.conf, its stack, the ports it is found at."""

from __future__ import annotations

from pathlib import Path

import pytest

from meshnet.model.snapshot import PublishedPort
from meshnet_control.agent import attached_files, container, host_resolv, task_networks
from meshnet_control.api import control_pb2 as pb
from meshnet_control.cluster.published_ports import ports_of


def a_task() -> pb.Task:
    made = pb.Task(id="t", service_name="shop_web", slot=1)
    made.spec.container_spec.args.append("serve")
    net = made.networks_attachments.add(addresses=["10.0.1.5/24"])
    net.network.id, net.network.spec.name = "n" * 25, "app"
    net.network.driver_state.name = "overlay"
    return made


def options_of(task: pb.Task, *hosts: str) -> list[str]:
    place = container.Place("n" * 25, "h1", dns_options=hosts)
    made = container.create_arguments(task, {}, place, Path("/run/x"), None).config["HostConfig"]
    assert made["Dns"] == ["127.0.0.11"]
    found: list[str] = made["DnsOptions"]
    return found


def test_the_hosts_options_are_the_containers_unless_it_names_its_own():
    assert options_of(a_task()) == ["ndots:0"]
    assert options_of(a_task(), "timeout:1", "attempts:3") == ["timeout:1", "attempts:3", "ndots:0"]
    assert options_of(a_task(), "ndots:2") == ["ndots:2"]
    own = a_task()
    own.spec.container_spec.dns_config.options.append("rotate")
    assert options_of(own, "timeout:1") == ["rotate", "ndots:0"]


@pytest.mark.parametrize(
    ("text", "resolved", "wanted"),
    [
        ("nameserver 192.0.2.1\noptions timeout:1 a\noptions b\n", "", "timeout:1 a b"),
        ("nameserver 127.0.0.53\noptions edns0 trust-ad\n", "nameserver 192.0.2.1\n", ""),
        ("nameserver 127.0.0.53\noptions edns0\n", None, "edns0"),
        ("nameserver 127.0.0.53\nnameserver 192.0.2.1\noptions a\n", "options b\n", "a"),
        ("#options x\n", "", ""),
        (None, None, ""),
    ],
)  # fmt: skip
def test_the_options_of_a_host(tmp_path, text, resolved, wanted):
    files = tmp_path / "resolv.conf", tmp_path / "resolved"
    for file, words in zip(files, (text, resolved), strict=True):
        if words is not None:
            file.write_text(words)
    assert host_resolv.options(*files) == tuple(wanted.split())


def test_what_is_no_text_has_no_options(tmp_path):
    file = tmp_path / "resolv.conf"
    file.write_bytes(b"\xff\xfe\0options")
    assert host_resolv.options(file, file) == ()
    assert attached_files.options("options\n") == ()


def test_a_task_of_a_stack_finds_the_names_of_its_stack_first():
    task = a_task()
    assert task_networks.sandbox_of(task, "/ns", None).stack == ""
    task.spec.container_spec.labels["com.docker.stack.namespace"] = "Shop"
    assert task_networks.sandbox_of(task, "/ns", None).stack == "Shop"


def test_a_port_keeps_its_name():
    asked = pb.PortConfig(name="http", target_port=80, published_port=8080)
    assert ports_of([asked]) == (PublishedPort("tcp", 80, 8080, "ingress", "http"),)
