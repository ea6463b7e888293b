"""Who leads: a manager's next move."""

from __future__ import annotations

import pytest

from meshnet_control.manager.campaign import Holder, Move, next_move

ME, LEASE = "me", 7


@pytest.mark.parametrize(
    ("holder", "beside_leader", "move"),
    [
        (None, False, Move.CLAIM),
        (None, True, Move.CLAIM),
        (Holder(ME, LEASE, 5), False, Move.LEAD),
        (Holder(ME, LEASE, 5), True, Move.LEAD),
        (Holder(ME, 6, 5), False, Move.CLAIM),  # of an earlier life
        (Holder("other", 8, 5), False, Move.FOLLOW),
        (Holder("other", 8, 5), True, Move.CLAIM),
        (Holder("", 8, 5), False, Move.FOLLOW),
    ],
)
def test_next_move(holder, beside_leader, move):
    assert next_move(ME, LEASE, holder, beside_leader=beside_leader) is move
