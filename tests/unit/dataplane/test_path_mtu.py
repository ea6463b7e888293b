"""How large packets may be: what is asked, and what is believed."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from meshnet.model.ids import NodeId
from meshnet_control.dataplane.path_mtu import (
    EVERY_S,
    RAISES,
    SMALLEST,
    SOON_S,
    Paths,
    Search,
)

PEER, OTHER = NodeId("n1"), NodeId("n2")


def searched(full: int, way: int) -> tuple[int | None, int]:
    """What is found over a way that takes so much, and after how many rounds."""
    search, rounds = Search(full), 0
    while not search.over:
        search.heard({size for size in search.sizes() if size <= way})
        rounds += 1
        assert rounds < 10
    return search.found, rounds


@given(st.integers(SMALLEST, 65535), st.integers(SMALLEST, 65535))
def test_the_largest_packet_that_passes_is_found(full, way):
    found, rounds = searched(full, way)
    assert found == min(full, way)
    assert rounds == 1 if way >= full else rounds <= 8


def test_a_usual_way_is_found_in_few_rounds():
    assert searched(1500, 1500) == (1500, 1)
    assert searched(1500, 1400)[1] <= 6
    assert searched(9000, 1500)[1] <= 7


def test_who_is_silent_is_not_searched_for():
    assert searched(1500, 0) == (None, 2)


def test_a_large_packet_that_is_lost_once_is_no_narrow_way():
    search = Search(1500)
    search.heard({SMALLEST})
    assert not search.over
    search.heard({SMALLEST, 1500})
    assert (search.over, search.found) == (True, 1500)


def test_the_largest_is_asked_again_when_it_was_lost_twice():
    search = Search(1500)
    search.heard({SMALLEST})
    search.heard({SMALLEST})
    assert 1500 in search.sizes()
    search.heard(set(search.sizes()))
    assert search.found == 1500


def paths(full: int = 1500) -> Paths:
    made = Paths()
    made.follow({PEER: full}, 0.0)
    assert list(made.due(0.0)) == [PEER], "a peer that comes is looked at at once"
    return made


def test_less_is_believed_when_it_is_found_twice():
    known = paths()
    known.took(PEER, 1400, 0.0)
    assert known.narrow() == {}
    assert known.next_due == SOON_S
    known.took(PEER, 1392, SOON_S)
    assert known.narrow() == {PEER: 1400}
    assert known.next_due == SOON_S + EVERY_S


def test_less_once_is_nothing():
    known = paths()
    for found in (1400, 1500, 1400, None, 1400, 1500):
        known.took(PEER, found, 0.0)
    assert known.narrow() == {}


def narrow() -> Paths:
    known = paths()
    known.took(PEER, 1400, 0.0)
    known.took(PEER, 1400, 0.0)
    return known


def test_more_is_believed_when_it_is_found_three_times_in_a_row():
    known = narrow()
    for found in (1500, 1450):
        known.took(PEER, found, 0.0)
        assert known.narrow() == {PEER: 1400}
    known.took(PEER, 1500, 0.0)
    assert known.narrow() == {PEER: 1450}
    for _ in range(RAISES):
        known.took(PEER, 1500, 0.0)
    assert known.narrow() == {}


@given(st.lists(st.sampled_from([1400, 1500]), max_size=40))
def test_a_way_that_flaps_stays_narrow(found):
    known, wide = narrow(), 0
    for each in found:
        known.took(PEER, each, 0.0)
        wide = wide + 1 if each == 1500 else 0
        if wide >= RAISES:
            return
        assert known.narrow() == {PEER: 1400}


def test_who_is_silent_keeps_what_is_known():
    known = narrow()
    for _ in range(5):
        known.took(PEER, None, 0.0)
    assert known.narrow() == {PEER: 1400}


def test_who_goes_is_forgotten_and_other_interfaces_are_another_way():
    known = narrow()
    known.follow({PEER: 1500, OTHER: 1500}, 7.0)
    assert list(known.due(7.0)) == [OTHER]
    assert known.narrow() == {PEER: 1400}
    known.follow({PEER: 9000}, 8.0)
    assert known.narrow() == {}
    assert list(known.due(8.0)) == [PEER]
    known.follow({}, 9.0)
    assert known.next_due is None
    known.took(PEER, 1400, 9.0)
    assert known.narrow() == {}


def test_many_are_asked_no_more_often_than_one_a_second():
    known = Paths()
    peers = {NodeId(f"n{at}"): 1500 for at in range(1000)}
    known.follow(peers, 0.0)
    for peer in peers:
        known.took(peer, 1500, 0.0)
    assert known.next_due == 1000.0
