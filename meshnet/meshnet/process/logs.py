"""The log of one of our processes: lines of fields for a file, or records for the journal.

A file gets logfmt (``log_fields``). The journal gets fields by its own protocol (``journal``), and
while it does not take them lines on standard error with their priority in front (``<N>``,
sd-daemon(3)), as all that is said there by others than logging.

Be aware: a process that dies of a signal says where: faulthandler writes the stack of each thread.
"""

from __future__ import annotations

import faulthandler
import logging
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final, TextIO

from meshnet.process import log_fields
from meshnet.process.journal import JournalHandler, priority

_JOURNAL: Final = "%(name)s: %(message)s"


class FieldsFormatter(logging.Formatter):
    """``key=value …``, and a traceback in lines behind it."""

    def format(self, record: logging.LogRecord) -> str:
        """All lines of ``record``."""
        trace = self.formatException(record.exc_info) if record.exc_info else ""
        return log_fields.line(record, trace)


class JournalFormatter(logging.Formatter):
    """``<N>logger: message``, each line with its priority (syslog(3))."""

    def __init__(self) -> None:
        super().__init__(_JOURNAL)

    def format(self, record: logging.LogRecord) -> str:
        """All lines of ``record``."""
        mark = f"<{priority(record.levelno)}>"
        return "\n".join(mark + line for line in super().format(record).splitlines())


def to_journal(stream: TextIO, environ: Mapping[str, str] = os.environ) -> bool:
    """Whether ``stream`` is the journal's (systemd.exec(5), JOURNAL_STREAM)."""
    try:
        where = os.fstat(stream.fileno())
    except OSError:
        return False
    return environ.get("JOURNAL_STREAM") == f"{where.st_dev}:{where.st_ino}"


def begin(level: int = logging.INFO) -> None:
    """Log to standard error from now on, and leave the reason there when a signal ends us."""
    lines = logging.StreamHandler(sys.stderr)
    handler: logging.Handler = lines
    if to_journal(sys.stderr):
        lines.setFormatter(JournalFormatter())
        handler = JournalHandler(lines, Path(sys.argv[0]).name)
    else:
        lines.setFormatter(FieldsFormatter())
    logging.basicConfig(level=level, handlers=[handler], force=True)
    faulthandler.enable(sys.stderr)
