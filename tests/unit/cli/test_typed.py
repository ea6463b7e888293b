"""The command as the shell starts it."""

from __future__ import annotations

import sys

import pytest

from meshnet_control.cli import typed


class Interrupted:
    """A finder of modules in whose time the user types Ctrl-C."""

    def find_spec(self, name: str, *_: object) -> None:
        if name == "meshnet_control.cli.main":
            raise KeyboardInterrupt


def test_a_command_that_is_interrupted_while_it_is_loaded_ends_without_a_word(monkeypatch, capsys):
    monkeypatch.delitem(sys.modules, "meshnet_control.cli.main", raising=False)
    monkeypatch.setattr(sys, "meta_path", [Interrupted(), *sys.meta_path])
    with pytest.raises(SystemExit) as ended:
        typed.main()
    assert ended.value.code == 130
    assert capsys.readouterr() == ("", "")


def test_a_command_is_run(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["meshnet", "env"])
    typed.main()
    assert "DOCKER_HOST" in capsys.readouterr().out
