"""What a manager says of a key, as a user hears it."""

from __future__ import annotations

import pytest

from meshnet.errors import ControlError
from meshnet_control.api import manager_pb2 as mpb
from meshnet_control.link.locked import check_unlocked
from meshnet_control.store.store import NO_LEADER


@pytest.mark.parametrize("error", ["", NO_LEADER])
def test_the_first_of_many_locked_managers_is_unlocked_though_nobody_leads(error: str):
    check_unlocked(mpb.ManagerState(error=error))


@pytest.mark.parametrize(
    ("said", "status", "words"),
    [
        (mpb.ManagerState(locked=True, error="locked"), 401, "invalid key provided"),
        (mpb.ManagerState(error="etcd: no"), 500, "component could not be started: etcd: no"),
    ],
)
def test_a_key_that_does_not_help_is_refused(said: mpb.ManagerState, status: int, words: str):
    with pytest.raises(ControlError, match=words) as refused:
        check_unlocked(said)
    assert refused.value.status == status
