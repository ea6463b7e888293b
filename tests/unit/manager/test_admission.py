"""Who makes room when there are too many connections."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from meshnet_control.manager.admission import Admission
from meshnet_control.manager.tls_listener import DESCRIPTORS, bounds

MOST, OF_GROUP = 6, 3
events = st.lists(st.tuples(st.integers(0, 30), st.sampled_from("abc"), st.booleans()))


def test_a_full_group_gives_up_its_own_oldest() -> None:
    admission = Admission[str](4, 2)
    assert [admission.add(key, "a") for key in ("a1", "a2", "a3")] == [None, None, "a1"]
    assert admission.add("b1", "b") is None


def test_a_full_house_gives_up_the_oldest_of_the_largest_group() -> None:
    admission = Admission[str](4, 3)
    for key in ("b1", "a1", "a2", "a3"):
        assert admission.add(key, key[0]) is None
    assert admission.add("c1", "c") == "a1"
    assert len(admission) == 4


@given(events)
def test_no_bound_is_ever_passed_and_a_newcomer_is_always_let_in(steps) -> None:
    admission = Admission[tuple[str, int]](MOST, OF_GROUP)
    there: dict[tuple[str, int], None] = {}
    for number, (name, group, comes) in enumerate(steps):
        key = (group, number if comes else name)
        if comes:
            goes = admission.add(key, group)
            assert (goes is None) or there.pop(goes, 0) is None
            there[key] = None
        else:
            admission.remove(key)
            there.pop(key, None)
        assert len(admission) == len(there) <= MOST
        assert all(sum(k[0] == g for k in there) <= OF_GROUP for g in "abc")
        assert not comes or key in there


@given(st.integers(64, 1 << 20))
def test_connections_leave_half_of_the_descriptors_to_others(descriptors: int) -> None:
    limits = bounds(descriptors)
    used = limits.handshakes + DESCRIPTORS * limits.connections
    assert 0 < used <= descriptors // 2
    assert 0 < limits.handshakes_of_address <= limits.handshakes
    assert limits.connections > 0
