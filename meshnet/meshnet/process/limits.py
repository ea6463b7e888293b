"""Limits of this process: descriptors up to what it may have, no core, an end in time."""

from __future__ import annotations

import faulthandler
import resource
import sys


def raise_descriptors() -> int:
    """As many open descriptors as the hard limit allows (RLIMIT_NOFILE); how many that is.

    The soft limit is 1024 where nobody chose, which is less than 200 containers need.
    """
    now, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    if now != most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    return most


def leave_no_core() -> None:
    """Write no memory to a disk when this process is aborted, as a watchdog does (RLIMIT_CORE).

    Keys are in it that lie nowhere else: of a locked store, of the CA. systemd-coredump(8) heeds
    it.
    """
    _, most = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (0, most))


def end_within(seconds: float) -> None:
    """End this process with status 1 after ``seconds``; the log says where its threads were.

    To be called when the end has been asked for. Nothing in Python has to run for it.
    """
    faulthandler.dump_traceback_later(seconds, exit=True, file=sys.stderr)
