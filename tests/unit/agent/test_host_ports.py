"""Numbers for host-mode ports that name none."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshnet.errors import ControlError
from meshnet_control.agent import host_ports, task_networks
from meshnet_control.api import control_pb2 as pb

PROTOCOLS = st.sampled_from(["", "tcp", "udp"])
NUMBERS = st.one_of(st.just(0), st.integers(host_ports.FIRST, host_ports.FIRST + 20))
PORTS = st.lists(
    st.builds(
        pb.PortConfig,
        target_port=st.integers(1, 3),
        published_port=NUMBERS,
        protocol=PROTOCOLS,
        publish_mode=st.sampled_from(["", "ingress", "host"]),
    ),
    max_size=6,
)
TAKEN = st.sets(st.tuples(st.sampled_from(["tcp", "udp"]), NUMBERS.filter(bool)))


def _task(ports: list[pb.PortConfig]) -> pb.Task:
    return pb.Task(id="t", endpoint_spec=pb.EndpointSpec(ports=ports))


@given(PORTS, TAKEN)
def test_every_host_mode_port_gets_a_number_that_nobody_has(
    ports: list[pb.PortConfig], taken: set[host_ports.PortKey]
) -> None:
    task = _task(ports)
    had = host_ports.of(ports)
    new = host_ports.numbered(task, taken).endpoint_spec.ports
    given_now = [
        (port.protocol or "tcp", port.published_port)
        for port, before in zip(new, ports, strict=True)
        if port.publish_mode == "host" and not before.published_port
    ]
    assert len(set(given_now)) == len(given_now)
    assert not set(given_now) & (taken | had)
    assert all(host_ports.FIRST <= number <= host_ports.LAST for _, number in given_now)
    assert all(
        port == before
        for port, before in zip(new, ports, strict=True)
        if before.published_port or before.publish_mode != "host"
    )


@given(PORTS, TAKEN)
def test_a_number_stays_whatever_the_managers_say_again(
    ports: list[pb.PortConfig], taken: set[host_ports.PortKey]
) -> None:
    task = _task(ports)
    here = host_ports.numbered(task, taken)
    assert host_ports.kept(task, here) == here
    assert host_ports.numbered(here, set()) == here


def test_a_host_without_a_free_port_says_so() -> None:
    taken = {("tcp", number) for number in range(host_ports.FIRST, host_ports.LAST + 1)}
    wanted = pb.PortConfig(target_port=80, publish_mode="host")
    with pytest.raises(ControlError, match="no free port is left between 32768 and 60999"):
        host_ports.numbered(_task([wanted]), taken)


def test_a_container_cannot_have_what_others_have() -> None:
    conflict = host_ports.conflict
    assert conflict([("tcp", 80)], "web.1.x", {("udp", 80)}, {("tcp", 81)}) == ""
    begins = "driver failed programming external connectivity on endpoint web.1.x: "
    assert conflict([("tcp", 81), ("tcp", 80)], "web.1.x", {("tcp", 80)}, {("tcp", 80)}) == (
        f"{begins}Bind for 0.0.0.0:80 failed: port is already allocated"
    )
    assert conflict([("udp", 53)], "web.1.x", (), {("udp", 53)}) == (
        f"{begins}Error starting userland proxy: listen udp4 0.0.0.0:53: bind:"
        " address already in use"
    )


def test_the_data_plane_is_told_the_number() -> None:
    task = host_ports.numbered(
        _task([pb.PortConfig(target_port=80, publish_mode="host")]), {("tcp", 32768)}
    )
    assert task_networks.sandbox_of(task, "/n", None).ports[0].published == 32769
