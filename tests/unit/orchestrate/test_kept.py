"""What follows changes is the same whenever it is asked for, and worked out no more than that."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st
from immutables import Map

from meshnet_control.orchestrate import kept
from meshnet_control.orchestrate.kept import Kept, Pairs

Numbers = Map[str, int]


def _negated(before: Numbers, changes: Pairs[int]) -> Numbers:
    """Of each number the one below zero."""
    found = before.mutate()
    for name, (old, new) in changes.items():
        assert before.get(name) == (None if old is None else -old)
        found.pop(name, None)
        if new is not None:
            found[name] = -new
    return found.finish()


def _changed(there: dict[str, int], to: Mapping[str, int | None]) -> list[kept.Change[int]]:
    made: list[kept.Change[int]] = []
    for name, new in to.items():
        made.append((name, there.pop(name, None), new))
        if new is not None:
            there[name] = new
    return made


CHANGES = st.dictionaries(st.sampled_from("abc"), st.none() | st.integers(1, 9))


@given(st.lists(st.tuples(CHANGES, CHANGES, st.booleans()), max_size=12), st.integers(0, 3))
def test_whoever_asks_when_finds_what_is_there(
    history: list[tuple[dict[str, int | None], dict[str, int | None], bool]], most: int
) -> None:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(kept, "MOST", most)
        there: dict[str, int] = {}
        all_of_them = [Kept[Numbers, int](Map(), _negated)]
        said: list[dict[str, int]] = [{}]
        for one, other, asks in history:
            changes = [*_changed(there, one), *_changed(there, other)]
            all_of_them.append(all_of_them[-1].after(changes))
            said.append(there.copy())
            if asks:
                all_of_them[-1].now()
        for each, numbers in reversed(list(zip(all_of_them, said, strict=True))):
            assert dict(each.now()) == {name: -number for name, number in numbers.items()}


def test_changes_of_one_object_that_nobody_asked_about_are_one() -> None:
    folded: list[int] = []

    def fold(before: Numbers, changes: Pairs[int]) -> Numbers:
        folded.append(len(changes))
        return _negated(before, changes)

    value = Kept[Numbers, int](Map(), fold)
    there: dict[str, int] = {}
    for number in range(1, 10):
        value = value.after(_changed(there, {"a": number}))
    assert not folded
    assert dict(value.now()) == dict(value.now()) == {"a": -9}
    assert folded == [1]
    for number in range(10, 20 + 2 * kept.MOST):
        value = value.after(_changed(there, {"a": number}))
    assert folded == [1, 1, 1]  # not put off for ever
