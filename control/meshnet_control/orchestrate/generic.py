"""Resources that a node has besides processors and memory: which of them a task gets. Pure.

    node    gpu: a, b, c (named)   ssd: 4 (discrete)        engine's node-generic-resources
    task    wants gpu=2, ssd=1     gets gpu: a, b and ssd: 1

A named resource is one task's alone; of a discrete one only the number counts.

Source: swarmkit api/genericresource (Claim, EnvFormat).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from meshnet_control.api import control_pb2 as pb

Name = tuple[str, str]
"""Kind and value of a named resource."""


def amounts(resources: Iterable[pb.GenericResource]) -> Counter[str]:
    """How many there are of each kind; every named resource is one."""
    found: Counter[str] = Counter()
    for resource in resources:
        if resource.HasField("named_resource_spec"):
            found[resource.named_resource_spec.kind] += 1
        else:
            found[resource.discrete_resource_spec.kind] += resource.discrete_resource_spec.value
    return found


def names(resources: Iterable[pb.GenericResource]) -> set[Name]:
    """The named ones."""
    return {
        (resource.named_resource_spec.kind, resource.named_resource_spec.value)
        for resource in resources
        if resource.HasField("named_resource_spec")
    }


def claimed(wanted: Mapping[str, int], free: Iterable[Name]) -> list[pb.GenericResource]:
    """What a task is given of a node that has room for it.

    Args:
        wanted: amounts by kind.
        free: the node's named resources that no task has.
    """
    given: list[pb.GenericResource] = []
    there = sorted(free)
    for kind, amount in sorted(wanted.items()):
        if amount <= 0:
            continue
        named = [value for its_kind, value in there if its_kind == kind][:amount]
        given.extend(
            pb.GenericResource(named_resource_spec={"kind": kind, "value": value})
            for value in named
        )
        if not named:
            given.append(pb.GenericResource(discrete_resource_spec={"kind": kind, "value": amount}))
    return given
