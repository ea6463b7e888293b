"""What a task gets of its host beyond Swarm, and a host that gives nothing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from agent_node import make_task

from meshnet.errors import ControlError
from meshnet_control.agent import container

PLACE = container.Place("n" * 25, "h1", "x86_64")
IMAGE_SAYS = {"Config": {"Cmd": ["serve"]}}


def test_a_host_that_allows_nothing_refuses_whatever_a_manager_says():
    task = make_task()
    task.service_labels["meshnet.privileged"] = "true"
    task.service_labels["meshnet.devices"] = "/dev/fuse"
    with pytest.raises(ControlError, match="meshnet up --allow-privileged"):
        container.create_arguments(task, IMAGE_SAYS, PLACE, Path("/run/x"), None)
    allows = replace(PLACE, allows_privileged=True)
    made = container.create_arguments(task, IMAGE_SAYS, allows, Path("/run/x"), None)
    host = made.config["HostConfig"]
    assert (host["Privileged"], host["Devices"][0]["PathOnHost"]) == (True, "/dev/fuse")
