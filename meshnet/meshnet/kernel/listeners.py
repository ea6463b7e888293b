"""Who listens in a network namespace: proc_pid_net(5), read from inside.

    sl  local_address rem_address   st tx_queue …
     0: 0B00007F:A055 00000000:0000 0A …

Be aware: moves the calling thread (``netns.inside``). A UDP socket that is bound is taken for one
that listens. Addresses are as a little-endian host writes them; x86 and arm64 are such.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from meshnet.kernel import netns

_NET: Final = Path("/proc/thread-self/net")
_IPV4, _LOOPBACK = 8, "7F"
"""Digits of an address, and the last ones of 127/8: its bytes are in the host's order."""
_LISTENS: Final = {"tcp": "0A", "udp": "07"}
"""TCP_LISTEN; TCP_CLOSE, which an unconnected UDP socket has (include/net/tcp_states.h)."""


def listening(path: str) -> frozenset[tuple[str, int]]:
    """Pairs of protocol and port that somebody in the namespace listens on, IPv4 or IPv6.

    Raises:
        NotFoundError: there is no such namespace.
        KernelError: it cannot be entered.
    """
    found: set[tuple[str, int]] = set()
    with netns.inside(path):
        for protocol in _LISTENS:
            for name in (protocol, f"{protocol}6"):
                try:
                    text = (_NET / name).read_text()
                except OSError:  # a kernel without IPv6
                    continue
                found |= {(protocol, port) for port in ports(text, _LISTENS[protocol])}
    return frozenset(found)


def ports(text: str, state: str) -> Iterator[int]:
    """The local ports of the sockets of one state in a file of ``/proc/net``, not 127/8's. Pure."""
    for line in text.splitlines()[1:]:
        words = line.split()
        if len(words) > 3 and words[3] == state:  # noqa: PLR2004 - the fourth column
            address, _, port = words[1].rpartition(":")
            if not (len(address) == _IPV4 and address.endswith(_LOOPBACK)):
                yield int(port, 16)
