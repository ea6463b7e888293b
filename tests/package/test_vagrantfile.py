"""The Vagrantfile, as Vagrant itself reads it; no machine is made."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

pytestmark = [pytest.mark.package, pytest.mark.timeout(300)]
FOLDER = Path(__file__).parents[2] / "vagrant"
_ROLES = """
class Recorder
  def initialize(name) @name = name end
  def define(name) yield Recorder.new(name) end
  def provision(*, args:, **) puts "#{@name}:#{args.first[/^--.*/]}" end
  def method_missing(*) self end
  def respond_to_missing?(*) true end
end
module Vagrant
  def self.configure(_version) yield Recorder.new(nil) end
end
load ARGV[0]
"""


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


def test_the_number_of_managers_has_a_majority_and_machines(tmp_path):
    for number in ("0", "2", "7"):
        done = vagrant(tmp_path, "validate", "--ignore-provider", N="5", MANAGERS=number)
        assert done.returncode != 0
        assert f"MANAGERS={number}: an odd number" in done.stderr + done.stdout


def test_the_first_machines_join_as_managers_and_the_others_as_workers(tmp_path):
    """By the file's own words, read by Ruby: no machine is there to ask."""
    roles = subprocess.run(
        ["ruby", "-e", _ROLES, str(FOLDER / "Vagrantfile")], capture_output=True, text=True,
        check=True, env={**os.environ, "N": "5", "MANAGERS": "3"},
    ).stdout.split()  # fmt: skip
    assert roles == [f"h{number}:--manager" for number in (1, 2, 3)] + ["h4:", "h5:"]
