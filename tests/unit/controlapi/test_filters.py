"""Filters of lists: which objects pass."""

from __future__ import annotations

import pytest

from meshnet.errors import ControlError
from meshnet_control.controlapi import filters

HAS = {"tier": "front", "team": "a"}


@pytest.mark.parametrize(
    ("wanted", "passes"),
    [
        (None, True),
        (["tier"], True),
        (["tier=front"], True),
        (["tier=front", "team=a"], True),
        (["tier=front", "team=b"], False),
        (["tier", "zone"], False),
        (["tier=back"], False),
    ],
)
def test_every_wanted_label_must_be_there(wanted, passes):
    assert filters.labels(wanted, HAS) is passes


def test_one_of_several_names_is_enough_whole_or_from_its_beginning():
    assert filters.exact(["a", "b"], "b", "c")
    assert not filters.exact(["a", "b"], "bc")
    assert filters.prefix(["x", "b"], "bc")
    assert not filters.prefix(["c"], "bc")
    assert filters.pattern(["^we", "q"], "web")
    assert not filters.pattern(["^eb"], "web")


@pytest.mark.parametrize("wanted", [None, []])
def test_where_nothing_is_wanted_everything_passes(wanted):
    assert filters.exact(wanted, "a")
    assert filters.prefix(wanted, "a")
    assert filters.pattern(wanted, "a")


def test_a_value_that_is_no_expression_is_looked_for_as_text():
    assert filters.pattern(["a["], "xa[y")
    assert not filters.pattern(["a["], "a")


def test_only_known_keys_with_texts_are_filters():
    assert filters.parse('{"name":{"web":true},"id":["x"]}', ["name", "id"]) == {
        "name": frozenset({"web"}),
        "id": frozenset({"x"}),
    }
    assert filters.parse(None, ["name"]) == filters.parse("null", ["name"]) == {}
    for said in ('{"nam":["x"]}', '{"name":[1]}', '{"name":"x"}', "[]", "{"):
        with pytest.raises(ControlError, match=r"(?i)invalid filter"):
            filters.parse(said, ["name"])
