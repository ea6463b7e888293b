"""Silence, for some seconds, where a program was or will be: pure.

A task's namespace outlives its program for a moment, and is there a moment before the program
listens. Meanwhile other nodes may choose the task, and its kernel would refuse their connections,
although another backend would have taken them. A SYN that is not answered is sent again after a
second, and by then is led elsewhere (``meshnet.kernel.nft`` forgets where unanswered ones went) or
finds the program. So nobody is refused, and somebody waits a second.

The model: a port is known by the socket that listens. A SYN for one puts its port among
``@served``. When nobody listens there any more, the next SYN moves it to ``@closing``, which
forgets it after :data:`SILENCE_S`; until then SYNs to it are dropped, then refused as ever. An
interface is in ``@young`` for as long after the table was made, and SYNs to ports that nobody
listens at yet are dropped there.

Only the overlays' interfaces are guarded: who asks at 127.0.0.1 (a health check) or by
docker_gwbridge has no other backend to be led to.

Be aware: the chain hangs in a nat hook, which the first packet of a connection passes alone; a
packet that is dropped there leaves no conntrack entry, so a SYN sent again is a first one too.
SYNs are looked at by all processors at once, so a port is in ``@closing`` before it leaves
``@served``: in between another one would be refused.
``socket`` (Linux 4.18) finds listening sockets; a task that is on no overlay has no guard.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from meshnet.nft.objects import Chain, Set

SILENCE_S: Final = 5
"""Two repetitions of a SYN (after 1 s and 3 s) and what a loaded host needs more, seconds."""


def guard(interfaces: Sequence[str]) -> tuple[tuple[Chain, ...], tuple[Set, ...]]:
    """What a container's table holds for it.

    Args:
        interfaces: the container's on overlay networks, such as ``eth0``.
    """
    if not interfaces:
        return (), ()
    names = ", ".join(f'"{name}"' for name in interfaces)
    chain = Chain(
        "guard",
        (
            f"iifname != {{ {names} }} accept",
            "tcp flags & (fin | syn | rst | ack) != syn accept",
            "socket transparent { 0, 1 } add @served { tcp dport } accept",
            "tcp dport @closing drop",
            "tcp dport @served add @closing { tcp dport } delete @served { tcp dport } drop",
            "iifname @young meta l4proto tcp drop",
        ),
        "type nat hook input priority 100;",
    )
    sets = (
        Set("served", "inet_service", flags=("dynamic",)),
        Set("closing", "inet_service", flags=("dynamic", "timeout"), timeout_s=SILENCE_S),
        Set(
            "young",
            "ifname",
            {f'"{name}"': "" for name in interfaces},
            flags=("timeout",),
            timeout_s=SILENCE_S,
        ),
    )
    return (chain,), sets
