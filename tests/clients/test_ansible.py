"""Ansible's community.docker: a cluster, its objects and a stack, from a play."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from meshnet_control.lab.play import Play

pytestmark = [pytest.mark.clients("ansible-playbook"), pytest.mark.timeout(300)]
COLLECTIONS = Path(__file__).parents[2] / ".venv" / "ansible"


def test_community_docker(play: Play, url: str, tmp_path: Path) -> None:
    """A worker of its own making, every kind of object twice, a stack, a container beside it."""
    program = Path(sys.executable).with_name("ansible-playbook")
    play_file = Path(__file__).with_name("ansible.yml")
    words = [str(program), "-i", "localhost,", str(play_file)]
    words += ["-e", f"manager={url}", "-e", f"worker={play.lab.socket('h2')}"]
    settings = {
        "ANSIBLE_COLLECTIONS_PATH": str(COLLECTIONS),
        "ANSIBLE_HOME": str(tmp_path),
        "ANSIBLE_PYTHON_INTERPRETER": sys.executable,
    }
    done = subprocess.run(
        words,
        env={**os.environ, **settings},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "failed=0 " in done.stdout, done.stdout
