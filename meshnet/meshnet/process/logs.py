"""The log of one of our processes: lines for a file, or for the journal with its priorities.

The journal has the time and the unit of each line already, and takes the priority from a ``<N>`` in
front (sd-daemon(3)); so neither is said twice. A line of a traceback is a line of its own there.

Be aware: a process that dies of a signal says where: faulthandler writes the stack of each thread.
"""

from __future__ import annotations

import faulthandler
import logging
import os
import sys
from collections.abc import Mapping
from typing import Final, TextIO

_PLAIN: Final = "%(asctime)s %(levelname)s %(name)s %(message)s"
_JOURNAL: Final = "%(name)s: %(message)s"
_PRIORITIES: Final = ((logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6))
_DEBUG: Final = 7


class JournalFormatter(logging.Formatter):
    """``<N>logger: message``, each line with its priority (syslog(3))."""

    def __init__(self) -> None:
        super().__init__(_JOURNAL)

    def format(self, record: logging.LogRecord) -> str:
        """All lines of ``record``."""
        mark = f"<{priority(record.levelno)}>"
        return "\n".join(mark + line for line in super().format(record).splitlines())


def priority(level: int) -> int:
    """The priority of syslog(3) for a level of logging. Pure."""
    return next((number for least, number in _PRIORITIES if level >= least), _DEBUG)


def to_journal(stream: TextIO, environ: Mapping[str, str] = os.environ) -> bool:
    """Whether ``stream`` is the journal's (systemd.exec(5), JOURNAL_STREAM)."""
    try:
        where = os.fstat(stream.fileno())
    except OSError:
        return False
    return environ.get("JOURNAL_STREAM") == f"{where.st_dev}:{where.st_ino}"


def begin(level: int = logging.INFO) -> None:
    """Log to standard error from now on, and leave the reason there when a signal ends us."""
    handler = logging.StreamHandler(sys.stderr)
    formatter = JournalFormatter() if to_journal(sys.stderr) else logging.Formatter(_PLAIN)
    handler.setFormatter(formatter)
    logging.basicConfig(level=level, handlers=[handler], force=True)
    faulthandler.enable(sys.stderr)
