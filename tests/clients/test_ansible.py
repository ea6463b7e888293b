"""Ansible's community.docker, collected where it is installed: its 500 MB are not brought."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

pytestmark = [pytest.mark.clients, pytest.mark.timeout(120)]


def test_community_docker(url: str) -> None:
    words = ["ansible-playbook", "-i", "localhost,", str(Path(__file__).parent / "ansible.yml")]
    # Debian's collection goes with Debian's SDK.
    words += ["-e", "ansible_python_interpreter=/usr/bin/python3", "-e", f"socket={url}"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=110, check=False)
    assert done.returncode == 0, done.stdout
    assert "changed=7 " in done.stdout, done.stdout
