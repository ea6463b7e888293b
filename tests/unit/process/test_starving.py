"""A starved loop is excused, a hung one is not."""

from __future__ import annotations

import itertools
import os
import socket
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshnet.process.notify import Notifier
from meshnet.process.starving import STARVED, Silence, Witness, judged, lacked_s, waits

WATCHDOG_S = 20.0
PERIODS = st.lists(st.tuples(st.floats(0.1, 30), st.floats(0, 1), st.booleans()))


def told(periods):
    """What is made of (seconds, share without a processor, whether the loop had its turn)."""
    silence = Silence()
    for elapsed, share, beaten in periods:
        silence = judged(
            silence, beaten=beaten, elapsed_s=elapsed, lacked_s=share * elapsed,
            watchdog_s=WATCHDOG_S,
        )  # fmt: skip
        yield silence


@given(PERIODS)
def test_only_a_silent_and_starved_loop_is_excused(periods):
    for (_, share, beaten), silence in zip(periods, told(periods), strict=True):
        assert not (silence.excused and (beaten or share <= STARVED))


@given(st.floats(0.6, 0.99))
def test_one_that_is_starved_is_excused_until_it_was_hung_for_the_whole_watchdog(share):
    count = sum(silence.excused for silence in told(itertools.repeat((5.0, share, False), 10_000)))
    assert count * 5.0 * (1 - share) == pytest.approx(WATCHDOG_S, abs=5.0)


def test_a_turn_makes_all_good():
    assert list(told([(19.0, 0.0, False), (5.0, 0.0, True), (19.0, 0.6, False)]))[-1].excused


def test_the_most_neglected_thread_counts():
    assert lacked_s({1: 0, 2: 10**9}, {1: 10**9, 2: 4 * 10**9, 3: 2 * 10**9}) == 3.0
    assert lacked_s({1: 5}, {}) == 0.0


def test_the_kernel_tells_how_long_our_threads_waited():
    assert threading.get_native_id() in waits()


@pytest.mark.parametrize("starved", [True, False])
def test_a_witness_speaks_for_a_starved_loop_alone(tmp_path, starved):
    path = tmp_path / "notify"
    looks = iter(range(1000))
    enough = threading.Event()

    def read():
        look = next(looks)
        if look == 3:
            enough.set()
        return {1: look * 10**9 if starved else 0}

    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as supervisor:
        supervisor.bind(os.fspath(path))
        notifier = Notifier({"NOTIFY_SOCKET": str(path), "WATCHDOG_USEC": "400000"})
        with Witness(notifier, read):
            if starved:
                supervisor.settimeout(20)
                assert b"WATCHDOG=1" in supervisor.recv(100)
            else:
                assert enough.wait(20)
                supervisor.settimeout(0)
                with pytest.raises(BlockingIOError):
                    supervisor.recv(100)
