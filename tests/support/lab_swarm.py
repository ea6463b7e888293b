"""The cluster that most tests of a lab begin with."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from meshnet_control.lab import swarm
from meshnet_control.lab.lab import Lab
from meshnet_control.lab.layout import Layout
from meshnet_control.lab.play import Play


@contextmanager
def swarm_of(name: str, size: int = 2, *, init: str = "") -> Iterator[Play]:
    """Hosts h1, h2, … in a cluster that h1 manages; gone afterwards, whatever happens.

    Args:
        name: of the lab, short: links are named after it.
        size: how many hosts.
        init: options of ``docker swarm init`` when they are others than the lab's own.
    """
    lab = Lab(Layout(name, size))
    lab.down(lambda *_: None)
    try:
        lab.up(lambda *_: None)
        play = Play(lab, show=print)
        if init:
            play.on("h1", f"docker swarm init {init}")
        swarm.form(play, managers=1)
        yield play
    finally:
        lab.down(lambda *_: None)
