"""A manager whose keys are locked, in Docker's words.

Kernel, containers and names go on as they are; the cluster's state waits for its key.
Source: moby daemon/cluster/errors.go and swarm.go (UnlockSwarm).
"""

from __future__ import annotations

from typing import Final

LOCKED: Final = (
    "Swarm is encrypted and needs to be unlocked before it can be used. "
    'Please use "docker swarm unlock" to unlock it.'
)
INVALID_KEY: Final = "swarm could not be unlocked: invalid key provided"
NOT_LOCKED: Final = "swarm is not locked"
