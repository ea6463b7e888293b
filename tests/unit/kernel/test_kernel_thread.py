"""A round over many namespaces gives way to one that must not wait for all of them."""

from __future__ import annotations

import threading
from concurrent.futures import Future

import pytest

from meshnet.kernel.thread import KernelThread

LONG_S = 10


def test_what_is_first_is_done_between_two_pieces_of_what_is_begun_and_before_what_waits():
    thread, done = KernelThread(), list[str]()
    begun, on = threading.Event(), threading.Event()

    def long():
        done.append("a namespace")
        begun.set()
        assert on.wait(LONG_S)
        thread.give_way()
        done.append("another")

    try:
        whole = thread.submit(long)
        waits = thread.submit(done.append, "what waits")
        assert begun.wait(LONG_S)
        first = [thread.first.submit(done.append, word) for word in ("first", "second")]
        on.set()
        for each in (*first, whole, waits):
            each.result(LONG_S)
        assert done == ["a namespace", "first", "second", "another", "what waits"]
        thread.first.submit(done.append, "alone").result(LONG_S)
        assert done[-1] == "alone"
    finally:
        on.set()
        thread.shutdown()


def test_what_is_first_and_fails_fails_for_who_waits_for_it_and_for_nobody_else():
    thread, failing = KernelThread(), list[Future[int]]()

    def long():
        failing.append(thread.first.submit(int, "no number"))
        thread.give_way()
        return "whole"

    try:
        assert thread.submit(long).result(LONG_S) == "whole"
        with pytest.raises(ValueError, match="no number"):
            failing[0].result(LONG_S)
    finally:
        thread.shutdown()


def test_after_its_end_nothing_is_begun():
    thread, done = KernelThread(), list[str]()
    begun, on = threading.Event(), threading.Event()

    def long():
        begun.set()
        assert on.wait(LONG_S)
        thread.give_way()

    whole = thread.submit(long)
    assert begun.wait(LONG_S)
    thread.first.submit(done.append, "late")
    thread.shutdown(wait=False, cancel_futures=True)
    on.set()
    whole.result(LONG_S)
    assert done == []
