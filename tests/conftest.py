"""Which tiers run here: a tier runs when what it needs can be done, tried and not guessed.

A tier that cannot run is skipped with the reason; so is a test alone whose mark names programs that
only it needs: ``pytest.mark.clients("haproxy")``. ``MESHNET_REQUIRE=etcd,netns,docker,lab,clients``
turns such a skip into an error, so that a machine for tests cannot go green by lacking something.
Fast tiers run first; machines that boot (vm) are there when they are asked for. With ``-n 2`` one
process has what keeps to itself (unit, sim, etcd), the other all that meets the machine, one after
another.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
from hypothesis import settings
from xdist.scheduler import LoadScopeScheduling

# No deadline: a busy machine is no fault. What must hold before a change goes in is the same each
# time (``--hypothesis-profile=steady``); developers' runs look for new examples.
settings.register_profile("searching", deadline=None)
settings.register_profile("steady", deadline=None, derandomize=True)
settings.register_profile("fuzz", deadline=None, max_examples=300, print_blob=True)  # ./dev fuzz
settings.load_profile("searching")

TIERS = ("unit", "sim", "etcd", "package", "netns", "docker", "lab", "clients", "vm")
BY_ITSELF = ("unit", "sim", "etcd")
"""Tiers whose tests meet nothing of what others do at the same time."""
PROGRAMS = {
    "package": (
        "mmdebstrap", "dpkg-buildpackage", "dh", "dh_virtualenv", "systemd-analyze", "vagrant",
    ),
    "etcd": ("etcd", "setpriv"),
    "netns": ("ip", "nft"),
    "docker": ("dockerd", "docker"),
    "lab": ("ip", "nft", "dockerd", "docker", "tini", "nsenter", "unshare", "curl", "busybox"),
    "clients": (
        "ip", "nft", "dockerd", "docker", "tini", "nsenter", "unshare", "curl", "busybox",
    ),
    "vm": ("ip", "nft", "qemu-system-x86_64", "qemu-img", "mmdebstrap", "ssh", "busybox", "curl"),
}  # fmt: skip


@cache
def lacking(tier: str, *own: str) -> str:
    """Why this machine cannot run a test of the tier, with programs of its own; empty: it can."""
    if os.geteuid() != 0 and tier != "etcd":
        return "needs root"
    beside_python = Path(sys.executable).parent
    path = f"{os.environ.get('PATH', '')}:{beside_python}:/usr/local/sbin:/usr/sbin:/sbin"
    missing = [name for name in (*PROGRAMS[tier], *own) if shutil.which(name, path=path) is None]
    if missing:
        return f"needs {', '.join(missing)}"
    if tier == "etcd":
        return ""
    tried = subprocess.run(["unshare", "-n", "true"], capture_output=True, text=True, check=False)
    return "" if tried.returncode == 0 else f"no network namespaces: {tried.stderr.strip()}"


def pytest_collection_modifyitems(config, items):
    required = set(filter(None, os.environ.get("MESHNET_REQUIRE", "").split(",")))
    asked = "vm" in required | set(config.option.markexpr.split()) or any(
        "tests/vm" in argument for argument in config.args
    )
    if not asked:
        left_out = [item for item in items if item.get_closest_marker("vm")]
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]
    for item in items:
        for tier in PROGRAMS:
            marks = list(item.iter_markers(tier))
            if marks and (why := lacking(tier, *(name for mark in marks for name in mark.args))):
                if tier in required:
                    raise pytest.UsageError(f"{tier} is required here (MESHNET_REQUIRE): {why}")
                item.add_marker(pytest.mark.skip(reason=f"{tier}: {why}"))

    items.sort(key=lambda item: _order(_tier(item.nodeid)))


def _tier(nodeid: str) -> str:
    """unit, sim, …; empty for a test of no tier."""
    parts = nodeid.partition("::")[0].split("/")
    return parts[1] if parts[0] == "tests" and len(parts) > 2 else ""


def _order(tier: str) -> int:
    return TIERS.index(tier) if tier in TIERS else len(TIERS)


class OneForTheMachine(LoadScopeScheduling):
    """Whatever meets the machine is one process's; the files of other tests are spread."""

    def _split_scope(self, nodeid: str) -> str:
        return nodeid.partition("::")[0] if _tier(nodeid) in BY_ITSELF else "the machine"


def pytest_xdist_make_scheduler(config, log):
    return OneForTheMachine(config, log)
