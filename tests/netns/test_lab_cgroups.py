"""A lab's machine goes away with all in it, also with what somebody froze (``docker pause``)."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from meshnet_control.lab import adapter

ROOT = Path("/sys/fs/cgroup")
FROZEN = (("freezer", "freezer.state", "FROZEN"), ("unified", "cgroup.freeze", "1"),
          (".", "cgroup.freeze", "1"))  # fmt: skip
THERE = [each for each in FROZEN if (ROOT / each[0] / "cgroup.procs").exists()]
"""A machine has the first two, or the last."""


@pytest.mark.parametrize(("hierarchy", "file", "word"), THERE or FROZEN[-1:])
def test_what_is_frozen_dies_and_its_cgroup_is_removed(hierarchy, file, word):
    parent = f"/mnfrozen{os.getpid()}"
    inner = ROOT / hierarchy / parent.lstrip("/") / "h1" / "container"
    inner.mkdir(parents=True)
    frozen = subprocess.Popen(["sleep", "inf"])
    try:
        (inner / "cgroup.procs").write_text(str(frozen.pid))
        (inner / file).write_text(word)
        frozen.kill()
        adapter.thaw(f"{parent}/h1")
        assert frozen.wait(timeout=10) < 0
    finally:
        (inner / file).write_text("THAWED" if word == "FROZEN" else "0")
        frozen.kill()
        frozen.wait()
        adapter.remove_cgroups(parent)
