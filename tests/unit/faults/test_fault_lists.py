"""The lists of deliberate faults, as they are: a merge joins, doubles or strands entries."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.faults.__main__ import LISTS, Fault, load, stale
from tests.faults.trial import ROOT

ENTRY = """[[fault]]
why = "one"
file = "a.py"
old = "x = 1"
new = "x = 2"
caught_by = ["tests/unit/test_a.py::test_x"]
"""


def test_every_list_is_whole_and_every_fault_fits_the_tree():
    faults = load(LISTS)
    assert faults
    assert [f"{fault.why}: {why}" for fault in faults if (why := stale(fault, ROOT))] == []
    places = [(fault.file, fault.old, fault.new) for fault in faults]
    assert [place for place in sorted(set(places)) if places.count(place) > 1] == []


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (("[[fault]]", "[[fault"), "Expected"),
        (('why = "one"\n', 'why = "one"\nwhy = "two"\n'), "overwrite"),
        (('new = "x = 2"\n', ""), "one: not right: new"),
        (("caught_by", "cought_by"), "one: not right: caught_by, cought_by"),
    ],
    ids=["not TOML", "two entries in one", "a field too few", "a field misspelt"],
)
def test_a_list_that_is_damaged_is_refused_with_its_name(tmp_path, damage, said):
    (tmp_path / "room.toml").write_text(ENTRY.replace(*damage))
    with pytest.raises(ValueError, match=r"^room\.toml: ") as refused:
        load(tmp_path)
    assert said in str(refused.value)


def tree_with(place: Path, text: str) -> Path:
    (place / "tests/unit").mkdir(parents=True)
    (place / "tests/unit/test_a.py").touch()
    (place / "a.py").write_text(text)
    return place


@pytest.mark.parametrize(("text", "times"), [("", 0), ("x = 1\n", 1), ("x = 1\nx = 1\n", 2)])
def test_the_text_of_a_fault_stands_in_its_file_once(tmp_path, text, times):
    tree = tree_with(tmp_path, text)
    fault = Fault("one", "a.py", "x = 1", "x = 2", ("tests/unit/test_a.py::test_x",))
    said = stale(fault, tree)
    assert said == ("" if times == 1 else f"stale: its text stands {times} times in a.py")


@pytest.mark.parametrize(
    ("new", "tests", "said"),
    [("x = 1", ("tests/unit",), "changes nothing"), ("y", ("tests/b.py",), "tests/b.py"),
     ("y", (), "no such test")],
)  # fmt: skip
def test_a_fault_changes_something_and_names_tests_that_are_there(tmp_path, new, tests, said):
    fault = Fault("one", "a.py", "x = 1", new, tests)
    assert said in stale(fault, tree_with(tmp_path, "x = 1\n"))
