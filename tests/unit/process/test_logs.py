"""A file gets lines of fields; the journal gets records with fields, and lines while it is away."""

from __future__ import annotations

import logging
import os
import socket
import subprocess
import sys

import pytest

from meshnet.process import journal
from meshnet.process.journal import JournalHandler, datagram, priority
from meshnet.process.log_fields import fields, line, quoted
from meshnet.process.logs import JournalFormatter, to_journal

SAY = """
import logging, os, signal, sys
where = os.fstat(2)
if sys.argv[1] == "journal":
    os.environ["JOURNAL_STREAM"] = f"{where.st_dev}:{where.st_ino}"
from meshnet.process import journal, limits, logs
journal.JournalHandler.__init__.__defaults__ = (sys.argv[3],)
logs.begin()
logging.getLogger("it").warning("a\\nb")
if sys.argv[2] == "hang":
    limits.end_within(0.1)
    signal.pause()
os.kill(os.getpid(), signal.SIGSEGV)
"""


def say(where: str, end: str, at: str = "/nowhere") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", SAY, where, end, at],
        capture_output=True, text=True, check=False, timeout=20,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip


@pytest.mark.parametrize(
    ("level", "number"),
    [(logging.CRITICAL, 3), (logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6),
     (logging.DEBUG, 7)],
)  # fmt: skip
def test_priorities_are_syslogs(level, number):
    assert priority(level) == number


def test_each_line_of_a_traceback_has_the_priority():
    try:
        raise ValueError("first\nsecond")  # noqa: TRY301
    except ValueError:
        record = logging.LogRecord("x", logging.ERROR, "", 0, "said", (), sys.exc_info())
    lines = JournalFormatter().format(record).splitlines()
    assert lines[0] == "<3>x: said"
    assert len(lines) > 3
    assert all(line.startswith("<3>") for line in lines)


def test_only_the_stream_that_systemd_named_is_the_journal(tmp_path):
    with (tmp_path / "log").open("w") as log:
        here = os.fstat(log.fileno())
        assert to_journal(log, {"JOURNAL_STREAM": f"{here.st_dev}:{here.st_ino}"})
        assert not to_journal(log, {"JOURNAL_STREAM": f"{here.st_dev}:{here.st_ino + 1}"})
        assert not to_journal(log, {})


def test_a_file_gets_fields_and_standard_error_priorities_while_there_is_no_journal():
    assert say("journal", "die").stderr.startswith("<4>it: a\n<4>b\n")
    said = say("file", "die").stderr
    assert said.startswith("time=20")
    assert ' level=warning from=it msg="a\\nb"\n' in said


def record(msg, *args, exc_info=None):
    made = logging.LogRecord("it", logging.WARNING, "f.py", 7, msg, args, exc_info, "func")
    made.created = 1_764_182_426.698
    return made


@pytest.mark.parametrize(
    ("msg", "args", "want"),
    [
        ("task %s: %s", ("t1", KeyError("x")), {"task": "t1", "error": "KeyError"}),
        ("member %s is alive", ("m",), {"member": "m"}),
        ("%s of container %.12s at node %r", ("a", "c", 3), {"container": "c", "node": "3"}),
        ("100 %% of task %s", ("t",), {"task": "t"}),
        ("task: %s", ("no",), {}),
        ("%s", ("task t1",), {}),
        ("nothing", (), {}),
    ],
)
def test_what_stands_behind_a_noun_is_a_field(msg, args, want):
    assert fields(record(msg, *args)) == want


def test_a_record_is_a_line_and_its_traceback_follows_it():
    said = line(record("task %s: %s", "t1", KeyError("x")), "Traceback\n  here")
    assert said.splitlines() == [
        "time=2025-11-26T18:40:26.698Z level=warning from=it task=t1 error=KeyError "
        """msg="task t1: 'x'\"""",
        "  Traceback",
        "    here",
    ]


@pytest.mark.parametrize(
    ("value", "want"),
    [("a", "a"), ("", '""'), ("a b", '"a b"'), ('"', '"\\""'), ("a\n", '"a\\n"'), ("=", '"="'),
     ("\x1b[31m", '"\ufffd[31m"'), ("\\", '"\\\\"')],
)  # fmt: skip
def test_a_value_is_on_one_line_whatever_it_is(value, want):
    assert quoted(value) == want


@pytest.fixture
def listening(tmp_path):
    """Name: listening; Scope: function. A journal's socket, and a handler that sends there."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as bound:
        bound.bind(str(tmp_path / "socket"))
        bound.settimeout(10)
        yield bound, JournalHandler(logging.NullHandler(), "meshnetd", str(tmp_path / "socket"))


def test_the_journal_is_told_fields(listening):
    bound, handler = listening
    handler.emit(record("task %s: %s", "t1", KeyError("x")))
    assert bound.recv(65536).decode().splitlines() == [
        "MESSAGE=it: task t1: 'x'", "PRIORITY=4", "SYSLOG_IDENTIFIER=meshnetd", "CODE_FUNC=func",
        "CODE_LINE=7", "MESHNET_FROM=it", "MESHNET_TASK=t1", "MESHNET_ERROR=KeyError",
    ]  # fmt: skip


def test_a_value_of_several_lines_has_its_length_in_front():
    assert datagram({"A": "b", "C": "d\ne"}) == b"A=b\nC\n\x03\0\0\0\0\0\0\0d\ne\n"


def test_what_is_too_large_for_a_datagram_comes_as_a_sealed_file(listening):
    bound, handler = listening
    handler.emit(record("%s", "x" * (1 << 22)))
    _, [descriptor], *_ = socket.recv_fds(bound, 100, 1)
    with open(descriptor, "rb") as file:  # noqa: PTH123 - it is open
        file.seek(0)
        assert len(file.read()) > 1 << 22
        with pytest.raises(PermissionError):
            os.ftruncate(descriptor, 0)


def test_while_the_journal_is_away_another_one_takes_it(tmp_path):
    taken: list[logging.LogRecord] = []
    other = logging.NullHandler()
    other.handle = taken.append  # type: ignore[method-assign,assignment]
    one = record("here")
    JournalHandler(other, "meshnetd", str(tmp_path / "none")).emit(one)
    assert taken == [one]
    assert journal.SOCKET == "/run/systemd/journal/socket"


def test_one_that_dies_of_a_signal_says_where():
    done = say("file", "die")
    assert done.returncode == -11
    assert "Segmentation fault" in done.stderr
    assert "most recent call first" in done.stderr


def test_an_end_that_takes_too_long_comes_all_the_same_and_says_where_it_hung():
    done = say("file", "hang")
    assert done.returncode == 1
    assert "most recent call first" in done.stderr
