"""A recorded terminal: nothing made up, nothing too wide, nothing fetched."""

from __future__ import annotations

import io

from bench.record import MOST_LINES, WIDTH, picture, shown
from rich.console import Console


def test_what_was_printed_is_shown_and_what_is_left_out_is_said():
    output = "\n".join(f"line {number}" for number in range(MOST_LINES + 3))
    typed, left_out, *rest = (text.plain for text in shown("h1", "seq 17", output))
    assert typed == "h1$ seq 17"
    assert left_out == "[… 3 lines]"
    assert rest == output.splitlines()[3:]


def test_a_line_that_is_too_wide_is_cut():
    _, line = (text.plain for text in shown("h1", "x", "y" * 200))
    assert len(line) == WIDTH
    assert line.endswith(" …")


def test_the_picture_fetches_nothing():
    console = Console(record=True, width=WIDTH, file=io.StringIO())
    console.print("hello")
    drawn = picture(console)
    assert "hello" in drawn
    assert "url(http" not in drawn
    assert "@font-face" not in drawn
    assert "monospace" in drawn
