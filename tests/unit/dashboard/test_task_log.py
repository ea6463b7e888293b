"""A task's log on its way to a page: lines, in order, never more than may wait, to the end."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

import pytest
from shown_cluster import service, task
from whole_cluster import VolatileStore

from meshnet_control.api import manager_pb2 as mpb
from meshnet_control.cluster.log_lines import STDERR, SYSTEM_ERROR, frame
from meshnet_control.dashboard import task_log
from meshnet_control.dashboard.feed import NO_STORE
from meshnet_control.dashboard.task_log import Framed, Raw, TaskLogs, shown

WEB = service("web", 1)
TASK = task(WEB, 1, "h1")
AT = "2026-11-26T18:10:00.5Z"


def line(number, stream=1):
    return frame(stream, f"{AT} line {number}\n".encode())


class Reader:
    """What the log broker brings."""

    def __init__(self, chunks, *, ends=True):
        self.chunks, self.ends = chunks, ends
        self.asked: mpb.LogRequest | None = None
        self.given, self.closed = 0, False

    async def read(self, asked):
        self.asked = asked
        try:
            for chunk in self.chunks:
                self.given += 1
                yield chunk
            if not self.ends:
                await asyncio.Event().wait()
        finally:
            self.closed = True


def logs(reader, objects=(WEB, TASK)):
    return TaskLogs(lambda: VolatileStore(objects), lambda: reader.read)


@pytest.fixture(autouse=True)
def at_once(monkeypatch):
    monkeypatch.setattr(task_log, "PACE_S", 0.0)


async def test_lines_come_in_order_and_what_is_missing_last():
    failed = frame(SYSTEM_ERROR, b"some logs could not be retrieved\n")
    reader = Reader([line(1) + line(2, STDERR)[:9], line(2, STDERR)[9:], b"", failed])
    told = [each async for each in logs(reader).of(TASK.id)]
    rows = [row for each in told for row in each["lines"]]
    assert [(row["stream"], row["text"]) for row in rows] == [(1, "line 1"), (STDERR, "line 2")]
    assert {row["at"] for row in rows} == {AT}
    assert told[-1]["ended"]
    assert told[-1]["missing"] == "some logs could not be retrieved"
    assert reader.asked is not None
    assert (reader.asked.task, reader.asked.options.follow) == (TASK.id, True)
    assert reader.asked.options.tail == str(task_log.TAIL)


async def test_no_more_is_read_while_as_many_lines_wait_as_may():
    reader = Reader([line(number) for number in range(3 * task_log.MOST_WAITING)])
    rows = []
    async with aclosing(logs(reader).of(TASK.id)) as coming:
        async for said in coming:
            assert len(said["lines"]) <= task_log.MOST_WAITING
            rows += said["lines"]
            assert reader.given <= len(rows) + task_log.MOST_WAITING + 1
    assert [row["text"] for row in rows] == [f"line {number}" for number in range(len(rows))]
    assert len(rows) == 3 * task_log.MOST_WAITING


async def test_the_reading_ends_with_who_listens():
    reader = Reader([line(1)], ends=False)
    async with aclosing(logs(reader).of(TASK.id)) as coming:
        assert (await anext(coming))["lines"]
        assert not reader.closed
    assert reader.closed


async def test_who_cannot_be_read_is_said_and_over():
    reader = Reader([])
    (gone,) = [each async for each in logs(reader, [WEB]).of(TASK.id)]
    assert (gone["ended"], gone["missing"]) == (True, task_log.GONE)
    nowhere = TaskLogs(lambda: None, lambda: None)
    (nobody,) = [each async for each in nowhere.of(TASK.id)]
    assert nobody["missing"] == NO_STORE
    assert reader.asked is None


async def test_what_is_no_log_ends_it():
    (said,) = [each async for each in logs(Reader([b"\xff" * 8])).of(TASK.id)]
    assert "log frame" in said["missing"]


def test_a_terminal_has_lines_without_frames():
    raw = Raw()
    assert list(raw.lines(f"{AT} on".encode())) == []
    assert list(raw.lines(b"e\r\n2")) == [{"stream": 1, "at": AT, "text": "one"}]
    assert len(list(raw.lines(b"x" * (task_log.LONGEST + 1)))) == 1


def test_orders_to_a_terminal_are_no_text_and_a_line_has_an_end():
    assert shown(b"\x1b[32mok\x1b[0m\x07\tdone\xff\n") == "ok    done\ufffd"
    assert len(shown(b"x" * 9999)) <= task_log.LONGEST + 2
    assert shown("\u202eevil".encode()) == "evil"


def test_a_frame_of_the_engines_is_a_line():
    (row,) = Framed().lines(line(7))
    assert row == {"stream": 1, "at": AT, "text": "line 7"}
