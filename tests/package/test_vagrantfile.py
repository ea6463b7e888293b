"""The Vagrantfile, as Vagrant itself reads it; no machine is made."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

pytestmark = [pytest.mark.package, pytest.mark.timeout(300)]
FOLDER = Path(__file__).parents[2] / "vagrant"


def vagrant(home: Path, *argv: str, **settings: str) -> subprocess.CompletedProcess[str]:
    places = {"VAGRANT_HOME": str(home / "home"), "VAGRANT_DOTFILE_PATH": str(home / "dot")}
    return subprocess.run(
        ["vagrant", *argv], cwd=FOLDER, env={**os.environ, **places, **settings},
        capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL,
    )  # fmt: skip


def test_the_vagrantfile_is_valid_for_as_many_machines_as_asked_for(tmp_path):
    done = vagrant(tmp_path, "validate", "--ignore-provider", N="5")
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    assert set(re.findall(r"==> (\w+):", said)) == {f"h{number}" for number in range(1, 6)}
