"""A record of logging as fields, and as a line of them. Pure.

``_log.warning("task %s: %s", task, error)`` has the sentence ``task t1: no such image`` and the
fields ``task=t1`` and ``error=EngineError``: what stands behind one of ``NOUNS`` in the template is
of that kind, and what is an exception says its kind. So a person greps for a task, and no call says
it twice.

    time=2026-11-26T18:40:26.698Z level=warning from=meshnet.agent task=t1 error=EngineError msg="…"

The line is logfmt: ``key=value`` with quotes where a value has spaces, quotes or ``=``. A traceback
follows in lines of its own, each indented.
"""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from typing import Final

NOUNS: Final = frozenset(
    {"task", "container", "member", "node", "network", "service", "manager", "host", "revision"}
)
_INDENT: Final = "  "


def fields(record: logging.LogRecord) -> dict[str, str]:
    """What the sentence is about, by kind."""
    args = record.args if isinstance(record.args, tuple) else ()
    found: dict[str, str] = {}
    heads = str(record.msg).replace("%%", "").split("%")
    for head, arg in zip(heads, args, strict=False):
        noun = head.split()[-1].lower() if head[-1:] == " " and head.strip() else ""
        if isinstance(arg, BaseException):
            found.setdefault("error", type(arg).__name__)
        elif noun in NOUNS:
            found.setdefault(noun, str(arg))
    if record.exc_info and record.exc_info[0] is not None:
        found.setdefault("error", record.exc_info[0].__name__)
    return found


def line(record: logging.LogRecord, trace: str = "") -> str:
    """The record on a line, and its traceback behind it.

    Args:
        record: whose arguments fit its template.
        trace: as ``logging.Formatter.formatException`` gives it; empty: none.
    """
    at = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
    said = {
        "time": at.replace("+00:00", "Z"),
        "level": record.levelname.lower(),
        "from": record.name,
        **fields(record),
        "msg": record.getMessage(),
    }
    whole = " ".join(f"{key}={quoted(value)}" for key, value in said.items())
    return "\n".join([whole, *(_INDENT + each for each in trace.splitlines())])


def quoted(value: str) -> str:
    """A value of logfmt: in quotes where it has to be, on one line always."""
    plain = value.isprintable() and not any(each in value for each in ' "=\\')
    if plain and value:
        return value
    escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return '"' + "".join(each if each.isprintable() else "\ufffd" for each in escaped) + '"'
