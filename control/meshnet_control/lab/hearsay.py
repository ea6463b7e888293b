"""What the hosts of a lab tell of themselves, asked all at once by the docker CLI."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from meshnet_control.lab.lab import Lab
from meshnet_control.lab.picture import Told
from meshnet_control.lab.play import Play, StepError

_ASK: Final = """docker info -f '{{.Swarm.LocalNodeState}} {{.Swarm.ControlAvailable}}' || exit
docker ps --format '{{.Names}}' | tr '\\n' ' '; echo
ids=$(docker network ls -q --filter driver=overlay)
[ -z "$ids" ] || docker network inspect --verbose $ids 2>/dev/null
"""
_ASK_S: Final = 20.0


def ask(lab: Lab) -> dict[str, Told]:
    """Each host that runs and answers, and what it tells."""
    up = lab.observe()
    play = Play(lab)

    def of(host: str) -> Told | None:
        try:
            code, said = play.attempt(host, _ASK, timeout_s=_ASK_S)
            return heard(said) if code == 0 else None
        except (StepError, ValueError):
            return None

    hosts = [host.name for host in lab.layout.hosts if up.is_whole(host.name)]
    with ThreadPoolExecutor(max_workers=8) as pool:
        told = dict(zip(hosts, pool.map(of, hosts), strict=True))
    return {host: each for host, each in told.items() if each is not None}


def heard(said: str) -> Told:
    """What a host printed. Pure.

    Raises:
        ValueError: it is not what was asked for.
    """
    state, containers, networks = [*said.split("\n", 2), "", ""][:3]
    role = ""
    if state.startswith("active"):
        role = "manager" if state.endswith("true") else "worker"
    listed = json.loads(networks) if networks.strip() else []
    return Told(role, tuple(containers.split()), tuple(listed))
