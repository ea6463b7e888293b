"""The sandboxes' sockets outlive this process: a supervisor holds them and hands them back.

```
 killed ──> queries wait in the sockets' buffers (1 MiB each) ──> the next process answers them
```
They are kept under ``netns-<device>-<inode>``, the identity of the namespace they are in. While one
of them is held its namespace lives, so that no other gets that identity.

Be aware: connections that clients opened die with the process; what waits to be accepted does not.
What nobody asks for is let go after a while (``drop_unclaimed``).
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from meshnet.process.notify import Notifier

_PAIR: Final = 2


class Pair(NamedTuple):
    """The sockets of one sandbox."""

    udp: socket.socket
    listener: socket.socket


class HeldSockets:
    """What the process before this one left, and what the next one is to find.

    Args:
        notifier: the supervisor.
        inherited: name -> descriptors; those that are not ours are closed.
    """

    def __init__(self, notifier: Notifier, inherited: Mapping[str, Sequence[int]]) -> None:
        self._notifier = notifier
        self._unclaimed: dict[str, Pair] = {}
        for name, descriptors in inherited.items():
            pair = _pair(descriptors)
            if pair is None:
                notifier.release(name)
            else:
                self._unclaimed[name] = pair

    def claim(self, identity: tuple[int, int]) -> Pair | None:
        """The sockets in the namespace ``identity`` that were left, once."""
        name = _name(identity)
        pair = self._unclaimed.pop(name, None)
        if pair is not None:
            self._notifier.inherited(name, [made.fileno() for made in pair])
        return pair

    def hold(self, identity: tuple[int, int], pair: Pair) -> None:
        """Keep ``pair`` for the next process."""
        self._notifier.hold(_name(identity), [made.fileno() for made in pair])

    def release(self, identity: tuple[int, int]) -> None:
        """The sandbox is over: nothing of it is to outlive us."""
        self._notifier.release(_name(identity))

    def drop_unclaimed(self) -> int:
        """Close what was left and nobody claimed; how many sandboxes that were."""
        number = len(self._unclaimed)
        for name, pair in self._unclaimed.items():
            self._notifier.release(name)
            for made in pair:
                made.close()
        self._unclaimed.clear()
        return number


def _name(identity: tuple[int, int]) -> str:
    return f"netns-{identity[0]}-{identity[1]}"


def _pair(descriptors: Sequence[int]) -> Pair | None:
    """One UDP and one TCP socket; None, and all are closed: anything else."""
    found: dict[int, socket.socket] = {}
    for descriptor in descriptors:
        try:
            made = socket.socket(fileno=descriptor)
        except OSError:
            with contextlib.suppress(OSError):
                os.close(descriptor)
            continue
        made.settimeout(0)
        if found.setdefault(made.type, made) is not made:
            made.close()
    if len(found) == _PAIR and {socket.SOCK_DGRAM, socket.SOCK_STREAM} == found.keys():
        return Pair(found[socket.SOCK_DGRAM], found[socket.SOCK_STREAM])
    for made in found.values():
        made.close()
    return None
