"""Lines for the journal carry a priority and no time; those for a file the other way round."""

from __future__ import annotations

import logging
import os
import subprocess
import sys

import pytest

from meshnet.process.logs import JournalFormatter, priority, to_journal

SAY = """
import logging, os, signal, sys
where = os.fstat(2)
if sys.argv[1] == "journal":
    os.environ["JOURNAL_STREAM"] = f"{where.st_dev}:{where.st_ino}"
from meshnet.process import limits, logs
logs.begin()
logging.getLogger("it").warning("a\\nb")
if sys.argv[2] == "hang":
    limits.end_within(0.1)
    signal.pause()
os.kill(os.getpid(), signal.SIGSEGV)
"""


def say(where: str, end: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", SAY, where, end],
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


def test_the_journal_gets_priorities_and_a_file_gets_times():
    assert say("journal", "die").stderr.startswith("<4>it: a\n<4>b\n")
    said = say("file", "die").stderr
    assert "WARNING it a" in said
    assert said[:2] == "20"


def test_one_that_dies_of_a_signal_says_where():
    done = say("file", "die")
    assert done.returncode == -11
    assert "Segmentation fault" in done.stderr
    assert "most recent call first" in done.stderr


def test_an_end_that_takes_too_long_comes_all_the_same_and_says_where_it_hung():
    done = say("file", "hang")
    assert done.returncode == 1
    assert "most recent call first" in done.stderr
