"""A manager whose keys are locked, in Docker's words.

Kernel, containers and names go on as they are; the cluster's state waits for its key.
Source: moby daemon/cluster/errors.go and swarm.go (UnlockSwarm).
"""

from __future__ import annotations

from typing import Final

from meshnet.errors import ControlError
from meshnet_control.api import manager_pb2 as mpb
from meshnet_control.store.store import NO_LEADER

LOCKED: Final = (
    "Swarm is encrypted and needs to be unlocked before it can be used. "
    'Please use "docker swarm unlock" to unlock it.'
)
INVALID_KEY: Final = "swarm could not be unlocked: invalid key provided"
NOT_LOCKED: Final = "swarm is not locked"


def check_unlocked(said: mpb.ManagerState) -> None:
    """What a manager says after it was given a key. Pure.

    That too few managers are there is no failure: of many that are locked one is the first.

    Raises:
        ControlError: it was not the key (401); or it was, and something else is in the way.
    """
    if said.locked:
        raise ControlError(INVALID_KEY, 401)
    if said.error and said.error != NO_LEADER:
        raise ControlError(f"swarm component could not be started: {said.error}", 500)
