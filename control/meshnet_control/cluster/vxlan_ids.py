"""The VXLAN id that a user wants for a network. Pure.

``--opt com.docker.network.driver.overlay.vxlanid_list=5000``. Swarm takes an id for each subnet, as
its subnets are VXLANs of their own; here the subnets of a network share one.

Source: moby libnetwork drivers/overlay/ovmanager NetworkAllocate.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from meshnet_control.api import control_pb2 as pb

OPTION: Final = "com.docker.network.driver.overlay.vxlanid_list"
LAST: Final = (1 << 24) - 1
_MOST_DIGITS: Final = 8


def read(options: Mapping[str, str]) -> int | None:
    """What is asked for; None: nothing.

    Raises:
        ValueError: it is not one number from 1 to ``LAST``.
    """
    said = options.get(OPTION)
    if said is None:
        return None
    number = int(said) if said.isascii() and said.isdecimal() and len(said) <= _MOST_DIGITS else 0
    if not 1 <= number <= LAST:
        raise ValueError(said)
    return number


def wanted(network: pb.Network) -> int | None:
    """The id that a network was made with, or is to be; None: any, or what no id can be."""
    try:
        found = read(network.spec.driver_configuration.options)
    except ValueError:  # of a version that did not look at it
        return None
    return found if network.vni in {0, found} else None
