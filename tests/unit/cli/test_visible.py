"""What others wrote reaches no terminal as a command to it."""

from __future__ import annotations

import io
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshnet_control.cli import showing
from meshnet_control.cli.visible import visible

ESCAPED = "\x1b[2J\x1b]0;mine\x07 \x9b31m"
SHOWN = r"\x1b[2J\x1b]0;mine\x07 \x9b31m"


@pytest.mark.parametrize(
    ("text", "want"),
    [
        ("wide ü … 日", "wide ü … 日"),
        ("a\tb\nc\r\nd", "a\tb\nc\nd"),
        ("over\rwritten", r"over\x0dwritten"),
        ("\x7f\x00", r"\x7f\x00"),
        (ESCAPED, SHOWN),
    ],
)
def test_control_characters_are_shown(text, want):
    assert visible(text) == want


@given(st.text())
def test_nothing_is_left_that_a_terminal_obeys(text):
    assert all(unicodedata.category(each) != "Cc" for each in visible(text) if each not in "\n\t")


def test_a_console_shows_them_in_lines_and_in_tables():
    out = io.StringIO()
    console = showing.plain_console(file=out, width=80, force_terminal=False)
    shown = showing.table("SEEN")
    shown.add_row(ESCAPED)
    console.print(shown)
    console.print(ESCAPED)
    assert out.getvalue().count(SHOWN) == 2
    assert "\x1b" not in out.getvalue()


def test_complaints_show_them(capsys):
    showing.complain([f"no such name: {ESCAPED}"])
    assert capsys.readouterr().err == f"meshnet: no such name: {SHOWN}\n"
