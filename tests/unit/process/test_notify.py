"""What a process tells its supervisor, and what it finds at its start."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from meshnet.process.notify import Notifier, inherited


class Supervisor:
    """The other end: messages and the descriptors with them."""

    def __init__(self, path: Path) -> None:
        path.unlink(missing_ok=True)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        self._socket.settimeout(0)

    def heard(self) -> list[tuple[str, int]]:
        """Each message and how many descriptors came with it."""
        found: list[tuple[str, int]] = []
        while True:
            try:
                text, descriptors, _, _ = socket.recv_fds(self._socket, 4096, 16)
            except BlockingIOError:
                return found
            for descriptor in descriptors:
                os.close(descriptor)
            found.append((text.decode(), len(descriptors)))

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def path(tmp_path):
    """
    Name: path; Scope: function; Depends: tmp_path.
    """
    return tmp_path / "notify"


@pytest.fixture
def supervisor(path):
    """
    Name: supervisor; Scope: function; Depends: path.
    """
    made = Supervisor(path)
    try:
        yield made
    finally:
        made.close()


@pytest.fixture
def pair():
    """
    Name: pair; Scope: function; Depends: nothing.

    Two descriptors.
    """
    ends = socket.socketpair()
    yield [end.fileno() for end in ends]
    for end in ends:
        end.close()


def test_without_a_supervisor_nothing_is_said():
    alone = Notifier({})
    alone.ready()
    alone.alive()
    alone.hold("a", [0])
    assert alone.period_s is None


def test_it_says_what_sd_notify_knows(path, supervisor, pair):
    notifier = Notifier({"NOTIFY_SOCKET": str(path), "WATCHDOG_USEC": "20000000"})
    assert notifier.period_s == 5
    notifier.ready()
    notifier.hold("netns-4-1", pair)
    notifier.alive()
    notifier.release("netns-4-1")
    notifier.stopping()
    assert supervisor.heard() == [
        ("READY=1\nSTATUS=serving", 0),
        ("FDSTORE=1\nFDPOLL=0\nFDNAME=netns-4-1", 2),
        ("WATCHDOG=1", 0),
        ("FDSTOREREMOVE=1\nFDNAME=netns-4-1", 0),
        ("STOPPING=1", 0),
    ]


@pytest.mark.parametrize("noticed", [True, False])
def test_another_supervisor_is_given_what_the_one_before_held(path, supervisor, pair, noticed):
    notifier = Notifier({"NOTIFY_SOCKET": str(path)})
    notifier.hold("a", pair)
    notifier.hold("gone", pair)
    notifier.release("gone")
    supervisor.close()
    if noticed:
        notifier.alive()
        notifier.hold("b", pair)
    other = Supervisor(path)
    try:
        if not noticed:
            notifier.hold("b", pair)
        notifier.alive()
        held = {text.rpartition("=")[2]: number for text, number in other.heard() if number}
        assert held == {"a": 2, "b": 2}
        notifier.alive()
        assert other.heard() == [("WATCHDOG=1", 0)], "once is enough"
    finally:
        other.close()


def test_a_supervisor_that_does_not_read_keeps_nobody(path, supervisor, pair):
    notifier = Notifier({"NOTIFY_SOCKET": str(path)})
    for number in range(2000):
        notifier.hold(f"n{number}", pair)
    supervisor.heard()
    notifier.alive()
    assert ("WATCHDOG=1", 0) in supervisor.heard()


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"LISTEN_FDS": "x"},
        {"LISTEN_FDS": "-1"},
        {"LISTEN_FDS": "2", "LISTEN_PID": "1", "LISTEN_FDNAMES": "a:a"},
        {"LISTEN_FDS": "0", "LISTEN_FDNAMES": ""},
    ],
)
def test_nothing_is_inherited_without_a_word_of_it(environ):
    before = dict(environ)
    assert inherited(environ) == {}
    assert not {"LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES"} & environ.keys(), before


def test_a_start_that_goes_on_has_more_time_with_each_sign_of_life(path, supervisor):
    telling = Notifier({"NOTIFY_SOCKET": str(path), "WATCHDOG_USEC": "20000000"})
    telling.starting("asking the engine")
    telling.alive()
    telling.ready()
    telling.alive()
    said = [text for text, _ in supervisor.heard()]
    assert said[0] == "STATUS=asking the engine"
    assert "EXTEND_TIMEOUT_USEC=20000000" in said[1].splitlines()
    assert "READY=1" in said[2].splitlines()
    assert said[3] == "WATCHDOG=1"
