"""Which overlay networks are encrypted, by what their users said. Pure.

``docker network create -d overlay --opt encrypted``, or in a stack file ``driver_opts: {encrypted:
"true"}``. Source: moby libnetwork drivers/overlay; Go's strconv.ParseBool.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from meshnet_control.api import control_pb2 as pb

OPTION: Final = "encrypted"
_TRUE: Final = frozenset({"", "1", "t", "T", "true", "TRUE", "True"})
_FALSE: Final = frozenset({"0", "f", "F", "false", "FALSE", "False"})


def read(options: Mapping[str, str]) -> bool:
    """Whether it is asked for.

    Raises:
        ValueError: it is said neither that it is nor that it is not.
    """
    said = options.get(OPTION)
    if said is None or said in _FALSE:
        return False
    if said not in _TRUE:
        raise ValueError(said)
    return True


def is_encrypted(network: pb.Network) -> bool:
    """Whether what goes from node to node on it is encrypted; what cannot be read means yes."""
    try:
        return read(network.spec.driver_configuration.options)
    except ValueError:
        return True


def of_task(task: pb.Task) -> bool:
    """Whether one of a task's networks is encrypted."""
    return any(is_encrypted(each.network) for each in task.networks_attachments)
