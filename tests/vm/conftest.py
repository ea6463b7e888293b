"""Fixtures of the tier: the machines, and what their logs say of a failure."""

from __future__ import annotations

import contextlib
import os
import time

import pytest
from vm_cluster import HOSTS, NAME, PATIENCE, UNITS

from meshnet_control.lab.lab import Lab
from meshnet_control.lab.layout import Layout
from meshnet_control.lab.play import Play


@pytest.fixture(scope="session")
def play():
    """
    Name: play; Scope: session; Depends: nothing.

    Two machines with engines and images, nothing of meshnet running; removed whatever happens,
    unless MESHNET_KEEP asks for them to be left for another run of some of these tests.
    """
    layout = Layout(NAME, len(HOSTS))
    kept = bool(os.environ.get("MESHNET_KEEP"))
    if not kept:
        Lab.known(layout).down(lambda *_: None)
    began = time.monotonic()
    bare = Lab.of_vms(layout, engine_only=True)
    made = Play(Lab.of_vms(layout), show=print, patience=PATIENCE)

    def told(name: str, what: str) -> None:
        made.show(f"{time.monotonic() - began:.0f} s {name}: {what}")

    try:
        bare.up(told)
        yield made
    finally:
        if not kept:
            bare.down(lambda *_: None)


@pytest.fixture(autouse=True)
def journal(play, request):
    """
    Name: journal; Scope: function; Depends: play.

    What the machines' own logs say of a test that failed.
    """
    began = time.time()
    failed = request.session.testsfailed
    yield
    play.show(f"{request.node.name}: {time.time() - began:.0f} s")
    if request.session.testsfailed > failed:
        units = " ".join(f"-u {unit}" for unit in (*UNITS, "meshnet-manager", "docker"))
        log = f"journalctl -b {units} --no-pager -n 60"
        for host in HOSTS:
            with contextlib.suppress(Exception):
                play.show(f"--- {host}\n{play.attempt(host, log)[1]}")
