"""Where docker-init is on this host."""

from __future__ import annotations

import os

import pytest

from meshnet_control.agent import init_binary


@pytest.mark.parametrize(
    ("said", "found"), [("", ""), ("my-init", "bin/my-init"), ("not-there", ""), ("data", "")]
)
def test_a_name_is_looked_up_as_the_engine_does(tmp_path, monkeypatch, said, found):
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/my-init").touch(mode=0o755)
    (tmp_path / "bin/data").touch(mode=0o644)
    monkeypatch.setenv("PATH", os.pathsep.join(["/nowhere", str(tmp_path / "bin")]))
    assert init_binary.path_of(said) == (str(tmp_path / found) if found else "")


def test_a_path_is_taken_as_it_is(tmp_path):
    own = tmp_path / "init"
    assert init_binary.path_of(str(own)) == ""
    own.touch(mode=0o755)
    assert init_binary.path_of(str(own)) == str(own)
