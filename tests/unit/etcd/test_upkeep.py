"""When etcd's database is compacted and defragmented."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshnet_control.etcd.upkeep import Database, Deed, due, has_room

MIB = 1024**2
QUOTA = 2048 * MIB


def deeds(file: int, used: int, *, leads: bool = True, alarmed: bool = False) -> list[Deed]:
    return due(Database(file * MIB, used * MIB, QUOTA, leads=leads, alarmed=alarmed))


@pytest.mark.parametrize(
    ("file", "used", "expected"),
    [
        (100, 99, []),
        (500, 20, []),  # free pages are used again
        (520, 512, [Deed.COMPACT]),
        (1030, 1024, [Deed.COMPACT_ALL]),
        (600, 100, [Deed.DEFRAGMENT]),
        (1100, 540, [Deed.COMPACT, Deed.DEFRAGMENT]),
        (1600, 1300, [Deed.COMPACT_ALL, Deed.DEFRAGMENT]),
    ],
)
def test_what_is_due(file: int, used: int, expected: list[Deed]):
    assert deeds(file, used) == expected


def test_who_leads_compacts_for_all():
    assert deeds(1100, 1030, leads=False) == []
    assert deeds(1100, 540, leads=False) == [Deed.DEFRAGMENT]


def test_a_quota_that_is_reached_is_helped_in_any_case():
    assert deeds(2048, 2040, alarmed=True) == [Deed.COMPACT_ALL, Deed.DEFRAGMENT]
    assert deeds(1700, 1700, leads=False, alarmed=True) == []
    assert deeds(2048, 1700, alarmed=True) == [Deed.COMPACT_ALL, Deed.DEFRAGMENT]
    assert deeds(2048, 1700, leads=False, alarmed=True) == [Deed.DEFRAGMENT]


def test_room_is_some_way_below_the_quota():
    assert has_room(1792 * MIB, QUOTA)
    assert not has_room(1793 * MIB, QUOTA)


@given(st.integers(0, 2048))
def test_what_was_made_small_is_left_alone(used: int):
    assert Deed.DEFRAGMENT not in deeds(used, used)
    assert deeds(used, used, leads=False) == []
