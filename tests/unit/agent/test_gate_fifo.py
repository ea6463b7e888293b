"""The gate opens with a whole line, to who waits, after it was marked."""

from __future__ import annotations

import os

import pytest

from meshnet_control.agent import gate_fifo


@pytest.fixture
def fifo(tmp_path):
    """Name: fifo. Scope: function. A gate that nobody waits at."""
    path = tmp_path / "gate"
    gate_fifo.make(path)
    return path


@pytest.fixture
def waits(fifo):
    """Name: waits. Scope: function. Depends: fifo. A program that waits at the gate."""
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    yield reader
    os.close(reader)


def test_nobody_waits(fifo):
    assert not gate_fifo.knock(fifo, lambda: pytest.fail("nobody is let through"))


def test_it_is_marked_before_the_line_is_written(fifo, waits):
    marked = []

    def mark():
        with pytest.raises(BlockingIOError):
            os.read(waits, 1)
        marked.append(True)

    assert gate_fifo.knock(fifo, mark)
    assert marked == [True]
    assert os.read(waits, 10) == b"\n"


def test_it_stays_shut_when_it_cannot_be_marked(fifo, waits):
    def full():
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        gate_fifo.knock(fifo, full)
    assert os.read(waits, 10) == b""  # its end, and no line


def test_a_gate_that_is_not_there_is_no_open_one(tmp_path):
    with pytest.raises(FileNotFoundError):
        gate_fifo.knock(tmp_path / "gate")
