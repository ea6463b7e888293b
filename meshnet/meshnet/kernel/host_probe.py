"""Asks whether a host is there although its daemon is silent: its kernel answers TCP either way.

A daemon that was killed leaves a kernel that forwards packets, containers that serve, and a TCP
port that refuses (RFC 9293 section 3.10.7.1); one that hangs leaves a port that still accepts. A
host that is off, or behind a cut, says nothing. Gossip's port is asked, as what lies between the
hosts of a cluster lets it pass; ICMP echo is filtered in many places.

Be aware: an answer says that the host is there, not that any of its containers is. A host that was
silent for as long as a boot takes has lost them by then, so it is not there again until it need not
be asked any more: its daemon speaks.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import select
import socket
from collections.abc import Awaitable, Callable, Mapping
from ipaddress import IPv4Address
from typing import Final

from meshnet import ends
from meshnet.model.ids import NodeId

INTERVAL_S: Final = 0.2
"""Time between two questions to one host."""
TIMEOUT_S: Final = 0.2
"""Wait for one answer; hosts of one site answer within milliseconds."""
SILENT: Final = 2
"""Questions in a row without an answer that make a host silent; one may be lost."""
OFF: Final = 15
"""Questions in a row without an answer that make a host one that was off: three seconds at least.

Nothing boots faster, and a link that comes and goes is back sooner.
"""
_OURS: Final = frozenset(
    {errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS, errno.EADDRNOTAVAIL, errno.EPERM}
)
"""Errors that say something of this host and nothing of the other."""


async def answers(address: IPv4Address, port: int, timeout_s: float = TIMEOUT_S) -> bool | None:
    """Whether the kernel of a host accepts or refuses a TCP connection.

    Args:
        address: of the host on the underlay.
        port: TCP port to ask.
        timeout_s: seconds to wait.

    Returns:
        None: it could not be asked, for a reason that lies on this host.
    """
    with contextlib.ExitStack() as stack:
        try:
            kind = socket.SOCK_STREAM | socket.SOCK_NONBLOCK
            asking = stack.enter_context(socket.socket(socket.AF_INET, kind))
        except OSError:
            return None
        try:
            async with asyncio.timeout(timeout_s):
                await asyncio.get_running_loop().sock_connect(asking, (str(address), port))
        except ConnectionRefusedError:
            return True
        except TimeoutError:
            return _has_ended(asking)
        except OSError as error:
            return None if error.errno in _OURS else False
        return True


def _has_ended(asking: socket.socket) -> bool:
    """Whether the answer is there although we were too late to take it: that says nothing of it."""
    look = select.poll()
    look.register(asking, select.POLLOUT)
    return bool(look.poll(0))


Ask = Callable[[IPv4Address, int], Awaitable[bool | None]]
"""``answers``, or what stands for it."""


class HostProbe:
    """Goes on asking the hosts that it is told to.

    Args:
        port: TCP port to ask.
        on_change: called in the event loop when a host begins or ceases to answer.
        ask: how one host is asked.
        interval_s: time between two questions to one host, seconds.
    """

    def __init__(
        self,
        port: int,
        on_change: Callable[[], None],
        *,
        ask: Ask = answers,
        interval_s: float = INTERVAL_S,
    ) -> None:
        self._port = port
        self._on_change = on_change
        self._question = ask
        self._interval_s = interval_s
        self._answering: dict[NodeId, bool] = {}
        self._asked: dict[NodeId, tuple[IPv4Address, asyncio.Task[None]]] = {}

    @property
    def answering(self) -> Mapping[NodeId, bool]:
        """Node -> whether its host answers; a node that is not in it is not known (yet).

        One that was off and has come up counts as silent (``OFF``).
        """
        return self._answering

    def watch(self, hosts: Mapping[NodeId, IPv4Address]) -> None:
        """Ask exactly these from now on; what is known of others is forgotten."""
        for node in [n for n, (address, _) in self._asked.items() if hosts.get(n) != address]:
            self._asked.pop(node)[1].cancel()
            self._answering.pop(node, None)
        for node, address in hosts.items():
            if node not in self._asked:
                task = asyncio.get_running_loop().create_task(self._ask(node, address))
                self._asked[node] = (address, task)

    async def close(self) -> None:
        """Stop asking."""
        tasks = [task for _, task in self._asked.values()]
        self.watch({})
        await ends.ended(*tasks)

    async def _ask(self, node: NodeId, address: IPv4Address) -> None:
        loop = asyncio.get_running_loop()
        silent = 0
        while True:
            began = loop.time()
            answered = await self._question(address, self._port)
            if silent < OFF:
                silent = 0 if answered else silent + (answered is False)
            if answered or silent >= SILENT:
                self._note(node, answering=silent == 0)
            await asyncio.sleep(began + self._interval_s - loop.time())

    def _note(self, node: NodeId, *, answering: bool) -> None:
        if self._answering.get(node) != answering:
            self._answering[node] = answering
            self._on_change()
