"""Name servers of a service: anything that is no address is refused before it reaches a node."""

from __future__ import annotations

import pytest

from meshnet.errors import ControlError
from meshnet_control.agent import task_networks
from meshnet_control.api.control_pb2 import ServiceSpec, Task
from meshnet_control.controlapi.specs.service_checks import check


def asking(server):
    spec = ServiceSpec(name="web")
    spec.task_template.container_spec.image = "web:1"
    spec.task_template.container_spec.dns_config.nameservers.append(server)
    return spec


@pytest.mark.parametrize("server", ["192.0.2.1", "2001:db8::1", "fe80::1%eth0"])
def test_addresses_are_taken_and_all_reach_the_resolver(server):
    check(asking(server))
    task = Task(id="t1", spec=asking(server).task_template)
    [upstream] = task_networks.sandbox_of(task, "/run/netns/x", None).upstreams
    assert str(upstream) == server


@pytest.mark.parametrize("server", ["foo", "", "192.0.2", "192.0.2.1:53", "192.0.2.1/24"])
def test_what_is_no_address_is_refused(server):
    with pytest.raises(ControlError, match="is not an IP address"):
        check(asking(server))
