"""However containers take and give, the bounds hold; who takes much starves nobody."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from meshnet_dns.bounds import Bound, Share

EACH, HOST, FEW = 6, 16, 2


@given(st.lists(st.tuples(st.integers(0, 5), st.booleans()), max_size=200))
def test_bounds_hold_whatever_is_taken_and_given(steps):
    bound = Bound(EACH, HOST, FEW)
    shares = [Share(bound) for _ in range(6)]
    for who, takes in steps:
        share, before = shares[who], shares[who].own
        if takes:
            taken = share.take()
            assert share.own == before + taken
        elif share.own:
            share.give()
        assert 0 <= share.own <= EACH
        assert bound.used == sum(other.own for other in shares) <= HOST


@given(st.integers(0, 40))
def test_one_that_takes_all_it_can_leaves_the_others_theirs(tries):
    bound = Bound(EACH, HOST, FEW)
    greedy = [Share(bound) for _ in range(tries)]
    for share in greedy * EACH:
        if share.own >= FEW or bound.used < HOST - HOST // 4:
            share.take()
    modest = Share(bound)
    assert modest.take()
    assert modest.take()
