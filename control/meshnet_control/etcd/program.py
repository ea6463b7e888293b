"""Whether this host has etcd, and what to say when it has not."""

from __future__ import annotations

import shutil
import socket


def etcd_program(path: str | None = None) -> str | None:
    """Where it is; None: it is not installed.

    Args:
        path: directories to look in; None: those of PATH.
    """
    return shutil.which("etcd", path=path)


def etcd_missing() -> str:
    """What a person is to do; it may be read on another host than this one."""
    return f"etcd is not installed on {socket.gethostname()}: apt-get install etcd-server"
