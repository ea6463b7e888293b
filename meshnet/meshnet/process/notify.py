"""What a process and its supervisor tell each other, in systemd's words (sd_notify(3)).

```
 process ── STATUS=…, READY=1, WATCHDOG=1, STOPPING=1 ────────> datagrams to $NOTIFY_SOCKET
         ── FDSTORE=1, FDNAME=… + descriptors; FDSTOREREMOVE=1 ─┘
 process <── LISTEN_FDS descriptors, 3 and up, LISTEN_FDNAMES ── at its next start
```
systemd is such a supervisor, ``meshnet_control.host.supervisor`` is one where there is no systemd;
a process cannot tell which. Without ``NOTIFY_SOCKET`` everything here does nothing.

Be aware: a supervisor that has died loses what it held. The ``Notifier`` remembers it and hands it
over again, with a sign of life, as soon as another one has made that socket anew; nothing waits for
it until then.
"""

from __future__ import annotations

import array
import contextlib
import os
import socket
from collections.abc import Mapping, MutableMapping, Sequence
from typing import Final

FIRST: Final = 3
"""The first inherited descriptor (SD_LISTEN_FDS_START)."""
SEND_S: Final = 0.2
"""Seconds that a supervisor which does not read may keep us, once; then it counts as dead."""
PINGS: Final = 4
"""Signs of life in one watchdog period: two may get lost."""


class Notifier:
    """This process's side."""

    def __init__(self, environ: Mapping[str, str] = os.environ) -> None:
        path = environ.get("NOTIFY_SOCKET", "")
        self._path = "\0" + path[1:] if path.startswith("@") else path
        self._held: dict[str, tuple[int, ...]] = {}
        self._told = self._listener()
        self._watchdog_us = environ.get("WATCHDOG_USEC", "")
        self._is_ready = False

    @property
    def period_s(self) -> float | None:
        """Seconds between two calls of ``alive``; None: nobody watches."""
        if not self._path or not self._watchdog_us.isdigit():
            return None
        return int(self._watchdog_us) / 1e6 / PINGS

    @property
    def is_heard(self) -> bool:
        """Whether there is somebody who holds what this process leaves."""
        return bool(self._path)

    def starting(self, doing: str) -> None:
        """What the process does before it is ready, for who waits for it."""
        self._tell(f"STATUS={doing}")

    def ready(self) -> None:
        """The process serves."""
        self._is_ready = True
        self._tell("READY=1\nSTATUS=serving")

    def alive(self) -> None:
        """The process is not hung. To another supervisor than before: what it is to hold.

        One that is not ready yet has, by this, another watchdog period to become so: however long a
        start takes, it is not ended while it goes on.
        """
        listener = self._listener()
        if self._tell(f"WATCHDOG=1{self._more_time()}") and listener != self._told:
            held = self._held.items()
            if all(self._hand_over(name, descriptors) for name, descriptors in held):
                self._told = listener

    def excused(self) -> None:
        """A sign of life from another thread than the one that calls the other methods."""
        self._tell(f"WATCHDOG=1{self._more_time()}")

    def stopping(self) -> None:
        """The process ends because it was asked to."""
        self._tell("STOPPING=1")

    def hold(self, name: str, descriptors: Sequence[int]) -> None:
        """Have these kept for the next process of this name; they must stay open meanwhile."""
        self._held[name] = tuple(descriptors)
        if self._told is not None and not self._hand_over(name, descriptors):
            self._told = None

    def inherited(self, name: str, descriptors: Sequence[int]) -> None:
        """These are held already, and go on to be."""
        self._held[name] = tuple(descriptors)

    def release(self, name: str) -> None:
        """Have nothing kept under ``name`` any more. Unknown is fine."""
        self._held.pop(name, None)
        self._tell(f"FDSTOREREMOVE=1\nFDNAME={name}")

    def _more_time(self) -> str:
        waits = not self._is_ready and self._watchdog_us
        return f"\nEXTEND_TIMEOUT_USEC={self._watchdog_us}" if waits else ""

    def _hand_over(self, name: str, descriptors: Sequence[int]) -> bool:
        # FDPOLL=0: an error that a socket reports once is no reason to drop it.
        return self._tell(f"FDSTORE=1\nFDPOLL=0\nFDNAME={name}", descriptors)

    def _listener(self) -> tuple[int, int] | None:
        """Which socket has the path now; None: none has, or nobody could tell."""
        if not self._path.startswith("/"):
            return (0, 0)
        try:
            found = os.stat(self._path)  # noqa: PTH116 - a Path is made for nothing
        except OSError:
            return None
        return found.st_ino, found.st_ctime_ns

    def _tell(self, text: str, descriptors: Sequence[int] = ()) -> bool:
        """Whether it was said, or there is nobody to say it to."""
        if not self._path:
            return True
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))]
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as telling:
            telling.settimeout(SEND_S)
            try:
                telling.sendmsg([text.encode()], rights if descriptors else [], 0, self._path)
            except OSError:
                return False
        return True


def inherited(environ: MutableMapping[str, str] = os.environ) -> dict[str, tuple[int, ...]]:
    """Descriptors that the supervisor held, by name; to be asked once, the variables are gone then.

    Raises: nothing. Variables that are not as sd_listen_fds(3) says mean none.
    """
    number, names, pid = (
        environ.pop(key, "") for key in ("LISTEN_FDS", "LISTEN_FDNAMES", "LISTEN_PID")
    )
    if not number.isdigit() or (pid and pid != str(os.getpid())):
        return {}
    found: dict[str, tuple[int, ...]] = {}
    named = names.split(":")
    for index in range(int(number)):
        with contextlib.suppress(OSError):  # one that is not open
            os.set_inheritable(FIRST + index, False)  # noqa: FBT003 - its only form
            name = named[index] if index < len(named) else "unknown"
            found[name] = (*found.get(name, ()), FIRST + index)
    return found
