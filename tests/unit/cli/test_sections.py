"""The help of ``meshnet`` fits a screen and names all; slips of the finger are understood."""

from __future__ import annotations

import subprocess
import sys

import click
import pytest
from click.testing import CliRunner

from meshnet_control.cli.main import LATER, meshnet
from meshnet_control.cli.sections import Sections


def said(*typed):
    result = CliRunner().invoke(meshnet, list(typed), terminal_width=80)
    return result.exit_code, result.output


def test_the_help_fits_a_terminal_of_24_lines_and_names_every_command():
    code, shown = said("--help")
    lines = shown.splitlines()
    assert code == 0
    assert len(lines) <= 24
    assert max(map(len, lines)) <= 80
    words = shown.replace(",", " ").split()
    assert set(meshnet.loaded().commands) <= set(words)
    assert "..." not in shown.partition("COMMAND [ARGS]...")[2], "no sentence is cut"


def test_a_command_that_no_section_has_stands_under_more():
    made = Sections(name="m", sections={"One": ("a",)}, brief=("Two", ("b",)), later={})
    for name in ("a", "b", "c"):
        made.add_command(click.Command(name, help=f"Does {name}."))
    shown = CliRunner().invoke(made, ["--help"]).output
    assert "More:\n  c  Does c." in shown
    assert "Two: b\n" in shown


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        (("statsu",), "'status'"),
        (("lb", "shw"), "'show'"),
        (("dns", "qeury"), "'query'"),
        (("stack", "deploys"), "'deploy'"),
        (("secret", "updaet"), "'update'"),
        (("lab", "exce"), "'exec'"),
        (("trace", "a", "b", "--sned"), "--send"),
    ],
)
def test_a_slip_of_the_finger(typed, meant):
    code, shown = said(*typed)
    assert code == 2
    assert "Did you mean" in shown
    assert meant in shown


@pytest.mark.parametrize("name", LATER)
def test_a_command_that_is_loaded_later_is_the_one_of_that_name(name):
    command = meshnet.get_command(click.Context(meshnet), name)
    assert command is not None
    assert command.name == name


def test_what_is_not_typed_is_not_loaded():
    probe = (
        "import sys; from meshnet_control.cli.main import meshnet\n"
        "try: meshnet.main(['trace', '--help'], standalone_mode=False)\n"
        "finally: print(*sorted(sys.modules), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("Usage: ")
    loaded = set(done.stderr.split())
    assert "meshnet_control.cli.trace" in loaded
    for slow in ("aiohttp", "aiodocker", "ruamel.yaml", "meshnet_control.lab.lab", "nftables"):
        assert slow not in loaded


def test_a_slip_of_the_finger_is_understood_also_of_what_is_not_loaded():
    later = {"status": LATER["status"]}
    made = Sections(name="m", sections={}, brief=("Two", ()), later=later)
    shown = CliRunner().invoke(made, ["statsu"]).output
    assert "Did you mean 'status'?" in shown
