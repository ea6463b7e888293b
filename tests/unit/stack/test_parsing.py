"""The YAML of stack files: what it may stand for, and what its keys may be."""

from __future__ import annotations

import pytest

from meshnet_control.stack.parsing import parsed
from meshnet_control.stack.values import StackError


def grown(first: str, level: str) -> str:
    """Nine anchors, each of which names the one before it ten times by ``level``."""
    lines = [f"x0: &x0 {first}"]
    lines += [f"x{at + 1}: &x{at + 1} {level.replace('ONE', f'*x{at}')}" for at in range(9)]
    return "\n".join(lines)


@pytest.mark.parametrize(
    "text",
    [
        grown("[x]", f"[{', '.join(['ONE'] * 10)}]"),
        grown("{k: v}", f"{{{', '.join(f'k{at}: ONE' for at in range(10))}}}"),
        grown("{k: v}", f"{{<<: [{', '.join(['ONE'] * 10)}]}}"),
        f"a: &a {'x' * 100_000}\nb: [{', '.join(['*a'] * 1000)}]",
    ],
)
def test_aliases_stand_for_no_more_than_a_machine_holds(text):
    with pytest.raises(StackError, match=r"f\.yaml: its aliases stand for more than 16 MiB"):
        parsed(text, "f.yaml")


@pytest.mark.parametrize("text", ["a: &a [*a]", "a: &a {b: *a}", f"a: {'[' * 3000}{']' * 3000}"])
def test_nothing_is_nested_without_end(text):
    with pytest.raises(StackError, match=r"f\.yaml: it is nested without end"):
        parsed(text, "f.yaml")


@pytest.mark.parametrize(
    ("text", "key"),
    [("a:\n  1: x", "1"), ("a:\n  ~: x", "~"), ("a:\n  true: x", "true"), ("a:\n  [b]: x", "this")],
)
def test_a_key_that_is_no_text_is_refused_with_its_line(text, key):
    with pytest.raises(StackError, match=rf"f\.yaml: line 2: a key must be a text: {key}"):
        parsed(text, "f.yaml")


def test_anchors_and_merge_keys_are_followed():
    text = "x-b: &b {image: i, env: &e {A: 1}}\nw: {<<: *b, env: {<<: *e, B: 2}}\non: no"
    assert parsed(text, "f.yaml") == {
        "x-b": {"image": "i", "env": {"A": 1}},
        "w": {"image": "i", "env": {"A": 1, "B": 2}},
        "on": "no",
    }
