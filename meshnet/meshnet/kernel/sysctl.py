"""Reads and writes sysctl values below ``/proc/sys/net`` of a network namespace (sysctl(8)).

Be aware: they are those of the calling thread's namespace: call within ``netns.inside``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from meshnet.errors import NotFoundError, kernel_error

_ROOT: Final = Path("/proc/sys/net")


def file(key: str) -> Path:
    """Where ``key`` is, in the calling thread's namespace."""
    return _ROOT / key


def read(key: str) -> str | None:
    """The value of ``key`` such as ``ipv4/ip_forward``; None when this kernel has no such key."""
    try:
        return file(key).read_text().strip()
    except OSError:
        return None


def write(key: str, value: str) -> None:
    """Set ``key``.

    Raises:
        KernelError: the kernel refuses.
    """
    try:
        file(key).write_text(value)
    except FileNotFoundError as error:
        raise NotFoundError("sysctl", key, error.errno or 0) from error
    except OSError as error:
        raise kernel_error("sysctl", key, error.errno or 0) from error
