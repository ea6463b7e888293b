"""Variables in stack files."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshnet_control.stack.interpolation import Variables
from meshnet_control.stack.values import StackError

VALUES = {"A": "a", "EMPTY": "", "B_1": "b"}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("$A ${A} $B_1.x", "a a b.x"),
        ("$$A $${A} $$", "$A ${A} $"),
        ("${NO:-x}${EMPTY:-y}${EMPTY-z}", "xy"),
        ("${NO-x}${A-y}", "xa"),
        ("${A:+x}${EMPTY:+y}${EMPTY+z}${NO+w}", "xz"),
        ("${NO:-${NEITHER:-deep}}", "deep"),
        ("${NO:-a}b}", "ab}"),
        ("${A:?never}", "a"),
        ("${EMPTY?never}", ""),
        ("${NO:-$$}", "$"),
    ],
)
def test_what_stands_for_what(text, says):
    assert Variables(VALUES).text(text) == says


@pytest.mark.parametrize("text", ["$", "${", "${}", "${A", "$1", "${A!x}", "a $ b", "${:-x}"])
def test_what_is_malformed_is_refused_with_its_place(text):
    with pytest.raises(StackError, match=r"services\.web\.image: invalid interpolation format"):
        Variables(VALUES).tree({"services": {"web": {"image": text}}})


@pytest.mark.parametrize(("text", "why"), [("${NO:?give one}", "give one"), ("${NO?}", "must be")])
def test_what_must_be_set_is_asked_for(text, why):
    with pytest.raises(StackError, match=f"NO is missing a value: .*{why}"):
        Variables(VALUES).text(text)


def test_what_is_missed_is_known_once_and_keys_are_left_alone():
    variables = Variables(VALUES)
    assert variables.tree({"$A": ["$NO", 3, None, "$NO"]}) == {"$A": ["", 3, None, ""]}
    assert list(variables.missed) == ["NO"]


@given(st.text())
def test_a_text_with_its_dollars_doubled_is_itself(text):
    assert Variables({}).text(text.replace("$", "$$")) == text
