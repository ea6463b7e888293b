"""Lessons: taken apart and put together again, and texts that hold by what they show."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshnet_control.lab import lab_file, lesson
from meshnet_control.lab.errors import LabError
from meshnet_control.lab.lab import Lab
from meshnet_control.lab.layout import Layout
from meshnet_control.lab.play import Play, StepError
from meshnet_control.lab.playing import Playing, tidy
from meshnet_control.lab.probing import judged

ROOT = Path(__file__).parents[3]
LESSONS = sorted((ROOT / "docs/lessons").glob("[1-6]-*.md"))
TEXT = """# A title
words

<!-- expect: (?s)a.*b -->
<!-- within: 2s -->
```console
h1$ echo first
first
h1$ printf 'a\\nb\\n'
a
b
```
<!-- fails -->
```console
$ false
```
"""


class Here(Lab):
    """A lab whose machines are this one."""

    def command(self, name, argv, *, cwd=None):
        return list(argv)


def playing(heard: list[str]) -> Playing:
    return Playing(Play(Here(Layout()), show=heard.append))


def test_a_text_is_taken_apart():
    first, second, third = lesson.parsed(TEXT, "x.md").commands
    assert (first.probe.on, first.probe.run, first.seen) == ("h1", "echo first", ("first",))
    assert (first.probe.expect, first.probe.within_s) == ("", 0.0)
    assert (second.probe.expect, second.probe.within_s, second.line) == ("(?s)a.*b", 2.0, 9)
    assert (third.probe.on, third.probe.fails, third.probe.expect) == ("", True, "")


@pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.stem)
def test_a_lesson_shows_what_it_says(path):
    text = path.read_text()
    told = lesson.parsed(text, path.name)
    assert lesson.written(told, lambda command: command.seen) == text
    assert len(told.commands) > 5
    for command in told.commands:
        code = 1 if command.probe.fails else 0
        output = "".join(f"{line}\n" for line in command.seen)
        assert judged(command.probe, code, output)[0], (command.line, command.probe.run)


def test_there_are_six_and_their_lab_is_one():
    assert len(LESSONS) == 6
    found = lab_file.parsed((ROOT / "docs/lessons/lab.yaml").read_text(), "lab.yaml")
    assert [host.name for host in found.hosts] == ["h1", "h2", "h3"]


def test_a_lesson_is_played_and_written_anew():
    heard: list[str] = []
    told = lesson.parsed(TEXT.replace("\nfirst\n", "\nsomething else\n"), "x.md")
    played = playing(heard)
    played.run(told)
    assert lesson.written(told, lambda command: played.seen[command]) == TEXT
    assert heard.index("h1$ echo first") < heard.index("first") < heard.index("a\nb")
    assert not any(line.startswith(("<!--", "```")) for line in heard)


@pytest.mark.parametrize(
    ("comment", "typed", "said"),
    [
        ("<!-- expect: b -->", "echo a", "line 3: h1$ echo a: no 'b' in: a"),
        ("<!-- fails -->", "echo a", "line 3: h1$ echo a: it should fail, and said: a"),
        ("", "exit 3", "line 3: h1$ exit 3: exit 3: it said nothing"),
    ],
)
def test_what_is_otherwise_ends_the_play(comment, typed, said):
    told = lesson.parsed(f"{comment}\n```console\nh1$ {typed}\n```\n", "x.md")
    with pytest.raises(StepError) as caught:
        playing([]).run(told)
    assert str(caught.value) == said


@pytest.mark.parametrize(
    "text",
    [
        "```console\nh1$ x\n",
        "```console\nno prompt\n```\n",
        "```console\n```\n",
        "<!-- expect: ( -->\n```console\nh1$ x\n```\n",
        "<!-- within: soon -->\n```console\nh1$ x\n```\n",
    ],
)
def test_a_text_that_cannot_be_played_is_refused(text):
    with pytest.raises(LabError, match=r"^x.md:"):
        lesson.parsed(text, "x.md")


@given(st.lists(st.text("ab$` <!->\t", max_size=8)))
def test_any_text_is_read_or_refused(lines):
    text = "".join(f"{line}\n" for line in lines)
    try:
        told = lesson.parsed(text, "x.md")
    except LabError:
        return
    assert lesson.written(told, lambda command: command.seen).rstrip("\n") == text.rstrip("\n")


def test_what_is_shown_has_neither_tabs_nor_ends():
    assert tidy("\n\ta \nb\nb\n\n") == ["        a", "b", "b"]
