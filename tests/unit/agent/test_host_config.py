"""What the engine is to do with a task's container on its host."""

from __future__ import annotations

from pathlib import Path

import pytest

from meshnet_control.agent.host_config import host_config
from meshnet_control.api import control_pb2 as pb


@pytest.mark.parametrize(
    ("mode", "options"),
    [
        ("", []),
        ("default", []),
        ("unconfined", ["seccomp=unconfined"]),
        ("custom", ["seccomp={}"]),
    ],
)
def test_a_seccomp_profile_counts_in_the_mode_custom_alone(mode: str, options: list[str]):
    spec = pb.ContainerSpec(privileges={"seccomp": {"mode": mode, "profile": b"{}"}})
    task = pb.Task(spec={"container_spec": spec})
    assert host_config(task, spec, Path("/t"), wired=False)["SecurityOpt"] == options
