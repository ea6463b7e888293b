"""What went through the interfaces of a network namespace, as one of its processes sees it.

``/proc/<pid>/net/dev`` (proc_pid_net(5)) needs no thread in that namespace:

    Inter-|   Receive                                                |  Transmit
     face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop …
      eth0:     516       6    0    0    0     0          0         0        0       0    0    0 …

Be aware: ``drop`` on receipt counts packets that were missed for want of room, too.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from meshnet.kernel.netns import identity_of

_PROC: Final = Path("/proc")
_COLUMNS: Final = 16
_SENT: Final = 8
"""The first column of what was sent."""


@dataclass(frozen=True, slots=True)
class Counters:
    """Of one direction, since the interface was made."""

    bytes: int
    packets: int
    errors: int
    dropped: int


@dataclass(frozen=True, slots=True)
class Traffic:
    """Of one interface."""

    received: Counters
    sent: Counters


def traffic(pid: int, netns: str, proc: Path = _PROC) -> dict[str, Traffic] | None:
    """Interface -> what went through it, loopback left out; None: nobody can say.

    Args:
        pid: of a process.
        netns: path of the namespace that it must be in: process IDs are given again.
        proc: proc(5).
    """
    own = identity_of(netns)
    if own is None or own != identity_of(str(proc / str(pid) / "ns" / "net")):
        return None
    try:
        text = (proc / str(pid) / "net" / "dev").read_text()
    except OSError:
        return None
    return parse(text)


def parse(text: str) -> dict[str, Traffic]:
    """The interfaces of a ``net/dev``, loopback left out; a line of none is skipped."""
    found: dict[str, Traffic] = {}
    for line in text.splitlines():
        name, colon, rest = line.partition(":")
        numbers = rest.split()
        if not colon or len(numbers) < _COLUMNS or not all(map(str.isdecimal, numbers)):
            continue
        if name.strip() != "lo":
            columns = [int(number) for number in numbers]
            found[name.strip()] = Traffic(Counters(*columns[:4]), Counters(*columns[_SENT:12]))
    return found
