"""Rows that appear: which of them say that somebody else was there."""

from __future__ import annotations

from ipaddress import IPv4Address

import pytest

from meshnet.model.ids import MacAddress
from meshnet.netstate.objects import Neighbour
from meshnet.netstate.rows import is_disturbed
from meshnet.netstate.values import NetnsSpec

MAC, OTHER = MacAddress("02:42:0a:00:01:15"), MacAddress("02:00:00:00:00:09")
AT, ELSEWHERE = IPv4Address("10.0.1.21"), IPv4Address("10.0.1.99")
VTEP, STRANGE = IPv4Address("192.0.2.2"), IPv4Address("192.0.2.77")
SPEC = NetnsSpec(
    neighbours=frozenset({("vx0", AT, MAC)}),
    fdb=frozenset({("vx0", MAC, VTEP), ("vx0", MAC, None)}),
)


@pytest.mark.parametrize(
    ("name", "mac", "to", "is_fdb", "lasts", "told"),
    [
        ("vx0", MAC, AT, False, True, False),  # we made it
        ("vx0", OTHER, AT, False, True, True),
        ("vx0", OTHER, AT, False, False, True),
        ("vx0", MAC, AT, False, False, True),  # it ages now
        ("vx0", OTHER, ELSEWHERE, False, True, True),
        ("vx0", OTHER, ELSEWHERE, False, False, False),  # traffic
        ("eth0", MAC, AT, False, False, False),
        (None, MAC, AT, False, True, True),  # a link that we have not seen yet
        ("vx0", MAC, VTEP, True, True, False),
        ("vx0", MAC, VTEP, True, False, True),
        ("vx0", MAC, STRANGE, True, True, True),
        ("vx0", MAC, STRANGE, True, False, True),
        ("vx0", MAC, None, True, True, False),
        ("vx0", MAC, None, True, False, True),
        ("v1", MAC, None, True, True, True),
        ("v1", MAC, None, True, False, False),  # a bridge that learns
    ],
)
def test_a_row_disturbs_when_it_is_not_one_of_ours_or_no_more(name, mac, to, is_fdb, lasts, told):
    row = Neighbour(3, mac, to, 0)
    assert is_disturbed(SPEC, name, row, is_fdb=is_fdb, lasts=lasts) is told
