"""The networks of a service: its task template's, or those that older clients name beside it. PURE.

Source: swarmkit manager/allocator/network.go (taskCreateNetworkAttachments, updateTaskStatus).
"""

from __future__ import annotations

from meshnet_control.api import control_pb2 as pb


def template(spec: pb.ServiceSpec) -> pb.TaskSpec:
    """What tasks are made from, with its networks; not to be changed."""
    if spec.task_template.networks or not spec.networks:
        return spec.task_template
    full = pb.TaskSpec()
    full.CopyFrom(spec.task_template)
    full.networks.extend(spec.networks)
    return full
