"""What went through interfaces, read from proc(5)."""

from __future__ import annotations

import os
from pathlib import Path

from meshnet.kernel.net_dev import Counters, Traffic, parse, traffic

HEAD = """\
Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed
"""  # noqa: E501 - as the kernel prints it


def test_interfaces_are_read_and_loopback_is_left_out():
    text = HEAD + (
        "    lo:      84       1    0    0    0     0          0         0       84       1    0    0    0     0       0          0\n"  # noqa: E501
        "  eth0:12345678     516    1    2    0     0          0         3     9876      17    4    5    0     0       0          0\n"  # noqa: E501
    )
    assert parse(text) == {"eth0": Traffic(Counters(12345678, 516, 1, 2), Counters(9876, 17, 4, 5))}
    assert parse(HEAD) == {}


def test_a_process_is_read_only_while_it_is_in_the_namespace(tmp_path: Path):
    assert traffic(os.getpid(), "/proc/self/ns/net") is not None
    assert traffic(os.getpid(), "/proc/self/ns/mnt") is None  # its ID may be another's by now
    assert traffic(os.getpid(), str(tmp_path / "gone")) is None
    assert traffic(0, "/proc/self/ns/net") is None
