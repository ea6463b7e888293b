"""The two virtual machines of tests/vm: how patient to be with them, and what is asked of both."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from vm_traffic import PORT

from meshnet_control.lab.play import Play
from meshnet_control.lab.vms import hosts

NAME = os.environ.get("MESHNET_LAB", "mnvm")
HOSTS = ("h1", "h2")
UNITS = ("meshnetd", "meshnet-resolver")
EMULATED = hosts.accelerator() == "tcg"
PATIENCE = 10.0 if EMULATED else 1.0
"""What takes a host a second takes an emulated one that shares its processor ten, and more."""
RECOVERS_S = 30.0 if EMULATED else 5.0
LATE_S = 30.0 if EMULATED else 5.0
"""A request that has waited longer is lost."""
STARTS_S = 300.0
"""A request waits while a daemon starts, which takes an emulated machine a minute: late, not lost.
"""


def each(work: Callable[[str], object]) -> None:
    """Do it for both machines at once."""
    with ThreadPoolExecutor() as pool:
        list(pool.map(work, HOSTS))


def show(play: Play, host: str, unit: str, name: str) -> str:
    return play.quietly(host, f"systemctl show -P {name} {unit}")


def until_quiet(play: Play) -> None:
    """All nodes are Ready, and every replica runs."""
    form = "docker node ls --format '{{.Status}}'"
    play.until("h1", form, lambda said: said.split() == ["Ready", "Ready"], timeout_s=120)
    listed = "docker service ls --format '{{.Replicas}}'"
    play.until("h1", listed, lambda said: said.split() == ["2/2", "4/4"], timeout_s=120)
    for host in HOSTS:
        seen = f"curl -sS -m 5 http://{play.lab.layout.machine(host).address.ip}:{PORT}/"
        play.until("client", seen, lambda said: "sees" in said, timeout_s=60)


def until_spread(play: Play) -> None:
    """All is quiet, and each host has tasks of ``web``.

    Nobody moves tasks back to a host that was away, and who takes one away would take all of them.
    """
    until_quiet(play)
    where = "docker service ps web -f desired-state=running --format '{{.Node}}'"
    if len(set(play.quietly("h1", where).split())) < len(HOSTS):
        again = "docker service update --quiet --force --update-parallelism 2 --update-monitor 1s"
        play.on("h1", f"{again} web", timeout_s=200)
        until_quiet(play)
